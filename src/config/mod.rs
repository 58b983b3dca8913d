//! Settings: built in < `orchestrator.toml` < `ORCHESTRATOR_*` < flags.
//!
//! The reference of every key and its default is `examples/orchestrator.toml`, which is part of the binary.
//! Says every fault at once, with its line and the key that was meant. It opens nothing but that one file,
//! starts nothing, and holds no secret: drivers' credentials are references that the drivers follow.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::policy::{assemble::PolicyEnvironment, diagnostic::Diagnostic};

pub mod environment;
mod file;
mod public;

pub use environment::Environment;
pub use file::DriverSection;
pub use public::PublicSide;

/// The settings file as it is shipped: every key, commented, with its default.
pub const REFERENCE: &str = include_str!("../../examples/orchestrator.toml");

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub policies: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub listen: Option<String>,
    pub public_listen: Option<String>,
    pub public_url: Option<String>,
    pub database: Option<String>,
    pub log: Option<String>,
}

/// Everything that an operator sets, put together and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings file that was read, if there was one.
    pub file: Option<PathBuf>,
    pub state_dir: PathBuf,
    pub policies: PolicyFolder,
    pub socket: PathBuf,
    /// TCP, with keys; none: the Unix socket alone.
    pub listen: Option<SocketAddr>,
    /// Values of `Host` that TCP requests may carry, besides the address itself.
    pub allowed_hosts: Vec<String>,
    /// How the daemon is reached from the internet, if it is.
    pub public: PublicSide,
    /// `sqlite:PATH` or `postgres://…`.
    pub database: String,
    pub drivers: Vec<DriverSection>,
    /// Where tenants hear what becomes of their messages: `[webhooks.TENANT]`.
    pub webhooks: Vec<DriverSection>,
    /// Patterns; empty: everybody may be written to.
    pub allow_recipients: Vec<String>,
    pub limits: Limits,
    pub policy_environment: PolicyEnvironment,
    /// `RUST_LOG` syntax.
    pub log: String,
    /// What deserves a remark and stops nothing.
    pub warnings: Vec<Diagnostic>,
}

/// Where the policies are read from, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFolder {
    pub path: PathBuf,
    pub named_by: NamedBy,
}

/// What named the policies folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    Flag,
    Environment,
    File,
    /// `./policies` or `/etc/channel-orchestrator/policies` is there.
    Found,
    /// Nothing is there: the shipped policies are to be written to `STATE/policies`, once.
    Shipped,
}

/// How much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages being sent at the same moment on each channel.
    pub concurrency: u32,
    /// Open connections on each listener.
    pub connections: u32,
    /// Seconds that attempts in flight get when the daemon is told to stop.
    pub drain_seconds: u32,
    /// Room kept free on an embedded database's disk for what is under way when it is full.
    pub ballast_mib: u32,
}

impl Default for Limits {
    /// The values of `examples/orchestrator.toml` (a test compares them).
    fn default() -> Self {
        Self { concurrency: 64, connections: 1024, drain_seconds: 25, ballast_mib: 64 }
    }
}

/// Why there are no settings: every fault, not the first.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigFaults(pub Vec<Diagnostic>);

const PROJECT: &str = "channel-orchestrator";
const SETTINGS_FILE: &str = "orchestrator.toml";

impl Config {
    /// Reads the settings file, if there is one, and puts everything together.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Config, ConfigFaults> {
        let mut faults = Vec::new();
        let file = settings_file(flags, environment);
        let settings = match &file {
            Some(path) => file::read(path, &mut faults),
            None => file::FileSettings::default(),
        };
        let config = compose(flags, environment, file, settings, &mut faults);
        match config {
            Some(mut config) if faults.iter().all(|fault| !fault.is_error()) => {
                config.warnings = faults;
                Ok(config)
            }
            _ => Err(ConfigFaults(faults)),
        }
    }

    /// Where the sandbox writes what it does not send.
    pub fn outbox_dir(&self) -> PathBuf {
        self.state_dir.join("outbox")
    }
}

/// The file that was named, else the one in this folder, else the machine's.
fn settings_file(flags: &Flags, environment: &Environment) -> Option<PathBuf> {
    let named = flags.config.clone().or_else(|| environment.path("ORCHESTRATOR_CONFIG"));
    named.or_else(|| {
        [PathBuf::from(SETTINGS_FILE), Path::new("/etc").join(PROJECT).join(SETTINGS_FILE)]
            .into_iter()
            .find(|path| path.is_file())
    })
}

fn compose(
    flags: &Flags,
    environment: &Environment,
    file: Option<PathBuf>,
    settings: file::FileSettings,
    faults: &mut Vec<Diagnostic>,
) -> Option<Config> {
    environment.check(&settings.referenced_variables(), faults);
    let Some(state_dir) = state_dir(flags, environment, &settings) else {
        faults.push(
            Diagnostic::error("no-state-dir", "environment", "there is no folder to keep state in")
                .hint("set ORCHESTRATOR_STATE_DIR (HOME, XDG_STATE_HOME and STATE_DIRECTORY are all unset)"),
        );
        return None;
    };
    let text = flags.listen.clone().or_else(|| environment.text("ORCHESTRATOR_LISTEN"));
    let listen = listen("listen", text.or_else(|| settings.listen.clone()), faults);
    let public = public::read(flags, environment, &settings, faults);
    let database = flags
        .database
        .clone()
        .or_else(|| environment.text("ORCHESTRATOR_DATABASE"))
        .or(settings.database)
        .unwrap_or_else(|| format!("sqlite:{}", state_dir.join("orchestrator.db").display()));
    if !["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| database.starts_with(scheme)) {
        faults.push(
            Diagnostic::error("database", "settings", "the database is neither SQLite nor PostgreSQL")
                .hint("write `sqlite:PATH` or `postgres://USER@HOST/NAME`"),
        );
    }
    let allowed_hosts = environment
        .text("ORCHESTRATOR_ALLOWED_HOSTS")
        .map(|list| list.split(',').map(|host| host.trim().to_owned()).collect())
        .unwrap_or(settings.allowed_hosts);
    Some(Config {
        file,
        policies: policy_folder(flags, environment, settings.policies, &state_dir),
        socket: flags
            .socket
            .clone()
            .or_else(|| environment.path("ORCHESTRATOR_SOCKET"))
            .or(settings.socket)
            .unwrap_or_else(|| state_dir.join("orchestrator.sock")),
        listen,
        allowed_hosts,
        public,
        database,
        drivers: settings.drivers,
        webhooks: settings.webhooks,
        allow_recipients: settings.allow_recipients,
        limits: settings.limits,
        policy_environment: environment.policy(),
        log: flags
            .log
            .clone()
            .or_else(|| environment.text("RUST_LOG"))
            .or(settings.log)
            .unwrap_or_else(|| "info".to_owned()),
        warnings: Vec::new(),
        state_dir,
    })
}

fn state_dir(flags: &Flags, environment: &Environment, settings: &file::FileSettings) -> Option<PathBuf> {
    // systemd gives several folders with colons between them; the first is ours.
    let systemd = || {
        let list = environment.text("STATE_DIRECTORY")?;
        list.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
    };
    // The XDG rules: a relative path counts as unset.
    let xdg = || environment.path("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let home = || environment.path("HOME").map(|home| home.join(".local/state"));
    flags
        .state_dir
        .clone()
        .or_else(systemd)
        .or_else(|| environment.path("ORCHESTRATOR_STATE_DIR"))
        .or_else(|| settings.state_dir.clone())
        .or_else(|| xdg().or_else(home).map(|base| base.join(PROJECT)))
}

fn policy_folder(
    flags: &Flags,
    environment: &Environment,
    from_file: Option<PathBuf>,
    state_dir: &Path,
) -> PolicyFolder {
    let named = |path: PathBuf, named_by| PolicyFolder { path, named_by };
    if let Some(path) = &flags.policies {
        return named(path.clone(), NamedBy::Flag);
    }
    if let Some(path) = environment.path("ORCHESTRATOR_POLICIES") {
        return named(path, NamedBy::Environment);
    }
    if let Some(path) = from_file {
        return named(path, NamedBy::File);
    }
    [PathBuf::from("policies"), Path::new("/etc").join(PROJECT).join("policies")]
        .into_iter()
        .find(|path| path.is_dir())
        .map_or_else(
            || named(state_dir.join("policies"), NamedBy::Shipped),
            |path| named(path, NamedBy::Found),
        )
}

/// An address to listen on, as a person wrote it for `key`.
fn listen(key: &str, text: Option<String>, faults: &mut Vec<Diagnostic>) -> Option<SocketAddr> {
    let text = text?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            faults.push(
                Diagnostic::error(key, "settings", format!("{text:?} is not an address to listen on"))
                    .hint("write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
