//! Named points at which a test kills the process, to prove that every crash is recovered from.
//!
//! Built only with the feature `failpoints`; otherwise a point is nothing at all. It does nothing but end the
//! process, or freeze it: a fault that is returned is injected elsewhere (the system's calls, the providers).

/// Ends the process here, without any cleaning up, where `ORCHESTRATOR_FAILPOINT` is `NAME` or `NAME=HIT` and
/// this is that hit (1 by default); with `ORCHESTRATOR_FAILPOINT_FREEZES` set it is stopped as it stands instead
/// (SIGSTOP), for as long as the test likes.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var("ORCHESTRATOR_FAILPOINT").ok()?;
        Some(match text.split_once('=') {
            Some((name, hit)) => (name.to_owned(), hit.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    static HITS: AtomicU64 = AtomicU64::new(0);

    if let Some((armed, at)) = &*ARMED
        && armed == name
        && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *at
    {
        if std::env::var_os("ORCHESTRATOR_FAILPOINT_FREEZES").is_some() {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP).ok();
            // The signal may be taken by another thread first; this one goes no further before it stops too.
            std::thread::sleep(std::time::Duration::from_secs(1));
            return;
        }
        // As `kill -9` would: no destructor, no flush, no core.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// Ends the process here where `ORCHESTRATOR_TEST_POISON` is this recipient: a message that kills whoever takes it up.
#[cfg(feature = "failpoints")]
pub fn poison(recipient: &str) {
    if std::env::var("ORCHESTRATOR_TEST_POISON").is_ok_and(|poison| poison == recipient) {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn poison(_recipient: &str) {}
