//! The 24 hours after a person's last message, in which WhatsApp takes free text: who wrote to which sender, and when.
//!
//! Decisions ask with every message where a driver enforces it, and are answered from memory; a claim asks the table. What
//! follows is not decided here.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Result, SqlStore,
    database::{Fault, Link, values},
    recall::Known,
    rows,
};
use crate::domain::{
    address::Address,
    channel::Channel,
    consent::{is_plain_sender, sender_key},
    ids::TenantId,
};

/// How long WhatsApp takes free text after the person last wrote.
const SERVICE_WINDOW: TimeDelta = TimeDelta::hours(24);

/// When one person last wrote to each of a tenant's senders on one channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Written(Vec<(String, DateTime<Utc>)>);

impl Written {
    pub(super) fn weight(&self) -> usize {
        self.0.len()
    }

    /// Whether that was lately, to this sender (none, or one that hides its number: to any).
    pub(super) fn lately(&self, channel: Channel, sender: Option<&str>, now: DateTime<Utc>) -> bool {
        let ours = sender.map(|s| sender_key(channel, s)).filter(|s| is_plain_sender(channel, s));
        self.0.iter().filter(|(_, at)| *at > now - SERVICE_WINDOW).any(|(theirs, _)| {
            ours.as_ref().is_none_or(|ours| ours == theirs) || !is_plain_sender(channel, theirs)
        })
    }
}

/// Whether the person wrote to this sender (none, or one that hides its number: to any of the tenant's) lately.
pub(super) async fn wrote_lately(
    link: &mut Link<'_>,
    tenant: &TenantId,
    channel: Channel,
    address: &str,
    sender: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, Fault> {
    Ok(written(link, tenant, channel, address).await?.lately(channel, sender, now))
}

async fn written(
    link: &mut Link<'_>,
    tenant: &TenantId,
    channel: Channel,
    address: &str,
) -> Result<Written, Fault> {
    let sql = "SELECT sender, last_inbound_at FROM contacts WHERE address = $1 AND channel = $2 AND tenant = $3 \
               AND last_inbound_at IS NOT NULL";
    let mut found = Written::default();
    for row in link.rows(sql, values![address, channel, tenant]).await? {
        found.0.push((row.text(0)?, rows::instant(row.int(1)?)?));
    }
    Ok(found)
}

impl SqlStore {
    /// The same, from memory where it is known there.
    pub(super) async fn wrote_lately(
        &self,
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        sender: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let key = (tenant.clone(), channel, address.as_str().to_owned());
        let known = match &self.recall {
            Some(recall) => recall.written(&key, |written| written.lately(channel, sender, now)),
            None => Known::No,
        };
        let ticket = match known {
            Known::Yes(lately) => return Ok(lately),
            Known::Ask(ticket) => Some(ticket),
            Known::No => None,
        };
        let written = written(&mut self.near().await?.link(), tenant, channel, address.as_str()).await?;
        let lately = written.lately(channel, sender, now);
        if let (Some(recall), Some(ticket)) = (&self.recall, ticket) {
            recall.keep_written(key, written, ticket);
        }
        Ok(lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_of_the_sender_that_was_written_to_and_24_hours_long() {
        let at = |seconds| DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let written = Written(vec![("+33700000000".into(), at(0)), ("+33711111111".into(), at(-90_000))]);
        let lately = |sender, seconds| written.lately(Channel::WhatsApp, sender, at(seconds));
        for (sender, seconds, open) in [
            (Some("+33 7 00 00 00 00"), 0, true),
            (Some("whatsapp:+33700000000"), 86_399, true),
            (Some("+33700000000"), 86_400, false),
            (Some("+33711111111"), 0, false),
            (Some("+33722222222"), 0, false),
            // Behind a service any number may have been seen.
            (Some("MG00000000000000000000000000000000"), 0, true),
            (None, 0, true),
            (None, 86_400, false),
        ] {
            assert_eq!(lately(sender, seconds), open, "{sender:?} {seconds}");
        }
        assert!(!Written::default().lately(Channel::WhatsApp, None, at(0)));
    }
}
