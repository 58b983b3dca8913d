//! Mail that came back, read: what Postfix itself wrote (`tests/it/returned/postfix_*`, recorded with 3.7), what Exim,
//! Exchange and mailboxes write, and what only looks like it.

use channel_orchestrator::{
    channels::returned::{RETURN_TOKEN_CHARACTERS, Report, ReturnTokens, read},
    domain::ids::AttemptId,
    tracking::TokenKey,
};
use proptest::prelude::*;

use super::{
    attempt, driver, email, plain,
    smtp_server::{Script, SmtpServer},
};

/// A recorded mail, to the address of this token.
pub fn recorded(name: &str, token: &str) -> String {
    let path = format!("{}/tests/it/returned/{name}.eml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().replace("{TOKEN}", token)
}

fn key() -> TokenKey {
    TokenKey::new(&[7; 32])
}

/// `bounced`, `delayed`, with class and code; or a word.
fn shown(report: &Report) -> String {
    match report {
        Report::Bounced(error) => {
            let hard = if error.says_no_such_mailbox() { " for good" } else { "" };
            format!("bounced {:?} {}{hard}", error.class, error.code.as_deref().unwrap_or("-"))
        }
        Report::Delayed(error) => format!("delayed {}", error.code.as_deref().unwrap_or("-")),
        Report::Complained => "complained".to_owned(),
        Report::Nothing(_) => "nothing".to_owned(),
    }
}

const MAILS: [(&str, &str); 11] = [
    ("postfix_failed", "bounced Permanent 5.3.0"),
    ("postfix_no_mailbox", "bounced Permanent 5.1.1 for good"),
    ("postfix_delayed", "delayed 4.3.0"),
    ("postfix_gave_up", "bounced Temporary 4.3.0"),
    ("exim_no_mailbox", "bounced Permanent 5.1.1 for good"),
    ("exchange_full", "bounced Permanent 5.2.2"),
    ("complaint", "complained"),
    ("not_spam", "nothing"),
    ("absence", "nothing"),
    ("read_receipt", "nothing"),
    ("delivered", "nothing"),
];

#[test]
fn what_mail_systems_write_is_read_and_nothing_else() {
    let attempt = AttemptId::new();
    for (name, expected) in MAILS {
        let mail = read(recorded(name, &key().returned(attempt)).as_bytes(), None);
        assert_eq!(shown(&mail.report), expected, "{name}");
        let ours: Vec<AttemptId> = mail.tokens.iter().filter_map(|t| key().read_returned(t)).collect();
        assert_eq!(ours, [attempt], "{name}: {:?}", mail.tokens);
        assert!(mail.at.is_some(), "{name}");
    }
    let why = |name: &str| match read(recorded(name, "x").as_bytes(), None).report {
        Report::Bounced(error) | Report::Delayed(error) => error.detail,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(why("postfix_failed"), "500 5.3.0 Error: command failed");
    assert_eq!(
        why("exim_no_mailbox"),
        "550 5.1.1 <marie@example.net>: Recipient address rejected: User unknown"
    );
}

/// The address that the mail server was asked to deliver to counts before what the mail says of itself.
#[test]
fn the_token_is_found_wherever_mail_systems_leave_it() {
    let (attempt, other) = (AttemptId::new(), AttemptId::new());
    let (token, second) = (key().returned(attempt), key().returned(other));
    let find = |mail: &str, to: Option<&str>| {
        let mail = read(mail.as_bytes(), to);
        mail.tokens.iter().find_map(|t| key().read_returned(t))
    };
    let named = format!("bounces+{token}@agence.example");
    assert_eq!(find("Subject: x\r\n\r\nbody", Some(&named)), Some(attempt));
    assert_eq!(find(&recorded("postfix_failed", &second), Some(&named)), Some(attempt));
    for (header, value) in [
        ("Delivered-To", format!("bounces+{token}@agence.example")),
        ("To", format!("\"Bounces\" <BOUNCES+{}@AGENCE.EXAMPLE>", token.to_uppercase())),
        ("X-Original-To", format!("prvs=0123=bounces+{token}@agence.example")),
        ("To", format!("SRS0=ab=cd=agence.example=bounces={token}@forwarder.example")),
    ] {
        let mail = format!("Subject: x\r\n{header}: {value}\r\n\r\nbody");
        assert_eq!(find(&mail, None), Some(attempt), "{header}: {value}");
    }
    // Somewhere in the text is nowhere.
    assert_eq!(find(&format!("Subject: x\r\n\r\nbounces+{token}@agence.example"), None), None);
}

#[test]
fn only_our_key_makes_tokens_and_each_has_one_spelling() {
    let attempt = AttemptId::new();
    let token = key().returned(attempt);
    assert_eq!(token.len(), RETURN_TOKEN_CHARACTERS);
    assert_eq!(key().read_returned(&token), Some(attempt));
    assert_eq!(key().read_returned(&token.to_uppercase()), Some(attempt), "mail systems change the case");
    assert_eq!(TokenKey::new(&[8; 32]).read_returned(&token), None);
    for at in 0..token.len() {
        for letter in "abcdefghijklmnopqrstuvwxyz234567018+".chars() {
            let mut forged: Vec<char> = token.chars().collect();
            forged[at] = letter;
            let forged: String = forged.into_iter().collect();
            assert_eq!(key().read_returned(&forged).is_some(), forged == token, "{forged}");
        }
    }
    for forged in ["", "a", &token[1..], &format!("{token}a"), &"a".repeat(45), &"7".repeat(45)] {
        assert_eq!(key().read_returned(forged), None, "{forged}");
    }
}

/// Cut anywhere, a mail says what it says or nothing: never more.
#[test]
fn a_mail_that_is_cut_off_says_no_more_than_the_whole() {
    for (name, expected) in MAILS {
        let whole = recorded(name, &key().returned(AttemptId::new()));
        for end in (0..whole.len()).step_by(7) {
            let told = shown(&read(&whole.as_bytes()[..end], None).report);
            let class = |text: &str| text.split(' ').next().unwrap().to_owned();
            assert!(told == "nothing" || class(&told) == class(expected), "{name} at {end}: {told}");
        }
    }
}

proptest! {
    #[test]
    fn no_mail_is_too_strange_to_read(
        name in 0..MAILS.len(),
        cuts in prop::collection::vec((0_usize..4_000, 0_usize..200, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let mut mail = recorded(MAILS[name].0, "x").into_bytes();
        for (at, length, with) in cuts {
            let at = at.min(mail.len());
            let end = (at + length).min(mail.len());
            mail.splice(at..end, with);
        }
        read(&mail, None);
    }

    #[test]
    fn nothing_that_is_no_token_of_ours_is_taken_for_one(text in "[a-z2-7]{45}") {
        prop_assert_eq!(key().read_returned(&text), None);
    }
}

#[tokio::test]
async fn the_envelope_alone_names_the_mailbox_of_what_comes_back() {
    let server = SmtpServer::start(Script::default()).await;
    let bounces = "tls = \"none\"\nbounces = { address = \"bounces@agence.example\" }";
    let mut outbound = email("ada@example.com");
    let token = key().returned(outbound.attempt);
    outbound.return_token = Some(token.clone());
    assert_eq!(attempt(&plain(server.port, bounces), &outbound).await, "accepted 4F2A");
    let heard = server.heard_text();
    assert!(heard.contains(&format!("MAIL FROM:<bounces+{token}@agence.example>")), "{heard}");
    assert_eq!(heard.matches(&token).count(), 1, "{heard}");
    assert!(heard.contains("<agence@example.org>\r\n"), "the sender is who writes: {heard}");
    // Without the setting, as ever.
    let server = SmtpServer::start(Script::default()).await;
    attempt(&plain(server.port, "tls = \"none\""), &outbound).await;
    assert!(server.heard_text().contains("MAIL FROM:<agence@example.org>"));
}

#[test]
fn a_mailbox_that_has_no_room_for_a_token_is_refused_in_words() {
    let smtp = |more: &str| {
        driver(&format!(
            "kind = \"smtp\"\nhost = \"mail.example.org\"\nfrom = \"a@example.org\"\nbounces = {more}"
        ))
        .err()
        .unwrap_or_default()
    };
    assert_eq!(smtp("{ address = \"mailbox-of-bounces@agence.example\" }"), "");
    assert_eq!(smtp("{ address = \"b@agence.example\", delimiter = \"-\", maildir = \"/var/mail/b\" }"), "");
    for (bounces, expected) in [
        ("{ address = \"bounces\" }", "is not an email address"),
        ("{ address = \"a-mailbox-of-bounces-\" }", "is not an email address"),
        (
            "{ address = \"the-mailbox-of-returned-mail@agence.example\" }",
            "at most 18 characters before the @",
        ),
        ("{ address = \"b@agence.example\", delimiter = \"@\" }", "is not one of"),
        ("{ address = \"b@agence.example\", mail_dir = \"/x\" }", "unknown field `mail_dir`"),
    ] {
        let refusal = smtp(bounces);
        assert!(refusal.contains(expected), "{bounces}: {refusal}");
    }
}
