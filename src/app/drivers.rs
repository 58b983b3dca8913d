//! The operator's drivers, made from `[drivers.NAME]`, and the sandbox for whatever has none.
//!
//! Every fault in them is told at its line. `allow_recipients` stands before all of them.

use std::sync::Arc;

use crate::{
    channels::{
        Driver, Drivers, allow_list,
        settings::{self, DriverSettings, SandboxSettings},
    },
    config::{Config, DriverSection},
    domain::time::Clock,
    policy::diagnostic::{Diagnostic, nearest},
};

/// The name under which everything without a driver of its own is sent to the outbox.
const SANDBOX: &str = "sandbox";

/// Makes every driver, or says all that is wrong with them.
pub fn make(config: &Config, clock: Arc<dyn Clock>) -> Result<Drivers, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let mut drivers: Vec<Arc<dyn Driver>> = Vec::new();
    for section in &config.drivers {
        let made = read(section).and_then(|settings| {
            settings::build(&section.name, &settings, &config.state_dir, Arc::clone(&clock))
                .map_err(|why| Box::new(section.fault(None, "driver", why)))
        });
        match made {
            Ok(driver) => drivers.push(driver),
            Err(fault) => faults.push(*fault),
        }
    }
    if !config.drivers.iter().any(|section| section.name == SANDBOX) {
        let sandbox = DriverSettings::Sandbox(SandboxSettings::default());
        match settings::build(SANDBOX, &sandbox, &config.state_dir, clock) {
            Ok(driver) => drivers.push(driver),
            Err(why) => faults.push(Diagnostic::error("driver", "settings", why)),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    if !config.allow_recipients.is_empty() {
        drivers = drivers.into_iter().map(|d| allow_list::only_to(d, &config.allow_recipients)).collect();
    }
    Ok(Drivers::new(drivers))
}

/// The names that a policy may give, those of `make`.
pub fn names(config: &Config) -> Vec<String> {
    let named = config.drivers.iter().map(|section| section.name.as_str());
    let own = !config.drivers.iter().any(|section| section.name == SANDBOX);
    named.chain(own.then_some(SANDBOX)).map(str::to_owned).collect()
}

/// Where the drivers' mail comes back to, by those whose settings can be read.
pub fn maildirs(config: &Config) -> Vec<std::path::PathBuf> {
    let of = |section: &DriverSection| match read(section) {
        Ok(DriverSettings::Smtp(settings)) => settings.bounces.and_then(|bounces| bounces.maildir),
        _ => None,
    };
    config.drivers.iter().filter_map(of).collect()
}

/// The table as its driver's settings.
fn read(section: &DriverSection) -> Result<DriverSettings, Box<Diagnostic>> {
    toml::Value::Table(section.table.clone()).try_into().map_err(|error: toml::de::Error| {
        let message = error.message();
        // serde names the key that it stumbled over in backticks, and then those that it knows.
        let mut words = message.split('`').skip(1).step_by(2);
        let (found, known): (Option<&str>, Vec<&str>) = (words.next(), words.collect());
        let mut key = found;
        if message.starts_with("unknown variant") {
            key =
                section.table.iter().find(|(_, value)| value.as_str() == found).map(|(key, _)| key.as_str());
        }
        let fault = section.fault(key, "driver", format!("[drivers.{}]: {message}", section.name));
        Box::new(match found.and_then(|found| nearest(found, known)) {
            Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
            None => fault,
        })
    })
}
