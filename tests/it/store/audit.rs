//! The invariants of reliability.md section 5.3 as queries: each names what breaks it and must find nothing.

use super::fixture::Base;

const BROKEN: &[(&str, &str)] = &[
    (
        "I1: a message has its body, and a key its message",
        "SELECT id FROM messages WHERE id NOT IN (SELECT message_id FROM bodies) \
         UNION ALL SELECT message_id FROM bodies WHERE message_id NOT IN (SELECT id FROM messages) \
         UNION ALL SELECT message_id FROM idempotency_keys WHERE message_id NOT IN (SELECT id FROM messages)",
    ),
    (
        "I2: an attempt belongs to a message, and they are numbered 1, 2, 3",
        "SELECT a.message_id FROM attempts a LEFT JOIN messages m ON m.id = a.message_id \
         GROUP BY a.message_id, m.attempts HAVING m.attempts IS NULL OR COUNT(*) <> m.attempts \
         OR MAX(a.number) <> m.attempts OR MIN(a.number) <> 1",
    ),
    (
        "I3: no attempt began after its address was suppressed",
        "SELECT a.message_id FROM attempts a JOIN messages m ON m.id = a.message_id \
         JOIN suppressions s ON s.address = a.address AND s.channel = a.channel \
         AND s.sender IN ('', a.sender) AND s.tenant IN ('', m.tenant) WHERE a.started_at > s.created_at",
    ),
    (
        "I4: at most one attempt is open, the one that the message names",
        "SELECT m.id FROM messages m LEFT JOIN attempts a ON a.message_id = m.id AND a.status = 'intent' \
         WHERE COALESCE(m.open_attempt, '') <> COALESCE(a.id, '')",
    ),
    (
        "I5: only a leased message has an open attempt, and only a message in flight has a lease",
        "SELECT id FROM messages WHERE (open_attempt IS NOT NULL AND lease_owner IS NULL) \
         OR (lease_owner IS NOT NULL AND status NOT IN ('sending', 'unknown')) \
         OR (lease_owner IS NULL AND status = 'sending') \
         OR (lease_owner IS NULL) <> (lease_until IS NULL)",
    ),
    (
        "I6: at most 12 attempts, 4 on a channel",
        "SELECT message_id FROM attempts GROUP BY message_id, channel HAVING COUNT(*) > 4 \
         UNION ALL SELECT id FROM messages WHERE attempts > 12",
    ),
    (
        "I7: accepted once, twice only where a resend was used, and marketing is never resent",
        "SELECT m.id FROM messages m JOIN attempts a ON a.message_id = m.id AND a.status = 'accepted' \
         GROUP BY m.id, m.resend_used HAVING COUNT(*) > 1 + m.resend_used \
         UNION ALL SELECT id FROM messages WHERE resend_used > 0 AND class = 'marketing'",
    ),
    (
        "I8: nothing is due at an end, and everything else is due or leased",
        "SELECT id FROM messages WHERE (due_at IS NOT NULL AND (lease_owner IS NOT NULL OR status IN \
         ('sending', 'sent', 'delivered', 'failed', 'expired', 'skipped', 'cancelled', 'unresolved', 'quarantined'))) \
         OR (status IN ('queued', 'held', 'retrying', 'unknown') AND due_at IS NULL AND lease_owner IS NULL)",
    ),
    (
        "a message that was sent has an accepted attempt on the channel it names",
        "SELECT id FROM messages m WHERE status = 'sent' AND NOT EXISTS (SELECT 1 FROM attempts a \
         WHERE a.message_id = m.id AND a.status = 'accepted' AND a.channel = m.sent_via)",
    ),
    (
        "I9: whatever is not at an end has a deadline",
        "SELECT id FROM messages WHERE deadline IS NULL \
         AND status IN ('queued', 'held', 'retrying', 'sending', 'unknown')",
    ),
    (
        "P8: of one ordering key one message is in flight",
        "SELECT ordering_key FROM messages WHERE ordering_key IS NOT NULL AND lease_owner IS NOT NULL \
         GROUP BY tenant, ordering_key HAVING COUNT(*) > 1",
    ),
    (
        "I14: the account is the sum of the attempts",
        "SELECT k.day FROM (SELECT m.tenant, a.day, a.channel, m.origin, SUM(a.cost) AS cost FROM attempts a \
         JOIN messages m ON m.id = a.message_id GROUP BY m.tenant, a.day, a.channel, m.origin) k \
         LEFT JOIN spend s ON s.tenant = k.tenant AND s.day = k.day AND s.channel = k.channel \
         AND s.origin = k.origin WHERE COALESCE(s.micro_euros, 0) <> k.cost",
    ),
];

/// Fails with every invariant that does not hold.
pub async fn audit(base: &Base) {
    let queries: Vec<&str> = BROKEN.iter().map(|(_, sql)| *sql).collect();
    let found = base.all_texts(&queries).await;
    let broken: Vec<String> = BROKEN
        .iter()
        .zip(found)
        .filter(|(_, found)| !found.is_empty())
        .map(|((rule, _), found)| format!("{rule}: {found:?}"))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
