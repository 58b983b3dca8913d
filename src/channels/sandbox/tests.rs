//! What each magic address and each played fault comes to.

use std::sync::Arc;

use chrono::DateTime;

use super::*;
use crate::domain::{
    address::Address,
    ids::{AttemptId, MessageId, TenantId},
    message::{Content, MessageClass},
    time::ManualClock,
};

fn outbound(channel: Channel, to: &str, attempt_number: u16) -> Outbound {
    let to = match channel {
        Channel::Sms | Channel::WhatsApp => Address::Phone(to.into()),
        Channel::Email => Address::Email(to.into()),
        Channel::Telegram => Address::Chat(to.into()),
    };
    Outbound {
        message: MessageId::new(),
        attempt: AttemptId::new(),
        attempt_number,
        channel,
        to,
        to_name: Some("Ada Lovelace".into()),
        from: None,
        from_name: None,
        reply_to: None,
        content: Content { body: "Bonjour".into(), ..Content::default() },
        class: MessageClass::Transactional,
        locale: None,
        tenant: TenantId::parse("tenant_123").unwrap(),
        deadline: chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap(),
        status_callback: None,
        return_token: None,
        unsubscribe: None,
        approved_template: None,
        in_service_window: false,
    }
}

fn sandbox(dir: &Path, settings: SandboxSettings) -> Sandbox {
    Sandbox::new("sandbox", settings, dir.join("outbox"), Arc::new(ManualClock::new(DateTime::UNIX_EPOCH)))
}

/// The class and code of a failure, `accepted` otherwise.
async fn attempt(sandbox: &Sandbox, outbound: &Outbound) -> String {
    let failed = |error: AttemptError| {
        let class = serde_json::to_value(error.class).unwrap();
        format!("{} {}", class.as_str().unwrap(), error.code.unwrap_or_default())
    };
    match sandbox.prepare(outbound).await {
        Err(PrepareError { error, .. }) => failed(error),
        Ok(prepared) => match prepared.send().await {
            Outcome::Accepted { .. } => "accepted".into(),
            Outcome::Failed { error, .. } => failed(error),
        },
    }
}

const MAGIC: &[(Channel, &str, u16, &str)] = &[
    (Channel::Sms, "+15005550006", 1, "accepted"),
    (Channel::Sms, "+33612345678", 1, "accepted"),
    (Channel::Sms, "+15005550001", 1, "permanent 21211"),
    (Channel::Sms, "+15005550002", 1, "permanent 21612"),
    (Channel::Sms, "+15005550003", 1, "permanent 21408"),
    (Channel::Sms, "+15005550004", 1, "permanent 21610"),
    (Channel::WhatsApp, "+15005550009", 1, "permanent 21614"),
    (Channel::Email, "ada@example.com", 1, "accepted"),
    (Channel::Email, "perm550@example.com", 1, "permanent 550"),
    (Channel::Email, "perm552-x@example.com", 1, "permanent 552"),
    (Channel::Email, "temp451@example.com", 9, "temporary 451"),
    (Channel::Email, "data554@example.com", 1, "permanent 554"),
    (Channel::Email, "data451@example.com", 1, "temporary 451"),
    (Channel::Email, "flaky2@example.com", 1, "temporary 451 4.7.1"),
    (Channel::Email, "flaky2@example.com", 2, "temporary 451 4.7.1"),
    (Channel::Email, "flaky2@example.com", 3, "accepted"),
    (Channel::Email, "greylist@example.com", 1, "temporary 451 4.7.1"),
    (Channel::Email, "greylist@example.com", 2, "accepted"),
    (Channel::Email, "drop-rcpt@example.com", 1, "not_sent "),
    (Channel::Email, "drop-dot@example.com", 1, "unknown "),
    (Channel::Email, "perm999@example.com", 1, "accepted"),
    (Channel::Email, "permanent@example.com", 1, "accepted"),
    (Channel::Telegram, "403", 1, "permanent 403"),
    (Channel::Telegram, "404", 1, "permanent 404"),
    (Channel::Telegram, "429", 1, "temporary 429"),
    (Channel::Telegram, "123456789", 1, "accepted"),
];

#[tokio::test]
async fn magic_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path(), SandboxSettings::default());
    for (channel, to, number, expected) in MAGIC {
        let outbound = outbound(*channel, to, *number);
        assert_eq!(attempt(&sandbox, &outbound).await, *expected, "{channel} {to} {number}");
        // A file is there if and only if the message was taken.
        let file = dir.path().join(format!("outbox/{channel}/{}-{number}.json", outbound.message));
        let taken = *expected == "accepted" || expected.starts_with("unknown");
        assert_eq!(file.exists(), taken, "{channel} {to} {number}");
    }
}

#[tokio::test]
async fn a_flood_says_how_long_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path(), SandboxSettings::default());
    let prepared = sandbox.prepare(&outbound(Channel::Telegram, "429", 1)).await.unwrap();
    let Outcome::Failed { retry_after_seconds, .. } = prepared.send().await else { panic!("taken") };
    assert_eq!(retry_after_seconds, Some(30));
}

#[tokio::test]
async fn a_well_formed_number_is_refused_when_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SandboxSettings {
        refuse: vec!["+33612345678".into()],
        channels: vec![Channel::Sms],
        ..SandboxSettings::default()
    };
    let sandbox = sandbox(dir.path(), settings);
    for (channel, to, expected) in [
        (Channel::Sms, "+33612345678", "permanent 21211"),
        (Channel::Sms, "+33612345679", "accepted"),
        (Channel::WhatsApp, "+33612345678", "accepted"),
    ] {
        assert_eq!(attempt(&sandbox, &outbound(channel, to, 1)).await, expected, "{channel} {to}");
    }
}

#[tokio::test]
async fn faults_are_played_from_the_control_file_while_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path(), SandboxSettings::default());
    let control = dir.path().join("outbox/faults.toml");
    fs::create_dir_all(control.parent().unwrap()).unwrap();
    for (text, expected) in [
        ("fail = \"permanent\"", "permanent sandbox"),
        ("fail = \"temporary\"", "temporary sandbox"),
        ("fail = \"not_sent\"", "not_sent sandbox"),
        ("fail = \"misconfigured\"", "misconfigured sandbox"),
        ("fail = \"unknown\"", "unknown "),
        ("fail = \"unknown\"\nchannels = [\"email\"]", "accepted"),
        ("fail = \"never\"", "not_sent sandbox"),
        ("delay_milliseconds = 1", "accepted"),
    ] {
        fs::write(&control, text).unwrap();
        assert_eq!(attempt(&sandbox, &outbound(Channel::Sms, "+33612345678", 1)).await, expected, "{text}");
    }
    fs::remove_file(&control).unwrap();
    assert_eq!(attempt(&sandbox, &outbound(Channel::Sms, "+33612345678", 1)).await, "accepted");
}

#[tokio::test]
async fn an_email_is_written_as_it_would_be_sent() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = sandbox(dir.path(), SandboxSettings::default());
    let mut outbound = outbound(Channel::Email, "ada@example.com", 2);
    outbound.from = Some("agence@example.org".into());
    assert_eq!(attempt(&sandbox, &outbound).await, "accepted");
    let stem = dir.path().join(format!("outbox/email/{}-2", outbound.message));
    let eml = fs::read_to_string(stem.with_extension("eml")).unwrap();
    assert!(eml.contains("From: agence@example.org\r\n"), "{eml}");
    assert!(eml.contains(&format!("Message-ID: <{}@example.org>\r\n", outbound.message)), "{eml}");
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(stem.with_extension("json")).unwrap()).unwrap();
    assert_eq!(json["messageId"], outbound.message.to_string());
    assert_eq!((&json["attempt"], &json["body"]), (&2.into(), &"Bonjour".into()));
    // Nothing half written is left behind.
    let left: Vec<_> = fs::read_dir(stem.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
