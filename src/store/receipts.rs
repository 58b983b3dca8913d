//! Receipts: matched to their attempts, kept as a set, and what they come to written upwards, in one transaction.
//!
//! A receipt is taken only for the tenant whose URL it came to and for a driver of the credential that signed it (I11,
//! T15); any other has no effect. One that comes before its attempt has an outcome is kept and looked at again. What
//! follows when nothing arrived is computed by a function that the caller hands in.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Result, SqlStore, StoreError,
    database::{Fault, Link, Row, placeholders, values},
    engagement::lock_message,
    evidence::is_owned_by_another,
    jobs::Operation,
    orphans,
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
        let receipt = Arc::new(Receipt::new(from, receipt, now)?);
        let received = self.writer()?.run(Receive { receipt: Arc::clone(&receipt), after, now }).await;
        let Err(StoreError::Corrupt(why)) = received else { return received };
        tracing::error!(why, "a receipt of what does not read back is kept");
        self.writer()?.run(orphans::Keep(receipt)).await?;
        Ok(Received::Orphan)
    }

    async fn sweep_orphans(&self, after: AfterUndelivered, now: DateTime<Utc>) -> Result<Vec<Received>> {
        orphans::sweep(self, after, now).await
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
pub(super) fn no_mailbox(kind: ReceiptKind, error: Option<&AttemptError>) -> Option<String> {
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

    /// The provider's time as part of the receipt's identity: 0 where it told none.
    pub(super) fn told_at(&self) -> i64 {
        self.provider_at.map_or(0, |at| at.timestamp_millis())
    }

    /// Finds the attempt, locks its message, and applies what is new.
    pub(super) async fn deliver(
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
}

/// How far a receipt came.
pub(super) enum Delivery {
    Done(Received),
    /// Its attempt is open: the outcome comes first.
    TooEarly,
    NoMatch,
    /// The disk has damaged what it is about: a person must look.
    Damaged,
}

struct Receive {
    receipt: Arc<Receipt>,
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
                orphans::keep(link, receipt, true).await?;
                Received::Orphan
            }
            Delivery::NoMatch if receipt.reference.is_none() => Received::Nobodys,
            Delivery::NoMatch | Delivery::Damaged => {
                orphans::keep(link, receipt, false).await?;
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
