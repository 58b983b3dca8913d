//! Escalations as the policy plans them: behind the fallbacks, to a channel that may be used, in time for the event.

use channel_orchestrator::{
    decide::{self, DecisionInput},
    domain::{
        address::{Reach, read_contacts},
        channel::Channel,
        delivery::Plan,
        facts::Facts,
        question::Question,
    },
    policy::bundle::Bundle,
    policy::template::Words,
    request::{self, Purpose},
};
use serde_json::{Value, json};

use crate::{decisions::DAY, support::bundle};

fn plan(bundle: &Bundle, request: &Value) -> Plan {
    let asked = request::parse_value(request.clone(), Purpose::Explain).unwrap();
    let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
    let facts: Facts = asked.facts.clone().unwrap_or_default();
    let words = Words::plain(&asked.request.content);
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
    decide::plan(bundle, &input, &decision, &contacts, &asked.request.preferences.fallback).unwrap()
}

/// The reminder of the day before: by email, and by SMS if nobody has opened it after six hours.
fn reminder(context: Value) -> Value {
    let mut request = json!({
        "context": {
            "tenantId": "acme", "prospectId": "p", "messageType": "appointment", "tags": ["appointment_reminder"],
            "prospectEmail": "client@example.com", "prospectPhone": "+33612345678",
            "eventAt": "2025-11-15T15:00:00+01:00"
        },
        "content": { "subject": "Rendez-vous", "body": "À demain, 15 h" }, "at": DAY
    });
    for (key, value) in context.as_object().unwrap() {
        request["context"][key] = value.clone();
    }
    request
}

#[test]
fn the_shipped_reminder_is_escalated_behind_its_fallback() {
    let plan = plan(&bundle(""), &reminder(json!({})));
    let hops: Vec<Channel> = plan.hops.iter().map(|hop| hop.channel).collect();
    assert_eq!(hops, [Channel::Email, Channel::Sms, Channel::Sms]);
    let escalation = plan.escalation.clone().unwrap();
    assert_eq!((escalation.hop, escalation.after_seconds), (2, 6 * 3600));
    assert_eq!(escalation.unless, "opened");
    assert_eq!(plan.fallback_hops(), 2);
    let sent_at = DAY.parse().unwrap();
    assert!(plan.escalation_at(0, sent_at).is_some());
    assert_eq!(plan.escalation_at(1, sent_at), None, "by SMS already");
}

#[test]
fn no_escalation_is_planned_that_could_not_help() {
    let bundle = bundle("");
    let planned = |context: Value| plan(&bundle, &reminder(context)).escalation.is_some();
    assert!(planned(json!({})));
    assert!(!planned(json!({"prospectPhone": "12"})), "no number");
    assert!(!planned(json!({"preferences": {"disabledChannels": ["sms"]}})), "switched off by the person");
    assert!(!planned(json!({"prospectEmail": null})), "by SMS anyway");
    assert!(!planned(json!({"eventAt": "2025-11-14T19:00:00+01:00"})), "after the appointment");
    // What passes is looked at when it is to be sent: quiet hours, a driver that is down, a used-up budget.
    let mut down = reminder(json!({}));
    down["facts"] = json!({"drivers": {"sms": {"configured": true, "healthy": false, "detail": "down"}}});
    let plan = plan(&bundle, &down);
    let hops: Vec<Channel> = plan.hops.iter().map(|hop| hop.channel).collect();
    assert_eq!((hops, plan.fallback_hops()), (vec![Channel::Email, Channel::Sms], 1));
}
