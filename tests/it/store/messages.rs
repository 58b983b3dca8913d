//! Messages to put into a store; `benches/store.rs` uses them as well.

use channel_orchestrator::domain::{
    address::{Address, RawContacts},
    channel::Channel,
    decision::{ChannelDecision, Decision},
    delivery::{Counting, Hop, NewMessage, OnUnknown, Plan, Status, TrackingTerms},
    ids::{IdempotencyKey, MessageId, PolicyVersion, RecipientId, TenantId},
    message::{Content, MessageClass, MessageKind, MessageRequest, Origin, Preferences, Priority},
    money::MicroEuros,
};
use chrono::{DateTime, TimeDelta, Utc};

/// An instant of 15 November 2025, Paris, seconds after ten o'clock.
pub fn at(seconds: i64) -> DateTime<Utc> {
    "2025-11-15T09:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

pub fn tenant() -> TenantId {
    TenantId::parse("agency").unwrap()
}

pub fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}

pub const SMS_COST: MicroEuros = MicroEuros(50_000);

fn request() -> MessageRequest {
    MessageRequest {
        tenant: tenant(),
        recipient: RecipientId::parse("p-1").unwrap(),
        recipient_name: Some("Zoé".into()),
        contacts: RawContacts { phone: Some("06 12 34 56 78".into()), ..Default::default() },
        kind: Some(MessageKind::Notification),
        priority: Some(Priority::Urgent),
        send_within: Some(10),
        preferences: Preferences { preferred: vec![Channel::Email], ..Default::default() },
        time_zone: Some(chrono_tz::Europe::Paris),
        locale: Some("fr".into()),
        event_at: Some(at(7200)),
        tags: vec!["reminder".into()],
        origin: Origin::Api,
        consent: None,
        content: Content { body: "Rendez-vous à 15 h".into(), ..Default::default() },
        send_at: None,
        deadline: None,
        ordering_key: None,
    }
}

fn decision() -> Decision {
    let channel = |channel, score| ChannelDecision {
        channel,
        eligible: true,
        gates: vec![],
        score,
        confidence: 0.9,
        reason: "SMS best for urgent messages (98% open rate)".into(),
        held_until: None,
        held_reason: None,
        cost: SMS_COST,
        delivery_seconds: 5,
        notes: vec![],
        criteria: vec![],
    };
    Decision {
        tenant: tenant(),
        policy_version: PolicyVersion::parse(&"ab".repeat(32)).unwrap(),
        generation: 1,
        variant: None,
        strategy: None,
        strategy_errors: vec![],
        at: at(0),
        time_zone: "Europe/Paris".into(),
        priority: Priority::Urgent,
        chosen: Some(Channel::Sms),
        held_until: None,
        channels: vec![
            channel(Channel::Sms, 40.0),
            channel(Channel::Email, 25.123_456),
            channel(Channel::WhatsApp, 10.1),
            channel(Channel::Telegram, 0.0),
        ],
    }
}

fn hop(channel: Channel, address: Address) -> Hop {
    Hop {
        channel,
        address,
        drivers: vec!["sandbox".into()],
        from: Some("AGENCE".into()),
        from_name: None,
        reply_to: None,
        cost: SMS_COST,
        quiet_hours: None,
        french_legal_window: false,
        retry_delays: vec![60, 300, 900],
        after_retries: None,
        on_unknown: OnUnknown::ResendOnce,
        rendered: None,
    }
}

/// An SMS with an email to fall back to, queued ten o'clock sharp.
pub fn message() -> NewMessage {
    NewMessage {
        id: MessageId::new(),
        request: request(),
        decision: decision(),
        plan: Some(Plan {
            hops: vec![
                hop(Channel::Sms, Address::Phone("+33612345678".into())),
                hop(Channel::Email, Address::Email("zoe@example.fr".into())),
            ],
            not_before: None,
            held_reason: None,
            deadline: at(86_400),
            class: MessageClass::Transactional,
            time_zone: "Europe/Paris".into(),
            budget_time_zone: "Europe/Paris".into(),
            escalation: None,
            tracking: TrackingTerms::default(),
            priority: None,
        }),
        status: Status::Queued,
        status_reason: None,
        accepted_at: at(0),
        idempotency: None,
        counting: Counting { day: Some(at(0).date_naive()), broadcast: None },
    }
}

pub fn marketing() -> NewMessage {
    let mut message = message();
    message.request.kind = Some(MessageKind::Marketing);
    message.plan.as_mut().unwrap().class = MessageClass::Marketing;
    message
}

/// A message that waits until `until`.
pub fn held(until: DateTime<Utc>) -> NewMessage {
    let mut message = message();
    message.status = Status::Held;
    message.status_reason = Some("quiet hours until 08:00".into());
    message.plan.as_mut().unwrap().not_before = Some(until);
    message
}
