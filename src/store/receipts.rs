//! Receipts: matched to their attempts, kept as a set, and what they come to written upwards, in one transaction.
//!
//! A receipt is taken only for the tenant whose URL it came to and for a driver of the credential that signed it (I11,
//! T15); any other has no effect. One that comes before its attempt has an outcome is kept and looked at again. What
//! follows when nothing arrived is computed by a function that the caller hands in.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Result, SqlStore, StoreError,
    database::{Fault, Link, Row, placeholders, values},
    engagement::lock_message,
    evidence::is_owned_by_another,
    jobs::Operation,
    refusals::{Refusal, lock_address},
    reported::Reported,
    rows,
};
use crate::domain::{
    delivery::{AttemptError, Next, Plan},
    ids::{AttemptId, MessageId, TenantId},
    money::MicroEuros,
    receipt::{ProviderReceipt, ReceiptKind},
};

/// How long a receipt that matches nothing is kept (reliability.md F48).
const ORPHAN_DAYS: i64 = 7;
/// Orphans looked at in one sweep.
const SWEPT_AT_ONCE: u32 = 200;

/// Who called back, once the signature was found good.
#[derive(Clone, Debug)]
pub struct CalledBack {
    /// The driver that the URL names.
    pub driver: String,
    /// The credential that it uses.
    pub credential: String,
    /// Every driver that uses it: any of them may have made the attempt.
    pub drivers: Vec<String>,
    /// The tenant that the URL names.
    pub tenant: TenantId,
    /// The attempt that the URL's own token names, verified.
    pub attempt: Option<AttemptId>,
    /// The senders behind which the provider writes from the number that a person wrote to.
    pub services: Vec<String>,
}

impl CalledBack {
    /// The drivers of the credential; at least the one of the URL.
    pub(super) fn drivers_or_own(&self) -> impl Iterator<Item = &str> {
        let own = self.drivers.is_empty().then_some(self.driver.as_str());
        self.drivers.iter().map(String::as_str).chain(own)
    }
}

/// Where a message stands whose current attempt did not arrive.
#[derive(Clone, Copy, Debug)]
pub struct Undelivered<'a> {
    pub plan: &'a Plan,
    /// The hop that did not arrive, an index into the plan.
    pub hop: u16,
    /// Attempts that count, this one included, over all hops and on this one.
    pub attempts: u16,
    pub attempts_on_hop: u16,
    pub resend_used: bool,
    /// It was sent before, and this hop was its escalation.
    pub escalated: bool,
    /// Why, where the provider said.
    pub error: Option<&'a AttemptError>,
}

/// What follows when a receipt says that the current attempt did not arrive; none where nothing does. Pure.
pub type AfterUndelivered = fn(&Undelivered<'_>, DateTime<Utc>) -> Option<Next>;

/// What became of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It says something of this message that was not known.
    Applied {
        message: MessageId,
        /// Something is to be sent now.
        due: bool,
    },
    /// Told before: nothing was done.
    Again,
    /// Of an attempt that has no outcome yet, or of none that is ours: kept, and looked at again.
    Orphan,
    /// Nothing that it could ever be matched by.
    Nobodys,
}

/// Whose an attempt is, and by which driver it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub tenant: TenantId,
    pub message: MessageId,
    pub driver: String,
    /// Empty where the driver had none.
    pub credential: String,
}

#[async_trait]
pub trait Receipts: Send + Sync {
    /// Whose this attempt is, for what comes back with its token and without a tenant's name.
    async fn owner(&self, attempt: AttemptId) -> Result<Option<Owner>>;
    /// Keeps a receipt, and moves its attempt and message as far as all that was told allows.
    async fn receive(
        &self,
        from: &CalledBack,
        receipt: &ProviderReceipt,
        after: AfterUndelivered,
        now: DateTime<Utc>,
    ) -> Result<Received>;
    /// Looks again at receipts that waited for their attempt's outcome; those that matched nothing for seven days
    /// are dropped. What was applied.
    async fn sweep_orphans(&self, after: AfterUndelivered, now: DateTime<Utc>) -> Result<Vec<Received>>;
}

#[async_trait]
impl Receipts for SqlStore {
    async fn owner(&self, attempt: AttemptId) -> Result<Option<Owner>> {
        let sql = "SELECT m.tenant, m.id, a.driver, a.credential FROM attempts a \
                   JOIN messages m ON m.id = a.message_id WHERE a.id = $1";
        let mut reader = self.reader().await?;
        let Some(row) = reader.link().row(sql, values![attempt]).await? else { return Ok(None) };
        Ok(Some(Owner {
            tenant: rows::parsed(row.text(0)?, TenantId::parse)?,
            message: rows::parsed(row.text(1)?, MessageId::parse)?,
            driver: row.text(2)?,
            credential: row.text(3)?,
        }))
    }

    async fn receive(
        &self,
        from: &CalledBack,
        receipt: &ProviderReceipt,
        after: AfterUndelivered,
        now: DateTime<Utc>,
    ) -> Result<Received> {
        let receipt = Receipt::new(from, receipt, now)?;
        self.writer()?.run(Receive { receipt, after, now }).await
    }

    async fn sweep_orphans(&self, after: AfterUndelivered, now: DateTime<Utc>) -> Result<Vec<Received>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT 1 FROM orphan_receipts WHERE ready = 1 OR received_at < $1 LIMIT 1";
        let forgotten = now - TimeDelta::days(ORPHAN_DAYS);
        if reader.link().row(sql, values![forgotten]).await?.is_none() {
            return Ok(Vec::new());
        }
        drop(reader);
        self.writer()?.run(Sweep { after, now, forgotten }).await
    }
}

/// A receipt on its way to its attempt.
pub(super) struct Receipt {
    pub(super) tenant: TenantId,
    pub(super) credential: String,
    pub(super) drivers: Vec<String>,
    pub(super) token: Option<AttemptId>,
    pub(super) reference: Option<String>,
    pub(super) kind: ReceiptKind,
    pub(super) provider_at: Option<DateTime<Utc>>,
    pub(super) received_at: DateTime<Utc>,
    /// As JSON.
    pub(super) error: Option<String>,
    /// It says by this code that there is no such mailbox.
    pub(super) no_mailbox: Option<String>,
    pub(super) cost: Option<MicroEuros>,
}

/// The code by which a bounce says that there is no such mailbox.
fn no_mailbox(kind: ReceiptKind, error: Option<&AttemptError>) -> Option<String> {
    let error = error.filter(|error| kind == ReceiptKind::Undelivered && error.says_no_such_mailbox());
    error.map(|error| error.code.clone().unwrap_or_default())
}

impl Receipt {
    fn new(from: &CalledBack, receipt: &ProviderReceipt, now: DateTime<Utc>) -> Result<Self> {
        let error = receipt.error.as_ref().map(rows::to_json).transpose().map_err(StoreError::from)?;
        Ok(Self {
            tenant: from.tenant.clone(),
            credential: from.credential.clone(),
            drivers: from.drivers_or_own().map(str::to_owned).collect(),
            token: from.attempt.or(receipt.attempt),
            reference: receipt.provider_message_id.clone().filter(|id| !id.is_empty()),
            kind: receipt.kind,
            provider_at: receipt.at,
            received_at: now,
            error,
            no_mailbox: no_mailbox(receipt.kind, receipt.error.as_ref()),
            cost: receipt.cost,
        })
    }

    fn of_orphan(row: &Row) -> Result<Self, Fault> {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let at = row.int(3)?;
        let kind = ReceiptKind::parse(&row.text(2)?);
        let kind = kind.ok_or_else(|| Fault::Corrupt("a receipt's kind".into()))?;
        let error = row.maybe_text(8)?;
        let read = error.as_deref().map(rows::attempt_error).transpose()?;
        Ok(Self {
            reference: some(row.text(0)?),
            credential: row.text(1)?,
            kind,
            provider_at: if at == 0 { None } else { Some(rows::instant(at)?) },
            tenant: rows::parsed(row.text(4)?, TenantId::parse)?,
            token: some(row.text(5)?).map(|text| rows::parsed(text, AttemptId::parse)).transpose()?,
            drivers: row.text(6)?.split(' ').map(str::to_owned).collect(),
            received_at: rows::instant(row.int(7)?)?,
            error,
            no_mailbox: no_mailbox(kind, read.as_ref()),
            cost: row.maybe_int(9)?.map(MicroEuros),
        })
    }

    /// The provider's time as part of the receipt's identity: 0 where it told none.
    pub(super) fn told_at(&self) -> i64 {
        self.provider_at.map_or(0, |at| at.timestamp_millis())
    }

    /// Finds the attempt, locks its message, and applies what is new.
    async fn deliver(
        &self,
        link: &mut Link<'_>,
        after: AfterUndelivered,
        now: DateTime<Utc>,
    ) -> Result<Delivery, Fault> {
        let Some((message, attempt)) = self.find(link).await? else { return Ok(Delivery::NoMatch) };
        let refusal = match &self.no_mailbox {
            Some(code) => Refusal::of_mailbox(link, message, attempt, code, now).await?,
            None => None,
        };
        // The address before the message, as an intent takes them.
        if let Some(refusal) = &refusal {
            lock_address(link, &refusal.address).await?;
        }
        lock_message(link, message).await?;
        let reported = match Reported::load(link, message, attempt).await {
            Err(Fault::Corrupt(why)) => {
                tracing::error!(message_id = %message, why, "a receipt of what does not read back is kept");
                return Ok(Delivery::Damaged);
            }
            reported => reported?,
        };
        if reported.is_open() {
            return Ok(Delivery::TooEarly);
        }
        let Some(due) = reported.take(link, self, after, now).await? else {
            return Ok(Delivery::Done(Received::Again));
        };
        if let Some(refusal) = refusal {
            refusal.write(link).await?;
        }
        Ok(Delivery::Done(Received::Applied { message, due }))
    }

    /// The attempt that it is about: the one that the token names, else the only one of the tenant that the provider's
    /// name finds. Where the two disagree, it is about none.
    async fn find(&self, link: &mut Link<'_>) -> Result<Option<(MessageId, AttemptId)>, Fault> {
        let select = "SELECT a.message_id, a.id, a.provider_message_id, a.channel, a.credential FROM attempts a \
                      JOIN messages m ON m.id = a.message_id";
        let names = placeholders(4, self.drivers.len());
        let by = |column: &str| {
            format!(
                "{select} WHERE a.{column} = $1 AND m.tenant = $2 AND (a.credential = $3 \
                 OR (a.credential = '' AND a.driver IN ({names}))) LIMIT 2"
            )
        };
        let found = async |link: &mut Link<'_>, column: &str, value: &str| {
            let mut values = values![value, &self.tenant, self.credential.as_str()];
            values.extend(self.drivers.iter().map(|driver| driver.as_str().into()));
            link.rows(sqlx::AssertSqlSafe(by(column)), values).await
        };
        let named = match &self.reference {
            Some(reference) => found(link, "provider_message_id", reference).await?,
            None => Vec::new(),
        };
        let id = |row: &Row| -> Result<_, Fault> {
            Ok((rows::parsed(row.text(0)?, MessageId::parse)?, rows::parsed(row.text(1)?, AttemptId::parse)?))
        };
        let Some(token) = self.token else {
            return match named.as_slice() {
                [one] => id(one).map(Some),
                _ => Ok(None),
            };
        };
        let Some(row) = found(link, "id", &token.to_string()).await?.pop() else { return Ok(None) };
        let of_another = match (&self.reference, row.maybe_text(2)?) {
            (Some(told), Some(known)) => *told != known,
            (Some(told), None) => {
                let (channel, credential) = (rows::channel(&row.text(3)?)?, row.text(4)?);
                is_owned_by_another(link, channel, &credential, told, token).await?
            }
            (None, _) => false,
        };
        if of_another { Ok(None) } else { id(&row).map(Some) }
    }

    /// Keeps it for later; `ready` where an attempt of ours is known to be meant.
    async fn keep(&self, link: &mut Link<'_>, ready: bool) -> Result<(), Fault> {
        let sql = "INSERT INTO orphan_receipts (reference, credential, kind, provider_at, tenant, attempt, drivers, \
                   received_at, error, cost, ready) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                   ON CONFLICT (reference, credential, kind, provider_at, tenant, attempt) DO NOTHING";
        let values = values![
            self.reference.as_deref().unwrap_or_default(),
            self.credential.as_str(),
            self.kind.as_str(),
            self.told_at(),
            &self.tenant,
            self.token.map(|id| id.to_string()).unwrap_or_default(),
            self.drivers.join(" "),
            self.received_at,
            self.error.as_deref(),
            self.cost.map(|cost| cost.0),
            ready,
        ];
        link.run(sql, values).await?;
        Ok(())
    }

    async fn forget(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let sql = "DELETE FROM orphan_receipts WHERE reference = $1 AND credential = $2 AND kind = $3 \
                   AND provider_at = $4 AND tenant = $5 AND attempt = $6";
        let values = values![
            self.reference.as_deref().unwrap_or_default(),
            self.credential.as_str(),
            self.kind.as_str(),
            self.told_at(),
            &self.tenant,
            self.token.map(|id| id.to_string()).unwrap_or_default(),
        ];
        link.run(sql, values).await?;
        Ok(())
    }
}

/// How far a receipt came.
enum Delivery {
    Done(Received),
    /// Its attempt is open: the outcome comes first.
    TooEarly,
    NoMatch,
    /// The disk has damaged what it is about: a person must look.
    Damaged,
}

struct Receive {
    receipt: Receipt,
    after: AfterUndelivered,
    now: DateTime<Utc>,
}

impl Operation for Receive {
    type Answer = Received;

    fn name(&self) -> &'static str {
        "receipt"
    }

    async fn apply(&self, link: &mut Link<'_>) -> Result<Received, Fault> {
        let receipt = &self.receipt;
        let received = match receipt.deliver(link, self.after, self.now).await? {
            Delivery::Done(received) => received,
            Delivery::TooEarly => {
                receipt.keep(link, true).await?;
                Received::Orphan
            }
            Delivery::NoMatch if receipt.reference.is_none() => Received::Nobodys,
            Delivery::NoMatch | Delivery::Damaged => {
                receipt.keep(link, false).await?;
                Received::Orphan
            }
        };
        match received {
            Received::Again => crate::failpoint::hit("receipt.dedup"),
            Received::Orphan => crate::failpoint::hit("receipt.orphan"),
            Received::Applied { .. } | Received::Nobodys => {}
        }
        Ok(received)
    }
}

struct Sweep {
    after: AfterUndelivered,
    now: DateTime<Utc>,
    forgotten: DateTime<Utc>,
}

impl Operation for Sweep {
    type Answer = Vec<Received>;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Vec<Received>, Fault> {
        link.run("DELETE FROM orphan_receipts WHERE received_at < $1", values![self.forgotten]).await?;
        let locking = if link.locks_rows() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "SELECT reference, credential, kind, provider_at, tenant, attempt, drivers, received_at, error, cost \
             FROM orphan_receipts WHERE ready = 1 ORDER BY received_at LIMIT {SWEPT_AT_ONCE}{locking}"
        );
        let mut done = Vec::new();
        for row in link.rows(sqlx::AssertSqlSafe(sql), values![]).await? {
            let orphan = Receipt::of_orphan(&row)?;
            match orphan.deliver(link, self.after, self.now).await? {
                Delivery::TooEarly => {}
                Delivery::NoMatch | Delivery::Damaged => {
                    // What was ready is no more: it waits for its seven days to be over.
                    orphan.forget(link).await?;
                    orphan.keep(link, false).await?;
                }
                Delivery::Done(received) => {
                    orphan.forget(link).await?;
                    done.push(received);
                }
            }
        }
        Ok(done)
    }
}

/// Marks the receipts that came before this name of an attempt was known: the next sweep applies them.
pub(super) async fn await_sweep(link: &mut Link<'_>, reference: &str) -> Result<(), Fault> {
    let sql = "UPDATE orphan_receipts SET ready = 1 WHERE reference = $1 AND ready = 0";
    link.run(sql, values![reference]).await?;
    Ok(())
}
