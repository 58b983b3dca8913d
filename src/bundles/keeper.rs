//! Keeps what came in force in the archive, on a thread of its own: a swap waits for no disk.
//!
//! A version is swapped in first and kept then, as it always was; only nobody stands by meanwhile. It is begun at
//! once, in the order of the swaps, and whoever promises that something is kept (the answer to a reload, an
//! operator's act, the end of the process) waits for it. It chooses nothing: what it is given is kept.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::last_good::{Archive, Kept};
use crate::{domain::ids::TenantId, failpoint};

/// Versions written with one flush. What ten thousand tenants come to is never in memory at once.
const AT_ONCE: usize = 1_000;
/// Texts that nobody refers to any more are looked for once nothing else was to be done for this long.
const SWEEP_AFTER: Duration = Duration::from_secs(5);

enum Job {
    Keep(Vec<Kept>),
    Forget(TenantId, Sender<io::Result<()>>),
    /// Answered when all that came before is done.
    Settle(Sender<()>),
}

/// The archive's one writer.
pub(super) struct Keeper {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(archive: Archive) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let run = move || run(&archive, &queue);
        let thread = thread::Builder::new().name("policies-kept".to_owned()).spawn(run)?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    /// Has versions kept as the last good ones, and in the history; waits for nothing.
    pub fn keep(&self, versions: Vec<Kept>) {
        if !versions.is_empty() {
            self.send(Job::Keep(versions));
        }
    }

    /// Waits until everything that was to be kept so far is.
    pub fn settle(&self) {
        let (done, wait) = mpsc::channel();
        self.send(Job::Settle(done));
        // An error: it is over.
        let _ = wait.recv();
    }

    /// Drops everything kept of a tenant, after what was to be kept of it before.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget(&self, tenant: &TenantId) -> io::Result<()> {
        let (done, wait) = mpsc::channel();
        self.send(Job::Forget(tenant.clone(), done));
        wait.recv().unwrap_or_else(|_| Err(io::Error::other("nothing is kept any more")))
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = jobs.as_ref() {
            // The other end is there as long as this one.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Keeper {
    /// Nothing that was to be kept is lost.
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

/// Does one job after the other until nobody has any more; sweeps once, when there is nothing to do.
fn run(archive: &Archive, queue: &Receiver<Job>) {
    let mut swept = false;
    loop {
        let patience = if swept { Duration::MAX } else { SWEEP_AFTER };
        let mut next = match queue.recv_timeout(patience) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let mut came = None;
                swept = archive.sweep(|rest| match queue.recv_timeout(rest) {
                    Ok(job) => {
                        came = Some(job);
                        true
                    }
                    Err(error) => error == RecvTimeoutError::Disconnected,
                });
                came
            }
        };
        while let Some(job) = next {
            work(archive, job);
            next = queue.try_recv().ok();
        }
    }
}

fn work(archive: &Archive, job: Job) {
    match job {
        Job::Keep(versions) => keep(archive, &versions),
        // Whoever asked may have gone.
        Job::Forget(tenant, done) => {
            let _ = done.send(archive.forget(&tenant));
        }
        Job::Settle(done) => {
            let _ = done.send(());
        }
    }
}

/// A full disk is told and stops nothing.
fn keep(archive: &Archive, versions: &[Kept]) {
    failpoint::hit("reload.pre_save");
    for some in versions.chunks(AT_ONCE) {
        if let Err(error) = archive.keep(some) {
            tracing::error!(
                %error, tenants = versions.len(),
                "the last good policies could not be kept in the state directory: after a restart the files must be good"
            );
            break;
        }
    }
    failpoint::hit("reload.saved");
}

#[cfg(test)]
mod tests {
    use super::{super::last_good::tests::kept, *};

    fn names(archive: &Archive) -> Vec<String> {
        archive.last_good().0.iter().map(|headline| headline.tenant.to_string()).collect()
    }

    #[test]
    fn what_was_to_be_kept_is_kept_before_the_end_and_in_order() {
        let state = tempfile::tempdir().unwrap();
        let archive = Archive::new(state.path());
        let keeper = Keeper::start(archive.clone()).unwrap();
        let acme = TenantId::parse("acme").unwrap();
        keeper.keep(vec![kept("acme", 1, "one", 1), kept("beta", 2, "one", 1)]);
        keeper.forget(&acme).unwrap();
        assert_eq!(names(&archive), ["beta"]);
        keeper.keep(vec![kept("acme", 3, "two", 2)]);
        keeper.settle();
        assert_eq!(names(&archive), ["acme", "beta"]);
        for version in 4..10 {
            keeper.keep(vec![kept("acme", version, "three", version.into())]);
        }
        drop(keeper);
        let newest = kept("acme", 9, "three", 9);
        assert_eq!(archive.last_good().0[0].version, newest.version.as_str());
        assert_eq!(archive.versions(&acme).len(), 7);
    }
}
