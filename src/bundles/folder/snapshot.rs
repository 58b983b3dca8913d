//! The folder's contents, held: read whole once, then what changed.
//!
//! A change is gathered first and taken over afterwards, so that a file which is written again meanwhile can be
//! left as it was. Contents are compared with the files in turn as well, because a stamp may not tell every change
//! (some network file systems): a little at a time, so that it is never felt.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use rustix::io::Errno;

use super::{
    FILES_MAX, Fault, identity,
    listing::{Difference, Entry, Listing, Scope},
    mounts,
    names::Role,
    open_root, read_file,
};
use crate::{
    domain::ids::TenantId,
    policy::{assemble::SourceFile, diagnostic::Diagnostic},
};

/// A folder that keeps changing while it is read is read this often, then taken as it is.
const READS_MAX: u32 = 4;
/// Where faults of the folder itself are told.
const ROOT: &str = ".";

/// What was read, by path relative to the folder, with `/`.
pub type Files = BTreeMap<String, (Role, Arc<SourceFile>)>;

/// The folder's contents as they were read last.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub files: Files,
    /// What could not be read, and what was not, by path. A file that could not be read is an error.
    problems: BTreeMap<String, Diagnostic>,
    /// Remarks on how the folder is mounted.
    mounts: Vec<Diagnostic>,
    /// The folder itself cannot be read; its problem is among `problems` too.
    pub root_fault: Option<Diagnostic>,
    /// There is no such folder.
    pub missing: bool,
    /// The listing that the contents belong to.
    pub listing: Listing,
    /// Read again at the next look, whatever their stamps say: what failed may well work then.
    again: BTreeSet<String>,
    /// How many files of its own each tenant has beside its TOML.
    overrides: BTreeMap<TenantId, usize>,
    /// The file whose contents were compared last.
    compared: String,
}

/// A change that was read and is not taken over yet.
#[derive(Debug)]
pub struct Batch {
    pub difference: Difference,
    read: BTreeMap<String, Result<Vec<u8>, Fault>>,
    /// Everything was looked at.
    whole: bool,
}

impl Snapshot {
    /// Reads the folder that the path leads to now. Read again while it changes under the reader's eyes.
    pub fn read(folder: &Path) -> Self {
        let mut snapshot = Self::default();
        let batch = snapshot.gather(folder, &Scope::Whole, false);
        snapshot.apply(folder, batch);
        snapshot
    }

    /// How the folder differs within the scope, with what is to be read again in any case; with `reread` that is
    /// every file.
    pub fn difference(&self, folder: &Path, scope: &Scope, reread: bool) -> Difference {
        let mut difference = self.listing.differences(folder, scope);
        if difference.opened.is_some() {
            // A glance passes here every few milliseconds: it must not go through the files only to leave them out.
            let all = reread.then(|| self.files.keys());
            for path in self.again.iter().chain(all.into_iter().flatten()) {
                let known = self.listing.entries.get(path).cloned();
                difference.entries.entry(path.clone()).or_insert(known);
            }
        }
        difference
    }

    /// Whether a difference, or a failure of before, is a reason to load.
    pub fn is_stale(&self, difference: &Difference) -> bool {
        let fault_may_pass = self.root_fault.is_some() && !self.missing;
        self.listing.differs(difference) || !self.again.is_empty() || fault_may_pass
    }

    /// Reads what differs.
    pub fn gather(&self, folder: &Path, scope: &Scope, reread: bool) -> Batch {
        let whole = *scope == Scope::Whole;
        let mut batch = Batch::of(self.difference(folder, scope, reread), whole, None);
        for _ in 1..READS_MAX {
            let difference = self.difference(folder, scope, reread);
            if difference.same(&batch.difference) {
                break;
            }
            batch = Batch::of(difference, whole, Some(batch));
        }
        batch
    }

    /// Leaves as they are the files that were written again since they were read: they may have been read
    /// half-written. One that is new waits. They are given back, to be looked at again.
    pub fn hold_back(&self, batch: &mut Batch, later: &Difference) -> BTreeSet<String> {
        let known = |path: &String| self.listing.entries.get(path);
        let now = |path: &String| later.entries.get(path).map_or_else(|| known(path), Option::as_ref);
        let written =
            |path: &&String| now(path) != batch.difference.entries.get(*path).and_then(Option::as_ref);
        let read = batch.read.iter().filter(|(_, read)| read.is_ok()).map(|(path, _)| path);
        let moving: BTreeSet<String> = read.filter(written).cloned().collect();
        batch.difference.entries.retain(|path, _| !moving.contains(path));
        moving
    }

    /// Takes a change over; the paths of which something is different now.
    pub fn apply(&mut self, folder: &Path, batch: Batch) -> BTreeSet<String> {
        let Batch { difference, mut read, whole } = batch;
        let root = self.listing.root();
        self.listing.apply(&difference);
        let mut touched = BTreeSet::new();
        for (path, entry) in &difference.entries {
            self.again.remove(path);
            let (file, problem) = self.content(path, entry.as_ref(), read.remove(path));
            let file_changed = self.put_file(path, file);
            if file_changed | self.put_problem(path, problem) {
                touched.insert(path.clone());
            }
        }
        self.take_root(folder, &difference, &mut touched);
        // The system's list is long, and no event tells of a change to it.
        if self.root_fault.is_some() {
            self.mounts.clear();
        } else if whole || root != self.listing.root() {
            self.mounts = mounts::warnings(folder);
        }
        touched
    }

    /// What an entry comes to: the file, and what is to be told of it.
    fn content(
        &mut self,
        path: &str,
        entry: Option<&Entry>,
        read: Option<Result<Vec<u8>, Fault>>,
    ) -> (Option<(Role, Vec<u8>)>, Option<Diagnostic>) {
        match entry {
            None => (None, None),
            Some(Entry::File(role, stamp)) => match read {
                Some(Ok(bytes)) => {
                    let everybody = stamp.mode & 0o002 != 0;
                    (Some((role.clone(), bytes)), everybody.then(|| world_writable(path)))
                }
                Some(Err(fault)) if fault != Fault::System(Errno::NOENT) => {
                    (None, Some(self.refuse(path, fault)))
                }
                // It went away between the listing and now: the next look sees that.
                _ => {
                    self.again.insert(path.to_owned());
                    (None, None)
                }
            },
            Some(Entry::Unreadable(_, fault) | Entry::Closed(fault)) => {
                (None, Some(self.refuse(path, *fault)))
            }
            Some(Entry::Stray(why)) => {
                let told = Diagnostic::warning("not-read", path, format!("this file is not read: {why}"));
                (None, Some(told.hint("rename it, or take it out of the folder")))
            }
        }
    }

    fn refuse(&mut self, path: &str, fault: Fault) -> Diagnostic {
        let passing = matches!(fault, Fault::System(errno) if errno != Errno::XDEV && errno != Errno::LOOP);
        if passing {
            self.again.insert(path.to_owned());
        }
        refusal(path, fault)
    }

    /// True if what is held at the path is another than before. Equal bytes stay the very same file.
    fn put_file(&mut self, path: &str, file: Option<(Role, Vec<u8>)>) -> bool {
        let before = self.files.get(path);
        if before.map(|(role, held)| (role, &held.bytes)) == file.as_ref().map(|(role, bytes)| (role, bytes))
        {
            return false;
        }
        if let Some((role, _)) = self.files.remove(path) {
            self.count_override(&role, false);
        }
        if let Some((role, bytes)) = file {
            self.count_override(&role, true);
            let file = Arc::new(SourceFile::new(path, bytes));
            self.files.insert(path.to_owned(), (role, file));
        }
        true
    }

    fn put_problem(&mut self, path: &str, problem: Option<Diagnostic>) -> bool {
        let before = match &problem {
            Some(problem) => self.problems.insert(path.to_owned(), problem.clone()),
            None => self.problems.remove(path),
        };
        before != problem
    }

    fn count_override(&mut self, role: &Role, more: bool) {
        let (Role::TenantCriterion(owner, _) | Role::TenantTemplate(owner, _)) = role else { return };
        let count = self.overrides.entry(owner.clone()).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.overrides.remove(owner);
        }
    }

    /// What is to be told of the folder itself.
    fn take_root(&mut self, folder: &Path, difference: &Difference, touched: &mut BTreeSet<String>) {
        self.missing = difference.root_fault() == Some(Errno::NOENT);
        self.root_fault = difference.root_fault().map(|errno| without_root(folder, errno));
        let too_many = difference.cut().then(|| {
            let told = format!("more than {FILES_MAX} files: the rest is not read");
            Diagnostic::error("too-many-files", ROOT, told)
        });
        let told = self.root_fault.clone().or(too_many);
        if self.put_problem(ROOT, told) {
            touched.insert(ROOT.to_owned());
        }
    }

    /// Compares the contents of some files, in turn, with what is held; one that differs is read at the next load,
    /// although its stamp is the same. True if there is one.
    pub fn compare_some(&mut self, folder: &Path, most: usize) -> bool {
        let Ok(root) = open_root(folder) else { return false };
        if identity(&root) != self.listing.root() {
            return false;
        }
        let after = (Bound::Excluded(self.compared.as_str()), Bound::Unbounded);
        let turn: Vec<_> = self.files.range::<str, _>(after).take(most).collect();
        let last =
            turn.last().filter(|_| turn.len() == most).map_or_else(String::new, |(path, _)| (*path).clone());
        let differs = |path: &str, role: &Role, held: &SourceFile| {
            read_file(&root, path, role.bytes_max()).is_ok_and(|bytes| bytes != held.bytes)
        };
        let found = turn.iter().filter(|(path, (role, held))| differs(path, role, held));
        let found: Vec<String> = found.map(|(path, _)| (*path).clone()).collect();
        self.compared = last;
        let any = !found.is_empty();
        self.again.extend(found);
        any
    }

    /// What could not be read, and what was not: of the folder, of its files in path order, of its mounts.
    pub fn problems(&self) -> impl Iterator<Item = &Diagnostic> {
        self.problems.values().chain(&self.mounts)
    }

    /// The errors at and below a path.
    pub fn errors_under<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Diagnostic> + use<'a> {
        let below = format!("{path}/");
        let within = self
            .problems
            .range(below.clone()..)
            .map_while(move |(path, problem)| path.starts_with(&below).then_some(problem));
        self.problems.get(path).into_iter().chain(within).filter(|problem| problem.is_error())
    }

    /// Why the file of this path, or the directory that it would be in, could not be read.
    pub fn faults_at<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Diagnostic> + use<'a> {
        let directories = path.match_indices('/').map(|(at, _)| &path[..at]);
        let places: Vec<&Diagnostic> =
            directories.chain([path]).filter_map(|place| self.problems.get(place)).collect();
        places.into_iter().filter(|problem| problem.is_error())
    }

    /// The file of this path.
    pub fn file(&self, path: &str) -> Option<&Arc<SourceFile>> {
        self.files.get(path).map(|(_, file)| file)
    }

    /// The files below a directory.
    pub fn files_under<'a>(
        &'a self,
        directory: &str,
    ) -> impl Iterator<Item = &'a (Role, Arc<SourceFile>)> + use<'a> {
        let below = format!("{directory}/");
        self.files
            .range(below.clone()..)
            .map_while(move |(path, file)| path.starts_with(&below).then_some(file))
    }

    /// Whether the tenant has a file, readable or not.
    pub fn has_tenant(&self, tenant: &TenantId) -> bool {
        let path = format!("tenants/{tenant}.toml");
        self.files.contains_key(&path) || self.problems.get(&path).is_some_and(Diagnostic::is_error)
    }

    /// The tenants that have scripts or templates of their own.
    pub fn owners(&self) -> impl Iterator<Item = &TenantId> {
        self.overrides.keys()
    }
}

impl Batch {
    /// Reads the files of a difference, but for those that were read `before` from the same state.
    fn of(difference: Difference, whole: bool, before: Option<Batch>) -> Self {
        let (seen, mut known) = match before {
            Some(Batch { difference, read, .. }) => (difference.entries, read),
            None => (BTreeMap::new(), BTreeMap::new()),
        };
        let mut read = BTreeMap::new();
        let files = difference.entries.iter().filter_map(|(path, entry)| match entry {
            Some(Entry::File(role, _)) => Some((path, entry, role)),
            _ => None,
        });
        for (path, entry, role) in files {
            let again = known.remove(path).filter(|_| seen.get(path) == Some(entry));
            let bytes = again.unwrap_or_else(|| read_beneath(difference.opened.as_ref(), path, role));
            read.insert(path.clone(), bytes);
        }
        Self { difference, read, whole }
    }
}

fn read_beneath(root: Option<&OwnedFd>, path: &str, role: &Role) -> Result<Vec<u8>, Fault> {
    match root {
        Some(root) => read_file(root, path, role.bytes_max()),
        None => Err(Fault::System(Errno::NOENT)),
    }
}

fn world_writable(path: &str) -> Diagnostic {
    Diagnostic::warning("world-writable", path, "everybody on this machine may change this file")
        .hint(format!("chmod o-w {path}"))
}

fn refusal(path: &str, fault: Fault) -> Diagnostic {
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
    Diagnostic::error(code, path, told).hint(hint)
}

fn without_root(folder: &Path, errno: Errno) -> Diagnostic {
    let shown = folder.display();
    if errno == Errno::NOENT {
        return Diagnostic::error("folder-missing", ROOT, format!("there is no policies folder {shown}")).hint(
            "make the folder with a file tenants/<tenantId>.toml in it, or name another with ORCHESTRATOR_POLICIES",
        );
    }
    let told = format!("the policies folder {shown} cannot be read: {errno}");
    Diagnostic::error("folder-unreadable", ROOT, told).hint("let the daemon's user read it")
}
