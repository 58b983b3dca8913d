//! The policies folder read once, safely: every file that counts, its bytes, and what could not be read.
//!
//! Nothing is opened that lies outside the folder, is no regular file, or is too big (reliability.md T26):
//! links inside the folder are followed (ConfigMaps are links), links out of it are refused, and a FIFO never
//! blocks the reader. It understands nothing of what it reads, and it writes nothing.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags, fstat, open, openat2, statx},
    io::Errno,
};

use crate::policy::{assemble::SourceFile, diagnostic::Diagnostic};

mod mounts;
pub mod names;

use names::{Named, Place, Role};

/// More files than any folder of policies has; past it the rest is not read, and that is told.
const FILES_MAX: usize = 50_000;
/// A folder that keeps changing while it is read is read this often, then taken as it is.
const READS_MAX: u32 = 4;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
            mode: stat.st_mode,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// One name of the folder as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File(Role, Stamp),
    /// It would be read, but cannot be.
    Unreadable(Role, Fault),
    /// A directory that cannot be listed.
    Closed(Fault),
    Stray(String),
}

/// Why something that counts could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    System(Errno),
    NoFile,
    TooBig { size: u64, max: u64 },
}

/// Tells one directory from another, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootId {
    device: u64,
    inode: u64,
    born: (i64, u32),
}

/// The folder at a glance: names and stamps, no contents. Two equal listings mean that nothing was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// None: there is no root. It changes when a link above it is swapped.
    root: Option<RootId>,
    root_fault: Option<String>,
    entries: BTreeMap<String, Entry>,
    cut: bool,
}

impl Listing {
    /// Which directory the folder's path leads to.
    pub fn root(&self) -> Option<RootId> {
        self.root
    }

    /// Seconds and nanoseconds since 1970 of the newest change to any file.
    pub fn newest(&self) -> Option<(i64, u64)> {
        let stamps = self.entries.values().filter_map(|entry| match entry {
            Entry::File(_, stamp) => Some(stamp.changed),
            _ => None,
        });
        stamps.max()
    }

    /// Lists the folder. Never fails: what cannot be listed is in the listing as that.
    pub fn of(folder: &Path) -> Self {
        match open_root(folder) {
            Ok(root) => Self::beneath(&root),
            Err(errno) => Self { root_fault: Some(errno.to_string()), ..Self::default() },
        }
    }

    fn beneath(root: &OwnedFd) -> Self {
        let mut listing = Self { root: identity(root), ..Self::default() };
        let mut places = vec![(Place::Root, String::new())];
        while let Some((place, path)) = places.pop() {
            listing.list(root, &place, &path, &mut places);
        }
        listing
    }

    /// Lists one directory; the directories in it that count are put on `places`.
    fn list(&mut self, root: &OwnedFd, place: &Place, path: &str, places: &mut Vec<(Place, String)>) {
        let names = match names_in(root, path) {
            Ok(names) => names,
            Err(Errno::NOENT) => return,
            Err(errno) => {
                self.entries.insert(path.to_owned(), Entry::Closed(Fault::System(errno)));
                return;
            }
        };
        for name in names {
            if self.entries.len() >= FILES_MAX {
                self.cut = true;
                return;
            }
            let inner = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            // Droppings are not even looked at: a dangling lock link of Emacs is none of our business.
            if names::classify(place, &name, false) == Named::Skipped {
                continue;
            }
            let stat = beneath(root, &inner, OFlags::PATH).and_then(fstat);
            let directory =
                matches!(&stat, Ok(s) if FileType::from_raw_mode(s.st_mode) == FileType::Directory);
            // A directory that cannot be reached is told as that, not as a file of an odd name.
            let closed = stat.as_ref().err().filter(|errno| **errno != Errno::NOENT).copied();
            if let (Some(errno), Named::Directory(_)) = (closed, names::classify(place, &name, true)) {
                self.entries.insert(inner, Entry::Closed(Fault::System(errno)));
                continue;
            }
            let entry = match (names::classify(place, &name, directory), stat) {
                (_, Err(Errno::NOENT)) | (Named::Skipped, _) => continue,
                (Named::Directory(place), _) => {
                    places.push((place, inner));
                    continue;
                }
                (Named::Stray(why), _) => Entry::Stray(why),
                (Named::File(role), Err(errno)) => Entry::Unreadable(role, Fault::System(errno)),
                (Named::File(role), Ok(stat)) => file_entry(role, &stat),
            };
            self.entries.insert(inner, entry);
        }
    }
}

/// A file's entry: refused by kind or size before it is ever opened.
fn file_entry(role: Role, stat: &Stat) -> Entry {
    let stamp = Stamp::of(stat);
    let max = role.bytes_max();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Entry::Unreadable(role, Fault::NoFile);
    }
    if stamp.size > max {
        return Entry::Unreadable(role, Fault::TooBig { size: stamp.size, max });
    }
    Entry::File(role, stamp)
}

/// What was read, by path relative to the folder, with `/`.
pub type Files = BTreeMap<String, (Role, Arc<SourceFile>)>;

/// The folder's contents at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub files: Files,
    /// What could not be read, and what was not. A file that could not be read is an error under its path.
    pub problems: Vec<Diagnostic>,
    /// The folder itself cannot be read; its problem is among `problems` too.
    pub root_fault: Option<Diagnostic>,
    /// There is no such folder.
    pub missing: bool,
    /// Something failed that may well work a moment later.
    pub transient: bool,
    /// The listing that the contents belong to.
    pub listing: Listing,
}

impl Snapshot {
    /// Reads the folder that the path leads to now. Read again while it changes under the reader's eyes.
    pub fn read(folder: &Path) -> Self {
        let mut snapshot = Self::read_once(folder);
        for _ in 1..READS_MAX {
            if Listing::of(folder) == snapshot.listing {
                break;
            }
            snapshot = Self::read_once(folder);
        }
        if snapshot.root_fault.is_none() {
            snapshot.problems.extend(mounts::warnings(folder));
        }
        snapshot
    }

    /// Takes files that were written again since they were read as they were `before`: they may have been read
    /// half-written. One that is new waits. The next look finds them changed, and reads them then.
    pub fn hold_back(&mut self, later: &Listing, before: &Files) {
        let moving: Vec<String> = self
            .files
            .keys()
            .filter(|path| later.entries.get(*path) != self.listing.entries.get(*path))
            .cloned()
            .collect();
        for path in moving {
            match before.get(&path) {
                Some(file) => self.files.insert(path, file.clone()),
                None => self.files.remove(&path),
            };
        }
    }

    fn read_once(folder: &Path) -> Self {
        let root = match open_root(folder) {
            Ok(root) => root,
            Err(errno) => return Self::without_root(folder, errno),
        };
        let listing = Listing::beneath(&root);
        let mut snapshot = Self::default();
        for (path, entry) in &listing.entries {
            match entry {
                Entry::File(role, stamp) => snapshot.take(&root, path, role, stamp),
                Entry::Unreadable(_, fault) | Entry::Closed(fault) => snapshot.refuse(path, *fault),
                Entry::Stray(why) => snapshot.problems.push(
                    Diagnostic::warning("not-read", path, format!("this file is not read: {why}"))
                        .hint("rename it, or take it out of the folder"),
                ),
            }
        }
        if listing.cut {
            let told = format!("more than {FILES_MAX} files: the rest is not read");
            snapshot.problems.push(Diagnostic::error("too-many-files", ".", told));
        }
        snapshot.listing = listing;
        snapshot
    }

    fn without_root(folder: &Path, errno: Errno) -> Self {
        let missing = errno == Errno::NOENT;
        let shown = folder.display();
        let fault = if missing {
            Diagnostic::error("folder-missing", ".", format!("there is no policies folder {shown}"))
                .hint("make the folder with a file tenants/<tenantId>.toml in it, or name another with ORCHESTRATOR_POLICIES")
        } else {
            let told = format!("the policies folder {shown} cannot be read: {errno}");
            Diagnostic::error("folder-unreadable", ".", told).hint("let the daemon's user read it")
        };
        Self {
            problems: vec![fault.clone()],
            root_fault: Some(fault),
            missing,
            transient: !missing,
            listing: Listing { root_fault: Some(errno.to_string()), ..Listing::default() },
            ..Self::default()
        }
    }

    /// Reads one file that was listed.
    fn take(&mut self, root: &OwnedFd, path: &str, role: &Role, stamp: &Stamp) {
        match read_file(root, path, role.bytes_max()) {
            Ok(bytes) => {
                let file = SourceFile { path: path.to_owned(), bytes };
                self.files.insert(path.to_owned(), (role.clone(), Arc::new(file)));
                if stamp.mode & 0o002 != 0 {
                    self.problems.push(
                        Diagnostic::warning(
                            "world-writable",
                            path,
                            "everybody on this machine may change this file",
                        )
                        .hint(format!("chmod o-w {path}")),
                    );
                }
            }
            // It went away between the listing and now: the next listing differs, and says so.
            Err(Fault::System(Errno::NOENT)) => self.transient = true,
            Err(fault) => self.refuse(path, fault),
        }
    }

    fn refuse(&mut self, path: &str, fault: Fault) {
        let (code, told, hint) = match fault {
            Fault::System(Errno::XDEV) => (
                "link-out",
                "this link leads out of the policies folder (or is absolute): it is not followed".to_owned(),
                "link to a place inside the folder, by a relative path".to_owned(),
            ),
            Fault::System(Errno::LOOP) => {
                ("link-loop", "this link leads to itself".to_owned(), "remove the link".to_owned())
            }
            Fault::System(errno) => {
                self.transient = true;
                ("unreadable", format!("cannot be read: {errno}"), "let the daemon's user read it".to_owned())
            }
            Fault::NoFile => (
                "no-regular-file",
                "this is no regular file (a pipe, a device, a socket or a folder): it is not read".to_owned(),
                "put a plain file in its place".to_owned(),
            ),
            Fault::TooBig { size, max } => (
                "too-big",
                format!("{size} bytes; the most is {max}"),
                "split it, or take out what is no policy".to_owned(),
            ),
        };
        self.problems.push(Diagnostic::error(code, path, told).hint(hint));
    }

    /// Why the file of this path, or the directory that it would be in, could not be read.
    pub fn faults_at<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Diagnostic> {
        let over = |fault: &str| path.strip_prefix(fault).is_some_and(|rest| rest.starts_with('/'));
        self.problems.iter().filter(move |p| p.is_error() && (p.file == path || over(&p.file)))
    }

    /// The file of this path.
    pub fn file(&self, path: &str) -> Option<&Arc<SourceFile>> {
        self.files.get(path).map(|(_, file)| file)
    }
}

/// Which directory the folder's path leads to now; none where there is none.
pub fn root_of(folder: &Path) -> Option<RootId> {
    open_root(folder).ok().as_ref().and_then(identity)
}

/// File systems give the inode of a deleted directory to the next one made: its birth tells them apart.
fn identity(root: &OwnedFd) -> Option<RootId> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let born =
        statx(root, "", AtFlags::EMPTY_PATH, wanted).map(|s| (s.stx_btime.tv_sec, s.stx_btime.tv_nsec));
    let stat = fstat(root).ok()?;
    Some(RootId { device: stat.st_dev, inode: stat.st_ino, born: born.unwrap_or_default() })
}

/// Opens the folder by its path as it was named: links above and at the root are followed anew each time.
fn open_root(folder: &Path) -> Result<OwnedFd, Errno> {
    let folder: PathBuf = if folder.as_os_str().is_empty() { ".".into() } else { folder.to_owned() };
    open(&folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens what lies at `path` below the root; the kernel refuses a way out of it (EXDEV).
fn beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel gives up with EAGAIN when a rename crosses its way; a few tries are enough.
    for _ in 0..16 {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The names in a directory, sorted.
fn names_in(root: &OwnedFd, path: &str) -> Result<Vec<String>, Errno> {
    let directory = beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a regular file whole; what it is and how big is asked of the open file, not of its name.
fn read_file(root: &OwnedFd, path: &str, max: u64) -> Result<Vec<u8>, Fault> {
    use io::Read as _;

    let file =
        beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(Fault::System)?;
    let stat = fstat(&file).map_err(Fault::System)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Fault::NoFile);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(256 * 1024));
    std::fs::File::from(file)
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::System(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)))?;
    let size = bytes.len() as u64;
    if size > max { Err(Fault::TooBig { size, max }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;
