//! The way to a file below the root, name by name, for systems whose kernel cannot be told to stay below it.
//!
//! `openat2` is missing from old kernels, from gVisor, and behind filters that know no new system calls. What it refuses
//! is refused here: an absolute link and one that leads above the root (EXDEV), a chain of links without an end (ELOOP).
//! No link is ever followed by the kernel: each is read, and its text walked from here, so that a link that is put in
//! place meanwhile leads nowhere else. `..` goes back to the directory that one came through, never to wherever a rename
//! has moved it. Nothing is read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, openat, readlinkat},
    io::Errno,
};

/// As many links as the kernel follows on one way.
const LINKS_MAX: usize = 40;

/// The directories that lead to where one is, the root not among them.
struct Way<'a> {
    root: BorrowedFd<'a>,
    through: Vec<OwnedFd>,
    /// The names that are still to be walked, the next one last.
    names: Vec<String>,
    links: usize,
}

/// Opens what lies at `path` below the root. EAGAIN where it became another thing meanwhile.
pub(super) fn beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut way = Way { root: root.as_fd(), through: Vec::new(), names: Vec::new(), links: 0 };
    way.then(path)?;
    while let Some(name) = way.names.pop() {
        match name.as_str() {
            "" | "." => {}
            ".." => drop(way.through.pop().ok_or(Errno::XDEV)?),
            name => {
                if let Some(end) = way.step(name, flags)? {
                    return Ok(end);
                }
            }
        }
    }
    openat(way.here(), ".", flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

impl Way<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.through.last().map_or(self.root, AsFd::as_fd)
    }

    /// Puts a path before what is still to be walked.
    fn then(&mut self, path: &str) -> Result<(), Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.starts_with('/') {
            return Err(Errno::XDEV);
        }
        self.names.extend(path.rsplit('/').map(str::to_owned));
        Ok(())
    }

    /// One name: into a directory, along a link, or to what was asked for.
    fn step(&mut self, name: &str, flags: OFlags) -> Result<Option<OwnedFd>, Errno> {
        let found =
            openat(self.here(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let kind = FileType::from_raw_mode(fstat(&found)?.st_mode);
        if kind == FileType::Symlink {
            self.links += 1;
            if self.links > LINKS_MAX {
                return Err(Errno::LOOP);
            }
            let target = match readlinkat(self.here(), name, Vec::new()) {
                Err(Errno::INVAL) => return Err(Errno::AGAIN),
                target => target?,
            };
            self.then(target.to_str().map_err(|_| Errno::ILSEQ)?)?;
        } else if !self.names.is_empty() {
            if kind != FileType::Directory {
                return Err(Errno::NOTDIR);
            }
            self.through.push(found);
        } else if flags.contains(OFlags::PATH) && !flags.contains(OFlags::DIRECTORY) {
            return Ok(Some(found));
        } else {
            return match openat(self.here(), name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            {
                // A link took its place since it was looked at.
                Err(Errno::LOOP) => Err(Errno::AGAIN),
                opened => opened.map(Some),
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::{super::open_root, *};

    const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);
    const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

    /// A root with a ConfigMap's links in it, and with whatever leads out of it; beside it what nobody may read.
    fn root(base: &Path) -> OwnedFd {
        let root = base.join("root");
        for folder in ["..2025/inner", "tenants/deep"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(base.join("secret.toml"), "secret").unwrap();
        fs::write(root.join("..2025/acme.toml"), "acme").unwrap();
        fs::write(root.join("..2025/inner/x.toml"), "x").unwrap();
        fs::write(root.join("default.toml"), "default").unwrap();
        let secret = base.join("secret.toml");
        let chain = |n: usize| format!("chain-{n}");
        for (target, link) in [
            ("..2025", "..data"),
            ("..data/acme.toml", "acme.toml"),
            ("../..data/acme.toml", "tenants/acme.toml"),
            ("../../..data/./inner//x.toml", "tenants/deep/x.toml"),
            ("..data/inner", "inner"),
            ("inner/", "slash"),
            ("acme.toml/", "file-slash"),
            ("../secret.toml", "up.toml"),
            ("../../../../../../etc/passwd", "tenants/up.toml"),
            ("../root/default.toml", "back.toml"),
            (secret.to_str().unwrap(), "out.toml"),
            ("/dev/zero", "zero.toml"),
            ("/proc/self/root/etc/passwd", "magic.toml"),
            ("loop.toml", "loop.toml"),
            ("two", "one"),
            ("one", "two"),
            ("gone.toml", "dangling.toml"),
            ("default.toml", "chain-0"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        for n in 1..=40 {
            symlink(chain(n - 1), root.join(chain(n))).unwrap();
        }
        open_root(&root).unwrap()
    }

    /// What was opened, told by its inode: one place by both ways.
    fn told(opened: Result<OwnedFd, Errno>) -> Result<u64, Errno> {
        opened.map(|fd| fstat(fd).unwrap().st_ino)
    }

    /// The kernel's own way; none where it has no `openat2`.
    fn by_kernel(root: &OwnedFd, path: &str, flags: OFlags) -> Option<Result<u64, Errno>> {
        loop {
            match super::super::by_kernel(root, path, flags) {
                Err(Errno::NOSYS | Errno::PERM) => return None,
                // Somebody renames something, the test below for one.
                Err(Errno::AGAIN) => thread::yield_now(),
                opened => return Some(told(opened)),
            }
        }
    }

    #[test]
    fn what_the_kernel_opens_is_opened_and_what_it_refuses_is_refused_alike() {
        let base = tempfile::tempdir().unwrap();
        let root = root(base.path());
        let inode = |path: &str| Ok(fs::metadata(base.path().join("root").join(path)).unwrap().ino());
        let acme = inode("..2025/acme.toml");
        let inner = inode("..2025/inner");
        for (path, flags, expected) in [
            ("default.toml", READ, inode("default.toml")),
            (".", FOLDER, inode(".")),
            ("./tenants/../default.toml", READ, inode("default.toml")),
            ("tenants/deep/..", FOLDER, inode("tenants")),
            ("acme.toml", READ, acme),
            ("tenants/acme.toml", READ, acme),
            ("tenants/acme.toml", OFlags::PATH, acme),
            ("tenants/deep/x.toml", READ, inode("..2025/inner/x.toml")),
            ("inner", FOLDER, inner),
            ("inner", OFlags::PATH, inner),
            ("slash", FOLDER, inner),
            ("slash/x.toml", READ, inode("..2025/inner/x.toml")),
            ("chain-39", READ, inode("default.toml")),
            ("", READ, Err(Errno::NOENT)),
            ("nothing", READ, Err(Errno::NOENT)),
            ("dangling.toml", READ, Err(Errno::NOENT)),
            ("default.toml/x", READ, Err(Errno::NOTDIR)),
            ("default.toml/", READ, Err(Errno::NOTDIR)),
            ("default.toml", FOLDER, Err(Errno::NOTDIR)),
            ("default.toml", FOLDER | OFlags::PATH, Err(Errno::NOTDIR)),
            ("file-slash", READ, Err(Errno::NOTDIR)),
            ("..", FOLDER, Err(Errno::XDEV)),
            ("../secret.toml", READ, Err(Errno::XDEV)),
            ("tenants/../../secret.toml", READ, Err(Errno::XDEV)),
            ("/etc/passwd", READ, Err(Errno::XDEV)),
            ("up.toml", READ, Err(Errno::XDEV)),
            ("up.toml", OFlags::PATH, Err(Errno::XDEV)),
            ("tenants/up.toml", READ, Err(Errno::XDEV)),
            // Out and in again is out.
            ("back.toml", READ, Err(Errno::XDEV)),
            ("out.toml", READ, Err(Errno::XDEV)),
            ("zero.toml", READ, Err(Errno::XDEV)),
            ("magic.toml", READ, Err(Errno::XDEV)),
            ("loop.toml", READ, Err(Errno::LOOP)),
            ("one", READ, Err(Errno::LOOP)),
            ("one/x.toml", READ, Err(Errno::LOOP)),
            ("chain-40", READ, Err(Errno::LOOP)),
        ] {
            assert_eq!(told(beneath(&root, path, flags)), expected, "walked: {path} {flags:?}");
            if let Some(kernel) = by_kernel(&root, path, flags) {
                assert_eq!(kernel, expected, "by the kernel: {path} {flags:?}");
            }
        }
    }

    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_folder_that_turns_into_a_link_out_and_back_never_leads_out() {
        let base = tempfile::tempdir().unwrap();
        let (root_path, over) = (base.path().join("root"), AtomicBool::new(false));
        let root = root(base.path());
        let outside = fs::metadata(base.path().join("secret.toml")).unwrap().ino();
        fs::create_dir(root_path.join("swapped")).unwrap();
        fs::write(root_path.join("swapped/secret.toml"), "inside").unwrap();
        symlink(base.path(), root_path.join("link")).unwrap();
        let (mut inside, mut refused) = (0, 0);
        thread::scope(|scope| {
            // Whatever fails here, the other thread comes to its end.
            let _over = Over(&over);
            scope.spawn(|| {
                let exchange = |a: &str, b: &str| {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&root, a, &root, b, flags)
                };
                while !over.load(Ordering::Relaxed) {
                    exchange("swapped", "link").unwrap();
                }
            });
            // Until both were seen often: how the two threads take turns is the machine's affair.
            while inside + refused < 20_000 || inside < 100 || refused < 100 {
                match told(beneath(&root, "swapped/secret.toml", READ)) {
                    Ok(found) => {
                        assert_ne!(found, outside, "it led out");
                        inside += 1;
                    }
                    Err(errno) => {
                        assert!(matches!(errno, Errno::XDEV | Errno::AGAIN), "{errno}");
                        refused += 1;
                    }
                }
            }
        });
    }
}
