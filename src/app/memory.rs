//! What the process takes of the system's memory beyond what it uses: as little as glibc lets it.
//!
//! A start, and a load of many tenants, leave pages behind in which nothing lives any more; the allocator would keep
//! them for ever. They are given back once it is quiet. It frees nothing that is in use, and where there is another
//! allocator it does nothing.

#![allow(unsafe_code, reason = "two calls into the C library, which nobody wraps")]

use std::{sync::Arc, thread, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bundles::Policies;

/// After a load, so long without a further one.
const QUIET: Duration = Duration::from_secs(2);
/// Fewer tenants swapped leave too little behind to go through the heap for it.
const SWAPPED_MIN: usize = 256;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    /// Of `malloc.h`: how many heaps threads may spread over.
    pub const M_ARENA_MAX: c_int = -8;

    // SAFETY: both take numbers alone, may be called at any time by any thread (malloc_trim(3), mallopt(3)), and are
    // declared as glibc declares them.
    unsafe extern "C" {
        pub safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
        pub safe fn malloc_trim(pad: usize) -> c_int;
    }
}

/// To be called before there are threads. glibc would make eight heaps a processor, each with its own leftovers; two
/// more than there are processors keep threads out of each other's way just as well.
pub fn few_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        glibc::mallopt(glibc::M_ARENA_MAX, i32::try_from(processors + 2).unwrap_or(i32::MAX));
    }
}

/// Gives back what nothing lives in.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::malloc_trim(0);
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
        few_heaps();
        let all: Vec<Vec<u8>> = (0..20_000_u32).map(|n| n.to_le_bytes().repeat(64)).collect();
        let some: Vec<Vec<u8>> = all.into_iter().step_by(1_000).collect();
        give_back();
        for (at, kept) in some.iter().enumerate() {
            let n = u32::try_from(at * 1_000).unwrap();
            assert_eq!(*kept, n.to_le_bytes().repeat(64));
        }
    }
}
