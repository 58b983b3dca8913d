//! A message's next step, as its row has it: status, timer, hop, counts.
//!
//! What the step is, was decided elsewhere; here it is only written, never over an end (I8), and never a resend of
//! what is known to have arrived. Whoever held the message before loses it by the fence.

use chrono::{DateTime, Utc};

use super::{
    Claimed, Due,
    database::{Fault, Link, values},
    queue::event,
};
use crate::domain::{
    channel::Channel,
    delivery::{Next, Plan, Status},
    ids::{AttemptId, MessageId},
    message::MessageClass,
};

const MARKETING: MessageClass = MessageClass::Marketing;

/// A message's row after its next step.
pub(super) struct Step {
    status: Status,
    pub(super) reason: Option<String>,
    due_at: Option<DateTime<Utc>>,
    hop: u16,
    new_hop: bool,
    resend: bool,
    sent_via: Option<Channel>,
    /// It goes back to where it stood when it was sent, or stays there.
    stays: bool,
    escalates: bool,
    /// One more look-up is over.
    polled: bool,
    /// Only while the last attempt still is unknown.
    needs_unknown: bool,
    /// The channel of the hop that it stood at.
    leaves: Option<Channel>,
    /// None: nothing to tell on the timeline.
    event: Option<&'static str>,
}

impl Step {
    /// A second resend, or one of marketing, is never written, whoever asks for it (I7): a person decides.
    pub(super) fn new(claimed: &Claimed, next: &Next, sent_via: Option<Channel>, now: DateTime<Utc>) -> Self {
        if let Next::ResendAt { reason, .. } = next
            && (claimed.resend_used || claimed.plan.class == MARKETING)
        {
            let reason = format!("not sent again, it may have arrived: {reason}");
            let status = Status::Unresolved;
            return Self::from(claimed.hop, &claimed.plan, &Next::End { status, reason }, None, now);
        }
        let step = Self::from(claimed.hop, &claimed.plan, next, sent_via, now);
        // A look-up is over, and what it found is worth nothing where something settled the attempt meanwhile.
        let asked = claimed.due == Due::Settle && !matches!(next, Next::Sent);
        Self { needs_unknown: asked, polled: asked && matches!(next, Next::SettleAt { .. }), ..step }
    }

    /// The step of a message that stands at this hop of its plan.
    pub(super) fn from(
        hop: u16,
        plan: &Plan,
        next: &Next,
        sent_via: Option<Channel>,
        now: DateTime<Utc>,
    ) -> Self {
        let step = |status: Status, reason: &str, at, event| Step {
            status,
            reason: Some(reason.to_owned()),
            due_at: at,
            hop,
            new_hop: false,
            resend: false,
            sent_via: None,
            stays: false,
            escalates: false,
            polled: false,
            needs_unknown: false,
            leaves: plan.hops.get(usize::from(hop)).map(|hop| hop.channel),
            event: Some(event),
        };
        match next {
            Next::Sent => {
                // The timer of the escalation, counted from now.
                let due = plan.escalation_at(hop, now);
                Step { reason: None, sent_via, ..step(Status::Sent, "", due, Status::Sent.as_str()) }
            }
            Next::RetryAt { at, reason } => step(Status::Retrying, reason, Some(*at), "retry"),
            Next::WaitUntil { at, reason } => step(Status::Retrying, reason, Some(*at), "waiting"),
            Next::FallBackTo { hop, at, reason } => {
                let status = if *at > now { Status::Retrying } else { Status::Queued };
                Step { hop: *hop, new_hop: true, ..step(status, reason, Some(*at), "fallback") }
            }
            Next::SettleAt { at, reason } => step(Status::Unknown, reason, Some(*at), "unknown"),
            Next::ResendAt { at, reason } => {
                Step { resend: true, ..step(Status::Retrying, reason, Some(*at), "resend") }
            }
            Next::HoldUntil { at, reason } if *at > now => step(Status::Held, reason, Some(*at), "held"),
            Next::HoldUntil { at, reason } => step(Status::Queued, reason, Some(*at), "given_back"),
            Next::Escalate { hop, at, reason } => {
                let step = step(Status::Queued, reason, Some(*at), "escalated");
                Step { hop: *hop, new_hop: true, escalates: true, ..step }
            }
            Next::Stays { reason } => Step {
                reason: reason.clone(),
                stays: true,
                event: reason.is_some().then_some("not_escalated"),
                ..step(Status::Sent, "", None, "")
            },
            Next::End { status, reason } => step(*status, reason, None, status.as_str()),
        }
    }

    /// Writes the step where the lease still is the caller's; false where it is not, or where the unknown attempt was
    /// settled by somebody else. `open` is the attempt that is being settled; `waived`: it does not count; `counted`:
    /// the bits of what is counted of the message by now, where they change.
    pub(super) async fn write(
        &self,
        link: &mut Link<'_>,
        id: MessageId,
        fence: i64,
        open: Option<AttemptId>,
        waived: bool,
        counted: Option<i64>,
    ) -> Result<bool, Fault> {
        // No list of statuses: SQLite makes a table of one that has more than two.
        let sql = "UPDATE messages SET status = CASE WHEN $12 = 0 THEN $3 \
             WHEN status IN ('sent', 'delivered') THEN status ELSE COALESCE(escalated_from, 'sent') END, \
             status_reason = $4, due_at = $5, hop = $6, \
             hop_attempts = CASE WHEN $7 = 1 THEN 0 ELSE hop_attempts - $8 END, waived = waived + $8, \
             resend_used = CASE WHEN $9 = 1 THEN 1 ELSE resend_used END, \
             possible_duplicate = CASE WHEN $9 = 1 THEN 1 ELSE possible_duplicate END, \
             escalated_from = CASE WHEN $13 = 1 THEN status ELSE escalated_from END, \
             polls = CASE WHEN $14 = 1 THEN polls + 1 ELSE 0 END, \
             sent_via = COALESCE($10, sent_via), crashes = 0, lease_owner = NULL, lease_until = NULL, \
             open_attempt = NULL, counted = COALESCE($16, counted) \
             WHERE id = $1 AND fence = $2 AND lease_owner IS NOT NULL \
             AND (status = 'sending' OR status = 'unknown' OR status = 'sent' OR status = 'delivered') \
             AND (open_attempt IS NULL OR open_attempt = $11) \
             AND ($15 = 0 OR EXISTS (SELECT 1 FROM attempts a WHERE a.message_id = messages.id \
             AND a.number = messages.attempts AND a.status = 'unknown'))";
        let values = values![
            id,
            fence,
            self.status,
            self.reason.as_deref(),
            self.due_at,
            self.hop,
            self.new_hop,
            waived,
            self.resend,
            self.sent_via,
            open,
            self.stays,
            self.escalates,
            self.polled,
            self.needs_unknown,
            counted,
        ];
        link.notes().message(id);
        Ok(link.run(sql, values).await? > 0)
    }

    /// Writes a step that a receipt leads to: the message is `sent` at this hop, and nothing of it is open. A claim
    /// that only looked whether it was answered is overtaken.
    pub(super) async fn write_after_receipt(
        &self,
        link: &mut Link<'_>,
        id: MessageId,
        from_hop: u16,
    ) -> Result<bool, Fault> {
        let sql = "UPDATE messages SET status = $2, status_reason = $3, due_at = $4, hop = $5, \
             hop_attempts = CASE WHEN $6 = 1 THEN 0 ELSE hop_attempts END, polls = 0, \
             sent_via = NULL, fence = fence + 1, lease_owner = NULL, lease_until = NULL \
             WHERE id = $1 AND status = 'sent' AND open_attempt IS NULL AND hop = $7";
        let values =
            values![id, self.status, self.reason.as_deref(), self.due_at, self.hop, self.new_hop, from_hop,];
        link.notes().message(id);
        Ok(link.run(sql, values).await? > 0)
    }

    /// The channel whose provider took the message just now.
    pub(super) fn taken_by(&self) -> Option<Channel> {
        self.sent_via.filter(|_| self.status == Status::Sent && !self.stays)
    }

    /// Tells it on the message's timeline, and has it counted unless that is done.
    pub(super) async fn tell(
        &self,
        link: &mut Link<'_>,
        id: MessageId,
        counted: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        if !self.stays && !counted {
            let gave_up = self.new_hop && !self.escalates;
            link.tally().followed(id, self.sent_via.or(self.leaves), self.status, gave_up);
        }
        match self.event {
            Some(name) => event(link, &id.to_string(), now, name, self.reason.as_deref()).await,
            None => Ok(()),
        }
    }
}

/// After a step that came too late, what is left: something settled the attempt meanwhile, and whoever looks next
/// sees it. False where the lease is lost as well.
pub(super) async fn look_again(
    link: &mut Link<'_>,
    id: MessageId,
    fence: i64,
    now: DateTime<Utc>,
) -> Result<bool, Fault> {
    let sql = "UPDATE messages SET due_at = $3, lease_owner = NULL, lease_until = NULL \
               WHERE id = $1 AND fence = $2 AND lease_owner IS NOT NULL AND status = 'unknown' \
               AND open_attempt IS NULL";
    link.notes().nobody();
    Ok(link.run(sql, values![id, fence, now]).await? > 0)
}
