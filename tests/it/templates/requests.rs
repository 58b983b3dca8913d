//! Requests that name a template: which language, which data, which channels, and what is refused.

use channel_orchestrator::{
    decide::{self, DecisionInput},
    domain::{
        address::{Reach, read_contacts},
        channel::Channel,
        decision::{Decision, Gate},
        facts::Facts,
        question::Question,
    },
    policy::{
        bundle::Bundle,
        template::{DataFault, Need, Words},
    },
    request::{self, Purpose},
};
use serde_json::{Value, json};

use super::{with_template, words};
use crate::support::bundle;

fn sms(words: &Words) -> &str {
    &words.rendering.as_ref().unwrap().forms[Channel::Sms].as_ref().unwrap().body
}

#[track_caller]
fn faults(found: Result<Words, Vec<DataFault>>) -> Vec<(String, String)> {
    let faults = found.expect_err("it is refused");
    let hint = |fault: &DataFault| fault.hint.clone().unwrap_or_default();
    faults.iter().map(|f| (f.pointer.clone(), format!("{} ({})", f.detail, hint(f)))).collect()
}

#[test]
fn every_missing_name_is_told_at_once() {
    let bundle = bundle("");
    let ask = |data: Value, need| {
        words(
            &bundle,
            json!({}),
            json!({ "templateId": "APPOINTMENT_REMINDER_24H", "body": "x", "data": data }),
            need,
        )
    };
    let found = faults(ask(json!({ "firstname": "Marie", "companyName": null }), Need::Send));
    let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
    let all = ["/content/data/firstName", "/content/data/appointmentTime", "/content/data/companyName"];
    assert_eq!(pointers, all);
    assert!(
        found[0].1.contains("required by the template APPOINTMENT_REMINDER_24H, and missing"),
        "{found:?}"
    );
    assert!(found[0].1.contains("there is \"firstname\": was \"firstName\" meant?"), "{found:?}");
    // A decision with data is meant, and refused likewise; one without any data takes the example.
    assert_eq!(faults(ask(json!({ "firstName": "Marie" }), Need::Measure)).len(), 2);
    let measured = ask(json!({}), Need::Measure).unwrap();
    assert!(sms(&measured).starts_with("Bonjour Marie, rappel"), "{}", sms(&measured));
    assert!(measured.note.unwrap().contains("content.data is missing"));
    assert_eq!(faults(ask(json!({}), Need::Send)).len(), 3);
}

#[test]
fn an_unknown_template_is_refused_with_the_nearest_name() {
    let bundle = bundle("");
    let ask = |id: &str, body: &str, need| {
        words(&bundle, json!({}), json!({ "templateId": id, "body": body }), need)
    };
    let found = faults(ask("APPOINTMENT_REMINDER_24", "", Need::Send));
    assert_eq!(found[0].0, "/content/templateId");
    assert!(found[0].1.contains("did you mean \"APPOINTMENT_REMINDER_24H\"?"), "{found:?}");
    // A body never goes out in its place.
    assert_eq!(faults(ask("NOBODY", "Bonjour", Need::Send))[0].0, "/content/templateId");
    assert_eq!(faults(ask("NOBODY", "", Need::Measure))[0].0, "/content/templateId");
    let measured = ask("NOBODY", "Bonjour", Need::Measure).unwrap();
    assert_eq!(measured.message.characters, 7);
    assert!(measured.note.unwrap().contains("sending it would be refused"));
}

#[test]
fn the_brief_s_requests_render() {
    let bundle = bundle("");
    let reminder = json!({
        "subject": "Rappel RDV", "body": "Bonjour Marie, rappel de votre RDV demain à 15h.",
        "templateId": "APPOINTMENT_REMINDER_24H",
        "data": { "firstName": "Marie", "appointmentTime": "15h", "companyName": "Agence Dupont" },
    });
    let reminder = words(&bundle, json!({}), reminder, Need::Send).unwrap();
    assert_eq!(sms(&reminder), "Bonjour Marie, rappel : votre RDV demain à 15h. Agence Dupont");
    let alert = json!({
        "subject": "Nouvelle propriété disponible", "body": "Découvrez notre nouvelle propriété...",
        "templateId": "NEW_PROPERTY_ALERT",
        "data": { "propertyAddress": "123 Rue de Paris", "propertyPrice": "450 000 €" },
    });
    let alert = words(&bundle, json!({}), alert, Need::Send).unwrap();
    assert_eq!(sms(&alert), "Nouveau bien : 123 Rue de Paris, 450 000 €.");
}

const SPOKEN: &str = r#"
variables = ["at", "price"]
optional = ["prospectName", "eventAt", "unused_here"]
[example]
at = "2025-08-01T08:05:00+02:00"
price = 1234.5
prospectName = "Marie Dupont"
eventAt = "2025-11-14T15:00:00Z"
unused_here = "x"
[fr.sms]
text = "{{ at | jour }} {{ at | heure }}, {{ at | date }}, {{ at | date(\"%d/%m/%y %H:%M\") }}, {{ price | euros }}, {{ price | nombre }}{% if prospectName %}, {{ prospectName }}{% endif %}{% if eventAt %}, {{ eventAt | time }}{% endif %}{{ unused_here | default(\"\") }}"
[fr.telegram]
text = "{{ price | euros }} {{ price | number }} {{ at | day }}"
[en.sms]
text = "{{ at | day }} {{ at | time }}, {{ at | date }}, {{ price | euros }}, {{ price | number }}"
[pt-BR.sms]
text = "{{ at }} {{ price }} {{ 'abcdef' | truncate(5) | upper }} {{ ['a', 'b'] | join('-') | capitalize }}"
"#;

#[test]
fn days_hours_and_amounts_are_said_in_the_reader_s_language_and_zone() {
    let bundle = with_template(SPOKEN);
    let content =
        json!({ "templateId": "T", "data": { "at": "2025-08-01T08:05:00+02:00", "price": 1234.5 } });
    let said = |context: Value| {
        let words = words(&bundle, context, content.clone(), Need::Send).unwrap();
        sms(&words).to_owned()
    };
    // An SMS has neither the accent nor the space that would cost a whole alphabet.
    assert_eq!(said(json!({})), "vendredi 1er aout 8h05, 1er aout 2025, 01/08/25 08:05, 1 234,50 €, 1 234,5");
    assert_eq!(
        said(
            json!({ "timezone": "America/Montreal", "prospectName": "Léa", "eventAt": "2025-11-14T15:00:00Z" })
        ),
        "vendredi 1er aout 2h05, 1er aout 2025, 01/08/25 02:05, 1 234,50 €, 1 234,5, Léa, 10h"
    );
    assert_eq!(said(json!({ "locale": "en" })), "Friday 1 August 8:05, 1 August 2025, €1,234.50, 1,234.5");
    assert!(said(json!({ "locale": "pt" })).ends_with("AB... A-b"));
    let words = words(&bundle, json!({}), content, Need::Send).unwrap();
    let telegram = words.rendering.unwrap().forms[Channel::Telegram].clone().unwrap().body;
    assert_eq!(telegram, "1\u{a0}234,50\u{a0}€ 1\u{a0}234,5 vendredi 1er août");
}

#[test]
fn what_is_in_words_already_stays() {
    let bundle = with_template(SPOKEN);
    let said = |at: &str, price: Value| {
        let content = json!({ "templateId": "T", "data": { "at": at, "price": price } });
        sms(&words(&bundle, json!({ "locale": "en" }), content, Need::Send).unwrap()).to_owned()
    };
    assert_eq!(said("tomorrow", json!("a lot")), "tomorrow tomorrow, tomorrow, a lot, a lot");
    assert_eq!(said("15h30", json!("-12")), "15h30 15:30, 15h30, €-12, -12");
    assert_eq!(
        said("2025-12-31", json!(0.005)),
        "Wednesday 31 December 2025-12-31, 31 December 2025, €0.01, 0.01"
    );
}

#[test]
fn the_language_is_the_request_s_else_the_tenant_s_else_any() {
    let template = |locales: &[&str]| {
        let forms: String = locales.iter().map(|l| format!("[{l}.sms]\ntext = \"{l}\"\n")).collect();
        with_template(&forms)
    };
    let chosen = |bundle: &Bundle, locale: Option<&str>| {
        let context = locale.map_or_else(|| json!({}), |locale| json!({ "locale": locale }));
        sms(&words(bundle, context, json!({ "templateId": "T" }), Need::Send).unwrap()).to_owned()
    };
    // The tenant's locale is fr.
    let both = template(&["en", "fr", "fr-CA"]);
    for (locale, expected) in [
        (None, "fr"),
        (Some("en"), "en"),
        (Some("en-GB"), "en"),
        (Some("EN_us"), "en"),
        (Some("fr-CA"), "fr-CA"),
        (Some("fr-FR"), "fr"),
        (Some("de"), "fr"),
        (Some("zz-top"), "fr"),
    ] {
        assert_eq!(chosen(&both, locale), expected, "{locale:?}");
    }
    let without = template(&["de", "en"]);
    assert_eq!(chosen(&without, None), "de");
    assert_eq!(chosen(&without, Some("en-US")), "en");
    assert_eq!(chosen(&template(&["fr-CA"]), None), "fr-CA");
}

fn decided(
    bundle: &Bundle,
    context: Value,
    content: Value,
) -> (Decision, Option<channel_orchestrator::domain::delivery::Plan>) {
    let mut request = json!({ "context": context, "content": content, "at": "2025-11-14T15:00:00+01:00" });
    let own = json!({
        "tenantId": "acme", "prospectId": "p", "prospectPhone": "06 12 34 56 78",
        "prospectEmail": "client@example.com", "prospectTelegram": "123456789",
    });
    for (key, value) in own.as_object().unwrap() {
        request["context"][key] = value.clone();
    }
    let asked = request::parse_value(request, Purpose::Explain).unwrap();
    let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
    let words = Words::of(bundle, &asked.request, Need::Send).unwrap();
    let facts = Facts::default();
    let input = DecisionInput {
        question: Question::of(&asked.request),
        reach: Reach::of(&contacts),
        words: &words,
        facts: &facts,
        at: asked.at.unwrap(),
        variant: None,
        generation: 0,
    };
    let decision = decide::decide(bundle, &input);
    let plan = decide::plan(bundle, &input, &decision, &contacts, &asked.request.preferences.fallback);
    (decision, plan)
}

#[test]
fn each_hop_carries_its_own_form() {
    let long = "x".repeat(400);
    let bundle = with_template(&format!(
        r#"
[fr.sms]
text = "court"
[fr.email]
subject = "Objet"
text = "{long}"
html = "<p>{long}</p>"
"#
    ));
    let (decision, plan) = decided(
        &bundle,
        json!({ "priority": { "level": "urgent" } }),
        json!({ "templateId": "T", "body": "ignored" }),
    );
    // The SMS form is short: nobody says that it is long, or rich.
    assert_eq!(decision.chosen, Some(Channel::Sms));
    let reasons: Vec<&str> = decision.channels.iter().map(|c| c.reason.as_str()).collect();
    assert!(!reasons.concat().contains("long messages") && !reasons.concat().contains("rich"), "{reasons:?}");
    let telegram = decision.channel(Channel::Telegram);
    assert_eq!(telegram.gates[0].gate, Gate::Content);
    assert_eq!(telegram.gates[0].reason, "the template T has no telegram form in fr");
    let hops = plan.unwrap().hops;
    let bodies: Vec<(Channel, &str)> =
        hops.iter().map(|hop| (hop.channel, hop.rendered.as_ref().unwrap().body.as_str())).collect();
    assert_eq!(bodies, [(Channel::Sms, "court"), (Channel::Email, long.as_str())]);
    assert_eq!(hops[1].rendered.as_ref().unwrap().subject.as_deref(), Some("Objet"));
}

#[test]
fn segments_cost_and_lengths_are_each_form_s_own() {
    let (long, sms) = ("y".repeat(5000), "x".repeat(170));
    let template = format!("[fr.sms]\ntext = \"{sms}\"\n[fr.email]\nsubject = \"o\"\ntext = \"{long}\"\n");
    let (decision, _) = decided(&with_template(&template), json!({}), json!({ "templateId": "T" }));
    assert_eq!(decision.channel(Channel::Sms).cost.to_string(), "0.10");
    assert_eq!(decision.chosen, Some(Channel::Email));
    assert!(decision.channel(Channel::Sms).reason.contains("SMS expensive for long messages"));
    // What an attachment needs is asked of the attachments that go along.
    let attachments = json!([{ "filename": "a.pdf", "content": "JVBERi0xLjQK" }]);
    let (decision, plan) = decided(
        &with_template(&template),
        json!({}),
        json!({ "templateId": "T", "attachments": attachments }),
    );
    assert_eq!(decision.channel(Channel::Sms).gates[0].reason, "sms carries no attachments");
    assert!(plan.unwrap().hops[0].rendered.is_some());
}

#[test]
fn html_that_only_email_has_counts_as_rich() {
    let bundle = with_template("[fr.email]\nsubject = \"o\"\ntext = \"t\"\nhtml = \"<p>t</p>\"\n");
    let (decision, _) = decided(&bundle, json!({}), json!({ "templateId": "T" }));
    assert!(decision.channel(Channel::Email).reason.contains("Email supports rich content"));
}
