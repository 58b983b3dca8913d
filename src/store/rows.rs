//! Rows to domain and back.
//!
//! What does not parse is `Corrupt`, with the name of what it was to be and never with its text: rows hold
//! personal data. Nothing is repaired or guessed.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    checksums,
    counters::Labels,
    database::{Fault, Row, Value, values},
    decisions,
};
use crate::domain::{
    self,
    channel::Channel,
    delivery::{
        Attempt, AttemptError, AttemptStatus, MessageRecord, NewMessage, Plan, Status, TimelineEvent,
    },
    ids::{AttemptId, InvalidId, MessageId},
    message::MessageRequest,
    money::MicroEuros,
};

/// A value that has no JSON.
pub(super) struct Unwritable(pub(super) String);

/// What a new row of `messages` says; the rest are the defaults.
pub(super) const NEW_MESSAGE_COLUMNS: &str = "id, tenant, recipient, status, status_reason, class, origin, \
     accepted_at, due_at, deadline, ordering_key, day, kind, template, variant, campaign, campaign_row, chosen, \
     segments, always_sms";

/// What a new message is counted under.
pub(super) fn labels(message: &NewMessage) -> Labels {
    let (request, counting) = (&message.request, &message.counting);
    Labels {
        tenant: request.tenant.to_string(),
        day: counting.day.map(|day| day.format("%Y-%m-%d").to_string()).unwrap_or_default(),
        kind: request.kind.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        template: request.content.template.clone().unwrap_or_default(),
        campaign: counting.broadcast.map(|(id, _)| id.to_string()).unwrap_or_default(),
        variant: message.decision.variant.clone().unwrap_or_default(),
    }
}

/// The SMS segments of what would go by SMS.
fn segments(message: &NewMessage) -> u32 {
    let sms = message.plan.iter().flat_map(|plan| &plan.hops).find(|hop| hop.channel == Channel::Sms);
    let rendered = sms.and_then(|hop| hop.rendered.as_ref()).map(|rendered| rendered.body.as_str());
    domain::segments::segments(rendered.unwrap_or(&message.request.content.body)).1
}

pub(super) fn message_values(message: &NewMessage) -> Vec<Value> {
    let request = &message.request;
    let labels = labels(message);
    values![
        message.id,
        &request.tenant,
        request.recipient.as_str(),
        message.status,
        message.status_reason.as_deref(),
        request.class().as_str(),
        request.origin.as_str(),
        message.accepted_at,
        message.due_at(),
        message.plan.as_ref().map(|plan| plan.deadline),
        request.ordering_key.as_deref(),
        labels.day,
        labels.kind,
        labels.template,
        labels.variant,
        labels.campaign,
        message.counting.broadcast.map_or(0, |(_, row)| row),
        message.decision.chosen.map_or("", Channel::as_str),
        segments(message),
        message.decision.channel(Channel::Sms).cost,
    ]
}

/// The columns of `bodies`, as `body_values` fills them.
pub(super) const BODY_COLUMNS: &str = "message_id, request, decision, plan, checksum, decision_checksum";

/// The values of a row of `bodies`.
pub(super) fn body_values(message: &NewMessage) -> Result<Vec<Value>, Unwritable> {
    let plan = message.plan.as_ref().map(to_json).transpose()?;
    Ok(summed(message.id, to_json(&message.request)?, decisions::write(&message.decision)?, plan))
}

/// A body's parts with their sums.
pub(super) fn summed(id: MessageId, request: String, decision: String, plan: Option<String>) -> Vec<Value> {
    let sent = checksums::body([request.as_str()].into_iter().chain(plan.as_deref()));
    let decided = checksums::body([decision.as_str()]);
    values![id, request, decision, plan, sent, decided]
}

/// What is sent, as it was accepted.
pub(super) fn sent(
    request: &str,
    plan: Option<&str>,
    sum: i64,
) -> Result<(MessageRequest, Option<Plan>), Fault> {
    whole(request, plan, sum)?;
    Ok((self::request(request)?, plan.map(self::plan).transpose()?))
}

/// The plan of a body, of which `request`, `plan` and `checksum` are read from this column on.
pub(super) fn planned(row: &Row, first: usize) -> Result<Option<Plan>, Fault> {
    let (request, plan) = (row.text(first)?, row.maybe_text(first + 1)?);
    whole(&request, plan.as_deref(), row.int(first + 2)?)?;
    plan.map(|text| self::plan(&text)).transpose()
}

fn whole(request: &str, plan: Option<&str>, sum: i64) -> Result<(), Fault> {
    if checksums::is_whole(sum, [request].into_iter().chain(plan)) {
        return Ok(());
    }
    Err(Fault::Corrupt("a body: its checksum is wrong".into()))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, Unwritable> {
    serde_json::to_string(value).map_err(|error| Unwritable(error.to_string()))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        // Category and place only: the message of a serde error quotes the text.
        Fault::Corrupt(format!("{what}: {:?} at column {}", error.classify(), error.column()))
    })
}

/// An identifier that was written by us.
pub(super) fn parsed<T>(text: String, parse: fn(&str) -> Result<T, InvalidId>) -> Result<T, Fault> {
    parse(&text).map_err(|_| Fault::Corrupt("an identifier".into()))
}

pub(super) fn instant(millis: i64) -> Result<DateTime<Utc>, Fault> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| Fault::Corrupt("an instant".into()))
}

pub(super) fn maybe_instant(millis: Option<i64>) -> Result<Option<DateTime<Utc>>, Fault> {
    millis.map(instant).transpose()
}

pub(super) fn small(number: i64) -> Result<u16, Fault> {
    u16::try_from(number).map_err(|_| Fault::Corrupt("a small number".into()))
}

pub(super) fn status(word: &str) -> Result<Status, Fault> {
    Status::parse(word).ok_or_else(|| Fault::Corrupt("a status".into()))
}

pub(super) fn channel(word: &str) -> Result<Channel, Fault> {
    Channel::parse(word).ok_or_else(|| Fault::Corrupt("a channel".into()))
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A SHA-256 in hex.
pub(super) fn hash(hex: &str) -> Result<[u8; 32], Fault> {
    let wrong = || Fault::Corrupt("a SHA-256".into());
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return Err(wrong());
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// A message with its body, as `MESSAGE` selects them.
pub(super) static MESSAGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT m.id, m.status, m.status_reason, m.accepted_at, m.due_at, m.hop, m.sent_via, \
         m.possible_duplicate, b.request, b.decision, b.plan, b.checksum, b.decision_checksum, m.attempts, \
         CAST(CASE WHEN m.checksum = {} THEN 1 ELSE 0 END AS BIGINT) \
         FROM messages m JOIN bodies b ON b.message_id = m.id",
        checksums::MESSAGE
    )
});

/// How many attempts the message's own row counts: so many are kept, or more by now.
pub(super) fn attempts_of(row: &Row) -> Result<usize, Fault> {
    small(row.int(13)?).map(usize::from)
}

pub(super) fn message(row: &Row) -> Result<MessageRecord, Fault> {
    if row.int(14)? == 0 {
        return Err(Fault::Corrupt("a message: its checksum is wrong".into()));
    }
    if !checksums::is_whole(row.int(12)?, [row.text(9)?.as_str()]) {
        return Err(Fault::Corrupt("a decision: its checksum is wrong".into()));
    }
    let (request, plan) = sent(&row.text(8)?, row.maybe_text(10)?.as_deref(), row.int(11)?)?;
    let decision = decisions::read(&row.text(9)?)?;
    if Channel::ALL.iter().any(|channel| !decision.channels.iter().any(|c| c.channel == *channel)) {
        return Err(Fault::Corrupt("a decision: not every channel is in it".into()));
    }
    Ok(MessageRecord {
        id: parsed(row.text(0)?, MessageId::parse)?,
        status: status(&row.text(1)?)?,
        status_reason: row.maybe_text(2)?,
        accepted_at: instant(row.int(3)?)?,
        due_at: maybe_instant(row.maybe_int(4)?)?,
        hop: small(row.int(5)?)?,
        sent_via: row.maybe_text(6)?.map(|word| channel(&word)).transpose()?,
        possible_duplicate: row.int(7)? != 0,
        request,
        decision,
        plan,
        attempts: Vec::new(),
        timeline: Vec::new(),
    })
}

pub(super) fn request(json: &str) -> Result<MessageRequest, Fault> {
    from_json(json, "a request")
}

pub(super) fn plan(json: &str) -> Result<Plan, Fault> {
    from_json(json, "a plan")
}

pub(super) fn attempt_error(json: &str) -> Result<AttemptError, Fault> {
    from_json(json, "an attempt's error")
}

/// The columns that `attempt` reads.
pub(super) static ATTEMPT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "message_id, id, number, hop, channel, driver, status, started_at, finished_at, provider_message_id, \
         error, cost, CAST(CASE WHEN checksum = {} THEN 1 ELSE 0 END AS BIGINT)",
        checksums::ATTEMPT
    )
});

/// An attempt, with the message that it belongs to.
pub(super) fn attempt(row: &Row) -> Result<(MessageId, Attempt), Fault> {
    if row.int(12)? == 0 {
        return Err(Fault::Corrupt("an attempt: its checksum is wrong".into()));
    }
    let word = row.text(6)?;
    let error: Option<AttemptError> = row.maybe_text(10)?.map(|text| attempt_error(&text)).transpose()?;
    let attempt = Attempt {
        id: parsed(row.text(1)?, AttemptId::parse)?,
        number: small(row.int(2)?)?,
        hop: small(row.int(3)?)?,
        channel: channel(&row.text(4)?)?,
        driver: row.text(5)?,
        status: AttemptStatus::parse(&word).ok_or_else(|| Fault::Corrupt("an attempt's status".into()))?,
        started_at: instant(row.int(7)?)?,
        finished_at: maybe_instant(row.maybe_int(8)?)?,
        provider_message_id: row.maybe_text(9)?,
        error,
        cost: MicroEuros(row.int(11)?),
    };
    Ok((parsed(row.text(0)?, MessageId::parse)?, attempt))
}

/// The columns that `event` reads.
pub(super) const EVENT: &str = "message_id, at, event, detail";

pub(super) fn event(row: &Row) -> Result<(MessageId, TimelineEvent), Fault> {
    let event = TimelineEvent { at: instant(row.int(1)?)?, event: row.text(2)?, detail: row.maybe_text(3)? };
    Ok((parsed(row.text(0)?, MessageId::parse)?, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Earlier builds wrote everything out, what says nothing too.
    #[test]
    fn what_says_nothing_is_not_written_and_reads_as_nothing() {
        let request = r#"{"tenant":"agency","recipient":"p-1","recipient_name":null,"contacts":{"phone":"06 12 34 56 78","email":null,"whatsapp":null,"telegram":null},"kind":null,"priority":null,"send_within":null,"preferences":{"preferred":["email"],"fallback":[],"disabled":[],"quiet_start":null,"quiet_end":null,"allow_sms_in_quiet_hours":false},"time_zone":null,"locale":null,"event_at":null,"tags":[],"origin":"api","consent":null,"content":{"subject":null,"body":"null","html":null,"template":null,"data":{"a":null},"attachments":[]},"send_at":null,"deadline":null,"ordering_key":null}"#;
        let plan = r#"{"hops":[{"channel":"sms","address":{"kind":"phone","value":"+33612345678"},"drivers":[],"from":null,"from_name":null,"reply_to":null,"cost":0.05,"quiet_hours":null,"french_legal_window":false,"retry_delays":[60],"after_retries":null,"on_unknown":"hold","rendered":null}],"not_before":null,"held_reason":null,"deadline":"2025-11-16T09:00:00Z","class":"transactional","time_zone":"Europe/Paris","budget_time_zone":"Europe/Paris","escalation":null,"priority":null,"tracking":{"engagement":false,"hosts":[]}}"#;
        let old: MessageRequest = from_json(request, "a request").unwrap();
        let new = to_json(&old).map_err(|why| why.0).unwrap();
        assert_eq!(
            new,
            r#"{"tenant":"agency","recipient":"p-1","contacts":{"phone":"06 12 34 56 78"},"preferences":{"preferred":["email"],"fallback":[],"disabled":[],"allow_sms_in_quiet_hours":false},"tags":[],"origin":"api","content":{"body":"null","data":{"a":null},"attachments":[]}}"#
        );
        assert_eq!(from_json::<MessageRequest>(&new, "a request").unwrap(), old);
        let old: Plan = from_json(plan, "a plan").unwrap();
        let new = to_json(&old).map_err(|why| why.0).unwrap();
        assert!(new.len() < plan.len() - 150 && !new.contains("null"), "{new}");
        assert_eq!(from_json::<Plan>(&new, "a plan").unwrap(), old);
    }
}
