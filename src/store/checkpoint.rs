//! Folding the embedded database's log into its file, beside the commits and not within them.
//!
//! A thread of its own does the bulk, a little after every few commits: folded in rarely, it is much at once, and the
//! commits beside it wait for a disk that is busy with it. The thread never quite catches up with a writer that goes
//! on writing, and a log that is not folded in whole is never begun anew: once the log is long, the thread comes as
//! close as it can, and the writer itself does the little that is left, between two commits and after it has
//! answered. So the log stays bounded (reliability.md F17), no caller waits for its folding, and its file, once
//! grown, is written over in place. It decides nothing about what is durable: a commit is in the log, on the disk,
//! before any of this.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use super::{
    database::Fault,
    sqlite::{Cell, Direct, NONE, Refused},
};

/// Pages of the log from which the writer helps: 128 MiB.
const LONG: u64 = 32_768;
/// Operations after which the thread does not wait any longer.
const MANY: u64 = 64;
/// Without a commit of ours it looks this often: another program may have written, or somebody who reads may have ended.
const IDLE: Duration = Duration::from_secs(1);
/// As little is left as is written while the last folding took no longer than this.
const LITTLE: Duration = Duration::from_millis(5);
/// Foldings in a row that try to come so close: each has less to do than the one before, unless the disk is too slow.
const TRIES: usize = 6;
/// From here on it waits for whoever still reads the log: 192 MiB.
const TOO_LONG: u64 = 49_152;

/// Longer than that for this time, it is kept so by somebody who reads and does not end; told again after as long as that.
const HELD: Duration = Duration::from_secs(10);
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// Pages to a MiB.
const MIB: u64 = 256;

/// What the writer and the thread tell each other.
#[derive(Default)]
pub(super) struct Log {
    /// How long the log is, as the last look at it found: told by the thread, taken by the writer.
    pages: AtomicU64,
    /// Operations that were committed since the thread last began: told by the writer.
    fresh: AtomicU64,
    ended: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Log {
    /// So many operations were committed.
    pub(super) fn grew(&self, operations: u64) {
        let before = self.fresh.fetch_add(operations, Ordering::AcqRel);
        // Once: it wakes for the first, to wait for more, and for the one that makes them many.
        if before == 0 || (before < MANY && before + operations >= MANY) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Waits until there is something to fold in; whether it is over.
    fn wait(&self, every: Duration) -> bool {
        let since = Instant::now();
        loop {
            let fresh = self.fresh.load(Ordering::Acquire);
            let most = if fresh == 0 { IDLE } else { every };
            let left = most.saturating_sub(since.elapsed());
            if self.ended.load(Ordering::Acquire) || fresh >= MANY || left.is_zero() {
                self.fresh.store(0, Ordering::Release);
                return self.ended.load(Ordering::Acquire);
            }
            thread::park_timeout(left);
        }
    }

    /// Folds in what is left where the log is long; called between commits.
    pub(super) fn fold(&self, connection: &mut Direct) {
        let pages = self.pages.swap(0, Ordering::AcqRel);
        if pages < LONG {
            return;
        }
        let how = if pages < TOO_LONG { "PASSIVE" } else { "RESTART" };
        if let Err(error) = pass(connection, how) {
            tracing::debug!(%error, how, "the database's log was not folded in this time");
        }
    }
}

/// The thread, until it is stopped or dropped.
pub(super) struct Checkpointer {
    log: Arc<Log>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(path: &Path, every: Duration, log: Arc<Log>) -> Result<Self, Fault> {
        let mut connection = Direct::open(path)?;
        let told = Arc::clone(&log);
        let work = move || {
            let mut alarm = Alarm::default();
            let _ = log.thread.set(thread::current());
            while !log.wait(every) {
                match catch_up(&mut connection) {
                    Ok(pages) => {
                        log.pages.store(pages, Ordering::Release);
                        if alarm.is_due(pages, Instant::now()) {
                            tracing::error!(
                                log_mib = pages / MIB,
                                "somebody reads the database and does not end (a shell, a copy, `orchestrator audit`): its \
                                 log grows until they do, or until the disk is full"
                            );
                        }
                    }
                    // It shows in the writer, which then does it itself.
                    Err(error) => tracing::debug!(%error, "the database's log was not folded in this time"),
                }
            }
        };
        let thread = thread::Builder::new().name("store-log".into()).spawn(work);
        let thread = thread.map_err(|error| Fault::Sql(sqlx::Error::Io(error)))?;
        Ok(Self { log: told, thread: Some(thread) })
    }

    /// Ends it after the pass that it is at; its connection is closed then.
    pub(super) fn stop(mut self) {
        self.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that folds the database's log ended by a panic");
        }
    }

    fn end(&self) {
        self.log.ended.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Says when a log that stays too long is to be told of.
#[derive(Debug, Default)]
struct Alarm {
    /// Since when it has been too long.
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Alarm {
    fn is_due(&mut self, pages: u64, now: Instant) -> bool {
        if pages < TOO_LONG {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let due = now.duration_since(since) >= HELD
            && self.told.is_none_or(|told| now.duration_since(told) >= TOLD_AGAIN);
        if due {
            self.told = Some(now);
        }
        due
    }
}

/// Folds in what there is, and where the log is long what came meanwhile; how many pages the log has.
fn catch_up(connection: &mut Direct) -> Result<u64, Refused> {
    let mut pages = 0;
    for _ in 0..TRIES {
        let since = Instant::now();
        pages = pass(connection, "PASSIVE")?;
        if pages < LONG || since.elapsed() <= LITTLE {
            break;
        }
    }
    Ok(pages)
}

/// One folding; how many pages the log has.
fn pass(connection: &mut Direct, how: &str) -> Result<u64, Refused> {
    let rows = connection.rows(&format!("PRAGMA wal_checkpoint({how})"), NONE)?;
    match rows.first().and_then(|row| row.get(1)) {
        Some(Cell::Int(pages)) => Ok(u64::try_from(*pages).unwrap_or(0)),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_operations_are_not_waited_for_and_an_end_is_not_slept_through() {
        let (log, hour) = (Log::default(), Duration::from_secs(3_600));
        log.grew(MANY / 2);
        log.grew(MANY - MANY / 2);
        assert!(!log.wait(hour), "many");
        assert_eq!(log.fresh.load(Ordering::Acquire), 0, "they are counted once");
        log.grew(1);
        assert!(!log.wait(Duration::ZERO), "a few, once their time is over");
        log.ended.store(true, Ordering::Release);
        assert!(log.wait(hour), "the end");
    }

    #[test]
    fn a_log_that_stays_too_long_is_told_of_once_a_minute_and_a_busy_one_is_not() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let mut told = |pages: u64, second: u64| alarm.is_due(pages, start + Duration::from_secs(second));
        // Busy: long, and folded in again.
        assert!(!told(TOO_LONG, 0) && !told(TOO_LONG, 9) && !told(TOO_LONG - 1, 10) && !told(TOO_LONG, 11));
        assert!(!told(TOO_LONG, 20), "nine seconds");
        assert!(told(TOO_LONG + 1, 21) && !told(TOO_LONG + 1, 22) && !told(TOO_LONG + 1, 80));
        assert!(told(TOO_LONG + 1, 81));
        assert!(!told(0, 82) && !told(TOO_LONG, 83), "over, and begun anew");
    }
}
