//! `serve`: runs the daemon, and says first where everything is and what to try next.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::{
    layout,
    outcome::{Answer, Failure},
    policies, settings,
};
use crate::{
    app::{self, App, Ended, Signals, StartError, logging, memory},
    config::{Config, Flags, NamedBy},
    domain::channel::Channel,
};

const LOUD: Style = AnsiColor::Yellow.on_default().bold().invert();
const STRONG: Style = Style::new().bold();

/// The request that the first commands send: in the repository, and written beside the state elsewhere.
const EXAMPLE: &str = include_str!("../../examples/requests/urgent.json");

pub fn run(flags: Flags) -> Result<Answer, Failure> {
    let config = settings(&flags)?;
    logging::start(&config.log).map_err(|error| Failure::Usage(format!("{error:#}")))?;
    memory::be_small();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(memory::rest)
        .build()
        .map_err(anyhow::Error::from)?;
    let ended = runtime.block_on(serve(config));
    // What still blocks (a slow disk, a name that does not resolve) does not keep the process.
    runtime.shutdown_background();
    match ended? {
        Ended::Stopped => Ok(Answer::Yes),
        Ended::AtOnce => {
            anstream::eprintln!("stopped at once: what was in flight is settled at the next start");
            Ok(Answer::No)
        }
        Ended::Failed(why) => {
            Err(Failure::TryAgain(format!("{why}: stopped, to start again and read what is really there")))
        }
    }
}

async fn serve(config: Config) -> Result<Ended, Failure> {
    let signals = Signals::listen().map_err(anyhow::Error::from)?;
    let app = App::assemble(config).await.map_err(|error| match error {
        StartError::Settings(found) => Failure::Settings(found),
        StartError::Busy(why) => Failure::TryAgain(why),
        StartError::Unusable(why) => Failure::Unusable(why),
    })?;
    anstream::print!("{}", welcome(&app));
    Ok(app.run(signals).await)
}

/// Where everything is, what is in force, and three commands that work when they are pasted.
fn welcome(app: &App) -> String {
    let config = &app.config;
    let mut out = String::new();
    let _ = writeln!(out, "{STRONG}Channel Orchestrator {}{STRONG:#}", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{} {text}", layout::fit(name, 10));
    };
    if let Some(file) = &config.file {
        line("settings", file.display().to_string());
    }
    line("state", config.state_dir.display().to_string());
    line("database", shown_database(&config.database));
    line("socket", config.socket.display().to_string());
    match app.tcp_address() {
        Some(address) => {
            line("tcp", format!("{address}, with keys (`{} keys add TENANT`)", super::invocation()))
        }
        None => line("tcp", "none (--listen 127.0.0.1:8080 opens one)".to_owned()),
    }
    match (app.public_address(), &config.public.url) {
        (Some(address), Some(url)) => line("public", format!("{address}, reached as {url}")),
        (None, Some(url)) => line("public", format!("not here; {url} is another daemon's")),
        (_, None) => line("public", "none (no callbacks, opens, clicks or unsubscribing)".to_owned()),
    }
    if app.wrote_policies {
        let folder = config.policies.path.display();
        line("policies", format!("there were none: the shipped ones were written to {folder}, once"));
    }
    out.push('\n');
    out.push_str(&policies::at_start(app.policies.status()));
    out.push('\n');
    out.push_str(&channels(app));
    out.push_str(&next(config));
    out
}

/// A password in the URL is nobody's to read on a screen.
fn shown_database(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

/// Which driver each channel has; loudly where nothing is really sent.
fn channels(app: &App) -> String {
    let mut out = String::new();
    let drivers = &app.orchestrator.drivers;
    let mut sandboxed = Vec::new();
    for channel in Channel::ALL {
        let named: Vec<&str> = drivers.for_channel(channel, &[]).iter().map(|driver| driver.name()).collect();
        if named == ["sandbox"] {
            sandboxed.push(channel.as_str());
        } else {
            let _ = writeln!(out, "{} by {}", layout::fit(channel.as_str(), 10), named.join(", then "));
        }
    }
    let unheard = app::unheard(&app.config, drivers);
    if !unheard.is_empty() {
        let _ = writeln!(
            out,
            "{LOUD} UNHEARD {LOUD:#} {}: their providers call back, and no public_url is set: no receipts and no \
             STOP will come",
            unheard.join(", ")
        );
    }
    if !sandboxed.is_empty() {
        let outbox = app.config.outbox_dir();
        let _ = writeln!(
            out,
            "{LOUD} SANDBOX {LOUD:#} {}: nothing is sent to anybody; messages are written to {}",
            sandboxed.join(", "),
            outbox.display()
        );
    }
    if !app.config.allow_recipients.is_empty() {
        let _ = writeln!(out, "only these may be written to: {}", app.config.allow_recipients.join(", "));
    }
    out
}

/// The commands to try next, in another terminal, with what they need to find this daemon.
fn next(config: &Config) -> String {
    let Some(request) = example_request(config) else { return String::new() };
    let program = super::invocation();
    let default_socket = Config::load(&Flags::default(), &crate::config::Environment::of_this_process())
        .is_ok_and(|default| default.socket == config.socket);
    let socket = if default_socket { String::new() } else { format!(" --socket {}", quoted(&config.socket)) };
    let policies = match config.policies.named_by {
        NamedBy::Found | NamedBy::Environment => String::new(),
        _ => format!(" --policies {}", quoted(&config.policies.path)),
    };
    let mut out = format!("\n{STRONG}Try next, in another terminal:{STRONG:#}\n");
    let _ = writeln!(out, "  {program} --explain {request} --at 2025-11-14T23:00:00+01:00{policies}");
    let _ = writeln!(out, "  {program} send {request}{socket}");
    let _ = writeln!(out, "  {program} policies tenant_123{socket}\n");
    out
}

/// The example of the repository where this is it, else one beside the state.
fn example_request(config: &Config) -> Option<String> {
    let of_repository = std::path::Path::new("examples/requests/urgent.json");
    if of_repository.is_file() {
        return Some(of_repository.display().to_string());
    }
    let beside = config.state_dir.join("example.json");
    if !beside.is_file() {
        std::fs::write(&beside, EXAMPLE).ok()?;
    }
    Some(quoted(&beside))
}

/// A path as a shell takes it.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_password_is_not_shown() {
        assert_eq!(shown_database("postgres://me:hunter2@db/x"), "postgres://…@db/x");
        assert_eq!(shown_database("postgres://me:p@ss@db/x"), "postgres://…@db/x");
        assert_eq!(shown_database("sqlite:/var/lib/x.db"), "sqlite:/var/lib/x.db");
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted("/run/x.sock".as_ref()), "/run/x.sock");
        assert_eq!(quoted("/it's here".as_ref()), r"'/it'\''s here'");
    }
}
