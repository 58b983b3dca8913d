//! WhatsApp's 24 hours: who has not written lately is written to elsewhere, or by an approved template. As a decision
//! says it, as the drivers say that they enforce it, right before an attempt, and through the built daemon.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{
        Driver, Drivers,
        settings::{DriverSettings, build},
    },
    domain::{
        channel::Channel,
        decision::Gate,
        time::{Clock, SystemClock},
    },
    policy::{assemble::SourceFile, template::Template},
};
use serde_json::{Value, json};

use crate::{
    decisions::{DAY, decide},
    slow::bench::public_port,
    support::{
        bundle,
        daemon::Daemon,
        http_provider::secret,
        provider::{ACCOUNT, AUTH_TOKEN, Provider},
    },
};

const PERSON: &str = "whatsapp:+33612345678";
const OURS: &str = "+33700000000";
const HELLO: &str = r#"variables = ["name"]
[example]
name = "Marie"
[fr.email]
subject = "Bonjour"
text = "Bonjour {{ name }}"
[fr.whatsapp]
text = "Bonjour {{ name }}"
approved = { name = "hello", language = "fr", parameters = ["{{ name }}"] }
"#;

fn request(content: &Value, facts: &Value) -> Value {
    json!({
        "context": {
            "tenantId": "acme", "prospectId": "p1", "messageType": "notification", "locale": "fr",
            "prospectEmail": "zoe@example.com", "prospectWhatsApp": "+33612345678",
            "preferences": { "preferredChannels": ["whatsapp"] },
        },
        "content": content, "facts": facts, "at": DAY,
    })
}

#[test]
fn free_text_and_files_go_while_it_is_open_and_an_approved_template_always() {
    let template = Template::compile("HELLO", &SourceFile::new("templates/HELLO.toml", HELLO)).unwrap();
    let templates = [("HELLO".to_owned(), Arc::new(template))];
    let bundle = bundle("").with_templates(Arc::new(templates.into()));
    let (text, approved) =
        (json!({ "body": "Bonjour" }), json!({ "templateId": "HELLO", "data": { "name": "Marie" } }));
    let mut file = approved.clone();
    file["attachments"] = json!([{ "filename": "a.pdf", "content": "JVBERg==" }]);
    for (content, facts, closed) in [
        // No driver enforces it, or none is known: an explanation made offline.
        (&text, json!({}), None),
        (&text, json!({ "inServiceWindow": { "whatsapp": true } }), None),
        (&text, json!({ "inServiceWindow": { "whatsapp": false } }), Some("approved templates only")),
        (&approved, json!({ "inServiceWindow": { "whatsapp": false } }), None),
        (&file, json!({ "inServiceWindow": { "whatsapp": true } }), None),
        (&file, json!({ "inServiceWindow": { "whatsapp": false } }), Some("carries no attachment")),
    ] {
        let (decision, explanation) = decide(&bundle, &request(content, &facts));
        let shown = explanation.channels.iter().find(|c| c.channel == Channel::WhatsApp).unwrap();
        let gate = shown.gates.iter().find(|gate| gate.gate == Gate::ServiceWindow);
        assert_eq!(gate.is_some(), closed.is_some(), "{content} {facts}: {:?}", shown.gates);
        if let (Some(gate), Some(words)) = (gate, closed) {
            assert!(gate.reason.contains(words), "{}", gate.reason);
        }
        let chosen = if closed.is_some() { Channel::Email } else { Channel::WhatsApp };
        assert_eq!(decision.chosen, Some(chosen), "{content} {facts}");
    }
}

#[test]
fn drivers_say_whether_they_enforce_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let driver = |name: &str, kind: &str, more: &str| -> Arc<dyn Driver> {
        let keys = match kind {
            "meta" => {
                format!("phone_number_id = \"1\"\naccess_token = \"{}\"", secret(folder.path(), "m", "EAAG"))
            }
            _ => format!(
                "account_sid = \"{ACCOUNT}\"\nauth_token = \"{}\"",
                secret(folder.path(), "t", AUTH_TOKEN)
            ),
        };
        let settings: DriverSettings = toml::from_str(&format!("kind = \"{kind}\"\n{keys}\n{more}")).unwrap();
        build(name, &settings, folder.path(), Arc::clone(&clock)).unwrap()
    };
    let anytime = "free_text_anytime = true";
    for (kind, more, expected) in [
        ("meta", "", true),
        ("meta", anytime, false),
        ("twilio_whatsapp", "", true),
        ("twilio_whatsapp", anytime, false),
        ("twilio", "", false),
    ] {
        assert_eq!(driver("d", kind, more).enforces_service_window(), expected, "{kind} {more}");
        let walled =
            channel_orchestrator::channels::allow_list::only_to(driver("d", kind, more), &["*".into()]);
        assert_eq!(walled.enforces_service_window(), expected, "behind allow_recipients: {kind} {more}");
    }
    // A channel is closed by it only where none of its drivers would send.
    let drivers = Drivers::new([driver("a", "meta", ""), driver("b", "twilio_whatsapp", anytime)]);
    let enforced = |channel, named: &[&str]| {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        drivers.enforce_service_window(channel, &named)
    };
    assert!(enforced(Channel::WhatsApp, &["a"]));
    assert!(!enforced(Channel::WhatsApp, &["b"]) && !enforced(Channel::WhatsApp, &[]));
    assert!(!enforced(Channel::WhatsApp, &["nobody"]) && !enforced(Channel::Sms, &[]));
}

/// A daemon whose WhatsApp goes by Twilio, which answers and calls back.
fn daemon(folder: &std::path::Path) -> (Daemon, Provider) {
    let provider = Provider::start(|| 0, |_| crate::support::provider::Act::ACCEPT);
    let port = public_port();
    provider.call_back(port);
    let settings = format!(
        "public_listen = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\n\
         [drivers.twilio]\nkind = \"twilio_whatsapp\"\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{}\"\n\
         from = \"{OURS}\"\nbase_url = \"http://127.0.0.1:{}\"\n\
         content_sids = {{ hello = \"HX00000000000000000000000000000000\" }}\n",
        secret(folder, "twilio", AUTH_TOKEN),
        provider.port
    );
    let tenant = "[quiet_hours]\nstart = \"00:00\"\nend = \"00:00\"\n";
    let daemon = Daemon::prepare(folder, tenant, &settings);
    std::fs::write(folder.join("policies/templates/HELLO.toml"), HELLO).unwrap();
    (daemon, provider)
}

#[test]
fn who_writes_in_is_answered_by_whatsapp_and_who_does_not_is_written_to_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, provider) = daemon(folder.path());
    daemon.start();
    let ask = |path: &str, content: &Value, explain: bool| {
        let mut body = request(content, &json!({}));
        let fields = body.as_object_mut().unwrap();
        fields.retain(|name, _| name != "facts" && name != "at");
        if explain {
            fields.insert("explain".into(), true.into());
        }
        daemon.call("POST", path, &[("prefer", "wait=30")], &body.to_string()).unwrap()
    };
    let sent = |content: &Value| {
        let answer = ask("/v1/messages", content, false);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["channel"].as_str().unwrap().to_owned()
    };
    let decided =
        |content: &Value| ask("/v1/decisions", content, false).body["channel"].as_str().unwrap().to_owned();
    let text = json!({ "subject": "s", "body": "Bonjour" });
    let approved = json!({ "templateId": "HELLO", "data": { "name": "Marie" } });

    assert_eq!((decided(&text), sent(&text)), ("email".into(), "email".into()));
    let explained = ask("/v1/decisions", &text, true).body;
    let channels = explained["explanation"]["channels"].as_array().unwrap();
    let whatsapp = channels.iter().find(|c| c["channel"] == "whatsapp").unwrap();
    assert_eq!(
        (&whatsapp["eligible"], &whatsapp["gates"][0]["gate"]),
        (&json!(false), &json!("service_window"))
    );
    let reason = whatsapp["gates"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("has not written to this sender within 24 hours"), "{reason}");
    assert_eq!((decided(&approved), sent(&approved)), ("whatsapp".into(), "whatsapp".into()));

    assert!(provider.hear(PERSON, &format!("whatsapp:{OURS}"), "Bonjour, une question"));
    assert_eq!((decided(&text), sent(&text)), ("whatsapp".into(), "whatsapp".into()));
    assert_eq!(provider.ledger.count("Bonjour"), 1, "one text; the approved template has none of its own");
}
