//! Twilio: what goes on the wire, every answer's class, and the list.

use std::{path::Path, sync::Arc};

use channel_orchestrator::{
    channels::{
        Driver, Found, LookUp, Outbound, PrepareError,
        settings::{DriverSettings, build},
    },
    domain::{
        address::Address,
        channel::Channel,
        delivery::{ApprovedTemplate, ErrorClass, Outcome},
        ids::{AttemptId, MessageId, TenantId},
        message::{Attachment, Content, MessageClass},
        time::ManualClock,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http_provider::{Act, HttpProvider, secret};

pub const SID: &str = "AC00000000000000000000000000000000";
const SERVICE: &str = "MG0123456789abcdef0123456789abcdef";

pub fn now() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

pub fn outbound(channel: Channel) -> Outbound {
    Outbound {
        message: MessageId::new(),
        attempt: AttemptId::new(),
        attempt_number: 1,
        channel,
        to: Address::Phone("+33612345678".into()),
        to_name: None,
        from: Some("+33700000000".into()),
        from_name: None,
        reply_to: None,
        content: Content { body: "Ça & là = 100 % 👍\nà 15h".into(), ..Content::default() },
        class: MessageClass::Transactional,
        locale: None,
        tenant: TenantId::parse("tenant_123").unwrap(),
        deadline: now() + TimeDelta::days(1),
        status_callback: None,
        return_token: None,
        unsubscribe: None,
        approved_template: None,
        in_service_window: false,
    }
}

/// A driver made of its settings, at noon.
pub fn made(toml: &str) -> Result<Arc<dyn Driver>, String> {
    let settings: DriverSettings = toml::from_str(toml).map_err(|e| e.to_string())?;
    build("mine", &settings, Path::new("/nonexistent"), Arc::new(ManualClock::new(now())))
}

/// A Twilio driver that speaks to this port, with the token `12345`.
pub fn twilio(kind: &str, port: u16, more: &str) -> (Arc<dyn Driver>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let token = secret(dir.path(), "token", "12345");
    let toml = format!(
        "kind = \"{kind}\"\naccount_sid = \"{SID}\"\nauth_token = \"{token}\"\n\
         base_url = \"http://127.0.0.1:{port}\"\ntimeouts = {{ connect_seconds = 2, answer_seconds = 1 }}\n{more}"
    );
    (made(&toml).unwrap(), dir)
}

/// How an attempt ended: `accepted ID`, or the class and code; `early` before the last step.
pub async fn attempt(driver: &Arc<dyn Driver>, outbound: &Outbound) -> String {
    let shown = |class: ErrorClass, code: Option<String>| {
        let class = serde_json::to_value(class).unwrap().as_str().unwrap().to_owned();
        code.map_or(class.clone(), |code| format!("{class} {code}"))
    };
    match driver.prepare(outbound).await {
        Err(PrepareError { error, .. }) => {
            assert_ne!(error.class, ErrorClass::Unknown, "{}", error.detail);
            format!("early {}", shown(error.class, error.code))
        }
        Ok(prepared) => match prepared.send().await {
            Outcome::Accepted { provider_message_id, .. } => {
                format!("accepted {}", provider_message_id.unwrap_or_default())
            }
            Outcome::Failed { error, retry_after_seconds } => {
                let after = retry_after_seconds.map(|s| format!(" after {s}")).unwrap_or_default();
                format!("{}{after}", shown(error.class, error.code))
            }
        },
    }
}

pub fn sid(last: char) -> String {
    format!("SM{}", last.to_string().repeat(32))
}

fn created() -> Act {
    Act::answer(201, json!({ "sid": sid('a'), "status": "queued", "price": null }).to_string())
}

fn refused(status: u16, code: u32) -> Act {
    Act::answer(status, json!({ "code": code, "message": "The 'To' number +33612345678 is bad" }).to_string())
}

pub fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn an_sms_is_one_form_with_what_twilio_needs() {
    let provider = HttpProvider::start(vec![created()]).await;
    let (driver, _dir) = twilio("twilio", provider.port, "smart_encoded = true");
    let mut sms = outbound(Channel::Sms);
    sms.status_callback = Some("https://hooks.example.fr/callbacks/mine/t?a=1&b=2".into());
    sms.deadline = now() + TimeDelta::seconds(600);
    assert_eq!(attempt(&driver, &sms).await, format!("accepted {}", sid('a')));
    let heard = provider.heard();
    let [heard] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!(
        (heard.method.as_str(), heard.target.as_str()),
        ("POST", "/2010-04-01/Accounts/AC00000000000000000000000000000000/Messages.json")
    );
    // AC0…0:12345
    assert_eq!(
        heard.header("authorization"),
        Some("Basic QUMwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDoxMjM0NQ==")
    );
    assert_eq!(heard.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        heard.form(),
        pairs(&[
            ("To", "+33612345678"),
            ("From", "+33700000000"),
            ("Body", "Ça & là = 100 % 👍\nà 15h"),
            ("StatusCallback", "https://hooks.example.fr/callbacks/mine/t?a=1&b=2"),
            ("ValidityPeriod", "600"),
            ("SmartEncoded", "true"),
        ])
    );
    assert!(!heard.body.contains(['+', ' ']), "{}", heard.body);
}

#[tokio::test]
async fn sender_and_validity_are_what_is_known() {
    let provider = HttpProvider::start(vec![created()]).await;
    let service = format!("messaging_service_sid = \"{SERVICE}\"");
    let own = "from = \"+33711111111\"";
    for (settings, from, hours, expected) in [
        (own, None, 48, vec![("From", "+33711111111")]),
        (own, Some("MonAgence"), 48, vec![("From", "MonAgence")]),
        (service.as_str(), None, 48, vec![("MessagingServiceSid", SERVICE)]),
        (service.as_str(), Some("36200"), 48, vec![("From", "36200")]),
        (own, None, 9, vec![("From", "+33711111111"), ("ValidityPeriod", "32400")]),
        (own, None, 10, vec![("From", "+33711111111")]),
        (own, None, -1, vec![("From", "+33711111111"), ("ValidityPeriod", "1")]),
    ] {
        let (driver, _dir) = twilio("twilio", provider.port, settings);
        let mut sms = outbound(Channel::Sms);
        sms.from = from.map(str::to_owned);
        sms.deadline = now() + TimeDelta::hours(hours);
        attempt(&driver, &sms).await;
        let mut form = provider.heard().pop().unwrap().form();
        form.retain(|(name, _)| name != "To" && name != "Body");
        assert_eq!(form, pairs(&expected), "{settings} {from:?} {hours}");
    }
    let (driver, _dir) = twilio("twilio", provider.port, "");
    let mut nobody = outbound(Channel::Sms);
    nobody.from = None;
    assert_eq!(attempt(&driver, &nobody).await, "early misconfigured 21603");
    nobody.from = Some("a\r\nb".into());
    assert_eq!(attempt(&driver, &nobody).await, "early permanent 21212");
}

#[tokio::test]
async fn whatsapp_takes_free_text_in_the_window_and_templates_outside_it() {
    let provider = HttpProvider::start(vec![created()]).await;
    let hx = "HX0123456789abcdef0123456789abcdef";
    let settings = format!("[content_sids]\nreminder = \"{hx}\"\n");
    let (driver, _dir) = twilio("twilio_whatsapp", provider.port, &settings);
    let mut message = outbound(Channel::WhatsApp);
    assert_eq!(attempt(&driver, &message).await, "early permanent 63016");
    message.in_service_window = true;
    attempt(&driver, &message).await;
    let text = provider.heard().pop().unwrap().form();
    assert_eq!(
        text,
        pairs(&[
            ("To", "whatsapp:+33612345678"),
            ("From", "whatsapp:+33700000000"),
            ("Body", "Ça & là = 100 % 👍\nà 15h")
        ])
    );
    message.in_service_window = false;
    message.approved_template = Some(ApprovedTemplate {
        name: "reminder".into(),
        language: "fr".into(),
        parameters: vec!["Ada".into(), "15 h \"pile\"".into()],
    });
    attempt(&driver, &message).await;
    let template = provider.heard().pop().unwrap().form();
    assert_eq!(
        template[2..],
        pairs(&[("ContentSid", hx), ("ContentVariables", r#"{"1":"Ada","2":"15 h \"pile\""}"#)])
    );
    message.approved_template.as_mut().unwrap().name = "unheard_of".into();
    assert_eq!(attempt(&driver, &message).await, "early permanent 21655");
    message.in_service_window = true;
    message.content.attachments =
        vec![Attachment { file_name: "a".into(), content_type: "text/plain".into(), bytes: vec![1] }];
    assert_eq!(attempt(&driver, &message).await, "early permanent attachments");
    let (anytime, _dir) = twilio("twilio_whatsapp", provider.port, "free_text_anytime = true");
    assert_eq!(attempt(&anytime, &outbound(Channel::WhatsApp)).await, format!("accepted {}", sid('a')));
}

#[tokio::test]
async fn every_answer_has_its_class() {
    let retry = |status: u16, value: &str| Act::Answer {
        status,
        headers: vec![("Retry-After", value.to_owned())],
        body: json!({ "code": 20429, "message": "Too Many Requests" }).to_string(),
    };
    let cases: Vec<(&str, Act, &str)> = vec![
        ("wrong token", refused(401, 20003), "misconfigured 20003"),
        ("401 of somebody else", Act::answer(401, "<html>"), "misconfigured 401"),
        ("invalid number", refused(400, 21211), "permanent 21211"),
        ("not a mobile", refused(400, 21614), "permanent 21614"),
        ("said STOP", refused(400, 21610), "permanent 21610"),
        ("region off", refused(400, 21408), "permanent 21408"),
        ("region off, as 403", refused(403, 21408), "permanent 21408"),
        ("forbidden, of tomorrow", refused(403, 29999), "permanent 29999"),
        ("forbidden to sign in", refused(403, 20099), "misconfigured 20099"),
        ("the tenant's sender", refused(400, 21606), "permanent 21606"),
        ("queue full", refused(429, 21611), "temporary 21611 after 1"),
        ("queue full, as 400", refused(400, 21611), "temporary 21611"),
        ("a code of tomorrow", refused(400, 29999), "permanent 29999"),
        ("no such account", refused(404, 20404), "misconfigured 20404"),
        ("too fast", retry(429, "7"), "temporary 20429 after 7"),
        ("too fast, for ever", retry(429, "1000000000"), "temporary 20429 after 1000000000"),
        ("too fast, until", retry(429, "Sun, 22 Nov 2026 12:01:30 GMT"), "temporary 20429 after 90"),
        ("too fast, in words", retry(429, "soon"), "temporary 20429 after 1"),
        ("its own fault", refused(500, 20500), "unknown 20500"),
        ("overloaded", refused(503, 20503), "unknown 20503"),
        ("a refusal that is none", refused(500, 21211), "unknown 21211"),
        ("timeout", Act::answer(408, ""), "unknown 408"),
        ("gateway", Act::answer(502, "<html>"), "unknown 502"),
        ("elsewhere", Act::answer(302, ""), "misconfigured 302"),
        ("HTML", Act::answer(200, "<html>"), "unknown"),
        ("empty", Act::answer(201, ""), "unknown"),
        ("no sid", Act::answer(201, "{}"), "unknown"),
        ("another thing's sid", Act::answer(201, json!({ "sid": SID }).to_string()), "unknown"),
        ("half", Act::answer(201, "{\"sid\": \"SMaaaa"), "unknown"),
        ("twice", Act::answer(201, format!("{{\"sid\":\"{0}\",\"sid\":\"{0}\"}}", sid('a'))), "unknown"),
        ("too long", Act::answer(201, " ".repeat(70_000)), "unknown"),
        ("silence", Act::Hang, "unknown"),
        ("closed", Act::Say(Vec::new()), "unknown"),
    ];
    for (name, act, expected) in cases {
        let provider = HttpProvider::start(vec![act]).await;
        let (driver, _dir) = twilio("twilio", provider.port, "");
        assert_eq!(attempt(&driver, &outbound(Channel::Sms)).await, expected, "{name}");
        assert_eq!(provider.heard().len(), 1, "{name}: one call and no more");
    }
}

#[tokio::test]
async fn a_bad_sender_stops_nobody_else_unless_it_is_the_operators() {
    let provider = HttpProvider::start(vec![refused(400, 21606)]).await;
    let (driver, _dir) = twilio("twilio", provider.port, "from = \"+33711111111\"");
    let mut sms = outbound(Channel::Sms);
    assert_eq!(attempt(&driver, &sms).await, "permanent 21606");
    sms.from = None;
    assert_eq!(attempt(&driver, &sms).await, "misconfigured 21606");
}

#[tokio::test]
async fn nobodys_number_is_kept_from_a_refusal() {
    let provider = HttpProvider::start(vec![refused(400, 21211)]).await;
    let (driver, _dir) = twilio("twilio", provider.port, "");
    let prepared = driver.prepare(&outbound(Channel::Sms)).await.unwrap();
    let Outcome::Failed { error, .. } = prepared.send().await else { panic!("a 400 is no success") };
    assert_eq!(error.detail, "The 'To' number +…78 is bad");
    assert!(!format!("{driver:?}").contains("12345"));
}

#[tokio::test]
async fn wherever_the_link_is_cut_what_twilio_has_is_never_called_unsent() {
    let probe = HttpProvider::start(vec![created()]).await;
    let (driver, _dir) = twilio("twilio", probe.port, "");
    attempt(&driver, &outbound(Channel::Sms)).await;
    let whole = probe.heard()[0].raw.len();
    // The reset may overtake what was written: what counts is what was heard.
    let cuts: Vec<usize> = (0..=whole).collect();
    let provider = HttpProvider::start(cuts.iter().map(|cut| Act::CutAfter(*cut)).collect()).await;
    let (driver, _dir) = twilio("twilio", provider.port, "");
    for cut in cuts {
        let ended = attempt(&driver, &outbound(Channel::Sms)).await;
        let heard_whole = provider.heard().last().is_some_and(|heard| heard.whole);
        assert_eq!(heard_whole, cut == whole, "cut after {cut}");
        let allowed: &[&str] = if heard_whole { &["unknown"] } else { &["unknown", "not_sent"] };
        assert!(allowed.contains(&ended.as_str()), "cut after {cut}: {ended}");
    }
    let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: 44\r\n\r\n{{\"sid\":\"{}\"}}", sid('a'));
    let answers = (0..=answer.len()).map(|cut| Act::Say(answer.as_bytes()[..cut].to_vec())).collect();
    let provider = HttpProvider::start(answers).await;
    let (driver, _dir) = twilio("twilio", provider.port, "");
    for cut in 0..=answer.len() {
        let ended = attempt(&driver, &outbound(Channel::Sms)).await;
        let taken = format!("accepted {}", sid('a'));
        let expected = if cut == answer.len() { taken.as_str() } else { "unknown" };
        assert_eq!(ended, expected, "cut after {cut}");
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (driver, _dir) = twilio("twilio", port, "");
    assert_eq!(attempt(&driver, &outbound(Channel::Sms)).await, "early not_sent");
    let dir = tempfile::tempdir().unwrap();
    let token = secret(dir.path(), "token", "12345");
    let named = made(&format!(
        "kind = \"twilio\"\naccount_sid = \"{SID}\"\nauth_token = \"{token}\"\nbase_url = \"https://nobody.invalid\""
    ));
    assert_eq!(attempt(&named.unwrap(), &outbound(Channel::Sms)).await, "early not_sent");
}

/// A message of Twilio's list, as it answers it, `seconds` after the attempt began.
fn listed(change: Value, seconds: i64) -> Value {
    let created = (now() + TimeDelta::seconds(seconds)).to_rfc2822();
    let mut one = json!({
        "sid": sid('b'), "to": "+33612345678", "from": "+33700000000", "messaging_service_sid": null,
        "body": "Ça & là = 100 % 👍\nà 15h", "direction": "outbound-api", "date_created": created,
        "date_sent": null, "status": "queued", "price": null,
    });
    for (key, value) in change.as_object().unwrap() {
        one[key] = value.clone();
    }
    one
}

#[tokio::test]
async fn the_list_settles_an_attempt_only_where_it_shows_exactly_one() {
    let list = |messages: Vec<Value>| Act::answer(200, json!({ "messages": messages }).to_string());
    let crowd = |seconds| (0..100).map(|_| listed(json!({ "body": "else" }), seconds)).collect::<Vec<_>>();
    let cases: Vec<(&str, Act, &str)> = vec![
        ("none", list(vec![]), "absent"),
        ("one", list(vec![listed(json!({}), 1)]), "accepted"),
        ("a little early", list(vec![listed(json!({}), -5)]), "accepted"),
        ("late", list(vec![listed(json!({}), 90)]), "accepted"),
        ("too early", list(vec![listed(json!({}), -6)]), "absent"),
        ("too late", list(vec![listed(json!({}), 91)]), "absent"),
        ("another text", list(vec![listed(json!({ "body": "else" }), 1)]), "absent"),
        ("another sender", list(vec![listed(json!({ "from": "+33799999999" }), 1)]), "absent"),
        ("their own words", list(vec![listed(json!({ "direction": "inbound" }), 1)]), "absent"),
        (
            "a trial account",
            list(vec![listed(
                json!({ "body": "Sent from your Twilio trial account - Ça & là = 100 % 👍\nà 15h" }),
                1,
            )]),
            "accepted",
        ),
        ("two", list(vec![listed(json!({}), 1), listed(json!({ "sid": sid('c') }), 2)]), "cannot tell"),
        ("an old page", list(crowd(-100)), "absent"),
        ("too many since", list(crowd(10)), "cannot tell"),
        ("no dates", list(vec![listed(json!({ "date_created": "today" }), 1)]), "cannot tell"),
        ("no list", Act::answer(200, "<html>"), "cannot tell"),
        ("away", Act::answer(503, ""), "cannot tell"),
        ("wrong token", refused(401, 20003), "cannot tell"),
        ("silence", Act::Hang, "cannot tell"),
    ];
    for (name, act, expected) in cases {
        let provider = HttpProvider::start(vec![act]).await;
        let (driver, _dir) = twilio("twilio", provider.port, "");
        let looked = LookUp {
            outbound: outbound(Channel::Sms),
            started_at: now(),
            ended_at: now() + TimeDelta::seconds(30),
        };
        let found = match driver.look_up(&looked).await {
            Found::Accepted { provider_message_id, .. } => {
                assert_eq!(provider_message_id, sid('b'), "{name}");
                "accepted"
            }
            Found::Absent => "absent",
            Found::CannotTell(_) => "cannot tell",
        };
        assert_eq!(found, expected, "{name}");
        let heard = provider.heard();
        assert_eq!(heard[0].method, "GET");
        assert!(heard[0].target.ends_with("/Messages.json?To=%2B33612345678&PageSize=100"));
        assert_eq!(heard.len(), 1, "{name}: one call and no more");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let token = secret(dir.path(), "token", "12345");
    let with = |kind: &str, more: &str| made(&format!("kind = \"{kind}\"\n{more}")).err().unwrap_or_default();
    let sid = format!("account_sid = \"{SID}\"\n");
    let good = format!("{sid}auth_token = \"{token}\"\n");
    assert_eq!(with("twilio", &good), "");
    assert_eq!(with("twilio", &format!("{sid}api_key = \"{token}\"\napi_secret = \"{token}\"")), "");
    for (kind, more, expected) in [
        ("twilio", "account_sid = \"AC123\"\nauth_token = \"env:PATH\"".to_owned(), "32 hex digits"),
        ("twilio", sid.clone(), "auth_token is missing"),
        ("twilio", format!("{sid}auth_token = \"12345\""), "env:NAME"),
        ("twilio", format!("{sid}api_key = \"{token}\""), "go together"),
        ("twilio", format!("{good}from = \"+33 7\""), "a short code"),
        ("twilio_whatsapp", format!("{good}from = \"MonAgence\""), "not a number"),
        ("twilio", format!("{good}messaging_service_sid = \"MG1\""), "`MG`"),
        ("twilio", format!("{good}services = {{ MG1 = [\"+33700000000\"] }}"), "`MG`"),
        ("twilio", format!("{good}services = {{ {SERVICE} = [\"+33 7\"] }}"), "a short code"),
        ("twilio", format!("{good}free_text_anytime = true"), "twilio_whatsapp"),
        ("twilio_whatsapp", format!("{good}[content_sids]\na = \"b\""), "`HX`"),
        ("twilio", format!("{good}base_url = \"http://api.twilio.com\""), "allow_plaintext"),
        ("twilio", format!("{good}ca_file = \"/nonexistent.pem\""), "cannot be read"),
        ("twilio", format!("{good}form = \"x\""), "unknown field `form`"),
    ] {
        let said = with(kind, &more);
        assert!(said.contains(expected), "{more}: {said}");
        assert!(!said.contains("12345"), "{said}");
    }
    let (driver, _dir) = twilio("twilio", 1, "");
    let (other, _other) = twilio("twilio_whatsapp", 1, "");
    assert_eq!(driver.credential(), other.credential());
    assert!(!driver.credential().contains(SID));
}

#[test]
fn a_service_is_known_by_its_numbers() {
    let services = format!("services = {{ {SERVICE} = [\"+33700000001\", \"+33700000002\"] }}");
    let (driver, _dir) = twilio("twilio", 1, &services);
    for (number, expected) in
        [("+33700000001", vec![SERVICE]), ("+33 7 00 00 00 02", vec![SERVICE]), ("+33700000003", vec![])]
    {
        assert_eq!(driver.services_of(number), expected, "{number}");
    }
}
