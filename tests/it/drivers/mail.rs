//! The email itself: parts, encodings, names, and what is refused before it is written.

use channel_orchestrator::{
    channels::{Outbound, mime},
    domain::message::Attachment,
};
use chrono::DateTime;
use proptest::prelude::*;

use super::email;

fn written(outbound: &Outbound) -> Result<String, String> {
    let from = mime::mailbox("from", "no-reply@example.org", Some("Orchestrator")).unwrap();
    let mail = mime::build(outbound, &from, DateTime::UNIX_EPOCH)?;
    Ok(String::from_utf8(mail.bytes).expect("an email is ASCII"))
}

fn file(file_name: &str, content_type: &str) -> Attachment {
    Attachment {
        file_name: file_name.into(),
        content_type: content_type.into(),
        bytes: b"%PDF-1.4\r\n.\n".to_vec(),
    }
}

#[test]
fn text_html_and_attachments_nest_as_mail_programs_expect() {
    let mut outbound = email("ada@example.com");
    outbound.reply_to = Some("contact@example.org".into());
    outbound.content.html = Some("<p>Bonjour</p>".into());
    outbound.content.attachments = vec![file("plan d’accès.pdf", "application/pdf")];
    let mail = written(&outbound).unwrap();
    let at = |text: &str| mail.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{mail}"));
    assert!(at("Content-Type: multipart/mixed") < at("Content-Type: multipart/alternative"));
    assert!(at("text/plain") < at("text/html"));
    assert!(at("text/html") < at("application/pdf"));
    for header in [
        "MIME-Version: 1.0\r\n",
        "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n",
        "To: \"Ada Lovelace\" <ada@example.com>\r\n",
        "Reply-To: contact@example.org\r\n",
        "Subject: Visite =?utf-8?",
        "Content-Transfer-Encoding: quoted-printable\r\n",
        "Content-Transfer-Encoding: base64\r\n",
    ] {
        assert!(mail.contains(header), "no {header:?} in\n{mail}");
    }
    assert!(mail.contains("<agence@example.org>\r\n"), "{mail}");
    for bad in ["Content-Transfer-Encoding: 7bit\r\n\r\n", "8bit"] {
        assert!(!mail.contains(bad), "{bad:?} in\n{mail}");
    }
}

#[test]
fn a_message_has_the_same_id_at_every_attempt() {
    let mut outbound = email("ada@example.com");
    let id = format!("Message-ID: <{}@example.org>\r\n", outbound.message);
    for attempt in 1..=3 {
        outbound.attempt_number = attempt;
        outbound.attempt = Default::default();
        assert!(written(&outbound).unwrap().contains(&id));
    }
}

#[test]
fn the_operator_writes_where_the_tenant_names_nobody() {
    let mut outbound = email("ada@example.com");
    outbound.from = None;
    outbound.from_name = None;
    assert!(written(&outbound).unwrap().contains("From: Orchestrator <no-reply@example.org>\r\n"));
    outbound.from_name = Some("Agence".into());
    assert!(written(&outbound).unwrap().contains("From: Agence <no-reply@example.org>\r\n"));
}

#[test]
fn marketing_can_be_left_with_one_click_and_only_over_https() {
    let mut outbound = email("ada@example.com");
    assert!(!written(&outbound).unwrap().contains("List-Unsubscribe"));
    // Long enough that it would be folded or encoded, were it a text.
    let url = format!("https://example.org/u/{}?x=1&y=%20", "t0k-".repeat(60));
    outbound.unsubscribe = Some(url.clone());
    let mail = written(&outbound).unwrap();
    assert!(mail.contains(&format!("\r\nList-Unsubscribe: <{url}>\r\n")), "{mail}");
    assert!(mail.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"), "{mail}");
    outbound.unsubscribe = Some("http://localhost/u/x".into());
    let mail = written(&outbound).unwrap();
    assert!(mail.contains("<http://localhost/u/x>") && !mail.contains("One-Click"), "{mail}");
    for bad in [
        "mailto:a@b.c",
        "https://x/\r\nBcc: eve@b.c",
        "https://x/>,<https://y",
        "https://é.org",
        "https://a b",
    ] {
        outbound.unsubscribe = Some(bad.into());
        let refusal = written(&outbound).unwrap_err();
        assert!(refusal.contains("unsubscribing") && !refusal.contains("eve"), "{refusal}");
    }
    outbound.unsubscribe = Some(format!("https://x/{}", "a".repeat(1_000)));
    written(&outbound).unwrap_err();
}

#[test]
fn hostile_file_names_lose_their_folders() {
    for (name, expected) in [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("..", "attachment"),
        ("", "attachment"),
        (".htaccess", "htaccess"),
        ("a\r\nBcc: x@y.z", "aBcc x@y.z"),
        ("file:///etc/shadow", "shadow"),
        ("plan\"; name=\"x.exe", "plan; name=x.exe"),
        ("été.pdf", "été.pdf"),
    ] {
        assert_eq!(mime::file_name(name), expected, "{name:?}");
    }
    assert_eq!(mime::file_name(&"a".repeat(500)).len(), 120);
}

#[test]
fn a_type_that_base64_may_not_have_becomes_plain_bytes() {
    for hostile in ["message/rfc822", "multipart/mixed; boundary=x", "text/html\r\nBcc: a@b.c", "", "x"] {
        let mut outbound = email("ada@example.com");
        outbound.content.attachments = vec![file("a.bin", hostile)];
        let mail = written(&outbound).unwrap();
        assert!(mail.contains("Content-Type: application/octet-stream\r\n"), "{hostile:?}\n{mail}");
        assert!(!mail.contains("Bcc"), "{mail}");
    }
}

#[test]
fn control_characters_are_refused_with_the_place() {
    let base = email("ada@example.com");
    type Set = fn(&mut Outbound, String);
    let cases: [(&str, Set); 6] = [
        ("the subject", |o, text| o.content.subject = Some(text)),
        ("the recipient's name", |o, text| o.to_name = Some(text)),
        ("the sender's name", |o, text| o.from_name = Some(text)),
        ("the text", |o, text| o.content.body = text),
        ("the html", |o, text| o.content.html = Some(text)),
        ("the reply-to address", |o, text| o.reply_to = Some(text)),
    ];
    for (place, set) in cases {
        for control in ["\0", "\u{1b}", "\u{7f}", "\u{85}"] {
            let mut outbound = base.clone();
            set(&mut outbound, format!("a{control}b"));
            let refusal = written(&outbound).unwrap_err();
            assert!(refusal.contains(place), "{place} {control:?}: {refusal}");
        }
    }
    for control in ["\r", "\n", "\r\nBcc: eve@example.com"] {
        let mut outbound = base.clone();
        outbound.content.subject = Some(format!("a{control}"));
        assert!(written(&outbound).unwrap_err().contains("the subject"), "{control:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the texts are, building panics never, and what is built has only the headers that we wrote.
    #[test]
    fn no_text_breaks_out_of_its_place(
        subject in any::<String>(), name in any::<String>(), body in any::<String>(),
        html in proptest::option::of(any::<String>()), file_name in any::<String>(),
        content_type in "[ -~]{0,40}",
    ) {
        let mut outbound = email("ada@example.com");
        outbound.content.subject = Some(subject);
        outbound.to_name = Some(name);
        outbound.content.body = body;
        outbound.content.html = html;
        outbound.content.attachments = vec![file(&file_name, &content_type)];
        if let Ok(mail) = written(&outbound) {
            let bare = mail.replace("\r\n", "");
            prop_assert!(!bare.contains(['\r', '\n']));
            let head = mail.split("\r\n\r\n").next().unwrap();
            let mut names: Vec<&str> = head
                .split("\r\n")
                .filter(|line| !line.starts_with([' ', '\t']))
                .map(|line| line.split(':').next().unwrap())
                .collect();
            names.sort_unstable();
            names.retain(|name| *name != "Subject");
            prop_assert_eq!(
                names,
                ["Content-Type", "Date", "From", "MIME-Version", "Message-ID", "To"]
            );
        }
    }
}
