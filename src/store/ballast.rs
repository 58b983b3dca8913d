//! The ballast: a file beside an embedded database that takes up room for nothing, so that there is room for what must
//! be written once the disk is full (reliability.md F9).
//!
//! SQLite cannot even delete on a full disk; without a reserve the outcomes of what was sent could not be written down,
//! and would have to be looked for. It knows no table and refuses nobody: the writer does, while it is freed.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, StatVfsMountFlags, fallocate, statvfs};

/// How often it is looked whether there is room again.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What must be free besides the ballast before it is made again: the first messages must not fill the disk anew.
const ROOM_BESIDES: u64 = 4 * 1024 * 1024;
/// With less than this a start frees the ballast before it opens the database.
const ROOM_TO_START: u64 = 1024 * 1024;

/// Why nothing that begins something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    Full,
    ReadOnly,
}

impl Shortage {
    /// In words that name no place: callers without a key may read them.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Shortage::Full => {
                "the disk is full: new messages are refused until there is room, and what was begun is still \
                 written down"
            }
            Shortage::ReadOnly => {
                "the disk has become read-only: nothing can be written down until it is not"
            }
        }
    }
}

/// The file, and whether the disk is short of room.
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
    shortage: Option<Shortage>,
    looked: Instant,
}

impl Ballast {
    /// Of a database's disk. Made where there is room for it; freed where there is hardly room for anything.
    pub(super) fn beside(database: &Path, bytes: u64) -> Self {
        let mut name = database.as_os_str().to_owned();
        name.push(".ballast");
        let mut ballast = Self { path: name.into(), bytes, shortage: None, looked: Instant::now() };
        if ballast.free_bytes().is_some_and(|free| free < ROOM_TO_START) {
            ballast.release(Shortage::Full);
        } else if let Err(error) = ballast.make() {
            let what = "there is no room for the ballast: a full disk would be felt at once";
            tracing::warn!(file = %ballast.path.display(), bytes, %error, what);
        }
        ballast
    }

    pub(super) fn shortage(&self) -> Option<Shortage> {
        self.shortage
    }

    /// Gives its room to whoever must write; false where that was done already and was not enough.
    pub(super) fn release(&mut self, shortage: Shortage) -> bool {
        if self.shortage.is_some() {
            return false;
        }
        tracing::error!(file = %self.path.display(), "{}", shortage.words());
        self.shortage = Some(shortage);
        self.looked = Instant::now();
        if shortage == Shortage::Full
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::error!(file = %self.path.display(), %error, "the ballast cannot be freed");
        }
        true
    }

    /// Whether the shortage is over, looked at now and then; the ballast is made again first.
    pub(super) fn recovers(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_EVERY {
            return false;
        }
        self.looked = Instant::now();
        let room = self.free_bytes().is_some_and(|free| free >= self.bytes + ROOM_BESIDES);
        if !room || self.is_read_only() || self.make().is_err() {
            return false;
        }
        tracing::info!("there is room on the disk again: new messages are taken");
        self.shortage = None;
        true
    }

    /// Whether writing failed because the disk takes nothing at all, which is a certain no.
    pub(super) fn is_read_only(&self) -> bool {
        let dir = self.directory();
        if statvfs(dir).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY)) {
            return true;
        }
        // A file system that stopped itself may not say so.
        let probe = self.path.with_extension("probe");
        let tried = File::create(&probe);
        let _ = fs::remove_file(&probe);
        tried.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
    }

    fn directory(&self) -> &Path {
        self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// What is free for this process.
    fn free_bytes(&self) -> Option<u64> {
        let found = statvfs(self.directory()).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn make(&self) -> std::io::Result<()> {
        if self.bytes == 0 {
            // One that the settings do not want any more.
            let _ = fs::remove_file(&self.path);
            return Ok(());
        }
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        let made = fill(&file, self.bytes);
        if made.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        made
    }
}

/// Takes the room: a length alone takes none.
fn fill(mut file: &File, bytes: u64) -> std::io::Result<()> {
    if file.metadata()?.len() > bytes {
        file.set_len(bytes)?;
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let piece = vec![0; 1024 * 1024];
            let mut left = bytes;
            while left > 0 {
                let count = left.min(piece.len() as u64);
                file.write_all(&piece[..usize::try_from(count).unwrap_or(piece.len())])?;
                left -= count;
            }
            file.sync_data()
        }
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const SIZE: u64 = 256 * 1024;

    #[test]
    fn it_takes_its_room_gives_it_back_once_and_takes_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db.ballast");
        let taken = || fs::metadata(&path).map_or(0, |found| found.blocks() * 512);
        let mut ballast = Ballast::beside(&dir.path().join("store.db"), SIZE);
        assert!(taken() >= SIZE, "{}", taken());
        assert!(ballast.shortage().is_none());

        assert!(ballast.release(Shortage::Full));
        assert_eq!((taken(), ballast.shortage()), (0, Some(Shortage::Full)));
        assert!(!ballast.release(Shortage::Full), "there is nothing more to give");

        assert!(!ballast.recovers(), "it looks now and then only");
        std::thread::park_timeout(LOOK_EVERY * 2);
        assert!(ballast.recovers());
        assert!(taken() >= SIZE);
        assert!(ballast.shortage().is_none());
    }

    #[test]
    fn one_that_is_not_wanted_any_more_goes_and_one_of_another_size_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let (database, path) = (dir.path().join("store.db"), dir.path().join("store.db.ballast"));
        Ballast::beside(&database, 2 * SIZE);
        Ballast::beside(&database, SIZE);
        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE);
        Ballast::beside(&database, 0);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_can_be_written_to_is_not_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::beside(&dir.path().join("store.db"), 0);
        assert!(!ballast.is_read_only());
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "the probe is gone");
    }
}
