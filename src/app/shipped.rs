//! The policies that a first start without any writes to a folder of its own: the shipped default.toml and
//! criteria and templates, with the tenant and the tests of the examples.
//!
//! Never writes over what is there.

use std::{fs, io, io::Write, path::Path};

use crate::policy::shipped;

macro_rules! texts {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../policies/", $path)))),+]
    };
}

const EXAMPLES: &[(&str, &str)] = texts![
    "schema/policy.schema.json",
    "schema/template.schema.json",
    "tenants/tenant_123.toml",
    "tests/brief.toml",
    "tests/people.toml",
    "tests/templates.toml",
    "tests/use_cases.toml"
];

/// Writes them to `folder`, which is made. Built aside and renamed, so that half of it is never there.
pub fn write(folder: &Path) -> io::Result<()> {
    let aside = folder.with_extension("new");
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    let shipped = shipped::criteria().into_iter().chain(shipped::templates()).chain([shipped::default()]);
    for file in shipped {
        write_file(&aside.join(&file.path), &file.bytes)?;
    }
    for (path, text) in EXAMPLES {
        write_file(&aside.join(path), text.as_bytes())?;
    }
    fs::rename(&aside, folder)
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths below `folder`, with `/`.
    fn paths(folder: &Path, below: &str, out: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                paths(&entry.path(), &format!("{path}/"), out);
            } else {
                out.push(path);
            }
        }
        out.sort();
    }

    #[test]
    fn everything_that_the_repository_ships_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("policies");
        write(&folder).unwrap();
        let (mut written, mut shipped) = (Vec::new(), Vec::new());
        paths(&folder, "", &mut written);
        paths(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"), "", &mut shipped);
        assert_eq!(written, shipped);
    }
}
