//! `policies history|diff|rollback|forget` on a running daemon, and where a policy's values come from.

use std::fs;

use super::{Place, in_folder, running};

#[test]
fn a_version_is_put_back_and_a_tenant_dropped_by_commands() {
    let (dir, _daemon) = running();
    let file = dir.path().join("policies/tenants/acme.toml");
    let first = in_folder(&dir, &["policies", "history", "acme", "--json"]).expect(0).json();
    let first = first["versions"][0]["version"].as_str().unwrap()[..12].to_owned();
    in_folder(&dir, &["policies", "diff", "acme"]).expect(1).says(&["it had one only"]);

    fs::write(&file, "[weights]\nurgency = 3\n").unwrap();
    in_folder(&dir, &["policies", "reload"]).expect(0);
    let history = in_folder(&dir, &["policies", "history", "acme"]).expect(0);
    history.says(&[&first, "in force since", ", in force now"]);
    assert_eq!(history.out.lines().count(), 2, "{}", history.out);
    let shown = in_folder(&dir, &["policies", "acme"]).expect(0);
    shown.says(&["criteria/urgency.rhai", "tenants/acme.toml:2", "default.toml:"]);
    let diff = in_folder(&dir, &["policies", "diff", "acme"]).expect(0);
    diff.says(&[&format!("from {first} to "), "tenants/acme.toml changed", "+urgency = 3"]);
    in_folder(&dir, &["policies", "diff", "acme", &first, &first]).expect(0).says(&["no file differs"]);

    let back = in_folder(&dir, &["policies", "rollback", "acme", &first]).expect(0);
    back.says(&[&format!("ok acme: version {first}"), "put back by hand", "once they change"]);
    in_folder(&dir, &["policies", "rollback", "acme", "0123"]).expect(1).says(&["no kept version", &first]);
    in_folder(&dir, &["policies", "rollback", "acme", "latest"]).expect(2).says(&["is not a version"]);

    in_folder(&dir, &["policies", "forget", "acme"]).expect(1).says(&["remove it first"]);
    fs::remove_file(&file).unwrap();
    in_folder(&dir, &["policies", "forget", "acme"]).expect(0).says(&["acme is dropped"]);
    let gone = in_folder(&dir, &["policies", "history", "acme", "--json"]).expect(1).json();
    assert_eq!(gone["status"], 404);
}

#[test]
fn a_tenant_that_is_named_like_a_command_is_shown_by_show() {
    let (dir, _daemon) = running();
    fs::write(dir.path().join("policies/tenants/reload.toml"), "[weights]\nurgency = 3\n").unwrap();
    in_folder(&dir, &["policies", "reload"]).expect(0).says(&["generation"]);
    let shown = in_folder(&dir, &["policies", "show", "reload"]).expect(0);
    shown.says(&["ok reload: version", "tenants/reload.toml:2"]);
    in_folder(&dir, &["policies", "show", "nobody"]).expect(1);
}

#[test]
fn without_a_daemon_versions_say_how_to_start_one() {
    let place = Place::new();
    let commands: [&[&str]; 4] =
        [&["history", "acme"], &["diff", "acme"], &["rollback", "acme", "ab"], &["forget", "acme"]];
    for arguments in commands {
        place.run(&[&["policies"], arguments].concat()).expect(69).says(&["no daemon answers on", "serve"]);
    }
    place.run(&["policies", "history", "../x"]).expect(2).says(&["is not a tenant id"]);
}

#[test]
fn check_tells_where_each_value_comes_from() {
    let place = Place::new();
    place.write("policies/tenants/acme.toml", "[weights]\nurgency = 3\n");
    let ran = place.run(&["check", "--origins", "acme"]).expect(0);
    let line = |key: &str| {
        let found = ran.out.lines().find(|line| line.split_whitespace().next() == Some(key));
        let found = found.unwrap_or_else(|| panic!("no {key} in {}", ran.out));
        found.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(line("weights.urgency"), "tenants/acme.toml:2");
    assert!(line("weights.cost").starts_with("default.toml:"));
    let json = place.run(&["check", "policies", "--origins", "acme", "--json"]).expect(0).json();
    assert_eq!(json["origins"]["weights.urgency"], "tenants/acme.toml:2");
    let mut by_environment = place.command(&["check", "--origins", "acme", "--json"]);
    let ran = by_environment.env("ORCHESTRATOR_DEFAULT_PRIORITY", "high").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(json["origins"]["default_priority"], "ORCHESTRATOR_DEFAULT_PRIORITY");
    place.run(&["check", "--origins", "nobody"]).expect(2).says(&["tenants/nobody.toml"]);
    place.write("policies/tenants/acme.toml", "oops");
    place.run(&["check", "--origins", "acme"]).expect(1).says(&["tenants/acme.toml:1", "make no policy"]);
}
