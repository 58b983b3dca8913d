//! The watch: file events as a doorbell, a regular look as the truth.
//!
//! Nothing is concluded from an event but that it is time to look, and where first: events are lost, doubled and
//! late. Our own reads ring nothing. A folder that is deleted, made anew or swapped above its root gets a new watch.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use notify::{
    Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    core::Look,
    counters::Cause,
    folder::{RootId, Scope, names, root_of},
    reload::Policies,
};

/// Between two looks at the whole folder: longer where one takes long, so that it is never more than a
/// two-hundredth of the time.
const RESCAN: Duration = Duration::from_secs(2);
const RESCAN_SHARE: u32 = 200;
const RESCAN_MAX: Duration = Duration::from_secs(30);
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
    /// Where to look, for the core.
    hints: Arc<Mutex<Scope>>,
}

impl Doorbell {
    /// Takes an event of a watch on `root`. What an event names is where to look first, and nothing more: the
    /// regular look finds what no event named.
    fn hear(&self, root: &Path, event: notify::Result<Event>) {
        let scope = match event {
            Ok(event) if event.need_rescan() => {
                self.overflow.store(true, Ordering::Release);
                Scope::Whole
            }
            Ok(event) if !counts(event.kind) => return,
            Ok(event) => named(root, &event.paths),
            Err(_) => {
                self.broken.store(true, Ordering::Release);
                Scope::Whole
            }
        };
        self.hints.lock().unwrap_or_else(PoisonError::into_inner).add(scope);
        // Rung for droppings too: where the folder is made of links, one may lead to policies.
        self.rung.notify_one();
    }
}

/// Where the paths of an event are to be looked at.
fn named(root: &Path, paths: &[PathBuf]) -> Scope {
    let mut scope = Scope::nothing();
    for path in paths {
        let inside = path.strip_prefix(root).ok().filter(|inside| !inside.as_os_str().is_empty());
        let Some(inside) = inside else { return Scope::Whole };
        let inside = inside.to_string_lossy();
        if let Some((_, path)) = names::locate(&inside) {
            scope.add(Scope::Paths(BTreeSet::from([path.to_owned()])));
        }
    }
    if paths.is_empty() { Scope::Whole } else { scope }
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
    fn new(hints: Arc<Mutex<Scope>>) -> Self {
        Self {
            bell: Arc::new(Doorbell { hints, ..Doorbell::default() }),
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
    let folder = folder.canonicalize().map_err(notify::Error::io)?;
    let root = folder.clone();
    let mut watcher = RecommendedWatcher::new(move |event| bell.hear(&root, event), config)?;
    watcher.watch(&folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}

impl Policies {
    /// Watches the folder and reloads what changes, until `shutdown`; what came in force is kept then.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut watch = Watch::new(Arc::clone(&self.core.hints));
        let bell = Arc::clone(&watch.bell);
        let mut regular_at = Instant::now();
        loop {
            let cause = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = bell.rung.notified() => Cause::Event,
                () = tokio::time::sleep_until(regular_at.into()) => Cause::Rescan,
            };
            let lost = bell.overflow.swap(false, Ordering::AcqRel);
            let renewed = self.turn_the_watch(&mut watch, lost);
            let cause = if lost || renewed { Cause::Overflow } else { cause };
            // Events that never cease must not keep the regular look waiting.
            let (regular, began) = (Instant::now() >= regular_at, Instant::now());
            let how = match cause {
                _ if regular => Look::Regular,
                Cause::Overflow => Look::Whole,
                _ => Look::Hinted,
            };
            let stale = self.changed(cause, how).await;
            if regular {
                regular_at = Instant::now() + (began.elapsed() * RESCAN_SHARE).clamp(RESCAN, RESCAN_MAX);
            }
            if !stale {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = self.settle_and_load(cause, false, false) => {}
            }
        }
        self.core.state().mode = "off";
        self.settle_kept().await;
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

    async fn changed(&self, cause: Cause, how: Look) -> bool {
        let core = Arc::clone(&self.core);
        tokio::task::spawn_blocking(move || core.look(cause, how)).await.unwrap_or(false)
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
        bell.hear(Path::new("/p"), Ok(Event::new(access).set_flag(Flag::Rescan)));
        assert!(bell.overflow.load(Ordering::Acquire));
        assert_eq!(*bell.hints.lock().unwrap(), Scope::Whole);
        bell.hear(Path::new("/p"), Err(notify::Error::generic("gone")));
        assert!(bell.broken.load(Ordering::Acquire));
    }

    #[test]
    fn an_event_says_where_to_look_and_less_than_that_is_everywhere() {
        let at =
            |paths: &[&str]| named(Path::new("/p"), &paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        let only = |paths: &[&str]| Scope::Paths(paths.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(at(&["/p/tenants/acme.toml.tmp", "/p/tenants/acme.toml"]), only(&["tenants/acme.toml"]));
        assert_eq!(at(&["/p/tenants/acme"]), only(&["tenants/acme"]));
        assert_eq!(at(&["/p/tenant/acme.toml"]), only(&["tenant"]));
        assert_eq!(at(&["/p/..data", "/p/.git/index"]), only(&[]));
        for everywhere in [&["/p"][..], &["/elsewhere/tenants/acme.toml"], &[]] {
            assert_eq!(at(everywhere), Scope::Whole, "{everywhere:?}");
        }
    }
}
