//! Mail as a relay gets it, its DKIM signature verified by a second reading of RFC 6376, with the public key alone.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use channel_orchestrator::domain::message::Attachment;
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ED25519, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
    },
};

use super::{
    attempt, email, plain,
    smtp_server::{Script, SmtpServer},
};

/// A key in a file of its own, and what is published of it.
struct Key {
    dir: tempfile::TempDir,
    public: Public,
}

enum Public {
    Rsa(Vec<u8>),
    Ed25519(Vec<u8>),
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der))
}

impl Key {
    fn ed25519() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
        Self::of(&pem(der.as_ref()), Public::Ed25519(pair.public_key().as_ref().to_vec()))
    }

    fn rsa() -> Self {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .unwrap();
        let text = String::from_utf8(made.stdout).unwrap();
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let pair = RsaKeyPair::from_pkcs8(&BASE64.decode(base64).unwrap()).unwrap();
        Self::of(&text, Public::Rsa(pair.public_key().as_ref().to_vec()))
    }

    fn of(text: &str, public: Public) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dkim.pem");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        Self { dir, public }
    }

    fn setting(&self) -> String {
        let path = self.dir.path().join("dkim.pem");
        format!(
            "dkim = {{ domain = \"example.org\", selector = \"s1\", key = \"file:{}\" }}",
            Path::new(&path).display()
        )
    }
}

/// The mail that a relay got: between DATA and the dot, dots no longer doubled.
async fn relayed(key: &Key, with: impl FnOnce(&mut channel_orchestrator::channels::Outbound)) -> String {
    let server = SmtpServer::start(Script::default()).await;
    let mut outbound = email("ada@example.com");
    with(&mut outbound);
    let driver = plain(server.port, &format!("tls = \"none\"\n{}", key.setting()));
    assert_eq!(attempt(&driver, &outbound).await, "accepted 4F2A");
    let heard = server.heard_text();
    let data = &heard[heard.find("DATA\r\n").unwrap() + 6..];
    data[..data.find("\r\n.\r\n").unwrap() + 2].replace("\r\n..", "\r\n.")
}

fn squeezed(text: &str) -> String {
    text.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Header fields in order, unfolded; and the body.
fn parsed(mail: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    let head = head.replace("\r\n ", " ").replace("\r\n\t", "\t");
    let fields = head.split("\r\n").map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.trim().to_lowercase(), value.to_owned())
    });
    (fields.collect(), body)
}

fn tags(value: &str) -> BTreeMap<String, String> {
    let tags = value.split(';').filter_map(|tag| tag.split_once('='));
    tags.map(|(name, value)| (name.trim().to_owned(), value.split_whitespace().collect())).collect()
}

/// Whether the signature holds; the tags where it does.
fn verified(mail: &str, public: &Public) -> Result<BTreeMap<String, String>, &'static str> {
    let (fields, body) = parsed(mail);
    let (_, own) = fields.iter().find(|(name, _)| name == "dkim-signature").ok_or("not signed")?;
    let tags = tags(own);
    let mut lines: Vec<String> = body.split("\r\n").map(|line| squeezed(&format!("x{line}x"))).collect();
    lines = lines.iter().map(|line| line[1..line.len() - 1].trim_end_matches(' ').to_owned()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    if BASE64.encode(digest(&SHA256, body.as_bytes())) != tags["bh"] {
        return Err("another body");
    }
    let mut bottom_up: Vec<&(String, String)> = fields.iter().rev().collect();
    let mut text = String::new();
    for name in tags["h"].split(':') {
        if let Some(at) = bottom_up.iter().position(|(known, _)| known == name) {
            let (name, value) = bottom_up.remove(at);
            text.push_str(&format!("{name}:{}\r\n", squeezed(value)));
        }
    }
    let without = &own[..own.rfind("b=").unwrap() + 2];
    text.push_str(&format!("dkim-signature:{}", squeezed(without)));
    let signature = BASE64.decode(&tags["b"]).map_err(|_| "no base64")?;
    let holds = match public {
        Public::Rsa(key) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(text.as_bytes(), &signature)
            .is_ok(),
        Public::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key)
            .verify(digest(&SHA256, text.as_bytes()).as_ref(), &signature)
            .is_ok(),
    };
    if holds { Ok(tags) } else { Err("another signature") }
}

#[tokio::test]
async fn mail_is_signed_as_its_receiver_verifies_it() {
    for (key, algorithm) in [(Key::rsa(), "rsa-sha256"), (Key::ed25519(), "ed25519-sha256")] {
        let mail = relayed(&key, |outbound| {
            outbound.unsubscribe = Some("https://example.org/u/0123456789abcdef".into());
            outbound.reply_to = Some("contact@example.org".into());
            outbound.content.subject = Some("Une très longue ligne d’objet, ".repeat(6));
            outbound.content.html = Some("<p>À  bientôt \t </p>\n\n\n".into());
            outbound.content.attachments = vec![Attachment {
                file_name: "plan.pdf".into(),
                content_type: "application/pdf".into(),
                bytes: vec![b'.'; 5_000],
            }];
        })
        .await;
        assert!(mail.starts_with("DKIM-Signature: v=1; "), "{mail}");
        let tags = verified(&mail, &key.public).unwrap_or_else(|why| panic!("{algorithm}: {why}\n{mail}"));
        for (tag, value) in [("a", algorithm), ("c", "relaxed/relaxed"), ("d", "example.org"), ("s", "s1")] {
            assert_eq!(tags[tag], value);
        }
        let signed: Vec<&str> = tags["h"].split(':').collect();
        for name in ["from", "to", "subject", "date", "message-id"] {
            assert_eq!(
                signed.iter().filter(|n| **n == name).count(),
                2,
                "{name} is signed once more: {signed:?}"
            );
        }
        for name in ["reply-to", "list-unsubscribe", "list-unsubscribe-post", "content-type"] {
            assert!(signed.contains(&name), "{name} in {signed:?}");
        }
        assert!(
            mail.split("\r\n").take_while(|line| !line.is_empty()).all(|line| line.len() <= 100),
            "{mail}"
        );
    }
}

#[tokio::test]
async fn what_is_changed_on_the_way_is_found_out_and_what_relays_may_do_is_not() {
    let key = Key::ed25519();
    let mail = relayed(&key, |outbound| {
        outbound.unsubscribe = Some("https://example.org/u/0123456789abcdef".into());
    })
    .await;
    verified(&mail, &key.public).unwrap();
    for (from, to) in [
        ("ada@example.com", "eve@example.com"),
        ("agence@example.org", "agence@example.net"),
        ("/u/0123", "/u/9999"),
        ("=One-Click", "=Two-Clicks"),
        ("Bonjour", "Bonsoir"),
        ("MIME-Version", "From: eve@example.net\r\nMIME-Version"),
        ("MIME-Version", "Subject: You have won\r\nMIME-Version"),
        ("s1;", "s2;"),
    ] {
        assert!(mail.contains(from), "{from:?} in {mail}");
        assert!(verified(&mail.replacen(from, to, 1), &key.public).is_err(), "{from} became {to}");
    }
    for (from, to) in [
        ("Subject: ", "Subject:  \t"),
        ("MIME-Version", "X-Virus: none\r\nMIME-Version"),
        ("Message-ID: ", "message-id:\r\n "),
    ] {
        verified(&mail.replacen(from, to, 1), &key.public).unwrap_or_else(|why| panic!("{to:?}: {why}"));
    }
    verified(&format!("{mail}\r\n\r\n"), &key.public).unwrap();
    assert!(verified(&mail, &Key::ed25519().public).is_err());
}

#[tokio::test]
async fn what_is_not_there_is_not_signed_and_an_empty_body_is() {
    let key = Key::ed25519();
    let mail = relayed(&key, |outbound| outbound.content.body = String::new()).await;
    let tags = verified(&mail, &key.public).unwrap_or_else(|why| panic!("{why}\n{mail}"));
    assert_eq!(tags["bh"], "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert!(!tags["h"].contains("list-unsubscribe"), "{tags:?}");
}
