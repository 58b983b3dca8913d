//! Telegram's Bot API: the requests as they leave, what every answer is taken for, and its webhook.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{
        Driver, Found, LookUp, Outbound, PrepareError,
        callback::{CallbackAnswer, CallbackRefused},
    },
    domain::{
        address::Address,
        channel::Channel,
        delivery::{ErrorClass, Outcome},
        receipt::{InboundMessage, ProviderEvent},
    },
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    attempt,
    chat::{
        Secrets, answer, call, cut_everywhere, events, expect_request, file, hostile_bodies, message, silence,
    },
    driver,
};
use crate::support::http_provider::{Act, HttpProvider};

const TOKEN: &str = "123456:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const TAKEN: &str =
    r#"{"ok":true,"result":{"message_id":7,"date":1,"chat":{"id":42,"type":"private"},"text":"x"}}"#;

fn to(chat: &str) -> Outbound {
    message(Channel::Telegram, Address::Chat(chat.into()))
}

fn telegram(port: u16, more: &str) -> (Arc<dyn Driver>, Secrets) {
    let secrets = Secrets::new();
    let toml = format!(
        "kind = \"telegram\"\ntoken = \"{}\"\nbase_url = \"http://127.0.0.1:{port}\"\n{more}\n\
         timeouts = {{ connect_seconds = 1, answer_seconds = 1 }}\n",
        secrets.keep("token", TOKEN)
    );
    (driver(&toml).unwrap(), secrets)
}

#[tokio::test]
async fn every_form_leaves_as_the_bot_api_documents_it() {
    let taken_in = |chat: i64| {
        answer(
            200,
            "",
            json!({ "ok": true, "result": { "message_id": 7, "chat": { "id": chat } } }).to_string(),
        )
    };
    let with = |chat: &str, attachment| {
        let mut outbound = to(chat);
        outbound.content.attachments = vec![attachment];
        outbound
    };
    let mut bare = with("42", file("photo.png", "image/png", 4));
    bare.content.body = String::new();
    let options = "link_previews = true\nprotect_content = true";
    for (name, outbound, more, chat, id) in [
        ("telegram_text", to("42"), "", 42, "123456:7"),
        ("telegram_text_options", to("-1001234"), options, -1_001_234, "123456:-1001234:7"),
        ("telegram_channel", to("@agence_dupont"), "", -100_777, "123456:-100777:7"),
        (
            "telegram_document",
            with("42", file("C:\\plan \"d’accès\".pdf", "application/pdf", 4)),
            "",
            42,
            "123456:7",
        ),
        ("telegram_photo", with("42", file("photo.jpg", "image/jpeg", 4)), options, 42, "123456:7"),
        ("telegram_photo_bare", bare, "", 42, "123456:7"),
    ] {
        let provider = HttpProvider::start(vec![taken_in(chat)]).await;
        let (driver, _secrets) = telegram(provider.port, more);
        assert_eq!(attempt(&driver, &outbound).await, format!("accepted {id}"), "{name}");
        expect_request(name, &provider.heard()[0]);
        assert_eq!(provider.heard().len(), 1, "{name}: one attempt is one message");
    }
}

#[tokio::test]
async fn what_telegram_would_refuse_is_refused_before_anything_leaves() {
    let provider = HttpProvider::start(vec![answer(200, "", TAKEN)]).await;
    let (driver, _secrets) = telegram(provider.port, "");
    type Change = fn(&mut Outbound);
    let cases: [(&str, &str, Change); 6] = [
        ("too long", "too_long", |o| o.content.body = "é".repeat(4097)),
        ("a caption too long", "too_long", |o| {
            o.content.body = "é".repeat(1025);
            o.content.attachments = vec![file("a.pdf", "application/pdf", 1)];
        }),
        ("two files", "attachments", |o| {
            o.content.attachments = vec![file("a.pdf", "a/b", 1), file("b.pdf", "a/b", 1)];
        }),
        ("an empty file", "attachments", |o| o.content.attachments = vec![file("a.pdf", "a/b", 0)]),
        ("HTML alone", "content", |o| {
            o.content.html = Some("<b>Bonjour</b>".into());
            o.content.body = "\n".into();
        }),
        ("a control character", "content", |o| o.content.body = "a\0b".into()),
    ];
    for (name, code, change) in cases {
        let mut outbound = to("42");
        change(&mut outbound);
        assert_eq!(attempt(&driver, &outbound).await, format!("early permanent {code}"), "{name}");
    }
    assert!(provider.heard().is_empty());
    // Code points count, as TDLib counts them: an emoji is one.
    let mut longest = to("42");
    longest.content.body = "👋".repeat(4096);
    assert_eq!(attempt(&driver, &longest).await, "accepted 123456:7");
}

#[derive(Deserialize)]
struct Table {
    errors: Vec<(u16, String, String)>,
    others: Vec<(u16, String, String)>,
}

#[tokio::test]
async fn every_answer_is_classified() {
    let table: Table = toml::from_str(include_str!("answers_telegram.toml")).unwrap();
    let errors = table.errors.into_iter().map(|(status, description, expected)| {
        let body = json!({ "ok": false, "error_code": status, "description": description });
        (status, body.to_string(), expected)
    });
    for (status, body, expected) in errors.chain(table.others) {
        let provider = HttpProvider::start(vec![answer(status, "Location: /x\r\n", &body)]).await;
        let (driver, _secrets) = telegram(provider.port, "");
        assert_eq!(attempt(&driver, &to("42")).await, expected, "{status} {body}");
        assert_eq!(provider.heard().len(), 1, "{status} {body}");
    }
}

#[tokio::test]
async fn what_is_no_answer_leaves_it_unknown() {
    let mut cases: Vec<(&str, Act)> =
        hostile_bodies().into_iter().map(|(name, body)| (name, answer(200, "", body))).collect();
    cases.push(("dropped", silence()));
    cases.push(("silent", Act::Hang));
    cases.push(("cut", Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"ok\":true".to_vec())));
    for (name, say) in cases {
        let provider = HttpProvider::start(vec![say]).await;
        let (driver, _secrets) = telegram(provider.port, "");
        assert_eq!(attempt(&driver, &to("42")).await, "unknown", "{name}");
        assert_eq!(provider.heard().len(), 1, "{name}: one attempt is one call");
    }
    let (driver, _secrets) = telegram(1, "");
    let asked = LookUp {
        outbound: to("42"),
        started_at: chrono::DateTime::UNIX_EPOCH,
        ended_at: chrono::DateTime::UNIX_EPOCH,
    };
    assert!(matches!(driver.look_up(&asked).await, Found::CannotTell(_)));
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_no_answer() {
    let cuts = cut_everywhere(&answer(200, "", TAKEN));
    let count = cuts.len();
    let provider = HttpProvider::start(cuts).await;
    let (driver, _secrets) = telegram(provider.port, "");
    for at in 0..count {
        assert_eq!(attempt(&driver, &to("42")).await, "unknown", "cut after {at} of {count}");
    }
    assert_eq!(provider.heard().len(), count);
}

#[tokio::test]
async fn a_flood_wait_is_handed_on() {
    for (more, parameters, expected) in [
        ("", json!({ "retry_after": 7 }), Some(7)),
        ("Retry-After: 9\r\n", json!({ "retry_after": 7 }), Some(9)),
        ("", json!({ "retry_after": 1_000_000_000_000_u64 }), Some(u32::MAX)),
        // A flood without a readable wait still asks for patience: the shortest.
        ("", json!({ "retry_after": -1 }), Some(1)),
        ("", json!({ "retry_after": "7" }), Some(1)),
        ("", json!(null), Some(1)),
    ] {
        let body = json!({ "ok": false, "error_code": 429, "description": "Too Many Requests", "parameters": parameters });
        let provider = HttpProvider::start(vec![answer(429, more, body.to_string())]).await;
        let (driver, _secrets) = telegram(provider.port, "");
        let outcome = driver.prepare(&to("42")).await.unwrap().send().await;
        let Outcome::Failed { error, retry_after_seconds } = outcome else { panic!("{outcome:?}") };
        assert_eq!((error.class, retry_after_seconds), (ErrorClass::Temporary, expected), "{parameters}");
    }
}

#[tokio::test]
async fn the_token_is_shown_nowhere() {
    let secret = TOKEN.split_once(':').unwrap().1;
    let body = json!({ "ok": false, "description": format!("no bot at /bot{TOKEN}/sendMessage, {secret}"),
        "parameters": { "migrate_to_chat_id": -100_123 } });
    let provider = HttpProvider::start(vec![answer(400, "", body.to_string()), silence(), Act::Hang]).await;
    let (driver, _secrets) = telegram(provider.port, "");
    let mut shown = format!("{driver:?}");
    for _ in 0..3 {
        let Outcome::Failed { error, .. } = driver.prepare(&to("42")).await.unwrap().send().await else {
            panic!()
        };
        shown.push_str(&format!("\n{error:?}"));
    }
    drop(provider);
    let Err(PrepareError { error, .. }) = driver.prepare(&to("42")).await else { panic!() };
    shown.push_str(&format!("\n{error:?}"));
    assert!(!shown.contains(secret), "{shown}");
    assert!(shown.contains("no bot at /bot…/sendMessage, …: the group has become a supergroup"), "{shown}");
    assert_eq!(shown.lines().count(), 5);
}

#[test]
fn settings_that_cannot_work_are_refused_in_words() {
    let secrets = Secrets::new();
    let good = secrets.keep("good", TOKEN);
    let bad = secrets.keep("bad", "123456:AA/../getMe");
    let spaced = secrets.keep("spaced", "deux mots");
    let with = |token: &str, more: &str| {
        driver(&format!("kind = \"telegram\"\ntoken = \"{token}\"\n{more}\n")).err().unwrap_or_default()
    };
    assert_eq!(with(&good, ""), "");
    for (token, more, expected) in [
        ("hunter2", String::new(), "env:NAME"),
        (bad.as_str(), String::new(), "not a bot's token"),
        (&spaced, String::new(), "not a bot's token"),
        (&good, format!("webhook_secret = \"{spaced}\""), "webhook_secret: Telegram takes 1 to 256"),
        (&good, format!("webhook_secret_previous = \"{bad}\""), "webhook_secret is missing"),
        (&good, "base_url = \"http://api.example.org\"".into(), "https://"),
        (&good, "parse_mode = \"HTML\"".into(), "unknown field `parse_mode`"),
    ] {
        let refusal = with(token, &more);
        assert!(refusal.contains(expected), "{more}: {refusal}");
        assert!(!refusal.contains("AA/.."), "{refusal}");
    }
}

const HEADER: &str = "x-telegram-bot-api-secret-token";

/// A bot whose webhook is being changed from `old-secret` to `new_secret`.
fn hooked() -> (Arc<dyn Driver>, Secrets) {
    let secrets = Secrets::new();
    let toml = format!(
        "kind = \"telegram\"\ntoken = \"{}\"\nwebhook_secret = \"{}\"\nwebhook_secret_previous = \"{}\"\n\
         base_url = \"http://127.0.0.1:1\"\n",
        secrets.keep("token", TOKEN),
        secrets.keep("new", "new_secret"),
        secrets.keep("old", "old-secret")
    );
    (driver(&toml).unwrap(), secrets)
}

fn said(update: &Value) -> Result<CallbackAnswer, CallbackRefused> {
    let (driver, _secrets) = hooked();
    call(&driver, "POST", "", &[(HEADER, "new_secret")], update.to_string().as_bytes())
}

#[test]
fn only_the_secret_opens_the_webhook() {
    let (driver, _secrets) = hooked();
    let body = br#"{"update_id":1}"#;
    for secret in ["new_secret", "old-secret"] {
        assert_eq!(events(call(&driver, "POST", "", &[(HEADER, secret)], body)), []);
        for at in 0..secret.len() * 8 {
            let mut flipped = secret.as_bytes().to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            let Ok(flipped) = String::from_utf8(flipped) else { continue };
            let read = call(&driver, "POST", "", &[(HEADER, &flipped)], body);
            assert_eq!(read, Err(CallbackRefused::NotVerified), "{flipped}");
        }
    }
    let refused = Err(CallbackRefused::NotVerified);
    assert_eq!(call(&driver, "POST", "", &[], body), refused);
    for wrong in ["", "new_secre", "new_secret ", "new_secretnew_secret", TOKEN] {
        assert_eq!(call(&driver, "POST", "", &[(HEADER, wrong)], body), refused, "{wrong}");
    }
    assert_eq!(call(&driver, "GET", "", &[(HEADER, "new_secret")], body), refused);
    let (without, _secrets) = telegram(1, "");
    assert!(without.callbacks().is_none(), "no secret, no callbacks");
}

#[test]
fn what_people_write_to_the_bot_is_inbound() {
    let inbound = |chat: &str, text: &str, answers: Option<&str>| {
        ProviderEvent::Inbound(InboundMessage {
            channel: Channel::Telegram,
            provider_message_id: "123456:update:1001".into(),
            from: chat.into(),
            to: "123456".into(),
            text: text.into(),
            at: chrono::DateTime::from_timestamp(1_750_000_000, 0),
            answers: answers.map(str::to_owned),
        })
    };
    let wrote = |kind: &str, chat: i64, more: Value| {
        let of = if chat > 0 { "private" } else { "supergroup" };
        let mut message = json!({ "message_id": 9, "date": 1_750_000_000, "chat": { "id": chat, "type": of },
            "from": { "id": 42, "is_bot": false, "first_name": "Marie" } });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        events(said(&json!({ "update_id": 1001, kind: message })))
    };
    for (text, read) in [
        ("Arrêt", "Arrêt"),
        ("/stop", "stop"),
        (" /STOP@co_test_bot please", "STOP"),
        ("/start ref_123", "start"),
        ("/", ""),
        ("1/2", "1/2"),
    ] {
        assert_eq!(wrote("message", 42, json!({ "text": text })), [inbound("42", read, None)], "{text}");
    }
    let caption = json!({ "caption": "stop", "photo": [] });
    assert_eq!(wrote("message", 42, caption), [inbound("42", "stop", None)]);
    assert_eq!(wrote("message", 42, json!({ "sticker": {} })), [inbound("42", "", None)]);
    assert_eq!(wrote("edited_message", 42, json!({ "text": "STOP" })), [inbound("42", "STOP", None)]);
    let answering =
        |from: i64| json!({ "text": "oui", "reply_to_message": { "message_id": 7, "from": { "id": from } } });
    assert_eq!(wrote("message", 42, answering(123_456)), [inbound("42", "oui", Some("123456:7"))]);
    // In a group people talk to each other: only what is said to the bot is for us.
    assert_eq!(wrote("message", -100, answering(123_456)), [inbound("-100", "oui", Some("123456:-100:7"))]);
    assert_eq!(
        wrote("message", -100, json!({ "text": "/stop@co_test_bot" })),
        [inbound("-100", "stop", None)]
    );
    assert_eq!(wrote("message", -100, json!({ "text": "stop" })), []);
    assert_eq!(wrote("message", -100, answering(42)), []);
    assert_eq!(events(said(&json!({ "update_id": 1001, "poll": { "id": "1" } }))), []);
}

#[test]
fn whoever_blocks_the_bot_is_told_apart_from_who_comes_back() {
    let change = |status: &str| {
        events(said(&json!({ "update_id": 1, "my_chat_member": { "chat": { "id": 42, "type": "private" },
            "from": { "id": 42 }, "date": 1, "old_chat_member": { "status": "member" },
            "new_chat_member": { "status": status, "user": { "id": 123_456 } } } })))
    };
    let is = |blocked| ProviderEvent::Blocked { channel: Channel::Telegram, address: "42".into(), blocked };
    assert_eq!(change("kicked"), [is(true)]);
    assert_eq!(change("left"), [is(true)]);
    assert_eq!(change("member"), [is(false)]);
    assert_eq!(change("administrator"), [is(false)]);
    assert_eq!(change("restricted"), []);
    for broken in [
        json!({}),
        json!([]),
        json!({ "update_id": "1" }),
        json!({ "update_id": 1, "message": 7 }),
        json!({ "update_id": 1, "message": { "chat": {} } }),
        json!({ "update_id": 1, "my_chat_member": { "chat": { "id": 42 } } }),
    ] {
        assert!(matches!(said(&broken), Err(CallbackRefused::Unreadable(_))), "{broken}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_without_the_secret_is_read(body in any::<Vec<u8>>(), secret in "[A-Za-z0-9_-]{0,40}") {
        prop_assume!(secret != "new_secret" && secret != "old-secret");
        let (driver, _secrets) = hooked();
        let read = call(&driver, "POST", "", &[(HEADER, &secret)], &body);
        prop_assert_eq!(read, Err(CallbackRefused::NotVerified));
    }

    #[test]
    fn no_body_breaks_the_reader(body in any::<Vec<u8>>(), text in any::<String>(), chat in any::<i64>()) {
        let (driver, _secrets) = hooked();
        let read = call(&driver, "POST", "", &[(HEADER, "old-secret")], &body);
        prop_assert!(!matches!(read, Err(CallbackRefused::NotVerified)));
        let update = json!({ "update_id": 1, "message": { "chat": { "id": chat, "type": "private" }, "text": text } });
        prop_assert_eq!(events(said(&update)).len(), 1);
    }
}
