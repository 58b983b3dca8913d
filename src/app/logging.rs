//! Logs: for people on a terminal, JSON otherwise, always on standard error.
//!
//! What is logged holds no address, no name and no text of a message: that is kept by those who log, and a test
//! plants such things and looks for them.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Starts logging. `filter` is in RUST_LOG's syntax.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("{filter:?} is not a log filter (RUST_LOG's syntax)"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = if std::io::stderr().is_terminal() {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        registry
            .with(fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false))
            .try_init()
    } else {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    };
    started.context("logging was started twice")
}
