//! `orchestrator bounce`: as a mail server's pipe calls it. Nothing is lost while no daemon answers, and what it is told
//! by the environment is enough.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};

use super::{Place, Ran};
use crate::{
    drivers::{
        returned::recorded,
        smtp_server::{Script, SmtpServer},
    },
    support::daemon::{Daemon, eventually},
};

const REQUEST: &str = r#"{"context": {"tenantId": "acme", "prospectId": "p-1", "prospectEmail": "zoe@example.com"},
    "content": {"subject": "Votre rendez-vous", "body": "Bonjour Zoé"}}"#;

/// The command with a mail on its standard input.
fn bounce(folder: &std::path::Path, mail: &[u8], environment: &[(&str, &str)]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_orchestrator"))
        .args(["bounce", "--config", "orchestrator.toml"])
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mail = mail.to_vec();
    let writing = thread::spawn(move || input.write_all(&mail).expect("all of it is read"));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    Ran::of(output)
}

/// The token in the envelope of the last mail.
fn token(server: &SmtpServer) -> String {
    let heard = server.heard_text();
    let from = heard.rsplit("MAIL FROM:<bounces+").next().unwrap();
    from.split('@').next().unwrap().to_owned()
}

/// From the envelope of a mail that a relay took to the message that failed, and to the mailbox that is let alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_came_back_is_brought_by_a_pipe_or_lies_in_a_maildir() {
    let server = SmtpServer::start(Script::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let maildir = dir.path().join("returned");
    for name in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).unwrap();
    }
    let settings = format!(
        "[drivers.relay]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         from = \"rdv@agence.example\"\n\
         bounces = {{ address = \"bounces@agence.example\", maildir = \"{}\" }}\n",
        server.port,
        maildir.display()
    );
    let mut daemon = Daemon::prepare(dir.path(), "", &settings);
    daemon.start();
    let send = || {
        let answer = daemon.call("POST", "/v1/messages", &[], REQUEST).unwrap();
        assert_eq!(answer.body["status"], "sent", "{}", answer.body);
        answer.body["messageId"].as_str().unwrap().to_owned()
    };
    let shown = |id: &str| daemon.call("GET", &format!("/v1/messages/{id}"), &[], "").unwrap().body;

    // A delay, by the pipe, which names whom it was delivered to.
    let first = send();
    let to = format!("bounces+{}@agence.example", token(&server));
    let ran = bounce(dir.path(), recorded("postfix_delayed", "x").as_bytes(), &[("ORIGINAL_RECIPIENT", &to)]);
    assert_eq!(ran.expect(0).out, format!("delayed: {first}\n"));
    assert_eq!(shown(&first)["status"], "sent");
    // However long the mail is that comes back.
    let mut long = recorded("postfix_failed", &token(&server)).into_bytes();
    long.extend(std::iter::repeat_n(b'x', 5 << 20));
    bounce(dir.path(), &long, &[]).expect(0).says(&["bounced: "]);
    assert_eq!(shown(&first)["status"], "failed", "{:#}", shown(&first));

    // A Maildir that the daemon empties.
    let second = send();
    let mail = recorded("postfix_no_mailbox", &token(&server));
    for (name, text) in [("1.bounce", mail.as_str()), ("2.letter", "Subject: hello\r\n\r\nwhat is this?\r\n")]
    {
        std::fs::write(maildir.join("tmp").join(name), text).unwrap();
        std::fs::rename(maildir.join("tmp").join(name), maildir.join("new").join(name)).unwrap();
    }
    assert!(eventually(|| shown(&second)["status"] == "failed"), "{:#}", shown(&second));
    assert!(eventually(
        || maildir.join("cur/1.bounce:2,S").exists() && maildir.join("cur/2.letter:2,S").exists()
    ));
    let refused = daemon.call("POST", "/v1/messages", &[], REQUEST).unwrap();
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.text.contains("hard bounce on "), "{}", refused.text);
    let stats = daemon.call("GET", "/v1/tenants/acme/stats?channel=email", &[], "").unwrap().body;
    let email: &Value = &stats["channels"][0];
    assert_eq!((&email["sent"], &email["failed"], &email["delivered"]), (&json!(2), &json!(2), &json!(null)));

    // With nobody there the mail server has to come again, and so it has where the settings cannot be read.
    daemon.kill();
    bounce(dir.path(), mail.as_bytes(), &[]).expect(75).says(&["no daemon answers", "the mail is not taken"]);
    std::fs::write(dir.path().join("orchestrator.toml"), "colour = 1\n").unwrap();
    bounce(dir.path(), mail.as_bytes(), &[]).expect(75);
}

#[test]
fn settings_of_a_mailbox_that_cannot_be_are_refused_at_the_start() {
    let place = Place::new();
    let with = |bounces: &str| {
        format!(
            "[drivers.relay]\nkind = \"smtp\"\nhost = \"relay.example\"\nfrom = \"a@b.example\"\nbounces = {bounces}\n"
        )
    };
    place.write("orchestrator.toml", &with("{ address = \"bounces\" }"));
    place.run(&["serve"]).expect(78).says(&["bounces.address is not an email address"]);
    place.write("orchestrator.toml", &with("\"bounces@b.example\""));
    place.run(&["serve"]).expect(78).says(&["[drivers.relay]"]);
}
