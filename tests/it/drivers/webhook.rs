//! The generic webhook: its signature, its stable id, its answers, and the addresses that it never reaches.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use channel_orchestrator::{
    channels::{
        Driver,
        http::signature::{Hash, sign_base64},
    },
    domain::{
        address::Address,
        channel::Channel,
        ids::AttemptId,
        message::{Attachment, Content},
    },
};
use serde_json::Value;
use tempfile::TempDir;

use super::twilio::{attempt, made, outbound};
use crate::support::http_provider::{Act, Heard, HttpProvider, secret};

/// The secret of the libraries' own tests.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn key(secret: &str) -> Vec<u8> {
    STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap()
}

fn webhook(url: &str, more: &str) -> (Arc<dyn Driver>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let reference = secret(dir.path(), "secret", SECRET);
    let old = secret(dir.path(), "old", OLD);
    let toml = format!(
        "kind = \"webhook\"\nurl = \"{url}\"\nsecret = \"{reference}\"\nsecret_previous = \"{old}\"\n\
         timeouts = {{ connect_seconds = 2, answer_seconds = 1 }}\n{more}"
    );
    (made(&toml).unwrap(), dir)
}

#[test]
fn signatures_are_those_of_standard_webhooks() {
    let text = br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
    assert_eq!(sign_base64(Hash::Sha256, &key(SECRET), text), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn a_message_is_one_signed_post_with_the_same_id_at_every_attempt() {
    let receiver =
        HttpProvider::start(vec![Act::answer(202, r#"{"id":"theirs-1"}"#), Act::answer(204, "")]).await;
    let (driver, _dir) = webhook(&format!("{}/in?key=k", receiver.url()), "allow_private = true");
    let mut message = outbound(Channel::Email);
    message.to = Address::Email("ada@example.com".into());
    message.content = Content {
        subject: Some("Visite".into()),
        body: "Bonjour".into(),
        html: Some("<p>Bonjour</p>".into()),
        attachments: vec![Attachment {
            file_name: "a.txt".into(),
            content_type: "text/plain".into(),
            bytes: b"abc".to_vec(),
        }],
        ..Content::default()
    };
    let id = format!("{}_email", message.message);
    assert_eq!(attempt(&driver, &message).await, "accepted theirs-1");
    message.attempt = AttemptId::new();
    message.attempt_number = 2;
    assert_eq!(attempt(&driver, &message).await, format!("accepted {id}"));
    message.channel = Channel::Sms;
    attempt(&driver, &message).await;
    let heard = receiver.heard();
    let ids: Vec<_> = heard.iter().map(|heard| heard.header("webhook-id").unwrap()).collect();
    assert_eq!((ids[0], ids[1], ids[2] == ids[1]), (id.as_str(), id.as_str(), false));
    let first: &Heard = &heard[0];
    assert_eq!((first.method.as_str(), first.target.as_str()), ("POST", "/in?key=k"));
    assert_eq!(first.header("webhook-timestamp"), Some("1795348800"));
    let text = format!("{id}.1795348800.{}", first.body);
    let expected: Vec<String> = [SECRET, OLD]
        .map(|secret| format!("v1,{}", sign_base64(Hash::Sha256, &key(secret), text.as_bytes())))
        .to_vec();
    assert_eq!(first.header("webhook-signature"), Some(expected.join(" ").as_str()));
    let body: Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(body["type"], "message.send");
    let data = &body["data"];
    assert_eq!(
        (&data["channel"], &data["to"], &data["attempt"]),
        (&"email".into(), &"ada@example.com".into(), &1.into())
    );
    assert_eq!((&data["subject"], &data["html"]), (&"Visite".into(), &"<p>Bonjour</p>".into()));
    assert_eq!(data["attachments"][0]["content"], "YWJj");
}

#[tokio::test]
async fn every_answer_has_its_class() {
    let moved = Act::Answer {
        status: 307,
        headers: vec![("Location", "http://169.254.169.254/latest/meta-data".into())],
        body: String::new(),
    };
    let busy = Act::Answer { status: 429, headers: vec![("Retry-After", "12".into())], body: String::new() };
    let cases = [
        ("moved, and not followed", moved, "misconfigured 307"),
        ("refused", Act::answer(400, "{}"), "permanent 400"),
        ("whose signature?", Act::answer(401, "{}"), "misconfigured 401"),
        ("gone", Act::answer(410, "{}"), "permanent 410"),
        ("busy", busy, "temporary 429 after 12"),
        ("broken", Act::answer(500, "{}"), "unknown 500"),
        ("away", Act::answer(503, "{}"), "unknown 503"),
        ("closed", Act::Say(Vec::new()), "unknown"),
        ("silent", Act::Hang, "unknown"),
    ];
    let receiver = HttpProvider::start(cases.iter().map(|(_, act, _)| act.clone()).collect()).await;
    let (driver, _dir) = webhook(&receiver.url(), "allow_private = true");
    for (name, _, expected) in &cases {
        assert_eq!(&attempt(&driver, &outbound(Channel::Sms)).await, expected, "{name}");
    }
    assert_eq!(receiver.heard().len(), cases.len());
}

#[tokio::test]
async fn no_private_address_is_ever_connected_to() {
    let receiver = HttpProvider::start(vec![Act::answer(200, "{}")]).await;
    let mut refused = 0;
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "127.1", "0"]
    {
        let dir = tempfile::tempdir().unwrap();
        let reference = secret(dir.path(), "secret", SECRET);
        let url = format!("https://{host}:{}/", receiver.port);
        let Ok(driver) = made(&format!("kind = \"webhook\"\nurl = \"{url}\"\nsecret = \"{reference}\"\n"))
        else {
            continue;
        };
        // The odd spellings are no names to some resolvers.
        let odd = host.starts_with(|c: char| c.is_ascii_digit()) && host != "127.0.0.1";
        let ended = attempt(&driver, &outbound(Channel::Sms)).await;
        let allowed: &[&str] = &["early misconfigured address", "early not_sent"][..1 + usize::from(odd)];
        assert!(allowed.contains(&ended.as_str()), "{host}: {ended}");
        refused += 1;
    }
    assert!(refused >= 4, "{refused}");
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn settings_that_could_give_something_away_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let good = secret(dir.path(), "secret", SECRET);
    let short = secret(dir.path(), "short", "whsec_AAAA");
    let with = |url: &str, more: &str| {
        made(&format!("kind = \"webhook\"\nurl = \"{url}\"\n{more}")).err().unwrap_or_default()
    };
    let secret = format!("secret = \"{good}\"\n");
    assert_eq!(with("https://hooks.example.fr/x?y", &secret), "");
    assert_eq!(with("https://10.0.0.1/x", &format!("{secret}allow_private = true")), "");
    for (url, more, expected) in [
        ("http://hooks.example.fr", secret.clone(), "https://"),
        ("http://hooks.example.fr", format!("{secret}allow_private = true"), "not this machine"),
        ("https://user:pass@hooks.example.fr", secret.clone(), "no user"),
        ("https://hooks.example.fr/#x", secret.clone(), "no `#`"),
        ("hooks.example.fr", secret.clone(), "https://HOST"),
        ("https://hooks.example.fr", format!("secret = \"{short}\""), "24 to 64"),
        ("https://hooks.example.fr", "secret = \"whsec_x\"".to_owned(), "env:NAME"),
        ("https://hooks.example.fr", format!("{secret}channels = [\"fax\"]"), "fax"),
    ] {
        let said = with(url, &more);
        assert!(said.contains(expected), "{url} {more}: {said}");
    }
    let (sms, _dir) = webhook("https://hooks.example.fr", "channels = [\"sms\"]");
    assert_eq!(sms.channels(), [Channel::Sms]);
    assert!(sms.callbacks().is_none());
}
