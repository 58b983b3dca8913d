//! What operators do, on a running daemon: paused, resumed, erased, refused where it cannot be, and logged.

use std::fs;

use serde_json::json;

use super::{Place, in_folder, running};
use crate::support::daemon::Daemon;

const REQUEST: &str = r#"{"context": {"tenantId": "acme", "prospectId": "p/1", "prospectEmail": "zoe@example.com"},
    "content": {"body": "Bonjour"}}"#;

#[test]
fn a_tenant_is_paused_and_resumed_and_a_person_erased() {
    let (dir, daemon) = running();
    let by = ["--by", "zoe", "--reason", "a wrong list"];
    let run = |arguments: &[&str]| in_folder(&dir, &[arguments, &by].concat());
    run(&["pause", "tenant", "acme"]).expect(0).says(&["acme is paused: what is due waits"]);
    run(&["pause", "tenant", "acme"]).expect(0).says(&["was paused already"]);
    run(&["pause", "driver", "sandbox"]).expect(0).says(&["sandbox is paused"]);
    run(&["pause", "driver", "twilio"]).expect(1).says(&["no driver \"twilio\"; there are sandbox"]);
    run(&["pause", "tenant", "nobody"]).expect(1).says(&["nobody"]);
    in_folder(&dir, &["pause", "tenant", "acme", "--by", "zoe"]).expect(2).says(&["--reason"]);
    in_folder(&dir, &["acts"]).expect(0).says(&["paused now: tenant acme, since ", "by zoe: a wrong list"]);

    fs::write(dir.path().join("request.json"), REQUEST).unwrap();
    in_folder(&dir, &["send", "request.json", "--wait", "0"]).expect(0);
    let waits = || daemon.call("GET", "/v1/messages?tenant=acme", &[], "").unwrap().body;
    let id = waits()["messages"][0]["messageId"].as_str().unwrap().to_owned();
    run(&["resume", "driver", "sandbox"]).expect(0).says(&["sandbox goes on"]);
    run(&["messages", "resend", &id]).expect(1).says(&["only one that is unresolved can be"]);
    run(&["messages", "settle", &id, "--as", "sent"]).expect(1).says(&["unresolved"]);
    run(&["messages", "release", &id]).expect(1).says(&["only one that is quarantined can be"]);
    run(&["messages", "release", "msg_1"]).expect(2).says(&["is not an id"]);
    let erased = run(&["erase", "acme", "p/1"]).expect(0);
    erased.says(&["1 messages hold nothing of the person any more; 1 of them waited and were cancelled"]);
    let shown = daemon.call("GET", &format!("/v1/messages/{id}"), &[], "").unwrap().body;
    assert_eq!(shown["status"], "cancelled", "{shown}");
    assert!(!shown.to_string().contains("p/1"), "{shown}");

    run(&["resume", "tenant", "acme"]).expect(0).says(&["acme goes on"]);
    run(&["resume", "tenant", "acme"]).expect(0).says(&["acme was not paused"]);
    let log = in_folder(&dir, &["acts", "--json"]).expect(0).json();
    let acts: Vec<&str> =
        log["acts"].as_array().unwrap().iter().map(|act| act["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["resume_tenant", "erase", "resume_driver", "pause_driver", "pause_tenant"]);
    assert_eq!(log["paused"].as_array().unwrap().len(), 0);
    assert!(!log.to_string().contains("p/1"), "{log}");
    in_folder(&dir, &["audit"]).expect(0);
}

#[test]
fn without_a_daemon_acts_say_how_to_start_one() {
    let place = Place::new();
    let by = ["--by", "zoe", "--reason", "x"];
    for arguments in [&["pause", "tenant", "acme"][..], &["erase", "acme", "p"], &["resume", "driver", "t"]] {
        place.run(&[arguments, &by].concat()).expect(69).says(&["no daemon answers on", "serve"]);
    }
    place.run(&["acts"]).expect(69);
}

/// A pause makes way for other channels at once; where there is none, the message waits for its end.
#[test]
fn a_paused_driver_shapes_the_next_decision() {
    let dir = tempfile::tempdir().unwrap();
    let drivers = "[drivers.texts]\nkind = \"sandbox\"\n[drivers.mails]\nkind = \"sandbox\"\n";
    let tenant = "[channels.sms]\ndrivers = [\"texts\"]\n[channels.email]\ndrivers = [\"mails\"]\n\
                  [quiet_hours]\nstart = \"00:00\"\nend = \"00:00\"\n";
    let mut daemon = Daemon::prepare(dir.path(), tenant, drivers);
    daemon.start();
    let by = r#"{"reason": "maintenance", "by": "zoe"}"#;
    let act = |daemon: &Daemon, driver: &str, act: &str| {
        assert_eq!(daemon.call("POST", &format!("/v1/drivers/{driver}/{act}"), &[], by).unwrap().status, 200);
    };
    let request = json!({
        "context": { "tenantId": "acme", "prospectId": "p", "prospectPhone": "+33612345678",
            "prospectEmail": "zoe@example.com", "messageType": "notification", "priority": { "level": "urgent" } },
        "content": { "body": "Bonjour" },
    });
    let send = |daemon: &Daemon| {
        let headers = [("prefer", "wait=0")];
        daemon.call("POST", "/v1/messages", &headers, &request.to_string()).unwrap()
    };
    assert_eq!(send(&daemon).body["channel"], "sms");
    act(&daemon, "texts", "pause");
    let answer = daemon.call("POST", "/v1/decisions", &[], &request.to_string()).unwrap();
    assert_eq!(answer.body["channel"], "email", "{}", answer.text);
    act(&daemon, "mails", "pause");
    let waits = send(&daemon);
    assert_eq!((waits.status, &waits.body["channel"]), (202, &json!("sms")), "{}", waits.text);
    // Known again after a restart.
    act(&daemon, "mails", "resume");
    assert_eq!(daemon.terminate(), Some(0));
    daemon.start();
    assert_eq!(send(&daemon).body["channel"], "email");
    let metrics = daemon.call("GET", "/metrics", &[], "").unwrap().text;
    assert!(metrics.contains("status_webhooks{status=\"waiting\"} 0"), "{metrics}");
}
