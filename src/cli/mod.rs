//! The command line: parses, asks, prints, and ends with an exit code that a script can read.
//!
//! Data goes to standard output, words to standard error. It decides nothing by itself: decisions are `decide`'s,
//! offline, and the daemon's otherwise.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod answer;
mod arguments;
mod client;
mod explain;
mod faults;
mod input;
mod layout;
mod outcome;
mod send;

use arguments::{Arguments, Command};
use outcome::{Answer, Failure};

use crate::config::{Config, Environment, Flags};

/// Runs the command that was asked for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    outcome::exit(run(arguments))
}

fn run(arguments: Arguments) -> Result<Answer, Failure> {
    let json = arguments.global.json;
    match arguments.command {
        Some(Command::Completions { shell }) => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "orchestrator", &mut std::io::stdout());
            Ok(Answer::Yes)
        }
        Some(Command::Send(send)) => {
            let config = settings(&arguments.global.flags())?;
            block_on(send::run(&config, &send, json))
        }
        _ => Err(usage()),
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
