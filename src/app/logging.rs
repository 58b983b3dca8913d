//! Logs: for people on a terminal, JSON otherwise, always on standard error.
//!
//! What is logged holds no address, no name and no text of a message: that is kept by those who log, and a test
//! plants such things and looks for them.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Crates whose remarks at `info` are about nothing that went wrong: that a watch was already gone when the
/// directory was, for one.
const QUIETER: &str = "notify=warn";

/// Starts logging. `filter` is in RUST_LOG's syntax.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter = read(filter)?;
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

/// The filter, with `QUIETER` beneath it: whoever names such a crate hears it.
fn read(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(format!("{QUIETER},{filter}"))
        .with_context(|| format!("{filter:?} is not a log filter (RUST_LOG's syntax)"))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn heard(filter: &str) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        with_default(tracing_subscriber::registry().with(read(filter).unwrap()).with(layer), || {
            tracing::info!(target: "notify", "unable to remove watch descriptor");
            tracing::warn!(target: "notify", "events lost");
            tracing::info!("policy in use");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_watching_crate_is_heard_when_something_is_wrong_or_when_it_is_named() {
        let usual = heard("info");
        assert!(usual.contains("policy in use") && usual.contains("events lost"), "{usual}");
        assert!(!usual.contains("unable to remove"), "{usual}");
        assert!(heard("info,notify=info").contains("unable to remove"));
        assert!(read("info,=").is_err() || read("a=b=c").is_err());
    }
}
