//! WhatsApp through Meta: the requests as they leave, and what every answer is taken for.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{Driver, Found, LookUp, Outbound, PrepareError},
    domain::{
        address::Address,
        channel::Channel,
        delivery::{ApprovedTemplate, ErrorClass, Outcome},
    },
};
use serde::Deserialize;

use super::{
    attempt,
    chat::{Secrets, answer, cut_everywhere, expect_request, file, hostile_bodies, message, silence},
    driver,
};
use crate::support::http_provider::{Act, HttpProvider};

const TAKEN: &str = r#"{"messaging_product":"whatsapp","contacts":[{"input":"+33612345678","wa_id":"33612345678"}],"messages":[{"id":"wamid.HBgL"}]}"#;
const TOKEN: &str = "EAAGm0PX4ZCpsBAKZCexampleexampleexample";

fn whatsapp() -> Outbound {
    Outbound { in_service_window: true, ..message(Channel::WhatsApp, Address::Phone("+33612345678".into())) }
}

fn template(parameters: &[&str]) -> ApprovedTemplate {
    ApprovedTemplate {
        name: "rappel_rdv".into(),
        language: "fr".into(),
        parameters: parameters.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// A driver that speaks to this port of this machine, with short patience.
fn meta(port: u16, more: &str) -> (Arc<dyn Driver>, Secrets) {
    let secrets = Secrets::new();
    let toml = format!(
        "kind = \"meta\"\nphone_number_id = \"106540352242922\"\naccess_token = \"{}\"\n\
         base_url = \"http://127.0.0.1:{port}\"\n{more}\n\
         timeouts = {{ connect_seconds = 1, answer_seconds = 1 }}\n",
        secrets.keep("token", TOKEN)
    );
    (driver(&toml).unwrap(), secrets)
}

#[tokio::test]
async fn every_form_leaves_as_meta_documents_it() {
    let uploaded = answer(200, "", r#"{"id":"4490709327384033"}"#);
    let taken = answer(200, "", TAKEN);
    let text = whatsapp();
    let outside = Outbound { in_service_window: false, ..whatsapp() };
    let with_template = |template| Outbound { approved_template: Some(template), ..outside.clone() };
    let mut document = whatsapp();
    document.content.attachments = vec![file("../plan d’accès.pdf", "application/pdf", 4)];
    let mut image = whatsapp();
    image.content.body = String::new();
    image.content.attachments = vec![file("photo.jpg", "image/JPEG", 4)];
    for (name, outbound) in [
        ("meta_text", text),
        ("meta_template", with_template(template(&["Ada", "14\u{a0}h,\n  rue  de Paris\t3"]))),
        ("meta_template_bare", with_template(template(&[]))),
        ("meta_document", document),
        ("meta_image", image),
    ] {
        let files = !outbound.content.attachments.is_empty();
        let answers = if files { vec![uploaded.clone(), taken.clone()] } else { vec![taken.clone()] };
        let provider = HttpProvider::start(answers).await;
        let (driver, _secrets) = meta(provider.port, "");
        assert_eq!(attempt(&driver, &outbound).await, "accepted wamid.HBgL", "{name}");
        let heard = provider.heard();
        if files {
            expect_request(&format!("{name}_upload"), &heard[0]);
        }
        expect_request(name, heard.last().unwrap());
        assert_eq!(heard.len(), if files { 2 } else { 1 }, "{name}");
    }
}

#[tokio::test]
async fn statuses_name_the_attempt_unless_the_operator_says_otherwise() {
    for (more, approved, echoed) in [
        ("", false, false),
        ("", true, true),
        ("echo_attempt = true", false, true),
        ("echo_attempt = false", true, false),
    ] {
        let provider = HttpProvider::start(vec![answer(200, "", TAKEN)]).await;
        let (driver, _secrets) = meta(provider.port, more);
        let mut outbound = whatsapp();
        if approved {
            let parameters = vec!["Ada".to_owned()];
            outbound.approved_template =
                Some(ApprovedTemplate { name: "rappel_rdv".into(), language: "fr".into(), parameters });
            outbound.in_service_window = false;
        }
        attempt(&driver, &outbound).await;
        let expected = echoed.then(|| outbound.attempt.to_string());
        let heard = provider.heard()[0].json();
        assert_eq!(heard["biz_opaque_callback_data"].as_str(), expected.as_deref());
    }
}

#[tokio::test]
async fn what_whatsapp_would_refuse_is_refused_before_anything_leaves() {
    let provider = HttpProvider::start(vec![answer(200, "", TAKEN)]).await;
    let (driver, _secrets) = meta(provider.port, "");
    let outside = Outbound { in_service_window: false, ..whatsapp() };
    let mut cases: Vec<(&str, Outbound, &str)> = vec![
        ("free text outside the window", outside.clone(), "outside_window"),
        (
            "an empty parameter",
            Outbound { approved_template: Some(template(&["Ada", " "])), ..outside.clone() },
            "content",
        ),
    ];
    let mut with = |name, code, base: &Outbound, change: &dyn Fn(&mut Outbound)| {
        let mut outbound = base.clone();
        change(&mut outbound);
        cases.push((name, outbound, code));
    };
    with("a template with a file", "attachments", &outside, &|o| {
        o.approved_template = Some(template(&[]));
        o.content.attachments = vec![file("a.pdf", "application/pdf", 1)];
    });
    with("two files", "attachments", &whatsapp(), &|o| {
        o.content.attachments =
            vec![file("a.pdf", "application/pdf", 1), file("b.pdf", "application/pdf", 1)];
    });
    with("an empty file", "attachments", &whatsapp(), &|o| {
        o.content.attachments = vec![file("a.pdf", "application/pdf", 0)];
    });
    with("a long text", "too_long", &whatsapp(), &|o| o.content.body = "é".repeat(4097));
    with("a long caption", "too_long", &whatsapp(), &|o| {
        o.content.body = "é".repeat(1025);
        o.content.attachments = vec![file("a.pdf", "application/pdf", 1)];
    });
    with("HTML alone", "content", &whatsapp(), &|o| {
        o.content.html = Some("<p>Bonjour</p>".into());
        o.content.body = " \n".into();
    });
    with("a control character", "content", &whatsapp(), &|o| o.content.body = "a\u{1b}[2Jb".into());
    for (name, outbound, code) in cases {
        assert_eq!(attempt(&driver, &outbound).await, format!("early permanent {code}"), "{name}");
    }
    assert!(provider.heard().is_empty());
    let mut longest = whatsapp();
    longest.content.body = "é".repeat(4096);
    assert_eq!(attempt(&driver, &longest).await, "accepted wamid.HBgL");
}

#[tokio::test]
async fn inside_the_window_free_text_goes_before_the_template() {
    let provider = HttpProvider::start(vec![answer(200, "", TAKEN)]).await;
    let (driver, _secrets) = meta(provider.port, "");
    let mut outbound = Outbound { approved_template: Some(template(&[])), ..whatsapp() };
    attempt(&driver, &outbound).await;
    outbound.content.body = String::new();
    attempt(&driver, &outbound).await;
    outbound.in_service_window = false;
    attempt(&driver, &outbound).await;
    let kinds: Vec<_> = provider.heard().iter().map(|heard| heard.json()["type"].clone()).collect();
    assert_eq!(kinds, ["text", "template", "template"]);
}

#[tokio::test]
async fn an_operator_whose_inbound_goes_elsewhere_may_let_meta_judge_the_window() {
    let provider = HttpProvider::start(vec![answer(200, "", TAKEN)]).await;
    let (driver, _secrets) = meta(provider.port, "free_text_anytime = true");
    let mut outbound = Outbound { in_service_window: false, ..whatsapp() };
    assert_eq!(attempt(&driver, &outbound).await, "accepted wamid.HBgL");
    outbound.approved_template = Some(template(&[]));
    attempt(&driver, &outbound).await;
    let kinds: Vec<_> = provider.heard().iter().map(|heard| heard.json()["type"].clone()).collect();
    assert_eq!(kinds, ["text", "template"]);
}

#[tokio::test]
async fn a_tenant_that_writes_from_another_number_is_refused() {
    let provider = HttpProvider::start(vec![answer(200, "", TAKEN)]).await;
    let (named, _secrets) = meta(provider.port, "number = \"+1 555 078 3881\"");
    let (unnamed, _secrets_too) = meta(provider.port, "");
    let from = |from: &str| Outbound { from: Some(from.into()), ..whatsapp() };
    for (driver, from, expected) in [
        (&named, "+15550783881", "accepted wamid.HBgL"),
        (&named, "whatsapp:+15550783881", "accepted wamid.HBgL"),
        (&named, "+15550783882", "early permanent sender"),
        (&unnamed, "+15550783882", "accepted wamid.HBgL"),
    ]
    .map(|(driver, text, expected)| (driver, from(text), expected))
    {
        assert_eq!(attempt(driver, &from).await, expected);
    }
}

#[derive(Deserialize)]
struct Table {
    errors: Vec<(u16, i64, String)>,
    others: Vec<(u16, String, String)>,
}

#[tokio::test]
async fn every_answer_is_classified() {
    let table: Table = toml::from_str(include_str!("answers_meta.toml")).unwrap();
    let errors = table.errors.into_iter().map(|(status, code, expected)| {
        let body = serde_json::json!({ "error": {
            "message": format!("(#{code}) said"), "type": "OAuthException", "code": code,
            "error_data": { "messaging_product": "whatsapp", "details": "why" }, "fbtrace_id": "A1",
        }});
        (status, body.to_string().into_bytes(), expected)
    });
    let others =
        table.others.into_iter().map(|(status, body, expected)| (status, body.into_bytes(), expected));
    for (status, body, expected) in errors.chain(others) {
        let provider = HttpProvider::start(vec![answer(status, "Location: /elsewhere\r\n", &body)]).await;
        let (driver, _secrets) = meta(provider.port, "");
        let shown = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(attempt(&driver, &whatsapp()).await, expected, "{status} {shown}");
        assert_eq!(provider.heard().len(), 1, "{status} {shown}");
    }
}

#[tokio::test]
async fn what_is_no_answer_leaves_it_unknown() {
    let mut cases: Vec<(&str, Act)> =
        hostile_bodies().into_iter().map(|(name, body)| (name, answer(200, "", body))).collect();
    cases.push(("dropped", silence()));
    cases.push(("silent", Act::Hang));
    cases.push((
        "cut",
        Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{\"messages\":[{\"id".to_vec()),
    ));
    cases.push(("not HTTP", Act::Say(b"SSH-2.0-OpenSSH\r\n".to_vec())));
    for (name, say) in cases {
        let provider = HttpProvider::start(vec![say]).await;
        let (driver, _secrets) = meta(provider.port, "");
        assert_eq!(attempt(&driver, &whatsapp()).await, "unknown", "{name}");
        assert_eq!(provider.heard().len(), 1, "{name}: one attempt is one call");
    }
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_no_answer() {
    let cuts = cut_everywhere(&answer(200, "", TAKEN));
    let count = cuts.len();
    let provider = HttpProvider::start(cuts).await;
    let (driver, _secrets) = meta(provider.port, "");
    for at in 0..count {
        assert_eq!(attempt(&driver, &whatsapp()).await, "unknown", "cut after {at} of {count}");
    }
    assert_eq!(provider.heard().len(), count);
}

#[tokio::test]
async fn an_upload_that_fails_has_sent_nothing_and_no_message_follows_it() {
    let mut outbound = whatsapp();
    outbound.content.attachments = vec![file("plan.pdf", "application/pdf", 4)];
    let error = |code: i64| serde_json::json!({ "error": { "message": "said", "code": code } }).to_string();
    for (say, expected) in [
        (answer(500, "", ""), "early not_sent 500"),
        (answer(200, "", "{}"), "early not_sent"),
        (answer(200, "", r#"{"id":""}"#), "early not_sent"),
        (answer(400, "", error(131_053)), "early permanent 131053"),
        (answer(400, "", error(1)), "early not_sent 1"),
        (answer(401, "", error(190)), "early misconfigured 190"),
        (answer(429, "Retry-After: 9\r\n", error(130_429)), "early temporary 130429"),
        (silence(), "early not_sent"),
        (Act::Hang, "early not_sent"),
    ] {
        let provider = HttpProvider::start(vec![say.clone(), answer(200, "", TAKEN)]).await;
        let (driver, _secrets) = meta(provider.port, "");
        assert_eq!(attempt(&driver, &outbound).await, expected, "{say:?}");
        assert_eq!(provider.heard().len(), 1, "{say:?}");
    }
}

#[tokio::test]
async fn no_error_repeats_the_token_or_a_number() {
    let echo = format!("Malformed access token {TOKEN} for 33612345678");
    let body = serde_json::json!({ "error": { "message": echo, "code": 190 } }).to_string();
    let provider = HttpProvider::start(vec![answer(401, "", body)]).await;
    let (driver, _secrets) = meta(provider.port, "");
    let prepared = driver.prepare(&whatsapp()).await.unwrap();
    let Outcome::Failed { error, .. } = prepared.send().await else { panic!() };
    assert_eq!(error.class, ErrorClass::Misconfigured);
    assert_eq!(error.detail, "Malformed access token … for …78: renew access_token of this driver");
    assert!(!format!("{driver:?}").contains(TOKEN));
}

#[tokio::test]
async fn a_wait_that_is_told_is_handed_on_and_nobody_there_is_not_sent() {
    let body = serde_json::json!({ "error": { "message": "slow", "code": 131_056 } }).to_string();
    let provider = HttpProvider::start(vec![answer(429, "Retry-After: 6\r\n", body)]).await;
    let (driver, _secrets) = meta(provider.port, "");
    let outcome = driver.prepare(&whatsapp()).await.unwrap().send().await;
    assert!(matches!(outcome, Outcome::Failed { retry_after_seconds: Some(6), .. }), "{outcome:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (driver, _secrets) = meta(port, "");
    let Err(PrepareError { error, .. }) = driver.prepare(&whatsapp()).await else { panic!() };
    assert_eq!(error.class, ErrorClass::NotSent);
    let asked = LookUp {
        outbound: whatsapp(),
        started_at: chrono::DateTime::UNIX_EPOCH,
        ended_at: chrono::DateTime::UNIX_EPOCH,
    };
    assert!(matches!(driver.look_up(&asked).await, Found::CannotTell(_)));
}

#[test]
fn settings_that_cannot_work_are_refused_in_words() {
    let secrets = Secrets::new();
    let token = secrets.keep("token", TOKEN);
    let odd = secrets.keep("odd", "a\u{7}b");
    let with = |number: &str, token: &str, more: &str| {
        driver(&format!(
            "kind = \"meta\"\nphone_number_id = \"{number}\"\naccess_token = \"{token}\"\n{more}\n"
        ))
        .err()
        .unwrap_or_default()
    };
    assert_eq!(with("1", &token, ""), "");
    assert_eq!(with("1", &token, &format!("app_secret = \"{token}\"\nverify_token = \"{token}\"")), "");
    for (number, token, more, expected) in [
        ("+33612345678", token.as_str(), String::new(), "the number's id, not the number"),
        ("", &token, String::new(), "phone_number_id"),
        ("1", "hunter2", String::new(), "env:NAME"),
        ("1", "env:NOT_SET_ANYWHERE", String::new(), "access_token: the environment variable"),
        ("1", &odd, String::new(), "no token has"),
        ("1", &token, "graph_version = \"23\"".into(), "such as v23.0"),
        ("1", &token, "graph_version = \"v23.0/../x\"".into(), "such as v23.0"),
        ("1", &token, "base_url = \"http://graph.example.org\"".into(), "https://"),
        ("1", &token, format!("verify_token = \"{token}\""), "app_secret is missing"),
        ("1", &token, format!("app_secret_previous = \"{token}\""), "app_secret is missing"),
        ("1", &token, "free_text_anytime = 7".into(), "boolean"),
        ("1", &token, "timeouts = { answer_seconds = 0 }".into(), "at least 1 second"),
        ("1", &token, "number = \"06\"".into(), "such as +15550783881"),
        ("1", &token, "phone = \"1\"".into(), "unknown field `phone`"),
    ] {
        let refusal = with(number, token, &more);
        assert!(refusal.contains(expected), "{number} {more}: {refusal}");
        assert!(!refusal.contains(TOKEN) && !refusal.contains("hunter2"), "{refusal}");
    }
}
