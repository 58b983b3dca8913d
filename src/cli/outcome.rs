//! How a command ends: its exit code, and words on standard error for what went wrong.
//!
//! 0 ok, 1 the answer is no, 2 usage, 69 no daemon answers, 75 try again, 78 bad settings.

use std::process::ExitCode;

use super::{client::ClientError, faults, layout};
use crate::{config::ConfigFaults, policy::diagnostic::Diagnostic};

/// The answer to what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    /// A failed check, a refused message.
    No,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was asked makes no sense, or what it names cannot be read.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreachable(String),
    /// It may work in a moment.
    #[error("{0}")]
    TryAgain(String),
    #[error("the settings are wrong")]
    Settings(Vec<Diagnostic>),
    /// What the settings name cannot be used as it is.
    #[error("{0}")]
    Unusable(String),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<ConfigFaults> for Failure {
    fn from(ConfigFaults(faults): ConfigFaults) -> Self {
        Self::Settings(faults)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Unreachable { .. } => Self::Unreachable(error.to_string()),
            ClientError::Broken { .. } => Self::TryAgain(error.to_string()),
        }
    }
}

/// The exit code; what went wrong is told on standard error.
pub fn exit(outcome: Result<Answer, Failure>) -> ExitCode {
    let failure = match outcome {
        Ok(Answer::Yes) => return ExitCode::SUCCESS,
        Ok(Answer::No) => return ExitCode::from(1),
        Err(failure) => failure,
    };
    match &failure {
        Failure::Settings(found) => {
            anstream::eprint!("{}", faults::render(found, layout::width()));
            anstream::eprintln!("{}: nothing was started", faults::tally(found));
        }
        Failure::Unreachable(words) => {
            anstream::eprintln!("{words}");
            anstream::eprintln!("start one with `{} serve`", super::invocation());
        }
        Failure::Other(error) => anstream::eprintln!("error: {error:#}"),
        Failure::Usage(words) | Failure::TryAgain(words) | Failure::Unusable(words) => {
            anstream::eprintln!("error: {words}")
        }
    }
    ExitCode::from(match failure {
        Failure::Usage(_) => 2,
        Failure::Unreachable(_) => 69,
        Failure::TryAgain(_) => 75,
        Failure::Settings(_) | Failure::Unusable(_) => 78,
        Failure::Other(_) => 1,
    })
}
