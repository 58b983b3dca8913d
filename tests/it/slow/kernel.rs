//! A kernel that lacks what the daemon would use: strace answers in its place that there is no such call.

use std::fs;

use serde_json::{Value, json};

use super::{bench::in_time, disk::is_possible};
use crate::support::daemon::Daemon;

/// Which channel an urgent notification would go by.
fn channel(daemon: &Daemon) -> Value {
    let request = json!({
        "context": {
            "tenantId": "acme", "prospectId": "p1", "prospectPhone": "+33612345678", "prospectEmail": "zoe@example.com",
            "messageType": "notification", "priority": { "level": "urgent" },
        },
        "content": { "subject": "Visite", "body": "Votre visite est confirmée" },
    });
    let answer = daemon.call("POST", "/v1/decisions", &[], &request.to_string()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["channel"].clone()
}

/// Old kernels and gVisor have no `openat2`, and some filters of containers forbid what they do not know.
#[test]
fn without_openat2_policies_are_read_and_reloaded_all_the_same() {
    if !is_possible() {
        println!("not run: strace may not look into processes here");
        return;
    }
    for error in ["ENOSYS", "EPERM"] {
        let folder = tempfile::tempdir().unwrap();
        let quiet = "[quiet_hours]\nstart = \"00:00\"\nend = \"00:00\"\n";
        let mut daemon = Daemon::prepare(folder.path(), quiet, "");
        let inject = format!("inject=openat2:error={error}");
        daemon.start_under(&[
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "calls",
            "-e",
            "trace=openat2",
            "-e",
            &inject,
        ]);
        assert_eq!(channel(&daemon), "sms", "{}", daemon.log());
        let tenant = folder.path().join("policies/tenants/acme.toml");
        fs::write(tenant, format!("{quiet}[channels.sms]\nenabled = false\n")).unwrap();
        assert!(in_time(|| channel(&daemon) == "email"), "{}", daemon.log());
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        assert!(calls.contains(error) && !calls.contains(") = 3"), "no call was refused: {calls}");
    }
}
