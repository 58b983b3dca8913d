//! Files of the policies folder that are mounted on their own: the watch can be as good as it likes, and a save
//! by rename on the other side is never seen.
//!
//! A bind mount of one file (Docker's `-v a.toml:/policies/tenants/a.toml`, `subPath` in Kubernetes) holds on
//! to the file that was there when it was made. Editors and ConfigMaps put another file in its place. Warns
//! and changes nothing: the file is read like any other.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::policy::diagnostic::Diagnostic;

/// The kernel's list of what this process has mounted where (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// How the kernel marks a mount of something that has been deleted since.
const DELETED: &str = "//deleted";

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// What is mounted, by its path in its own file system.
    source: String,
    target: PathBuf,
}

/// What is mounted at the folder or below it in a way that hides changes. Nothing where the list cannot be read.
pub fn warnings(folder: &Path) -> Vec<Diagnostic> {
    let (Ok(root), Ok(list)) = (folder.canonicalize(), fs::read_to_string(MOUNTS)) else {
        return Vec::new();
    };
    remarks(&root, &list, |target| fs::metadata(target).is_ok_and(|found| found.is_file()))
}

/// `is_file` tells whether there is a regular file at a path.
fn remarks(root: &Path, list: &str, is_file: impl Fn(&Path) -> bool) -> Vec<Diagnostic> {
    // Of several mounts on one place the last lies on top.
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in list.lines().filter_map(read) {
        mounts.retain(|known| known.target != mount.target);
        mounts.push(mount);
    }
    let mut found: Vec<Diagnostic> =
        mounts.iter().filter_map(|mount| remark(root, mount, &is_file)).collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

fn remark(root: &Path, mount: &Mount, is_file: impl Fn(&Path) -> bool) -> Option<Diagnostic> {
    let below = mount.target.strip_prefix(root).ok();
    let of_root = below.is_some_and(|path| path.as_os_str().is_empty()) || root.starts_with(&mount.target);
    let path = match below {
        Some(path) if !of_root => path.to_string_lossy().into_owned(),
        _ if of_root => ".".to_owned(),
        _ => return None,
    };
    let stale = mount.source.ends_with(DELETED);
    if of_root || !is_file(&mount.target) {
        return (stale || one_version(&mount.source)).then(|| frozen(&path));
    }
    Some(if stale {
        Diagnostic::warning(
            "mounted-file-replaced",
            &path,
            "this file is mounted on its own, and another file has been put in its place outside: what is read \
             here is the old one",
        )
        .hint("restart the daemon's container to read the new one; mount the folder instead of the file")
    } else if one_version(&mount.source) {
        frozen(&path)
    } else {
        Diagnostic::warning(
            "mounted-file",
            &path,
            "this file is mounted on its own (a bind mount of one file, or subPath): a save by rename outside, \
             as editors and ConfigMaps save, will not be seen here",
        )
        .hint("mount the folder instead of the file; until then write the file in place, or restart after a save")
    })
}

/// Whether it leads into one version of a ConfigMap or a Secret: `..2024_05_17_09_30_00.123`, beside `..data`.
fn one_version(source: &str) -> bool {
    source.split('/').any(|part| part.starts_with("..") && part.len() > 2)
}

fn frozen(path: &str) -> Diagnostic {
    Diagnostic::warning(
        "mounted-version",
        path,
        "what is mounted here is one version of it (subPath in Kubernetes, or a folder that was deleted since): \
         it never changes, whatever is saved outside",
    )
    .hint("mount the whole volume, without subPath, at the policies folder")
}

/// `36 35 98:0 /source /target rw,noatime … - ext4 /dev/sda1 rw`
fn read(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ').skip(3);
    let (source, target) = (fields.next()?, fields.next()?);
    Some(Mount { source: unescaped(source), target: PathBuf::from(unescaped(target)) })
}

/// The kernel writes blanks, line ends and backslashes as `\040`.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r"21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 21 0:30 / /etc/policies rw - tmpfs tmpfs rw
41 40 8:1 /srv/acme.toml /etc/policies/tenants/acme.toml rw shared:1 - ext4 /dev/sda1 rw
42 40 8:1 /srv/beta.toml//deleted /etc/policies/tenants/beta.toml rw - ext4 /dev/sda1 rw
43 40 8:1 /pods/1/volumes/kubernetes.io~configmap/p/..2024_05_17_09_30_00.1/c.toml /etc/policies/tenants/gamma.toml rw - ext4 /dev/sda1 rw
44 40 8:1 /srv/criteria /etc/policies/criteria rw - ext4 /dev/sda1 rw
45 40 8:1 /srv/with\040blank.toml /etc/policies/tests/a\040b.toml rw - ext4 /dev/sda1 rw
46 21 8:1 /srv/other.toml /etc/policies.toml rw - ext4 /dev/sda1 rw
";

    fn told(root: &str, list: &str) -> Vec<(String, String)> {
        let is_file = |path: &Path| path.extension().is_some();
        let found = remarks(Path::new(root), list, is_file);
        assert!(found.iter().all(|remark| !remark.is_error() && remark.hint.is_some()));
        found.into_iter().map(|remark| (remark.code, remark.file)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(code, file)| ((*code).to_owned(), (*file).to_owned())).collect()
    }

    #[test]
    fn files_that_are_mounted_on_their_own_are_told_and_folders_are_not() {
        let expected = [
            ("mounted-file", "tenants/acme.toml"),
            ("mounted-file-replaced", "tenants/beta.toml"),
            ("mounted-version", "tenants/gamma.toml"),
            ("mounted-file", "tests/a b.toml"),
        ];
        assert_eq!(told("/etc/policies", LIST), pairs(&expected));
        assert_eq!(told("/elsewhere", LIST), []);
    }

    #[test]
    fn a_folder_that_is_one_version_or_was_deleted_is_told() {
        let version = "1 1 8:1 /pods/1/volumes/p/..2024_05_17/policies /p rw - ext4 /dev/sda1 rw\n";
        assert_eq!(told("/p", version), pairs(&[("mounted-version", ".")]));
        let deleted = "1 1 8:1 /srv/policies//deleted /p rw - ext4 /dev/sda1 rw\n";
        assert_eq!(told("/p/policies", deleted), pairs(&[("mounted-version", ".")]));
        // The mount on top counts.
        let over = format!("{deleted}2 1 8:1 /srv/policies /p rw - ext4 /dev/sda1 rw\n");
        assert_eq!(told("/p", &over), []);
    }
}
