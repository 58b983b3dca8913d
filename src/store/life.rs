//! The end of what is kept: words and addresses after a while, the message itself later, a person at once.
//!
//! Only what is at its end is forgotten: what is on its way needs its address. Counters, money and refusals stay.
//! Small batches, so that no message waits for a clean-up.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Result, SqlStore,
    database::{Fault, Link, Value, placeholders, values},
    decisions,
    jobs::Operation,
    recall, rows,
};
use crate::domain::{
    delivery::AttemptError,
    forget::{FORGOTTEN, forget_decision, forget_plan, forget_request},
    ids::{MessageId, RecipientId, TenantId},
};

/// Messages that one transaction forgets.
const BATCH: u32 = 100;

/// A message of these is needed by nobody any more. `sent` still waits for receipts, which need no words.
pub(super) const ENDED: &str =
    "('sent', 'delivered', 'failed', 'expired', 'skipped', 'cancelled', 'unresolved', 'quarantined')";

/// How long a tenant keeps what; instants before which things go.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub words_from: DateTime<Utc>,
    pub messages_from: DateTime<Utc>,
}

impl Keep {
    /// By the days of a tenant's `[retention]`.
    pub fn of_days(now: DateTime<Utc>, content_days: u32, message_days: u32) -> Self {
        let ago =
            |days: u32| now.checked_sub_signed(TimeDelta::days(days.into())).unwrap_or(DateTime::UNIX_EPOCH);
        Self { words_from: ago(content_days), messages_from: ago(message_days) }
    }
}

/// What one pass came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Messages whose words and addresses were forgotten.
    pub words: u64,
    /// Messages of which nothing is left but the counters.
    pub messages: u64,
    /// There is more to do now.
    pub more: bool,
}

#[async_trait]
pub trait Life: Send + Sync {
    /// Every tenant that has messages, whether it has a policy or not.
    async fn tenants_with_messages(&self) -> Result<Vec<TenantId>>;
    /// Forgets one batch of a tenant's oldest messages.
    async fn forget_some(&self, tenant: &TenantId, keep: Keep, now: DateTime<Utc>) -> Result<Forgotten>;
}

#[async_trait]
impl Life for SqlStore {
    async fn tenants_with_messages(&self) -> Result<Vec<TenantId>> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let (mut tenants, mut last) = (Vec::new(), String::new());
        // From one tenant to the next by the index, never through all messages.
        while let Some(row) =
            link.row("SELECT MIN(tenant) FROM messages WHERE tenant > $1", values![last.as_str()]).await?
            && let Some(tenant) = row.maybe_text(0)?
        {
            last.clone_from(&tenant);
            tenants.push(rows::parsed(tenant, TenantId::parse)?);
        }
        Ok(tenants)
    }

    async fn forget_some(&self, tenant: &TenantId, keep: Keep, now: DateTime<Utc>) -> Result<Forgotten> {
        let (words_up_to, messages_up_to) = self.looked_at(tenant).await?;
        let words = self.batch(tenant, &words_up_to, keep.words_from, "AND forgotten_at IS NULL").await?;
        let gone = self.batch(tenant, &messages_up_to, keep.messages_from, "").await?;
        let done = Forgotten {
            words: words.ids.len() as u64,
            messages: gone.ids.len() as u64,
            more: words.full || gone.full,
        };
        if words.moved || gone.moved {
            let pass = Pass { tenant: tenant.clone(), words, gone, keep, now };
            self.writer()?.run(pass).await?;
        }
        Ok(done)
    }
}

/// Messages to be forgotten, and how far that is.
struct Batch {
    ids: Vec<MessageId>,
    up_to: String,
    moved: bool,
    full: bool,
}

impl SqlStore {
    async fn looked_at(&self, tenant: &TenantId) -> Result<(String, String)> {
        let mut reader = self.reader().await?;
        let sql = "SELECT words_up_to, messages_up_to FROM retention WHERE tenant = $1";
        Ok(match reader.link().row(sql, values![tenant]).await? {
            Some(row) => (row.text(0)?, row.text(1)?),
            None => Default::default(),
        })
    }

    /// The next messages older than `before`. What is not at its end stops the pass there: it is looked at again.
    async fn batch(
        &self,
        tenant: &TenantId,
        from: &str,
        before: DateTime<Utc>,
        condition: &str,
    ) -> Result<Batch> {
        let end = MessageId::first_of(before).to_string();
        let sql = format!(
            "SELECT id, CAST(CASE WHEN status IN {ENDED} AND due_at IS NULL THEN 1 ELSE 0 END AS BIGINT) FROM messages \
             WHERE tenant = $1 AND id > $2 AND id < $3 {condition} ORDER BY id LIMIT {BATCH}"
        );
        let mut reader = self.reader().await?;
        let found = reader.link().rows(AssertSqlSafe(sql), values![tenant, from, end.as_str()]).await?;
        let full = found.len() == BATCH as usize;
        let mut batch = Batch { ids: Vec::new(), up_to: end, moved: true, full };
        for row in found {
            if row.int(1)? == 0 {
                batch.up_to = batch.ids.last().map_or_else(|| from.to_owned(), MessageId::to_string);
                batch.full = false;
                break;
            }
            batch.ids.push(rows::parsed(row.text(0)?, MessageId::parse)?);
        }
        if batch.full
            && let Some(last) = batch.ids.last()
        {
            batch.up_to = last.to_string();
        }
        batch.moved = batch.up_to.as_str() > from;
        Ok(batch)
    }
}

/// One transaction's worth of forgetting.
struct Pass {
    tenant: TenantId,
    words: Batch,
    gone: Batch,
    keep: Keep,
    now: DateTime<Utc>,
}

impl Pass {
    /// What is kept beside the messages and goes by its own age.
    async fn beside(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let Keep { words_from, messages_from } = self.keep;
        for sql in [
            // The row stays, so that a replay is known for one.
            "UPDATE inbound SET address = '' WHERE tenant = $1 AND at < $2 AND address <> ''",
            "DELETE FROM contacts WHERE tenant = $1 AND last_inbound_at < $2 AND opted_in_at IS NULL",
        ] {
            link.run(sql, values![&self.tenant, words_from]).await?;
        }
        let sql = "SELECT r.broadcast, r.row, r.problem FROM broadcasts b JOIN broadcast_rows r ON r.broadcast = b.id \
                   WHERE b.tenant = $1 AND b.created_at < $2 AND r.problem IS NOT NULL \
                   AND r.problem NOT LIKE '%(forgotten)%' LIMIT 1000";
        for row in link.rows(sql, values![&self.tenant, words_from]).await? {
            let problem = forget_problem(rows::from_json(&row.text(2)?, "a row's problem")?);
            let sql = "UPDATE broadcast_rows SET problem = $3 WHERE broadcast = $1 AND row = $2";
            link.run(sql, values![row.text(0)?, row.int(1)?, problem.to_string()]).await?;
        }
        // A job whose rows are all older than any message of it is nobody's any more.
        for sql in [
            "DELETE FROM broadcast_rows WHERE broadcast IN \
             (SELECT id FROM broadcasts WHERE tenant = $1 AND created_at < $2)",
            "DELETE FROM broadcasts WHERE tenant = $1 AND created_at < $2",
        ] {
            link.run(sql, values![&self.tenant, messages_from]).await?;
        }
        Ok(())
    }
}

/// What kind of problem a row had, without the words that quote it.
fn forget_problem(problem: serde_json::Value) -> serde_json::Value {
    let kept = |name: &str| problem.get(name).cloned().unwrap_or_default();
    serde_json::json!({
        "type": kept("type"), "title": kept("title"), "status": kept("status"), "instance": kept("instance"),
        "detail": FORGOTTEN, "errors": [],
    })
}

impl Operation for Pass {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        for id in &self.words.ids {
            forget_words(link, *id, None, self.now).await?;
        }
        remove(link, &self.gone.ids).await?;
        self.beside(link).await?;
        let sql = "INSERT INTO retention (tenant, words_up_to, messages_up_to) VALUES ($1, $2, $3) \
                   ON CONFLICT (tenant) DO UPDATE SET words_up_to = excluded.words_up_to, \
                   messages_up_to = excluded.messages_up_to";
        let values = values![&self.tenant, self.words.up_to.as_str(), self.gone.up_to.as_str()];
        link.run(sql, values).await?;
        Ok(())
    }
}

/// Rewrites everything of one message that holds words or a person.
pub(super) async fn forget_words(
    link: &mut Link<'_>,
    id: MessageId,
    erased: Option<&RecipientId>,
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    let sql = "SELECT request, decision, plan FROM bodies WHERE message_id = $1";
    if let Some(row) = link.row(sql, values![id]).await? {
        let mut request = rows::request(&row.text(0)?)?;
        forget_request(&mut request, erased);
        let mut decision = decisions::read(&row.text(1)?)?;
        forget_decision(&mut decision);
        let mut plan = row.maybe_text(2)?.map(|text| rows::plan(&text)).transpose()?;
        plan.iter_mut().for_each(forget_plan);
        let sql = "UPDATE bodies SET request = $2, decision = $3, plan = $4, checksum = $5, \
                   decision_checksum = $6 WHERE message_id = $1";
        let json = |text: Result<String, rows::Unwritable>| text.map_err(|why| Fault::Corrupt(why.0));
        let plan = plan.as_ref().map(rows::to_json).transpose();
        let plan = plan.map_err(|why| Fault::Corrupt(why.0))?;
        let values =
            rows::summed(id, json(rows::to_json(&request))?, json(decisions::write(&decision))?, plan);
        link.run(sql, values).await?;
    }
    let sql = "SELECT number, error FROM attempts WHERE message_id = $1 AND error IS NOT NULL";
    for row in link.rows(sql, values![id]).await? {
        let mut error: AttemptError = rows::from_json(&row.text(1)?, "an attempt's error")?;
        FORGOTTEN.clone_into(&mut error.detail);
        let text = rows::to_json(&error).map_err(|why| Fault::Corrupt(why.0))?;
        let sql = "UPDATE attempts SET error = $3 WHERE message_id = $1 AND number = $2";
        link.run(sql, values![id, row.int(0)?, text]).await?;
    }
    let sql =
        "SELECT attempt, kind, provider_at, error FROM receipts WHERE message_id = $1 AND error IS NOT NULL";
    for row in link.rows(sql, values![id]).await? {
        let mut error = rows::attempt_error(&row.text(3)?)?;
        FORGOTTEN.clone_into(&mut error.detail);
        let text = rows::to_json(&error).map_err(|why| Fault::Corrupt(why.0))?;
        let sql = "UPDATE receipts SET error = $5 \
                   WHERE message_id = $1 AND attempt = $2 AND kind = $3 AND provider_at = $4";
        link.run(sql, values![id, row.text(0)?, row.text(1)?, row.int(2)?, text]).await?;
    }
    if erased.is_some() {
        // Addresses of links may name a person; a mail that is only old keeps working links.
        link.run("DELETE FROM links WHERE message_id = $1", values![id]).await?;
    }
    link.run("UPDATE attempts SET address = '' WHERE message_id = $1", values![id]).await?;
    link.run("UPDATE events SET detail = NULL WHERE message_id = $1", values![id]).await?;
    let sql = "UPDATE messages SET status_reason = NULL, ordering_key = NULL, forgotten_at = $2, \
               recipient = COALESCE($3, recipient) WHERE id = $1";
    let recipient: Option<&str> = erased.map(RecipientId::as_str);
    match recipient {
        Some(instead) => recall::renamed(link, id, instead).await?,
        None => link.notes().nobody(),
    }
    link.run(sql, values![id, now, recipient]).await?;
    Ok(())
}

/// Everything of these messages, but for what was counted.
async fn remove(link: &mut Link<'_>, ids: &[MessageId]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    ids.iter().for_each(|id| link.notes().message(*id));
    recall::find_people(link).await?;
    let listed = placeholders(1, ids.len());
    for (table, column) in [
        ("events", "message_id"),
        ("attempts", "message_id"),
        ("links", "message_id"),
        ("receipts", "message_id"),
        ("engagement", "message_id"),
        ("webhook_outbox", "message_id"),
        ("bodies", "message_id"),
        ("messages", "id"),
    ] {
        let sql = format!("DELETE FROM {table} WHERE {column} IN ({listed})");
        let values: Vec<Value> = ids.iter().map(|id| Value::from(*id)).collect();
        link.run(AssertSqlSafe(sql), values).await?;
    }
    Ok(())
}
