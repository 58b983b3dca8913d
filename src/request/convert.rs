//! From the wire's shapes to the domain: required fields, zones, times, sizes, characters.
//!
//! Gathers every fault and stops at none. Addresses are passed on unread.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveTime, Utc};

use super::{Asked, Fault, Purpose, wire};
use crate::domain::{
    address::RawContacts,
    channel::{Channel, PerChannel},
    facts::{DriverHealth, EngagementHistory, Facts, SentLately, Spend},
    ids::{InvalidId, RecipientId, TenantId},
    message::{Attachment, Content, MessageRequest, Origin, Preferences},
    money::MicroEuros,
    suggest::nearest,
    time::{parse_time_of_day, parse_time_zone},
};

/// Subject: RFC 5322's line limit.
pub(super) const SUBJECT_MAX: usize = 998;
pub(super) const NAME_MAX: usize = 200;
pub(super) const TAGS_MAX: usize = 50;
pub(super) const TAG_MAX: usize = 64;
pub(super) const LOCALE_MAX: usize = 35;
pub(super) const ORDERING_KEY_MAX: usize = 255;
const ATTACHMENTS_MAX: usize = 20;
/// Minutes: thirty days.
pub(super) const SEND_WITHIN_MAX: u32 = 43_200;

/// Collects faults while values are read.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        self.0.push(Fault { pointer: pointer.to_owned(), detail: detail.into(), hint: None });
    }

    fn add_with(&mut self, pointer: &str, detail: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Fault { pointer: pointer.to_owned(), detail: detail.into(), hint: Some(hint.into()) });
    }

    fn id<T>(
        &mut self,
        pointer: &str,
        text: Option<String>,
        parse: fn(&str) -> Result<T, InvalidId>,
    ) -> Option<T> {
        let Some(text) = text else {
            self.add(pointer, "required, and missing");
            return None;
        };
        parse(&text).map_err(|wrong| self.add(pointer, wrong.to_string())).ok()
    }

    fn instant(&mut self, pointer: &str, text: Option<String>) -> Option<DateTime<Utc>> {
        let text = text?;
        match DateTime::parse_from_rfc3339(&text) {
            Ok(at) => Some(at.with_timezone(&Utc)),
            Err(_) => {
                self.add_with(
                    pointer,
                    format!("{text:?} is not an instant"),
                    "write RFC 3339 with an offset, such as 2025-11-14T23:00:00+01:00",
                );
                None
            }
        }
    }

    fn time_of_day(&mut self, pointer: &str, text: Option<String>) -> Option<NaiveTime> {
        let text = text?;
        let time = parse_time_of_day(&text);
        if time.is_none() {
            self.add_with(pointer, format!("{text:?} is not a time of day"), "write HH:MM, 00:00 to 23:59");
        }
        time
    }

    /// One line of text: no control characters, at most `most` characters.
    fn line(&mut self, pointer: &str, text: Option<String>, most: usize) -> Option<String> {
        let text = text?;
        if text.chars().count() > most {
            self.add(pointer, format!("longer than {most} characters"));
        } else if text.chars().any(char::is_control) {
            self.add(pointer, "holds a control character (a line break, for example)");
        }
        Some(text)
    }

    /// Several lines of text: no control characters but line breaks and tabs (reliability.md T9).
    fn text(&mut self, pointer: &str, text: Option<String>) -> Option<String> {
        let text = text?;
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.add(pointer, "holds a control character other than a line break or a tab");
        }
        Some(text)
    }
}

/// The request, or everything that is wrong with it.
pub fn to_domain(wire: wire::Request, purpose: Purpose) -> Result<Asked, Vec<Fault>> {
    let mut faults = Faults::default();
    refuse_what_is_out_of_place(&wire, purpose, &mut faults);
    let content = content(wire.content, purpose, &mut faults);
    let at = faults.instant("/at", wire.at);
    let send_at = faults.instant("/sendAt", wire.send_at);
    let deadline = faults.instant("/deadline", wire.deadline);
    if let (Some(send_at), Some(deadline)) = (send_at, deadline)
        && deadline <= send_at
    {
        faults.add("/deadline", "is not after sendAt");
    }
    let ordering_key = faults.line("/orderingKey", wire.ordering_key, ORDERING_KEY_MAX);
    let facts = wire.facts.map(|given| facts(given, &mut faults));
    let Some(context) = wire.context else {
        faults.add("/context", "required, and missing");
        return Err(faults.0);
    };
    let request = context_to_request(context, content, &mut faults);
    match request {
        Some(request) if faults.0.is_empty() => Ok(Asked {
            request: MessageRequest { send_at, deadline, ordering_key, ..request },
            at,
            explain: wire.explain.unwrap_or(false),
            variant: wire.variant,
            facts,
        }),
        _ => Err(faults.0),
    }
}

/// What some routes take and others do not (details.md section 2).
fn refuse_what_is_out_of_place(wire: &wire::Request, purpose: Purpose, faults: &mut Faults) {
    let message = purpose == Purpose::Message;
    let only_decisions = "only decisions and explanations take it; remove it to send";
    for (given, pointer) in [(wire.at.is_some(), "/at"), (wire.explain.is_some(), "/explain")] {
        if given && message {
            faults.add_with(pointer, "not allowed when sending", only_decisions);
        }
    }
    if wire.facts.is_some() && purpose != Purpose::Explain {
        faults.add_with(
            "/facts",
            "not allowed here",
            "facts can be given to `orchestrator --explain` and to policy tests only",
        );
    }
}

fn context_to_request(
    context: wire::Context,
    content: Content,
    faults: &mut Faults,
) -> Option<MessageRequest> {
    let tenant = faults.id("/context/tenantId", context.tenant_id, TenantId::parse);
    let recipient = faults.id("/context/prospectId", context.prospect_id, RecipientId::parse);
    let recipient_name = faults.line("/context/prospectName", context.prospect_name, NAME_MAX);
    let priority = context.priority.unwrap_or_default();
    if priority.send_within.is_some_and(|m| !(1..=SEND_WITHIN_MAX).contains(&m)) {
        faults.add(
            "/context/priority/sendWithin",
            format!("expected whole minutes, 1 to {SEND_WITHIN_MAX} (thirty days)"),
        );
    }
    let time_zone = context.timezone.and_then(|name| {
        let zone = parse_time_zone(&name);
        if zone.is_none() {
            let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let hint = nearest(&name, known).map_or_else(
                || "use an IANA name such as Europe/Paris".to_owned(),
                |meant| format!("did you mean {meant}?"),
            );
            faults.add_with("/context/timezone", format!("{name:?} is not a time zone"), hint);
        }
        zone
    });
    let locale = faults.line("/context/locale", context.locale, LOCALE_MAX);
    let event_at = faults.instant("/context/eventAt", context.event_at);
    let preferences = preferences(context.preferences.unwrap_or_default(), faults);
    let tags = tags(context.tags.unwrap_or_default(), faults);
    Some(MessageRequest {
        tenant: tenant?,
        recipient: recipient?,
        recipient_name,
        contacts: RawContacts {
            phone: context.prospect_phone,
            email: context.prospect_email,
            whatsapp: context.prospect_whats_app,
            telegram: context.prospect_telegram,
        },
        kind: context.message_type,
        priority: priority.level,
        send_within: priority.send_within,
        preferences,
        time_zone,
        locale,
        event_at,
        tags,
        origin: context.origin.unwrap_or(Origin::Api),
        consent: context.consent,
        content,
        send_at: None,
        deadline: None,
        ordering_key: None,
    })
}

fn preferences(wire: wire::Preferences, faults: &mut Faults) -> Preferences {
    let at = |field: &str| format!("/context/preferences/{field}");
    Preferences {
        preferred: wire.preferred_channels.unwrap_or_default(),
        fallback: wire.fallback_channels.unwrap_or_default(),
        disabled: wire.disabled_channels.unwrap_or_default(),
        quiet_start: faults.time_of_day(&at("quietHoursStart"), wire.quiet_hours_start),
        quiet_end: faults.time_of_day(&at("quietHoursEnd"), wire.quiet_hours_end),
        allow_sms_in_quiet_hours: wire.allow_sms_during_quiet_hours.unwrap_or(false),
    }
}

fn tags(tags: Vec<String>, faults: &mut Faults) -> Vec<String> {
    if tags.len() > TAGS_MAX {
        faults.add("/context/tags", format!("{} tags; at most {TAGS_MAX}", tags.len()));
    }
    for (index, tag) in tags.iter().enumerate() {
        if tag.is_empty() || tag.chars().count() > TAG_MAX || tag.chars().any(char::is_control) {
            let detail = format!("expected 1 to {TAG_MAX} characters, none of them a control character");
            faults.add(&format!("/context/tags/{index}"), detail);
        }
    }
    tags
}

fn content(wire: Option<wire::Content>, purpose: Purpose, faults: &mut Faults) -> Content {
    let wire = wire.unwrap_or_default();
    let subject = faults.line("/content/subject", wire.subject, SUBJECT_MAX);
    let body = faults.text("/content/body", wire.body).unwrap_or_default();
    let html = faults.text("/content/html", wire.html);
    let shaped = |id: &str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if wire.template_id.as_deref().is_some_and(|id| !shaped(id)) {
        faults.add("/content/templateId", "expected 1 to 64 of A-Z, a-z, 0-9, _ and -");
    }
    if purpose == Purpose::Message
        && body.trim().is_empty()
        && html.as_deref().is_none_or(|html| html.trim().is_empty())
        && wire.template_id.is_none()
    {
        faults.add("/content", "a message needs a body, html or a templateId");
    }
    let attachments = wire.attachments.unwrap_or_default();
    if attachments.len() > ATTACHMENTS_MAX {
        let detail = format!("{} attachments; at most {ATTACHMENTS_MAX}", attachments.len());
        faults.add("/content/attachments", detail);
    }
    let attachments =
        attachments.into_iter().enumerate().filter_map(|(at, file)| attachment(at, file, faults)).collect();
    Content {
        subject,
        body,
        html,
        template: wire.template_id,
        data: wire.data.unwrap_or_default(),
        attachments,
    }
}

fn attachment(index: usize, wire: wire::Attachment, faults: &mut Faults) -> Option<Attachment> {
    let at = |field: &str| format!("/content/attachments/{index}/{field}");
    let name_is_plain = |name: &str| {
        (1..=255).contains(&name.len())
            && name != ".."
            && name != "."
            && !name.chars().any(|c| c.is_control() || c == '/' || c == '\\')
    };
    match wire.filename.as_deref() {
        None => faults.add(&at("filename"), "required, and missing"),
        Some(name) if !name_is_plain(name) => {
            faults.add(&at("filename"), "expected a plain file name, without a folder");
        }
        Some(_) => {}
    }
    let kind = wire.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    if !kind.split_once('/').is_some_and(|(major, minor)| token(major) && token(minor)) {
        faults.add(&at("contentType"), format!("{kind:?} is not a media type such as application/pdf"));
    }
    let bytes = match wire.content.map(|content| STANDARD.decode(content)) {
        None => {
            faults.add(&at("content"), "required, and missing");
            None
        }
        Some(Err(wrong)) => {
            faults.add(&at("content"), format!("not base64: {wrong}"));
            None
        }
        Some(Ok(bytes)) => Some(bytes),
    };
    Some(Attachment { file_name: wire.filename?, content_type: kind, bytes: bytes? })
}

fn facts(wire: wire::Facts, faults: &mut Faults) -> Facts {
    let mut facts = Facts::default();
    for (channel, history) in wire.history.unwrap_or_default() {
        let history = EngagementHistory {
            received: history.received.unwrap_or(0),
            engaged: history.engaged.unwrap_or(0),
            average: history.average.unwrap_or(0.0),
        };
        let at = format!("/facts/history/{channel}");
        if history.engaged > history.received {
            faults.add(&format!("{at}/engaged"), "more than received");
        }
        if !(0.0..=1.0).contains(&history.average) {
            faults.add(&format!("{at}/average"), "expected a rate, 0 to 1");
        }
        facts.history[channel] = Some(history);
    }
    for (channel, reason) in wire.suppressions.unwrap_or_default() {
        facts.suppressed[channel] = Some(reason);
    }
    for (channel, opted_in) in wire.opted_in.unwrap_or_default() {
        facts.opted_in[channel] = Some(opted_in);
    }
    for (channel, open) in wire.in_service_window.unwrap_or_default() {
        facts.in_service_window[channel] = Some(open);
    }
    for (channel, driver) in wire.drivers.unwrap_or_default() {
        facts.drivers[channel] = DriverHealth {
            configured: driver.configured.unwrap_or(true),
            healthy: driver.healthy.unwrap_or(true),
            detail: driver.detail,
        };
    }
    let sent = wire.sent_lately.unwrap_or_default();
    facts.sent_lately = SentLately {
        day: sent.day.unwrap_or_default(),
        week: sent.week.unwrap_or_default(),
        type_day: sent.type_day.unwrap_or_default(),
        type_week: sent.type_week.unwrap_or_default(),
    };
    facts.spend = spend(wire.spend.unwrap_or_default(), faults);
    facts
}

fn spend(wire: wire::Spend, faults: &mut Faults) -> Spend {
    let mut euros = |field: &str, given: Option<f64>| {
        let given = given?;
        let amount = MicroEuros::from_euros(given);
        if amount.is_none() {
            faults.add(&format!("/facts/spend/{field}"), "expected an amount in euros, 0 or more");
        }
        amount
    };
    let mut channels_today = PerChannel::<MicroEuros>::default();
    let by_channel: BTreeMap<Channel, f64> = wire.channels_today.unwrap_or_default();
    for (channel, given) in by_channel {
        channels_today[channel] = euros(&format!("channelsToday/{channel}"), Some(given)).unwrap_or_default();
    }
    Spend {
        today: euros("today", wire.today).unwrap_or_default(),
        this_month: euros("thisMonth", wire.this_month).unwrap_or_default(),
        origin_today: euros("originToday", wire.origin_today).unwrap_or_default(),
        origin_this_month: euros("originThisMonth", wire.origin_this_month).unwrap_or_default(),
        channels_today,
    }
}
