//! The policies folder: what lies in it, read safely, and held until it changes.
//!
//! Nothing is opened that lies outside the folder, is no regular file, or is too big (reliability.md T26):
//! links inside the folder are followed (ConfigMaps are links), links out of it are refused, and a FIFO never
//! blocks the reader. It understands nothing of what it reads, and it writes nothing.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags, fstat, open, openat2, statx},
    io::Errno,
};

mod listing;
mod mounts;
pub mod names;
mod snapshot;
mod walk;

pub use listing::{Difference, Listing, Scope};
pub use snapshot::{Batch, Files, Snapshot};

/// More files than any folder of policies has; past it the rest is not read, and that is told.
const FILES_MAX: usize = 50_000;

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

/// Opens what lies at `path` below the root; a way out of it is refused (EXDEV).
fn beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    // The kernel gives up with EAGAIN when it goes back by `..` while anything anywhere is renamed; a few tries are enough.
    for _ in 0..16 {
        match by_kernel(root, path, flags) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A kernel that has no such call, or a filter that does not know it.
            Err(Errno::NOSYS | Errno::PERM) => break,
            opened => return opened,
        }
    }
    // And the walk where what it is at becomes another thing.
    for _ in 0..16 {
        match walk::beneath(root, path, flags) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The same by a kernel that can be told to stay below the root.
fn by_kernel(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// A directory and the names in it, in the file system's order.
fn names_in(root: &OwnedFd, path: &str) -> Result<(OwnedFd, Vec<String>), Errno> {
    let directory = beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok((directory, names))
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
