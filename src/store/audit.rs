//! The invariants of reliability.md section 5.3, asked of the tables: what must never be found there.
//!
//! Reads only, one statement a question, so that each sees one moment. It mends nothing and judges no policy:
//! what it finds is a fault of this program, or of a hand in its database.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::{
    Result, SqlStore, checksums,
    database::{Fault, Link, values},
    decisions,
};

/// Ids that a finding names: enough to look at, not a dump.
const EXAMPLES: u32 = 5;
/// Decisions whose policy version is looked for, the newest.
const DECISIONS: u32 = 1_000;
/// A message must be at its end this long after its deadline, in milliseconds (P2).
const LATE_MS: i64 = 15 * 60 * 1_000;

/// What one question found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// As reliability.md numbers it.
    pub invariant: &'static str,
    /// What must be so, in words.
    pub says: &'static str,
    /// How often it is not.
    pub breaches: u64,
    /// Ids of the first of them.
    pub examples: Vec<String>,
}

/// A statement whose every row is a breach and begins with an id. `$1`, where it is used, is the present instant.
struct Question {
    invariant: &'static str,
    says: &'static str,
    breaches: &'static str,
    asks_time: bool,
}

const fn question(invariant: &'static str, says: &'static str, breaches: &'static str) -> Question {
    Question { invariant, says, breaches, asks_time: false }
}

const QUESTIONS: &[Question] = &[
    question(
        "I1",
        "a message has its body, and a key its message",
        "SELECT id FROM messages WHERE id NOT IN (SELECT message_id FROM bodies) \
         UNION ALL SELECT message_id FROM bodies WHERE message_id NOT IN (SELECT id FROM messages) \
         UNION ALL SELECT message_id FROM idempotency_keys WHERE message_id NOT IN (SELECT id FROM messages)",
    ),
    question(
        "I2",
        "an attempt belongs to a message, and they are numbered 1, 2, 3",
        "SELECT a.message_id FROM attempts a LEFT JOIN messages m ON m.id = a.message_id \
         GROUP BY a.message_id, m.attempts HAVING m.attempts IS NULL OR COUNT(*) <> m.attempts \
         OR MAX(a.number) <> m.attempts OR MIN(a.number) <> 1",
    ),
    question(
        "I2",
        "the attempts that do not count are those that say so",
        "SELECT m.id FROM messages m LEFT JOIN attempts a ON a.message_id = m.id \
         GROUP BY m.id, m.waived HAVING m.waived <> COALESCE(SUM(a.waived), 0)",
    ),
    question(
        "I3",
        "no attempt began after its address was suppressed",
        "SELECT a.message_id FROM attempts a JOIN messages m ON m.id = a.message_id \
         JOIN suppressions s ON s.address = a.address AND s.channel = a.channel \
         AND s.sender IN ('', a.sender) AND s.tenant IN ('', m.tenant) WHERE a.started_at > s.created_at",
    ),
    question(
        "I4",
        "at most one attempt is open, the one that the message names",
        "SELECT m.id FROM messages m LEFT JOIN attempts a ON a.message_id = m.id AND a.status = 'intent' \
         WHERE COALESCE(m.open_attempt, '') <> COALESCE(a.id, '')",
    ),
    question(
        "I5",
        "only a leased message has an open attempt, and only a message in flight has a lease",
        "SELECT id FROM messages WHERE (open_attempt IS NOT NULL AND lease_owner IS NULL) \
         OR (lease_owner IS NOT NULL AND status NOT IN ('sending', 'unknown', 'sent', 'delivered')) \
         OR (lease_owner IS NULL AND status = 'sending') \
         OR (lease_owner IS NULL) <> (lease_until IS NULL)",
    ),
    question(
        "I5",
        "no attempt was made under a claim that was never given",
        "SELECT a.message_id FROM attempts a JOIN messages m ON m.id = a.message_id WHERE a.fence > m.fence",
    ),
    question(
        "I6",
        "at most 12 attempts that count, 4 on a channel",
        "SELECT message_id FROM attempts WHERE waived = 0 GROUP BY message_id, channel HAVING COUNT(*) > 4 \
         UNION ALL SELECT id FROM messages WHERE attempts - waived > 12",
    ),
    question(
        "I7",
        "accepted once and once more for a resend, an escalation or a person's word; marketing is never resent",
        "SELECT m.id FROM messages m JOIN attempts a ON a.message_id = m.id AND a.status = 'accepted' \
         AND COALESCE(a.receipt, '') <> 'undelivered' AND a.receipt_conflict = 0 \
         GROUP BY m.id, m.resend_used, m.resent_by_hand, m.escalated_from HAVING COUNT(*) > 1 + m.resend_used \
         + m.resent_by_hand + CASE WHEN m.escalated_from IS NULL THEN 0 ELSE 1 END \
         UNION ALL SELECT id FROM messages WHERE resend_used > 0 AND class = 'marketing'",
    ),
    question(
        "I8",
        "nothing is due at an end but an escalation, and everything else is due or leased",
        "SELECT id FROM messages WHERE (due_at IS NOT NULL AND (lease_owner IS NOT NULL OR status IN \
         ('sending', 'failed', 'expired', 'skipped', 'cancelled', 'unresolved', \
         'quarantined'))) \
         OR (status IN ('queued', 'held', 'retrying', 'unknown') AND due_at IS NULL AND lease_owner IS NULL)",
    ),
    question(
        "I8",
        "a message that was sent has an accepted attempt on the channel it names",
        "SELECT id FROM messages m WHERE status = 'sent' AND NOT EXISTS (SELECT 1 FROM attempts a \
         WHERE a.message_id = m.id AND a.status = 'accepted' AND a.channel = m.sent_via)",
    ),
    question(
        "I9",
        "whatever is not at an end has a deadline",
        "SELECT id FROM messages WHERE deadline IS NULL \
         AND status IN ('queued', 'held', 'retrying', 'sending', 'unknown')",
    ),
    Question {
        invariant: "I9",
        says: "a quarter of an hour after its deadline a message is at its end",
        breaches: "SELECT id FROM messages WHERE status IN ('queued', 'held', 'retrying', 'sending', 'unknown') \
                   AND deadline < $1",
        asks_time: true,
    },
    question(
        "I11",
        "a receipt belongs to an attempt of its own message",
        "SELECT r.message_id FROM receipts r LEFT JOIN attempts a ON a.message_id = r.message_id \
         AND a.id = r.attempt WHERE a.id IS NULL",
    ),
    question(
        "I14",
        "everything that was committed stands on its tenant's account",
        "SELECT m.tenant FROM attempts a JOIN messages m ON m.id = a.message_id \
         GROUP BY m.tenant, a.day, a.channel, m.origin HAVING SUM(a.cost) > COALESCE((SELECT s.micro_euros \
         FROM spend s WHERE s.tenant = m.tenant AND s.day = a.day AND s.channel = a.channel \
         AND s.origin = m.origin), 0)",
    ),
    question(
        "P8",
        "of one ordering key one message is in flight",
        "SELECT ordering_key FROM messages WHERE ordering_key IS NOT NULL AND lease_owner IS NOT NULL \
         GROUP BY tenant, ordering_key HAVING COUNT(*) > 1",
    ),
];

impl SqlStore {
    /// Asks every question, in order; a clean database answers each with no breach.
    pub async fn audit(&self, now: DateTime<Utc>) -> Result<Vec<Finding>> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let mut findings = Vec::with_capacity(QUESTIONS.len() + 1);
        for question in QUESTIONS {
            findings.push(ask(&mut link, question, now).await?);
        }
        findings.push(decided_by_known_policies(&mut link, now).await?);
        findings.extend(sums(&mut link).await?);
        if !link.locks_rows() {
            findings.push(whole(&mut link).await?);
        }
        Ok(findings)
    }
}

async fn ask(link: &mut Link<'_>, question: &Question, now: DateTime<Utc>) -> Result<Finding, Fault> {
    let late = now - TimeDelta::milliseconds(LATE_MS);
    let values = || if question.asks_time { values![late] } else { values![] };
    let count = format!("SELECT COUNT(*) FROM ({}) AS breaches", question.breaches);
    let breaches = match link.row(AssertSqlSafe(count), values()).await? {
        Some(row) => u64::try_from(row.int(0)?).unwrap_or_default(),
        None => 0,
    };
    let mut examples = Vec::new();
    if breaches > 0 {
        let some = format!("{} LIMIT {EXAMPLES}", question.breaches);
        for row in link.rows(AssertSqlSafe(some), values()).await? {
            examples.push(row.text(0)?);
        }
    }
    Ok(Finding { invariant: question.invariant, says: question.says, breaches, examples })
}

/// F14: rows that do not add up. Bodies are looked at by whoever reads them.
async fn sums(link: &mut Link<'_>) -> Result<Vec<Finding>, Fault> {
    let mut findings = Vec::new();
    for (says, id, table, sum) in [
        ("messages add up", "id", "messages", checksums::MESSAGE),
        ("attempts add up", "message_id", "attempts", checksums::ATTEMPT),
    ] {
        let breaches = format!("SELECT {id} FROM {table} WHERE checksum <> {sum}");
        findings.push(ask_dynamic(link, "F14", says, &breaches).await?);
    }
    Ok(findings)
}

async fn ask_dynamic(
    link: &mut Link<'_>,
    invariant: &'static str,
    says: &'static str,
    breaches: &str,
) -> Result<Finding, Fault> {
    let mut examples = Vec::new();
    let rows = link.rows(AssertSqlSafe(breaches.to_owned()), values![]).await?;
    for row in rows.iter().take(EXAMPLES as usize) {
        examples.push(row.text(0)?);
    }
    Ok(Finding { invariant, says, breaches: rows.len() as u64, examples })
}

/// F14: the file itself, tables and indexes. SQLite says `ok`, or what is wrong, a line each.
async fn whole(link: &mut Link<'_>) -> Result<Finding, Fault> {
    let rows = link.rows("PRAGMA integrity_check(100)", values![]).await?;
    let lines = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, Fault>>()?;
    let wrong: Vec<String> = lines.into_iter().filter(|line| line != "ok").collect();
    Ok(Finding {
        invariant: "F14",
        says: "the database's file is whole",
        breaches: wrong.len() as u64,
        examples: wrong.into_iter().take(EXAMPLES as usize).collect(),
    })
}

/// I12. A version is noted beside the first decisions made under it: those of the last minute are not asked for.
async fn decided_by_known_policies(link: &mut Link<'_>, now: DateTime<Utc>) -> Result<Finding, Fault> {
    let mut known = HashSet::new();
    for row in link.rows("SELECT tenant, version FROM policy_versions", values![]).await? {
        known.insert((row.text(0)?, row.text(1)?));
    }
    let sql = "SELECT m.id, m.tenant, b.decision FROM messages m JOIN bodies b ON b.message_id = m.id \
               WHERE m.accepted_at < $1 ORDER BY m.id DESC LIMIT CAST($2 AS BIGINT)";
    let mut finding = Finding {
        invariant: "I12",
        says: "the newest decisions were made under policies that were in force",
        breaches: 0,
        examples: Vec::new(),
    };
    for row in link.rows(sql, values![now - TimeDelta::minutes(1), DECISIONS]).await? {
        let decision = decisions::read(&row.text(2)?)?;
        if !known.contains(&(row.text(1)?, decision.policy_version.as_str().to_owned())) {
            finding.breaches += 1;
            if finding.examples.len() < EXAMPLES as usize {
                finding.examples.push(row.text(0)?);
            }
        }
    }
    Ok(finding)
}
