//! The reader against links, pipes, sizes and swaps.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::Arc,
};

use super::{names::Role, *};
use crate::{domain::ids::TenantId, policy::assemble::SourceFile};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn codes(snapshot: &Snapshot) -> Vec<(&str, &str)> {
    snapshot.problems().map(|p| (p.code.as_str(), p.file.as_str())).collect()
}

#[test]
fn what_counts_is_read_and_what_does_not_is_told_or_skipped() {
    let dir = folder(&[
        ("default.toml", "a"),
        ("criteria/cost.rhai", "b"),
        ("tenants/acme.toml", "c"),
        ("tenants/acme/criteria/cost.rhai", "d"),
        ("templates/T.toml", "e"),
        ("tests/t.toml", "f"),
        ("tenants/acme.toml~", "x"),
        ("tenants/4913", "x"),
        ("tenants/.acme.toml.swp", "x"),
        ("tenants/Foo.toml", "x"),
        ("criteria/x.txt", "x"),
        ("README.md", "x"),
    ]);
    symlink("nobody@host.1:1", dir.path().join("tenants/.#acme.toml")).unwrap();
    symlink("gone.toml", dir.path().join("tenants/dangling.toml")).unwrap();
    let snapshot = Snapshot::read(dir.path());
    let texts: Vec<_> =
        snapshot.files.iter().map(|(path, (_, file))| (path.as_str(), file.bytes.as_slice())).collect();
    assert_eq!(
        texts,
        [
            ("criteria/cost.rhai", &b"b"[..]),
            ("default.toml", b"a"),
            ("templates/T.toml", b"e"),
            ("tenants/acme.toml", b"c"),
            ("tenants/acme/criteria/cost.rhai", b"d"),
            ("tests/t.toml", b"f"),
        ]
    );
    assert_eq!(codes(&snapshot), [("not-read", "criteria/x.txt"), ("not-read", "tenants/Foo.toml")]);
}

#[test]
fn links_inside_are_followed_and_links_out_are_refused() {
    let outside = folder(&[("secret.toml", "secret")]);
    let dir = folder(&[("..2025/acme.toml", "one"), ("tenants/.keep", "")]);
    symlink("..2025", dir.path().join("..data")).unwrap();
    symlink("../..data/acme.toml", dir.path().join("tenants/acme.toml")).unwrap();
    symlink(outside.path().join("secret.toml"), dir.path().join("tenants/out.toml")).unwrap();
    symlink("../../../../../../../../etc/passwd", dir.path().join("tenants/up.toml")).unwrap();
    symlink("/dev/zero", dir.path().join("tenants/zero.toml")).unwrap();
    symlink("loop.toml", dir.path().join("tenants/loop.toml")).unwrap();
    symlink(outside.path(), dir.path().join("tests")).unwrap();
    let snapshot = Snapshot::read(dir.path());
    assert_eq!(snapshot.files.keys().collect::<Vec<_>>(), ["tenants/acme.toml"]);
    let refused = codes(&snapshot);
    for expected in [
        ("link-out", "tenants/out.toml"),
        ("link-out", "tenants/up.toml"),
        ("link-out", "tenants/zero.toml"),
        ("link-loop", "tenants/loop.toml"),
    ] {
        assert!(refused.contains(&expected), "{expected:?} not in {refused:?}");
    }
    assert!(refused.contains(&("link-out", "tests")), "{refused:?}");
}

#[test]
fn pipes_directories_and_giants_are_refused_and_never_hang() {
    let dir = folder(&[("tenants/.keep", ""), ("criteria/.keep", "")]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("tenants/pipe.toml"),
        FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    fs::create_dir(dir.path().join("default.toml")).unwrap();
    // Four GiB that take no room: refused by its size, unread.
    fs::File::create(dir.path().join("tenants/giant.toml")).unwrap().set_len(4 << 30).unwrap();
    fs::write(dir.path().join("criteria/cost.rhai"), "x".repeat(64 * 1024 + 1)).unwrap();
    fs::write(dir.path().join("tenants/fits.toml"), "#".repeat(256 * 1024)).unwrap();
    let snapshot = Snapshot::read(dir.path());
    assert_eq!(snapshot.files.keys().collect::<Vec<_>>(), ["tenants/fits.toml"]);
    let refused = codes(&snapshot);
    for expected in [
        ("no-regular-file", "tenants/pipe.toml"),
        ("too-big", "tenants/giant.toml"),
        ("too-big", "criteria/cost.rhai"),
    ] {
        assert!(refused.contains(&expected), "{expected:?} not in {refused:?}");
    }
    assert!(refused.iter().any(|(_, file)| *file == "default.toml"), "{refused:?}");
}

#[test]
fn a_world_writable_file_is_read_with_a_warning() {
    let dir = folder(&[("tenants/acme.toml", "x")]);
    fs::set_permissions(dir.path().join("tenants/acme.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let snapshot = Snapshot::read(dir.path());
    assert_eq!(codes(&snapshot), [("world-writable", "tenants/acme.toml")]);
    assert!(snapshot.file("tenants/acme.toml").is_some());
}

#[test]
fn a_listing_sees_every_write_and_no_read() {
    let dir = folder(&[("tenants/acme.toml", "cost = 1"), ("criteria/cost.rhai", "x")]);
    let before = Listing::of(dir.path());
    Snapshot::read(dir.path());
    assert_eq!(Listing::of(dir.path()), before);
    fs::write(dir.path().join("tenants/acme.toml"), "cost = 22").unwrap();
    let written = Listing::of(dir.path());
    assert_ne!(written, before);
    fs::write(dir.path().join("new"), "cost = 22").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("tenants/acme.toml")).unwrap();
    let renamed = Listing::of(dir.path());
    assert_ne!(renamed, written);
    fs::remove_file(dir.path().join("criteria/cost.rhai")).unwrap();
    assert_ne!(Listing::of(dir.path()), renamed);
}

#[test]
fn a_link_above_the_root_is_followed_anew_each_time() {
    let base = folder(&[("one/tenants/acme.toml", "1"), ("two/tenants/acme.toml", "2")]);
    let current = base.path().join("current");
    symlink("one", &current).unwrap();
    let first = Snapshot::read(&current);
    fs::remove_file(&current).unwrap();
    symlink("two", &current).unwrap();
    let second = Snapshot::read(&current);
    assert_eq!(second.file("tenants/acme.toml").unwrap().bytes, b"2");
    assert_ne!(first.listing.root(), second.listing.root());
}

#[test]
fn a_missing_folder_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = Snapshot::read(&dir.path().join("policies"));
    assert!(snapshot.missing && snapshot.files.is_empty());
    assert_eq!(codes(&snapshot), [("folder-missing", ".")]);
}

/// Reads what changed in the scope, and is disturbed before it takes it over.
fn read_again(
    snapshot: &mut Snapshot,
    folder: &Path,
    scope: &Scope,
    disturb: impl FnOnce(),
) -> BTreeSet<String> {
    let mut batch = snapshot.gather(folder, scope, false);
    disturb();
    let later = snapshot.difference(folder, scope, false);
    snapshot.hold_back(&mut batch, &later);
    snapshot.apply(folder, batch)
}

fn paths(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_file_that_is_written_again_is_held_back() {
    let dir = folder(&[("tenants/acme.toml", "one"), ("tenants/beta.toml", "one")]);
    let write = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
    let mut snapshot = Snapshot::read(dir.path());
    write("tenants/acme.toml", "tw");
    write("tenants/beta.toml", "two");
    write("tenants/new.toml", "tw");
    let touched = read_again(&mut snapshot, dir.path(), &Scope::Whole, || {
        write("tenants/acme.toml", "two");
        write("tenants/new.toml", "two");
    });
    let text = |snapshot: &Snapshot, path: &str| {
        snapshot.file(path).map(|file| String::from_utf8(file.bytes.clone()).unwrap())
    };
    assert_eq!(touched, paths(&["tenants/beta.toml"]));
    assert_eq!(text(&snapshot, "tenants/acme.toml").as_deref(), Some("one"));
    assert_eq!(text(&snapshot, "tenants/beta.toml").as_deref(), Some("two"));
    assert_eq!(text(&snapshot, "tenants/new.toml"), None);
    // The next look finds them changed, and reads them then.
    let left = snapshot.difference(dir.path(), &Scope::Whole, false);
    assert!(snapshot.is_stale(&left));
    let touched = read_again(&mut snapshot, dir.path(), &Scope::Whole, || ());
    assert_eq!(touched, paths(&["tenants/acme.toml", "tenants/new.toml"]));
    assert_eq!(text(&snapshot, "tenants/acme.toml").as_deref(), Some("two"));
}

/// Whatever happens to a folder, looking at the paths that it happened to is as good as looking at all of it.
#[test]
fn a_look_at_what_changed_comes_to_the_same_as_a_look_at_everything() {
    let dir = folder(&[
        ("default.toml", "a"),
        ("criteria/cost.rhai", "b"),
        ("tenants/acme.toml", "c"),
        ("tenants/acme/criteria/cost.rhai", "d"),
        ("tenants/acme/templates/T.toml", "e"),
        ("tenants/beta.toml", "f"),
    ]);
    let at = |path: &str| dir.path().join(path);
    let mut snapshot = Snapshot::read(dir.path());
    let steps: [(&[&str], &dyn Fn()); 9] = [
        (&["tenants/acme.toml"], &|| fs::write(at("tenants/acme.toml"), "cc").unwrap()),
        (&["tenants/beta.toml"], &|| fs::remove_file(at("tenants/beta.toml")).unwrap()),
        (&["tenants/acme"], &|| fs::remove_dir_all(at("tenants/acme")).unwrap()),
        (&["tenants/new"], &|| {
            fs::create_dir_all(at("tenants/new/criteria")).unwrap();
            fs::write(at("tenants/new/criteria/cost.rhai"), "g").unwrap();
        }),
        (&["tenants/new.toml"], &|| fs::write(at("tenants/new.toml"), "h").unwrap()),
        (&["criteria", "gone"], &|| fs::rename(at("criteria"), at("gone")).unwrap()),
        (&["criteria", "gone"], &|| fs::rename(at("gone"), at("criteria")).unwrap()),
        (&["criteria/odd.txt"], &|| fs::write(at("criteria/odd.txt"), "i").unwrap()),
        (&["default.toml"], &|| {
            fs::remove_file(at("default.toml")).unwrap();
            fs::create_dir(at("default.toml")).unwrap();
        }),
    ];
    for (named, step) in steps {
        step();
        read_again(&mut snapshot, dir.path(), &Scope::Paths(paths(named)), || ());
        let whole = Snapshot::read(dir.path());
        assert_eq!(snapshot.listing, whole.listing, "{named:?}");
        assert_eq!(snapshot.files, whole.files, "{named:?}");
        assert_eq!(codes(&snapshot), codes(&whole), "{named:?}");
        assert_eq!(snapshot.owners().collect::<Vec<_>>(), whole.owners().collect::<Vec<_>>(), "{named:?}");
    }
}

#[test]
fn where_links_lead_about_every_look_is_at_everything() {
    let dir = folder(&[("..one/acme.toml", "one"), ("..two/acme.toml", "two"), ("tenants/.keep", "")]);
    symlink("..one", dir.path().join("..data")).unwrap();
    symlink("../..data/acme.toml", dir.path().join("tenants/acme.toml")).unwrap();
    let mut snapshot = Snapshot::read(dir.path());
    symlink("..two", dir.path().join("..next")).unwrap();
    fs::rename(dir.path().join("..next"), dir.path().join("..data")).unwrap();
    let touched = read_again(&mut snapshot, dir.path(), &Scope::nothing(), || ());
    assert_eq!(touched, paths(&["tenants/acme.toml"]));
    assert_eq!(snapshot.file("tenants/acme.toml").unwrap().bytes, b"two");
}

#[test]
fn equal_bytes_stay_the_very_same_file_and_touch_nothing() {
    let dir = folder(&[("tenants/acme.toml", "one")]);
    let mut snapshot = Snapshot::read(dir.path());
    let before = snapshot.file("tenants/acme.toml").cloned().unwrap();
    fs::write(dir.path().join("tenants/acme.toml"), "one").unwrap();
    let touched = read_again(&mut snapshot, dir.path(), &Scope::Whole, || ());
    assert!(touched.is_empty() && Arc::ptr_eq(&before, snapshot.file("tenants/acme.toml").unwrap()));
    let all = snapshot.gather(dir.path(), &Scope::Whole, true);
    assert!(snapshot.apply(dir.path(), all).is_empty());
}

/// As on a file system whose stamps tell nothing: the contents are compared in turn.
#[test]
fn contents_that_changed_under_an_equal_stamp_are_found_in_turn() {
    let names: Vec<String> = (0..10).map(|n| format!("tenants/t{n}.toml")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "one")).collect();
    let dir = folder(&files);
    let mut snapshot = Snapshot::read(dir.path());
    let held = SourceFile::new("tenants/t7.toml", "held");
    snapshot.files.insert(names[7].clone(), (Role::Tenant(TenantId::parse("t7").unwrap()), Arc::new(held)));
    let nothing = snapshot.difference(dir.path(), &Scope::Whole, false);
    assert!(!snapshot.is_stale(&nothing));
    let turns: Vec<bool> = (0..4).map(|_| snapshot.compare_some(dir.path(), 3)).collect();
    assert_eq!(turns, [false, false, true, false]);
    let touched = read_again(&mut snapshot, dir.path(), &Scope::nothing(), || ());
    assert_eq!(touched, paths(&["tenants/t7.toml"]));
    assert_eq!(snapshot.file("tenants/t7.toml").unwrap().bytes, b"one");
}
