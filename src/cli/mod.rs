//! The command line: parses, asks, prints, and ends with an exit code that a script can read.
//!
//! Data goes to standard output, words to standard error. It decides nothing by itself: decisions are `decide`'s,
//! offline, and the daemon's otherwise.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod acts;
mod answer;
mod arguments;
mod audit;
mod bounce;
mod broadcast;
mod client;
mod explain;
mod faults;
mod input;
mod kept;
mod keys;
mod layout;
mod offline;
mod outcome;
mod policies;
mod schema;
mod send;
mod serve;
mod stats;
mod tail;
mod trial;
mod versions;

use arguments::{ActsAction, Arguments, Command, ExplainArguments, Global, PoliciesAction};
use outcome::{Answer, Failure};

use crate::config::{Config, Environment, Flags};

/// Runs the command that was asked for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    outcome::exit(run(arguments))
}

fn run(arguments: Arguments) -> Result<Answer, Failure> {
    let Arguments { command, explain, global } = arguments;
    let json = global.json;
    let Some(command) = command else { return explain_first(&explain, &global) };
    if explain.explain.is_some() {
        let words = "--explain stands by itself; to ask the daemon, write `send FILE --explain`";
        return Err(Failure::Usage(words.to_owned()));
    }
    match command {
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "orchestrator", &mut std::io::stdout());
            Ok(Answer::Yes)
        }
        Command::Schema { reference, templates } => schema::run(reference, templates),
        Command::Serve { listen, public_listen, public_url, log } => {
            serve::run(Flags { listen, public_listen, public_url, log, ..global.flags() })
        }
        Command::Send(send) => block_on(send::run(&settings(&global.flags())?, &send, json)),
        Command::Broadcast(arguments) => {
            block_on(broadcast::run(&settings(&global.flags())?, &arguments, json))
        }
        Command::Stats(arguments) => block_on(stats::run(&settings(&global.flags())?, &arguments, json)),
        Command::Check { dir, origins } => {
            let config = settings(&global.flags())?;
            let folder = dir.as_deref().unwrap_or(&config.policies.path);
            match origins {
                Some(tenant) => offline::origins(&config, folder, &tenant, json),
                None => offline::check(&config, folder, json),
            }
        }
        Command::Test { dir, tenant } => {
            let config = settings(&global.flags())?;
            offline::test(&config, dir.as_deref().unwrap_or(&config.policies.path), tenant.as_deref(), json)
        }
        Command::Policies { action: Some(action), .. } => {
            let config = settings(&global.flags())?;
            match action {
                PoliciesAction::Reload => block_on(policies::reload(&config, json)),
                action => block_on(versions::run(&config, &action, json)),
            }
        }
        Command::Policies { tenant, action: None } => {
            block_on(policies::show(&settings(&global.flags())?, tenant.as_deref(), json))
        }
        Command::Messages { action } => act(&global, ActsAction::Message(action)),
        Command::Pause { kind, name, by } => act(&global, ActsAction::Pause { kind, name, by }),
        Command::Resume { kind, name, by } => act(&global, ActsAction::Resume { kind, name, by }),
        Command::Erase { tenant, recipient, by } => act(&global, ActsAction::Erase { tenant, recipient, by }),
        Command::Acts { limit } => act(&global, ActsAction::List { limit }),
        Command::Tail { tenant } => block_on(tail::run(&settings(&global.flags())?, tenant.as_deref(), json)),
        Command::Trial(arguments) => block_on(trial::run(&settings(&global.flags())?, &arguments, json)),
        Command::Audit => block_on(audit::run(&settings(&global.flags())?, json)),
        Command::Backup { file } => block_on(audit::backup(&settings(&global.flags())?, &file, json)),
        Command::Bounce(arguments) => {
            // A mail server's pipe has no home and no folder: where the socket is named nothing else is needed.
            let socket = match &global.socket {
                Some(socket) => Ok(socket.clone()),
                None => settings(&global.flags()).map(|config| config.socket),
            };
            block_on(bounce::run(socket, &arguments, json))
        }
        Command::Keys { action } => block_on(keys::run(&settings(&global.flags())?, &action, json)),
    }
}

fn act(global: &Global, action: ActsAction) -> Result<Answer, Failure> {
    block_on(acts::run(&settings(&global.flags())?, &action, global.json))
}

/// `--explain FILE` and `--explain --message ID`.
fn explain_first(explain: &ExplainArguments, global: &Global) -> Result<Answer, Failure> {
    let Some(file) = &explain.explain else { return Err(usage()) };
    let config = settings(&global.flags())?;
    match (&explain.message, file.as_str()) {
        (Some(id), "") => block_on(kept::explain(&config, id, explain.sources, global.json)),
        (Some(_), _) => Err(Failure::Usage("explain a file or a message, not both at once".to_owned())),
        (None, "") => Err(Failure::Usage("--explain needs a FILE, `-`, or --message ID".to_owned())),
        (None, file) => offline::explain(&config, explain, file, global.json),
    }
}

/// The settings, with remarks on them told on standard error.
fn settings(flags: &Flags) -> Result<Config, Failure> {
    let config = Config::load(flags, &Environment::of_this_process())?;
    if !config.warnings.is_empty() {
        anstream::eprint!("{}", faults::render(&config.warnings, layout::width()));
    }
    Ok(config)
}

/// Nothing was asked: the short help, and exit code 2.
fn usage() -> Failure {
    Failure::Usage(format!("nothing was asked\n\n{}", Arguments::command().render_help()))
}

/// Runs a client's conversation on this thread.
fn block_on<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?
        .block_on(conversation)
}

/// How this program was called, for commands that people paste.
pub fn invocation() -> String {
    let called = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    let by_cargo = std::env::var_os("CARGO").is_some() && std::env::var_os("CARGO_MANIFEST_DIR").is_some();
    match called {
        Some(called) if by_cargo && called.contains("/release/") => "cargo run --release --".to_owned(),
        Some(_) if by_cargo => "cargo run --".to_owned(),
        Some(called) => called,
        None => "orchestrator".to_owned(),
    }
}
