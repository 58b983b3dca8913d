//! The files of an embedded database: where they are, who may read them, and that one daemon alone uses them.
//!
//! Opens no database. It refuses network file systems, where locks and shared memory do not hold what SQLite's
//! log needs of them, and a file that another orchestrator has.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::StoreError;

/// Held for as long as the database is in use by this process.
pub(super) struct FileLock {
    _file: File,
}

/// File systems by their magic number (statfs(2)) on which SQLite's log is not safe.
const NETWORK: [(u64, &str); 10] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
];

fn unusable(path: &Path, what: &str, error: &std::io::Error) -> StoreError {
    StoreError::Unusable(format!("{what} {}: {error}", path.display()))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the folder (0700) and the file (0600) where they are missing and takes the lock.
pub(super) fn prepare(path: &Path) -> Result<FileLock, StoreError> {
    let dir = directory(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| unusable(dir, "cannot make the database's folder", &e))?;
    refuse_network(dir)?;
    let lock = lock(path)?;
    let made =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map_err(|e| unusable(path, "cannot open the database", &e))?;
    // SQLite ignores a failure of its own sync of the folder (reliability.md P1): ours is asked.
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| unusable(dir, "cannot make the database's folder durable", &e))?;
    Ok(lock)
}

fn refuse_network(dir: &Path) -> Result<(), StoreError> {
    let Ok(found) = rustix::fs::statfs(dir) else { return Ok(()) };
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between platforms")]
    let magic = found.f_type as u64 & 0xffff_ffff;
    match network_name(magic) {
        None => Ok(()),
        Some(name) => Err(StoreError::Unusable(format!(
            "{} is on a network file system ({name}), on which an embedded database is not safe: put it on a \
             local disk, or use PostgreSQL (postgres://…)",
            dir.display()
        ))),
    }
}

fn network_name(magic: u64) -> Option<&'static str> {
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// Where the lock of a database is.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// A lock that the kernel lets go of when the process ends, however it ends.
fn lock(database: &Path) -> Result<FileLock, StoreError> {
    let path = lock_path(database);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| unusable(&path, "cannot open the lock", &e))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let who = match pid.trim() {
            "" => String::new(),
            pid => format!(" (pid {pid})"),
        };
        // It may be on its way out: whoever started this one may try again.
        return Err(StoreError::Unavailable(format!(
            "another orchestrator{who} uses {}: stop it, or name another database",
            database.display()
        )));
    }
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    match written {
        // What it says is for people; what it does is done.
        Err(e) if e.kind() != std::io::ErrorKind::StorageFull => {
            return Err(unusable(&path, "cannot write the lock", &e));
        }
        _ => {}
    }
    Ok(FileLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_name_and_local_ones_pass() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xef53), None);
    }

    #[test]
    fn a_second_holder_is_told_who_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state").join("store.db");
        let held = prepare(&path).unwrap();
        let error = prepare(&path).err().unwrap().to_string();
        assert!(error.contains(&format!("another orchestrator (pid {})", std::process::id())), "{error}");
        drop(held);
        assert!(prepare(&path).is_ok());
    }
}
