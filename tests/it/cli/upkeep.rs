//! `audit` and `backup`, beside a daemon that runs and on a database that nobody has open.

use std::fs;

use super::{Place, in_folder, running};

const REQUEST: &str = r#"{"context": {"tenantId": "acme", "prospectId": "p", "prospectEmail": "zoe@example.com"},
    "content": {"body": "Bonjour"}}"#;

#[test]
fn what_is_kept_is_audited_and_copied_while_the_daemon_runs() {
    let (dir, daemon) = running();
    let sent = daemon.call("POST", "/v1/messages", &[], REQUEST).unwrap();
    let id = sent.body["messageId"].as_str().unwrap().to_owned();

    in_folder(&dir, &["audit"]).expect(0).says(&["ok  I1", "ok  I14", "clean: "]);
    let audit = in_folder(&dir, &["audit", "--json"]).expect(0).json();
    assert_eq!(audit["clean"], true);

    let made = in_folder(&dir, &["backup", "copy.db"]).expect(0);
    made.says(&[
        "copy.db holds everything up to now",
        "opened and audited",
        "serve --database sqlite:copy.db",
    ]);
    in_folder(&dir, &["backup", "copy.db"]).expect(78).says(&["copy.db is there already"]);
    in_folder(&dir, &["backup", "none/copy.db"]).expect(78).says(&["the folder must be there"]);
    drop(daemon);

    // The copy in the original's place: the daemon goes on from it.
    fs::rename(dir.path().join("state/orchestrator.db"), dir.path().join("lost.db")).unwrap();
    for beside in ["orchestrator.db-wal", "orchestrator.db-shm"] {
        let _ = fs::remove_file(dir.path().join("state").join(beside));
    }
    fs::rename(dir.path().join("copy.db"), dir.path().join("state/orchestrator.db")).unwrap();
    in_folder(&dir, &["audit"]).expect(0).says(&["clean: "]);
    let mut again = crate::support::daemon::Daemon::on(dir.path());
    again.start();
    let record = again.call("GET", &format!("/v1/messages/{id}"), &[], "").unwrap();
    assert_eq!(record.body["status"], "sent", "{:?}", record.body);
}

#[test]
fn without_a_database_the_words_say_who_makes_it() {
    let place = Place::new();
    place.run(&["audit"]).expect(78).says(&["there is no database at", "`orchestrator serve` makes it"]);
    place.run(&["backup", "copy.db"]).expect(78).says(&["there is no database at"]);
}
