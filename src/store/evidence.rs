//! What came to light of an attempt after its answer was lost, or after it was handed off: adopted, and followed.
//!
//! For the transactions of others (a receipt is kept in the same one). A verified word that an attempt was taken
//! settles that attempt, and the message where nothing of it was done since; an open attempt is never touched, and
//! a provider's name for a message that belongs to another attempt is refused (reliability.md 5.2, F39).

use chrono::{DateTime, Utc};

use super::{
    attempts::spend,
    database::{Fault, Link, values},
    rows,
    steps::Step,
};
use crate::domain::{
    channel::Channel,
    delivery::{AttemptStatus, Next, Plan},
    ids::{AttemptId, MessageId, TenantId},
    money::MicroEuros,
};

/// A verified word that an attempt was taken.
pub(super) struct Evidence {
    pub(super) message: MessageId,
    pub(super) attempt: AttemptId,
    pub(super) provider_message_id: Option<String>,
    pub(super) cost: Option<MicroEuros>,
}

/// What became of the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adopted {
    /// The attempt is accepted and its message `sent`.
    Sent,
    /// The attempt is accepted; its message went its own way meanwhile, or is at its end.
    AttemptOnly,
    /// Nothing was unknown of it.
    Nothing,
    /// The provider's name for it belongs to another attempt: nothing was changed, and somebody must look.
    IdTaken,
}

/// Settles an attempt whose outcome is unknown as accepted. What is told of it on the timeline is the caller's affair.
pub(super) async fn adopt(
    link: &mut Link<'_>,
    evidence: &Evidence,
    now: DateTime<Utc>,
) -> Result<Adopted, Fault> {
    let (message, attempt) = (evidence.message, evidence.attempt);
    let sql = "SELECT a.credential, a.number, a.hop, a.channel, m.tenant, m.origin, m.attempts, b.request, \
               b.plan, b.checksum \
               FROM attempts a JOIN messages m ON m.id = a.message_id JOIN bodies b ON b.message_id = m.id \
               WHERE a.message_id = $1 AND a.id = $2 AND a.status = 'unknown'";
    let Some(row) = link.row(sql, values![message, attempt]).await? else { return Ok(Adopted::Nothing) };
    if let Some(name) = &evidence.provider_message_id
        && is_owned_by_another(link, rows::channel(&row.text(3)?)?, &row.text(0)?, name, attempt).await?
    {
        return Ok(Adopted::IdTaken);
    }
    let sql = "UPDATE attempts SET status = 'accepted', error = NULL, \
               provider_message_id = COALESCE($3, provider_message_id), cost = COALESCE($4, cost) \
               WHERE message_id = $1 AND id = $2 AND status = 'unknown' RETURNING day";
    let cost = evidence.cost.map(|cost| cost.0);
    let before = "SELECT cost FROM attempts WHERE message_id = $1 AND id = $2";
    let before = link.row(before, values![message, attempt]).await?.map(|row| row.int(0)).transpose()?;
    let changed =
        link.row(sql, values![message, attempt, evidence.provider_message_id.as_deref(), cost]).await?;
    let Some(changed) = changed else { return Ok(Adopted::Nothing) };
    let channel = rows::channel(&row.text(3)?)?;
    link.tally().settled(message, channel, AttemptStatus::Accepted);
    if let (Some(cost), Some(before)) = (cost, before) {
        let tenant = rows::parsed(row.text(4)?, TenantId::parse)?;
        spend(link, &tenant, &row.text(5)?, channel, &changed.text(0)?, cost - before)?;
        link.tally().spent(message, channel, &changed.text(0)?, cost - before);
    }
    if row.int(1)? != row.int(6)? {
        return Ok(Adopted::AttemptOnly);
    }
    let hop = rows::small(row.int(2)?)?;
    let due = rows::planned(&row, 7)?.and_then(|plan: Plan| plan.escalation_at(hop, now));
    // A resend that waits for its turn is not needed any more; a look-up in progress is overtaken.
    let sql = "UPDATE messages SET status = 'sent', status_reason = NULL, due_at = $2, polls = 0, sent_via = $3, \
               possible_duplicate = CASE WHEN status IN ('retrying', 'sending', 'held', 'queued') THEN 0 ELSE possible_duplicate END, \
               fence = fence + 1, lease_owner = NULL, lease_until = NULL \
               WHERE id = $1 AND open_attempt IS NULL AND hop = $4 \
               AND status IN ('unknown', 'retrying', 'sending', 'held', 'queued', 'unresolved')";
    link.notes().message(message);
    let held = link.run(sql, values![message, due, channel, hop]).await? > 0;
    Ok(if held { Adopted::Sent } else { Adopted::AttemptOnly })
}

/// Whether this credential's provider gave that name to another attempt. Asked where names come once: mail relays name
/// what is in their queue, and Telegram counts in each chat.
pub(super) async fn is_owned_by_another(
    link: &mut Link<'_>,
    channel: Channel,
    credential: &str,
    provider_message_id: &str,
    attempt: AttemptId,
) -> Result<bool, Fault> {
    if !matches!(channel, Channel::Sms | Channel::WhatsApp) || credential.is_empty() {
        return Ok(false);
    }
    let sql = "SELECT id FROM attempts WHERE credential = $1 AND provider_message_id = $2 AND id <> $3";
    Ok(link.row(sql, values![credential, provider_message_id, attempt]).await?.is_some())
}

/// Writes what a receipt of non-delivery leads to (`delivery::machine::after_receipt`), where the message still is
/// `sent` at that hop and nothing of it is open; false where it is not, and the caller looks at it anew.
pub(super) async fn follow(
    link: &mut Link<'_>,
    message: MessageId,
    hop: u16,
    plan: &Plan,
    next: &Next,
    now: DateTime<Utc>,
) -> Result<bool, Fault> {
    let step = Step::from(hop, plan, next, None, now);
    let held = step.write_after_receipt(link, message, hop).await?;
    if held {
        step.tell(link, message, false, now).await?;
    }
    Ok(held)
}
