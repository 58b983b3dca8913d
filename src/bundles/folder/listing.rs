//! The folder at a glance: names and stamps, no contents; and how it differs from that now.
//!
//! A look costs what it looks at: a few names that events told of, or the whole folder with one call to the kernel
//! for each file and nothing kept of those that stayed the same. It reads no file.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, OFlags, Stat, fstat, statat},
    io::Errno,
};

use super::{
    FILES_MAX, Fault, RootId, Stamp, beneath, identity,
    names::{self, Named, Place, Role},
    names_in, open_root,
};

/// One name of the folder as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(Role, Stamp),
    /// It would be read, but cannot be.
    Unreadable(Role, Fault),
    /// A directory that cannot be listed.
    Closed(Fault),
    Stray(String),
}

/// More paths than this are the whole folder.
const PATHS_MAX: usize = 4_096;

pub(super) type Entries = BTreeMap<String, Entry>;

/// What is looked at. A path stands for itself and all that lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Whole,
    Paths(BTreeSet<String>),
}

impl Default for Scope {
    fn default() -> Self {
        Self::nothing()
    }
}

impl Scope {
    pub fn nothing() -> Self {
        Self::Paths(BTreeSet::new())
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Scope::Paths(paths) if paths.is_empty())
    }

    pub fn add(&mut self, other: Scope) {
        match (self, other) {
            (Scope::Whole, _) => {}
            (Scope::Paths(own), Scope::Paths(mut more)) if own.len() + more.len() <= PATHS_MAX => {
                own.append(&mut more);
            }
            (own, _) => *own = Scope::Whole,
        }
    }
}

/// The folder as it was read last. Two equal listings mean that nothing was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// None: there is no root. It changes when a link above it is swapped.
    root: Option<RootId>,
    root_fault: Option<Errno>,
    pub(super) entries: Entries,
    cut: bool,
    /// Some name is a link: a change anywhere may be a change of what it leads to.
    linked: bool,
}

/// How the folder differs from a listing.
#[derive(Debug)]
pub struct Difference {
    /// What is there now, by path; none where nothing is any more.
    pub(super) entries: BTreeMap<String, Option<Entry>>,
    root: Option<RootId>,
    root_fault: Option<Errno>,
    cut: bool,
    linked: bool,
    /// The directory that was looked at, for reading from the same.
    pub(super) opened: Option<OwnedFd>,
}

impl Difference {
    /// Whether two looks saw the same.
    pub fn same(&self, other: &Self) -> bool {
        (self.root, self.root_fault, self.cut) == (other.root, other.root_fault, other.cut)
            && self.entries == other.entries
    }

    /// Whether both looked at the same directory.
    pub fn same_root(&self, other: &Self) -> bool {
        self.root == other.root
    }

    /// Why the folder itself cannot be read.
    pub(super) fn root_fault(&self) -> Option<Errno> {
        self.root_fault
    }

    /// Whether there are more files than are read.
    pub(super) fn cut(&self) -> bool {
        self.cut
    }
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
        let mut listing = Self::default();
        let difference = listing.differences(folder, &Scope::Whole);
        listing.apply(&difference);
        listing
    }

    /// How the folder that the path leads to now differs, within the scope. More is looked at where the scope says
    /// too little: another directory stands there, or links lead from one place to another.
    pub fn differences(&self, folder: &Path, scope: &Scope) -> Difference {
        let opened = match open_root(folder) {
            Ok(opened) => opened,
            Err(errno) => return self.without_root(errno),
        };
        let root = identity(&opened);
        let familiar = root == self.root && self.root_fault.is_none() && !self.linked && !self.cut;
        let of_paths = match scope {
            Scope::Paths(paths) if familiar => self.walk_paths(&opened, paths),
            _ => None,
        };
        let walk = of_paths.unwrap_or_else(|| self.walk_all(&opened));
        let Walk { changes: entries, cut, linked, .. } = walk;
        Difference { entries, root, root_fault: None, cut, linked, opened: Some(opened) }
    }

    fn without_root(&self, errno: Errno) -> Difference {
        Difference {
            entries: self.entries.keys().map(|path| (path.clone(), None)).collect(),
            root: None,
            root_fault: Some(errno),
            cut: false,
            linked: false,
            opened: None,
        }
    }

    fn walk_all<'a>(&'a self, root: &'a OwnedFd) -> Walk<'a> {
        let mut walk = Walk::new(root, &self.entries);
        walk.directory(Place::Root, String::new());
        if walk.known < self.entries.len() {
            // Something is gone. Which, is seen by all that is still there.
            walk = Walk { found: Some(BTreeSet::new()), ..Walk::new(root, &self.entries) };
            walk.directory(Place::Root, String::new());
            walk.miss(self.entries.keys());
        }
        walk
    }

    /// None: these paths alone do not tell.
    fn walk_paths<'a>(&'a self, root: &'a OwnedFd, paths: &BTreeSet<String>) -> Option<Walk<'a>> {
        let mut walk = Walk { found: Some(BTreeSet::new()), ..Walk::new(root, &self.entries) };
        walk.count = self.entries.len();
        for path in paths {
            walk.one(path)?;
            let below = format!("{path}/");
            let within = self.entries.range(below.clone()..).map(|(path, _)| path);
            let within = within.take_while(|path| path.starts_with(&below));
            walk.miss(
                self.entries.get_key_value(path.as_str()).map(|(path, _)| path).into_iter().chain(within),
            );
        }
        (!walk.linked && !walk.cut).then_some(walk)
    }

    /// Takes a difference over.
    pub(super) fn apply(&mut self, difference: &Difference) {
        (self.root, self.root_fault) = (difference.root, difference.root_fault);
        (self.cut, self.linked) = (difference.cut, difference.linked);
        for (path, entry) in &difference.entries {
            match entry {
                Some(entry) => self.entries.insert(path.clone(), entry.clone()),
                None => self.entries.remove(path),
            };
        }
    }

    /// Whether a difference says anything.
    pub fn differs(&self, difference: &Difference) -> bool {
        (self.root, self.root_fault, self.cut) != (difference.root, difference.root_fault, difference.cut)
            || difference.entries.iter().any(|(path, entry)| self.entries.get(path) != entry.as_ref())
    }
}

/// One way through the folder, beside what is known of it.
struct Walk<'a> {
    root: &'a OwnedFd,
    entries: &'a Entries,
    changes: BTreeMap<String, Option<Entry>>,
    /// Names that count, so far.
    count: usize,
    /// Those of them that were known before.
    known: usize,
    /// All of them, where somebody must know what is missing.
    found: Option<BTreeSet<String>>,
    cut: bool,
    linked: bool,
}

impl<'a> Walk<'a> {
    fn new(root: &'a OwnedFd, entries: &'a Entries) -> Self {
        let (changes, found) = (BTreeMap::new(), None);
        Self { root, entries, changes, count: 0, known: 0, found, cut: false, linked: false }
    }

    /// Walks a directory and all below it.
    fn directory(&mut self, place: Place, path: String) {
        let mut places = vec![(place, path)];
        while let Some((place, path)) = places.pop() {
            let (directory, mut names) = match names_in(self.root, &path) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    self.take(path, Entry::Closed(Fault::System(errno)));
                    continue;
                }
            };
            if self.count + names.len() > FILES_MAX {
                // Which of them are left out must not depend on the order of the file system.
                names.sort_unstable();
            }
            for name in names {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                self.name(&directory, &place, &name, inner, &mut places);
                if self.cut {
                    return;
                }
            }
        }
    }

    /// Looks at one path, and below it. None: it can only be told from the whole.
    fn one(&mut self, path: &str) -> Option<()> {
        let (place, path) = names::locate(path)?;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let directory = match beneath(self.root, parent, flags) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Some(()),
            Err(_) => return None,
        };
        let mut places = Vec::new();
        self.name(&directory, &place, name, path.to_owned(), &mut places);
        for (place, path) in places {
            self.directory(place, path);
        }
        Some(())
    }

    /// One name in a directory; a directory that counts is put on `places`.
    fn name(
        &mut self,
        directory: &OwnedFd,
        place: &Place,
        name: &str,
        inner: String,
        places: &mut Vec<(Place, String)>,
    ) {
        let known = self.entries.get(&inner);
        // Droppings are not even looked at: a dangling lock link of Emacs is none of our business.
        if known.is_none() && names::classify(place, name, false) == Named::Skipped {
            return;
        }
        let mut stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        if matches!(&stat, Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
            self.linked = true;
            stat = beneath(self.root, &inner, OFlags::PATH).and_then(fstat);
        }
        if let (Ok(stat), Some(Entry::File(_, stamp))) = (&stat, known)
            && *stamp == Stamp::of(stat)
        {
            return self.stays(inner);
        }
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let is_directory = matches!(&stat, Ok(stat) if kind(stat) == FileType::Directory);
        // A directory that cannot be reached is told as that, not as a file of an odd name.
        let closed = stat.as_ref().err().filter(|errno| **errno != Errno::NOENT).copied();
        if let (Some(errno), Named::Directory(_)) = (closed, names::classify(place, name, true)) {
            return self.take(inner, Entry::Closed(Fault::System(errno)));
        }
        let entry = match (names::classify(place, name, is_directory), stat) {
            (_, Err(Errno::NOENT)) | (Named::Skipped, _) => return,
            (Named::Directory(place), _) => return places.push((place, inner)),
            (Named::Stray(why), _) => Entry::Stray(why),
            (Named::File(role), Err(errno)) => Entry::Unreadable(role, Fault::System(errno)),
            (Named::File(role), Ok(stat)) => file_entry(role, &stat),
        };
        self.take(inner, entry);
    }

    /// What is at a path.
    fn take(&mut self, path: String, entry: Entry) {
        match self.entries.get(&path) {
            Some(known) if *known == entry => return self.stays(path),
            Some(_) => self.known += 1,
            None => {}
        }
        if self.is_full() {
            return;
        }
        if let Some(found) = &mut self.found {
            found.insert(path.clone());
        }
        self.changes.insert(path, Some(entry));
    }

    /// It is what it was.
    fn stays(&mut self, path: String) {
        self.known += 1;
        if !self.is_full()
            && let Some(found) = &mut self.found
        {
            found.insert(path);
        }
    }

    fn is_full(&mut self) -> bool {
        self.cut |= self.count >= FILES_MAX;
        self.count += 1;
        self.cut
    }

    /// Notes which of the known were not found.
    fn miss<'p>(&mut self, known: impl Iterator<Item = &'p String>) {
        let Some(found) = &self.found else { return };
        for path in known.filter(|path| !found.contains(*path)) {
            self.changes.insert(path.clone(), None);
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
