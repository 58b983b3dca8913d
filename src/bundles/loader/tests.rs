//! Judging what was touched, and on several threads, against judging everything on one.

use std::{fs, path::Path};

use super::*;
use crate::bundles::folder::Scope;

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn weight(n: usize) -> String {
    format!("[weights]\ncost = {n}\n")
}

const SCRIPT: &str = "fn score(message, channel) {\n    award(0.5, \"because\")\n}\n";
const TEST: &str = "[[test]]\nname = \"n\"\ntenant = \"beta\"\ncontext = { prospectEmail = \"a@example.com\" }\n\
                    content = { body = \"x\" }\nexpect = { channel = \"email\" }\n";

/// What can be compared of a tenant's judgement.
fn shown(judgement: &Judgement) -> (String, Option<String>, Vec<Diagnostic>, TestTally) {
    let version = judgement.accepted().map(|bundle| bundle.version().to_string());
    (judgement.source_hash.clone(), version, judgement.errors.clone(), judgement.tally())
}

fn all_shown(
    tenants: &BTreeMap<TenantId, Arc<Judgement>>,
) -> BTreeMap<String, impl PartialEq + std::fmt::Debug + use<>> {
    tenants.iter().map(|(tenant, judgement)| (tenant.to_string(), shown(judgement))).collect()
}

fn whole(folder: &Path, threads: usize) -> Loaded {
    let snapshot = Snapshot::read(folder);
    Loader::default().load(&snapshot, Touched::Everything, &|_| None, false, threads)
}

#[test]
fn judging_what_was_touched_comes_to_the_same_as_judging_everything() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(folder, "tenants/acme.toml", &weight(1));
    write(folder, "tenants/beta.toml", "");
    write(folder, "tenants/acme/criteria/cost.rhai", SCRIPT);
    let loader = Loader::default();
    let mut snapshot = Snapshot::read(folder);
    let mut judged = loader.load(&snapshot, Touched::Everything, &|_| None, false, 1).tenants;
    let steps: [(&str, Option<&str>); 16] = [
        ("tenants/acme.toml", Some("[weights]\ncost = 2\n")),
        ("tenants/acme.toml", Some("[weights\n")),
        ("tenants/acme.toml", Some("[weights]\ncost = 2\n")),
        ("tenants/acme/criteria/cost.rhai", Some("fn score(")),
        ("tenants/acme/criteria/cost.rhai", None),
        ("tests/t.toml", Some(TEST)),
        ("tests/t.toml", Some("[[test]]\nname = \"n\"\ntenant = \"acme\"\ncontent = {")),
        ("tests/t.toml", None),
        ("tenants/gamma/criteria/cost.rhai", Some(SCRIPT)),
        ("tenants/gamma.toml", Some("")),
        ("tenants/gamma.toml", None),
        ("templates/ONE.toml", Some("odd = [")),
        ("templates/ONE.toml", None),
        ("tenants/beta.toml", None),
        ("tenants/Odd.toml", Some("")),
        ("default.toml", Some("region = \"XX\"\n")),
    ];
    for (path, text) in steps {
        match text {
            Some(text) => write(folder, path, text),
            None => fs::remove_file(folder.join(path)).unwrap(),
        }
        let batch = snapshot.gather(folder, &Scope::Paths(BTreeSet::from([path.to_owned()])), false);
        let touched = snapshot.apply(folder, batch);
        let known = judged.clone();
        let previous = |tenant: &TenantId| known.get(tenant).cloned();
        let loaded = loader.load(&snapshot, Touched::Paths(&touched), &previous, false, 1);
        if loaded.whole {
            judged.clear();
        }
        judged.retain(|tenant, _| !loaded.gone.contains(tenant));
        judged.extend(loaded.tenants);
        let fresh = whole(folder, 1);
        assert!(all_shown(&judged) == all_shown(&fresh.tenants), "{path}: {judged:#?}\n{:#?}", fresh.tenants);
        assert_eq!(loaded.problems, fresh.problems, "{path}");
    }
}

#[test]
fn a_neighbours_file_makes_nobody_else_be_judged() {
    let dir = tempfile::tempdir().unwrap();
    (0..50).for_each(|n| write(dir.path(), &format!("tenants/t{n}.toml"), ""));
    let loader = Loader::default();
    let mut snapshot = Snapshot::read(dir.path());
    loader.load(&snapshot, Touched::Everything, &|_| None, false, 1);
    write(dir.path(), "tenants/t7.toml", &weight(3));
    let batch = snapshot.gather(dir.path(), &Scope::Whole, false);
    let touched = snapshot.apply(dir.path(), batch);
    let loaded = loader.load(&snapshot, Touched::Paths(&touched), &|_| None, false, 1);
    assert_eq!(loaded.tenants.keys().map(TenantId::as_str).collect::<Vec<_>>(), ["t7"]);
    assert!(!loaded.whole && loaded.gone.is_empty());
    // Nothing touched is nobody judged, and never everybody gone.
    let loaded = loader.load(&snapshot, Touched::Paths(&BTreeSet::new()), &|_| None, false, 1);
    assert!(!loaded.whole && loaded.gone.is_empty() && loaded.tenants.is_empty());
}

#[test]
fn several_threads_come_to_the_same_as_one() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..100 {
        let text = if n % 7 == 0 { "[weights\n".to_owned() } else { weight(n) };
        write(dir.path(), &format!("tenants/t{n}.toml"), &text);
    }
    let (one, four) = (whole(dir.path(), 1), whole(dir.path(), 4));
    assert_eq!(one.tenants.len(), 100);
    assert!(all_shown(&one.tenants) == all_shown(&four.tenants));
}

#[test]
fn tenants_without_files_of_their_own_share_what_is_equal() {
    let dir = tempfile::tempdir().unwrap();
    (0..3).for_each(|n| write(dir.path(), &format!("tenants/t{n}.toml"), &weight(n)));
    write(dir.path(), "tenants/t2/criteria/cost.rhai", SCRIPT);
    let loaded = whole(dir.path(), 1);
    let of = |n: usize| &loaded.tenants[&TenantId::parse(&format!("t{n}")).unwrap()];
    let bundle = |n: usize| of(n).accepted().unwrap();
    assert!(Arc::ptr_eq(&of(0).sources.criteria, &of(1).sources.criteria));
    assert!(!Arc::ptr_eq(&of(0).sources.criteria, &of(2).sources.criteria));
    for n in [1, 2] {
        assert!(Arc::ptr_eq(&of(0).sources.templates, &of(n).sources.templates));
        assert!(std::ptr::eq(bundle(0).templates(), bundle(n).templates()));
        assert!(Arc::ptr_eq(&bundle(0).policy().strategies, &bundle(n).policy().strategies));
    }
}
