//! The watch: file events as a doorbell, a regular look as the truth.
//!
//! Nothing is concluded from an event but that it is time to look: events are lost, doubled and late. Our own
//! reads ring nothing. A folder that is deleted, made anew or swapped above its root gets a new watch.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use notify::{
    Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use rustix::io::Errno;
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    counters::Cause,
    folder::{RootId, root_of},
    reload::Policies,
};

/// Between two looks when no event rings.
const RESCAN: Duration = Duration::from_secs(2);
/// Contents are read and compared this often even where no stamp changed (some network file systems).
const READ_ALL: Duration = Duration::from_secs(30);
/// After a watch could not be made: then, then doubled, up to `BACK_OFF_MAX`.
const BACK_OFF: Duration = Duration::from_secs(2);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// What the watcher's thread tells the loop.
#[derive(Default)]
struct Doorbell {
    rung: Notify,
    /// Events were lost.
    overflow: AtomicBool,
    /// The watch itself failed.
    broken: AtomicBool,
}

impl Doorbell {
    fn hear(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.overflow.store(true, Ordering::Release),
            Ok(event) if !counts(event.kind) => return,
            Ok(_) => {}
            Err(_) => self.broken.store(true, Ordering::Release),
        }
        self.rung.notify_one();
    }
}

/// Reading and listing raise `Access` events, our own too; only the close of a written file says anything.
fn counts(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// A watch on the directory that the folder's path led to when it was made.
struct Watch {
    bell: Arc<Doorbell>,
    installed: Option<RecommendedWatcher>,
    /// That directory.
    root: Option<RootId>,
    retry_at: Instant,
    back_off: Duration,
    /// A failure is told once, not at each try.
    told: bool,
}

impl Watch {
    fn new() -> Self {
        Self {
            bell: Arc::default(),
            installed: None,
            root: None,
            retry_at: Instant::now(),
            back_off: BACK_OFF,
            told: false,
        }
    }

    /// Whether the watch must be made anew for what the path leads to now. Among events that were `lost` may be
    /// that of a new directory, which then has no watch.
    fn stale(&self, root: Option<RootId>, lost: bool) -> bool {
        let moved = root != self.root || lost;
        let broken = self.installed.is_none() || self.bell.broken.load(Ordering::Acquire);
        root.is_some() && (moved || (broken && Instant::now() >= self.retry_at))
    }

    /// Makes the watch anew. True if it stands.
    fn install(&mut self, folder: &Path, root: Option<RootId>) -> bool {
        // Dropped first: an old watch on a deleted directory only costs descriptors.
        self.installed = None;
        self.root = root;
        self.bell.broken.store(false, Ordering::Release);
        match watch(folder, &self.bell) {
            Ok(watcher) => {
                self.installed = Some(watcher);
                (self.back_off, self.told) = (BACK_OFF, false);
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        %error, folder = %folder.display(),
                        "the policies folder cannot be watched; it is looked at every {} s instead{}",
                        RESCAN.as_secs(), mend(&error)
                    );
                }
                self.retry_at = Instant::now() + self.back_off;
                self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
                false
            }
        }
    }
}

/// What an operator can do about it.
fn mend(error: &notify::Error) -> &'static str {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            ": the limit on watches is reached; raise the sysctl fs.inotify.max_user_watches"
        }
        ErrorKind::Io(io) if io.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            ": the limit on inotify instances is reached; raise the sysctl fs.inotify.max_user_instances"
        }
        _ => "",
    }
}

fn watch(folder: &Path, bell: &Arc<Doorbell>) -> notify::Result<RecommendedWatcher> {
    let bell = Arc::clone(bell);
    // Links are not followed: one that leads to `/` would watch the whole machine. What links inside the folder
    // lead to lies in it, and is watched there.
    let config = Config::default().with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(move |event| bell.hear(event), config)?;
    let folder = folder.canonicalize().map_err(notify::Error::io)?;
    watcher.watch(&folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}

impl Policies {
    /// Watches the folder and reloads what changes, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut watch = Watch::new();
        let bell = Arc::clone(&watch.bell);
        let mut ticks = tokio::time::interval(RESCAN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read_all_at = Instant::now() + READ_ALL;
        loop {
            let cause = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = bell.rung.notified() => Cause::Event,
                _ = ticks.tick() => Cause::Rescan,
            };
            let lost = bell.overflow.swap(false, Ordering::AcqRel);
            let cause = if lost { Cause::Overflow } else { cause };
            let renewed = self.turn_the_watch(&mut watch, lost);
            let cause = if renewed { Cause::Overflow } else { cause };
            let whole = Instant::now() >= read_all_at;
            if !self.changed(cause).await && !whole && !lost {
                continue;
            }
            if whole {
                read_all_at = Instant::now() + READ_ALL;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = self.settle_and_load(cause, false) => {}
            }
        }
        self.core.state().mode = "off";
    }

    /// Makes the watch anew where that is due. True if there is a new one: what happened before it rang nothing.
    fn turn_the_watch(&self, watch: &mut Watch, lost: bool) -> bool {
        let root = root_of(&self.core.folder);
        if !watch.stale(root, lost) {
            return false;
        }
        let stands = watch.install(&self.core.folder, root);
        self.core.state().mode = if stands { "events+rescan" } else { "rescan" };
        if stands {
            self.core.counters.watched();
        }
        stands
    }

    async fn changed(&self, cause: Cause) -> bool {
        let core = Arc::clone(&self.core);
        tokio::task::spawn_blocking(move || core.look(cause)).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, Flag, ModifyKind, RemoveKind};

    use super::*;

    #[test]
    fn reading_rings_nothing_and_writing_rings() {
        for (kind, expected) in [
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), false),
            (EventKind::Access(AccessKind::Read), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), true),
            (EventKind::Create(CreateKind::Any), true),
            (EventKind::Modify(ModifyKind::Any), true),
            (EventKind::Remove(RemoveKind::Any), true),
            (EventKind::Any, true),
        ] {
            assert_eq!(counts(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn lost_events_ring_even_without_a_path_or_a_kind() {
        let bell = Doorbell::default();
        let access = EventKind::Access(AccessKind::Any);
        bell.hear(Ok(Event::new(access).set_flag(Flag::Rescan)));
        assert!(bell.overflow.load(Ordering::Acquire));
        bell.hear(Err(notify::Error::generic("gone")));
        assert!(bell.broken.load(Ordering::Acquire));
    }
}
