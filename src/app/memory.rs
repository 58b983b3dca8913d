//! What the process takes of the system's memory: mimalloc in place of glibc's allocator, and little beyond what it uses.
//!
//! glibc's took a fifth of all processor time under load (`benches/end_to_end.rs`); what is C (SQLite) keeps it. A start,
//! and a load of many tenants, leave pages behind in which nothing lives any more; they are given back once it is quiet.
//! It frees nothing that is in use, and where there are other allocators it does nothing.

#![allow(unsafe_code, reason = "three calls into the allocators, which nobody wraps")]

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bundles::Policies;

/// After a load, so long without a further one.
const QUIET: Duration = Duration::from_secs(2);
/// Fewer tenants swapped leave too little behind to go through the heap for it.
const SWAPPED_MIN: usize = 256;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocators {
    use std::ffi::c_int;

    #[global_allocator]
    static RUST: mimalloc::MiMalloc = mimalloc::MiMalloc;

    /// Of `malloc.h`: how many heaps threads may spread over.
    pub const M_ARENA_MAX: c_int = -8;

    // SAFETY: all take plain values, may be called at any time by any thread (malloc_trim(3), mallopt(3), `mimalloc.h`),
    // and are declared as their headers declare them.
    unsafe extern "C" {
        /// Gives this thread's free pages back, and those of threads that are gone.
        pub safe fn mi_collect(force: bool);
        pub safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
        pub safe fn malloc_trim(pad: usize) -> c_int;
    }
}

/// To be called before there are threads. A huge page is held as a whole for the little that lives in it: an idle daemon
/// would keep twice as much. And glibc would make eight heaps a processor for what little is left to it.
pub fn be_small() {
    #[cfg(target_os = "linux")]
    // An error: a kernel without huge pages, or one that lets nobody choose.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        allocators::mallopt(allocators::M_ARENA_MAX, 2);
    }
}

/// How often everything was to be given back.
static ASKED: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static DONE: Cell<u32> = const { Cell::new(0) };
}

/// Gives back what nothing lives in, as far as this thread has it, and has the others do so when they rest.
fn give_back() {
    ASKED.fetch_add(1, Ordering::Relaxed);
    rest();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    allocators::malloc_trim(0);
}

/// A thread of the runtime has nothing to do: it gives back what it was asked for since.
pub fn rest() {
    let asked = ASKED.load(Ordering::Relaxed);
    if DONE.replace(asked) != asked {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        allocators::mi_collect(true);
    }
}

/// Gives memory back after the start, and after each load that swapped many tenants, until `shutdown`.
pub async fn watch(policies: Arc<Policies>, shutdown: CancellationToken) {
    let (handle, mut progress) = (policies.handle(), policies.progress());
    let (mut before, mut quiet_at) = (handle.current(), Some(Instant::now() + QUIET));
    loop {
        let seen = before.number;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = quiet(quiet_at) => {
                quiet_at = None;
                // An error: the runtime is going down, and all of it with it.
                let _ = tokio::task::spawn_blocking(give_back).await;
            }
            swapped = async { progress.wait_for(|progress| progress.generation != seen).await.is_ok() } => {
                if !swapped {
                    return;
                }
                let now = handle.current();
                if now.since(&before).count() >= SWAPPED_MIN {
                    quiet_at = Some(Instant::now() + QUIET);
                }
                before = now;
            }
        }
    }
}

/// Until that moment; for ever where there is none.
async fn quiet(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_stays_and_the_rest_is_given_back() {
        be_small();
        let all: Vec<Vec<u8>> = (0..20_000_u32).map(|n| n.to_le_bytes().repeat(64)).collect();
        let some: Vec<Vec<u8>> = all.into_iter().step_by(1_000).collect();
        give_back();
        for (at, kept) in some.iter().enumerate() {
            let n = u32::try_from(at * 1_000).unwrap();
            assert_eq!(*kept, n.to_le_bytes().repeat(64));
        }
    }
}
