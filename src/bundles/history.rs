//! The versions that each tenant's policy has had: listed, compared, read back.
//!
//! The last twenty of each tenant, as manifests over the archive's texts. It puts nothing in force: `operate`
//! does that.

use std::{fs, io, path::PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::last_good::{Archive, Manifest, files, json_files, read_manifest};
use crate::{domain::ids::TenantId, policy::assemble::BundleSources};

/// Versions kept of each tenant.
pub const VERSIONS_MAX: usize = 20;
/// Lines around a difference.
const CONTEXT: usize = 2;
/// Files longer than this are not compared line by line: the table would take too much room.
const LINES_MAX: usize = 5_000;

/// One version that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    pub version: String,
    /// When it came in force, the last time.
    pub since: DateTime<Utc>,
    /// It is in force now.
    pub active: bool,
}

/// How one file differs between two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileDiff {
    pub file: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// As `diff -u` shows it: ` same`, `-gone`, `+new`; a line `@@ line N` where lines are left out.
    pub lines: Vec<String>,
}

impl Archive {
    pub(super) fn history_of(&self, tenant: &TenantId) -> PathBuf {
        self.dir.join("history").join(tenant.as_str())
    }

    pub(super) fn history_path(&self, manifest: &Manifest) -> PathBuf {
        // Sorted by name is sorted by time.
        let name = format!("{:015}-{}.json", manifest.since.timestamp_millis().max(0), manifest.version);
        self.history_of(&manifest.tenant).join(name)
    }

    /// Every version kept of a tenant, newest first.
    pub fn versions(&self, tenant: &TenantId) -> Vec<Manifest> {
        let files = json_files(&self.history_of(tenant)).into_iter().rev();
        files.filter_map(|path| read_manifest(&path).ok()).collect()
    }

    /// Drops what a version that came in force makes superfluous: its own earlier turn, and all past the
    /// twentieth.
    pub(super) fn prune(&self, newest: &Manifest) -> io::Result<()> {
        let keep = self.history_path(newest);
        let ending = format!("-{}.json", newest.version);
        let mut left = Vec::new();
        for path in json_files(&self.history_of(&newest.tenant)) {
            if path != keep && path.to_string_lossy().ends_with(&ending) {
                fs::remove_file(path)?;
            } else {
                left.push(path);
            }
        }
        let excess = left.len().saturating_sub(VERSIONS_MAX);
        left.iter().take(excess).try_for_each(fs::remove_file)
    }
}

/// How the texts of two versions differ, file by file, in path order.
pub fn diff(from: &BundleSources, to: &BundleSources) -> Vec<FileDiff> {
    let texts = |sources: &BundleSources| {
        let text =
            files(sources).map(|file| (file.path.clone(), String::from_utf8_lossy(&file.bytes).into_owned()));
        text.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (from, to) = (texts(from), texts(to));
    let mut paths: Vec<&String> = from.keys().chain(to.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let compare = |path: &&String| {
        let (change, lines) = match (from.get(*path), to.get(*path)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(old), Some(new)) => ("changed", changed_lines(old, new)),
            (Some(old), None) => ("removed", old.lines().map(|line| format!("-{line}")).collect()),
            (None, Some(new)) => ("added", new.lines().map(|line| format!("+{line}")).collect()),
            (None, None) => return None,
        };
        Some(FileDiff { file: (*path).clone(), change: change.to_owned(), lines })
    };
    paths.iter().filter_map(compare).collect()
}

/// The lines that differ with a few around them, by the longest common subsequence.
fn changed_lines(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (gone, come) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut script: Vec<(char, &str)> = old[..head].iter().map(|line| (' ', *line)).collect();
    if gone.len() > LINES_MAX / 2 || come.len() > LINES_MAX / 2 {
        script.extend(gone.iter().map(|line| ('-', *line)));
        script.extend(come.iter().map(|line| ('+', *line)));
    } else {
        script.extend(common(gone, come));
    }
    script.extend(old[old.len() - tail..].iter().map(|line| (' ', *line)));
    shorten(&script)
}

fn common<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<(char, &'t str)> {
    let width = new.len() + 1;
    let mut length = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            length[i * width + j] = if old[i] == new[j] {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut script) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            script.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && length[(i + 1) * width + j] >= length[i * width + j + 1])
        {
            script.push(('-', old[i]));
            i += 1;
        } else {
            script.push(('+', new[j]));
            j += 1;
        }
    }
    script
}

/// Leaves out the equal lines that are far from every difference.
fn shorten(script: &[(char, &str)]) -> Vec<String> {
    let near = |at: usize| {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(script.len());
        script[around].iter().any(|(sign, _)| *sign != ' ')
    };
    let (mut out, mut line, mut skipping) = (Vec::new(), 0_usize, true);
    for (at, (sign, text)) in script.iter().enumerate() {
        if *sign != '-' {
            line += 1;
        }
        if !near(at) {
            skipping = true;
            continue;
        }
        if std::mem::take(&mut skipping) {
            out.push(format!("@@ line {}", line.max(1)));
        }
        out.push(format!("{sign}{text}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_its_neighbourhood_only() {
        let old = "a\nb\nc\nd\ne\nf\ng\n";
        let new = "a\nb\nc\nD\ne\nf\ng\nh\n";
        assert_eq!(changed_lines(old, new), ["@@ line 2", " b", " c", "-d", "+D", " e", " f", " g", "+h"]);
        assert_eq!(changed_lines("", "x\n"), ["@@ line 1", "+x"]);
        assert_eq!(changed_lines("x\n", ""), ["@@ line 1", "-x"]);
        assert!(changed_lines(old, old).is_empty());
    }

    #[test]
    fn long_texts_are_compared_without_a_table() {
        let long = |word: &str| (0..LINES_MAX).map(|n| format!("{word}{n}\n")).collect::<String>();
        let lines = changed_lines(&long("a"), &long("b"));
        assert_eq!(lines.len(), 1 + 2 * LINES_MAX);
    }
}
