//! The drivers shown in the reference of the settings read as they stand there.

use channel_orchestrator::{channels::settings::DriverSettings, config::REFERENCE};

#[test]
fn every_driver_of_the_reference_reads() {
    let lines: Vec<&str> = REFERENCE
        .lines()
        .skip_while(|line| !line.starts_with("# [drivers."))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        })
        .collect();
    let file: toml::Table = lines.join("\n").parse().unwrap();
    let drivers = file["drivers"].as_table().unwrap();
    for (name, table) in drivers {
        let read: Result<DriverSettings, _> = table.clone().try_into();
        assert!(read.is_ok(), "[drivers.{name}]: {}", read.unwrap_err());
    }
    let kinds: Vec<_> = drivers.values().map(|table| table["kind"].as_str().unwrap()).collect();
    for kind in ["smtp", "twilio", "twilio_whatsapp", "vonage", "webhook"] {
        assert!(kinds.contains(&kind), "{kind} is shown nowhere");
    }
}
