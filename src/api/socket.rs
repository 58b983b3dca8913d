//! The Unix socket's file: made with its mode before anyone can see it, never taken from a living daemon, and
//! removed at the end only if it is still ours.
//!
//! It accepts nothing: `listen` does.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::net::{UnixListener, UnixStream};

/// Owner and group may call; nobody else.
const MODE: u32 = 0o660;
/// `sun_path` holds 108 bytes, the last of them zero.
const PATH_BYTES_MAX: usize = 107;
/// A living daemon answers at once; one too busy to answer is alive all the same.
const PROBE: Duration = Duration::from_secs(1);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error(
        "another daemon answers on {}: stop it, or give this one a socket of its own (ORCHESTRATOR_SOCKET)",
        .0.display()
    )]
    InUse(PathBuf),
    #[error("{} is there and is not a socket: move it away, or choose another path", .0.display())]
    NotASocket(PathBuf),
    #[error(
        "the socket's path is too long for this system ({} bytes, at most {PATH_BYTES_MAX}): {}",
        .0.as_os_str().len(), .0.display()
    )]
    TooLong(PathBuf),
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn cannot(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { what, path, source }
}

/// The file of a bound socket. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Held as long as the daemon lives, so that two that start at once do not both win.
    _lock: File,
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // At the end of the daemon there is nobody left to tell; a stale file is replaced at the start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Binds the socket at `path`, over a file that a dead daemon left.
pub async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let private = parent.join(format!(".{}", std::process::id()));
    let unseen = private.join("s");
    if path.as_os_str().len() > PATH_BYTES_MAX || unseen.as_os_str().len() > PATH_BYTES_MAX {
        return Err(SocketError::TooLong(path.to_owned()));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(cannot("make the folder", parent))?;
    let lock = lock(path)?;
    refuse_the_living(path).await?;
    let bound = bind_unseen(&private, &unseen, path);
    // Empty by now, or not worth a failed start.
    let _ = fs::remove_dir_all(&private);
    let listener = bound?;
    let identity = identity(path).map_err(cannot("look at", path))?;
    Ok((listener, SocketFile { path: path.to_owned(), identity, _lock: lock }))
}

/// Nobody can reach the socket before it has its mode: it is made in a folder that only this user may enter,
/// and moved into place when it is ready.
fn bind_unseen(private: &Path, unseen: &Path, path: &Path) -> Result<UnixListener, SocketError> {
    let _ = fs::remove_dir_all(private);
    DirBuilder::new().mode(0o700).create(private).map_err(cannot("make the folder", private))?;
    let listener = StdListener::bind(unseen).map_err(cannot("bind", unseen))?;
    fs::set_permissions(unseen, fs::Permissions::from_mode(MODE))
        .map_err(cannot("set the mode of", unseen))?;
    fs::rename(unseen, path).map_err(cannot("move the socket to", path))?;
    listener.set_nonblocking(true).map_err(cannot("use", path))?;
    UnixListener::from_std(listener).map_err(cannot("use", path))
}

fn lock(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(cannot("open", &name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(cannot("lock", &name)(error.into())),
    }
}

/// A daemon that answers keeps its socket, whether or not it knows of the lock.
async fn refuse_the_living(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(cannot("look at", path))?,
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match tokio::time::timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(cannot("ask who owns", path)(error)),
        Ok(Ok(_)) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}
