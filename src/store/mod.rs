//! What is kept, and the whole operations on it: each method is one transaction.
//!
//! Consumers ask for the narrow trait they need. A method returns only when what it did is durable. No method
//! takes a message id without its tenant, but for the worker's own claims. Nothing here decides anything, and no
//! query asks the database what time it is: the caller hands the instant in.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::{
    address::Address,
    channel::{Channel, PerChannel},
    delivery::{Attempt, MessageRecord, NewMessage, Next, Outcome, Plan, Status},
    facts::Spend,
    ids::{AttemptId, IdempotencyKey, MessageId, PolicyVersion, TenantId},
    message::{MessageRequest, Origin},
    money::MicroEuros,
};

mod acts;
mod attempts;
mod audit;
mod backup;
mod ballast;
mod broadcasts;
mod caps;
mod checkpoint;
mod checksums;
mod connect;
mod contacts;
mod counters;
mod database;
mod decisions;
mod engagement;
mod erasure;
mod evidence;
mod faults;
mod figures;
mod files;
mod intake;
mod jobs;
mod knowledge;
mod life;
mod limits;
mod open;
mod operate;
mod orphans;
mod outcomes;
mod pace;
mod queue;
mod recall;
mod receipts;
mod records;
mod recovery;
mod refusals;
mod remembered;
mod reported;
mod rows;
mod schema;
mod service_window;
mod sqlite;
mod steps;
mod suppressions;
mod tracking;
mod webhooks;
mod writer;

pub use acts::{Act, Acted, Acts, By};
pub use audit::Finding;
pub use broadcasts::{Begun, BroadcastRecord, Broadcasts, NewBroadcast, RowMessage, RowNote, RowRecord};
pub use caps::Caps;
pub use contacts::{Contacts, Heard};
pub use engagement::{Engaged, Engagement};
pub use erasure::{Erased, Erasures};
pub use figures::{Alert, DaySpend, Dimension, Figures, FiguresAsked, Numbers};
pub use life::{Forgotten, Keep, Life};
pub use limits::{IntentLimits, PersonCap};
pub use open::{Access, OpenOptions, SqlStore, open};
pub use operate::{ActRecord, Operate, Pause, PauseKind, Pauses, paused_words};
pub use receipts::{AfterUndelivered, CalledBack, Owner, Receipts, Received, Undelivered};
pub use remembered::{Asking, Remembered};
pub use suppressions::{Suppression, SuppressionCursor, SuppressionKey, Suppressions};
pub use tracking::{KnownLink, Links};
pub use webhooks::{ToTell, Untold, Webhooks};
pub use writer::WriterCounts;

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, or refusing: nothing was done.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A commit failed, so that it may or may not have happened: the process must stop and look again
    /// (reliability.md F11).
    #[error("the outcome of a database commit is unknown: {0}")]
    OutcomeUnknown(String),
    #[error("{0} is no longer held under that lease")]
    LeaseLost(MessageId),
    #[error("stored data does not read back: {0}")]
    Corrupt(String),
    /// The database is of another version of the program, or cannot be used as it is.
    #[error("{0}")]
    Unusable(String),
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What became of a message that was offered.
#[derive(Clone, Debug)]
pub enum Acceptance {
    New,
    /// The same key with the same body: the message it made then.
    Duplicate(MessageId),
    /// The same key with another body.
    KeyReused(MessageId),
}

#[async_trait]
pub trait Intake: Send + Sync {
    /// Message, decision, first timer and idempotency key, together; returns once they are durable.
    async fn accept(&self, message: NewMessage) -> Result<Acceptance>;
    /// Why new messages are refused for now although the database answers, in words; none: they are taken.
    fn refuses(&self) -> Option<&'static str>;
    /// The message that a key made, while the key is kept: asked before deciding, to spare the work.
    async fn find_key(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
        now: DateTime<Utc>,
    ) -> Result<Option<(MessageId, [u8; 32])>>;
}

/// A message taken by a worker until its lease ends.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub id: MessageId,
    /// Raised by every claim: an older holder's word counts only for its own attempt.
    pub fence: i64,
    pub lease_until: DateTime<Utc>,
    pub due: Due,
    pub request: MessageRequest,
    pub plan: Plan,
    /// Index into the plan's hops.
    pub hop: u16,
    /// Attempts that count so far, over all hops, and on this hop.
    pub attempts: u16,
    pub attempts_on_hop: u16,
    /// Attempts made so far, those that do not count included: the last one's number.
    pub made: u16,
    /// How often the provider was asked what became of the last attempt.
    pub polls: u16,
    pub resend_used: bool,
    /// It was sent, and is to go once more by its escalation's hop.
    pub escalated: bool,
    /// Where it was sent and waits for an answer: what people did with it and what receipts said, by name.
    pub echoes: Vec<String>,
    /// The person wrote to this hop's sender within the last 24 hours.
    pub in_service_window: bool,
    pub accepted_at: DateTime<Utc>,
    /// What operators had paused when it was claimed.
    pub pauses: Pauses,
    /// The last attempt, where there was one.
    pub last_attempt: Option<Attempt>,
    /// The channel that was chosen for it first: whose places it takes.
    pub lane: Option<Channel>,
    /// What it is counted under.
    labels: Arc<counters::Labels>,
}

/// Why a message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To be sent.
    Send,
    /// Its last attempt ended unknown: the provider is to be asked, or the settling window is over.
    Settle,
    /// It was sent, and its time to be answered is over.
    Escalate,
}

/// What `record_intent` found in the transaction that it wrote in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Recorded: the bytes may go.
    Recorded(OpenAttempt),
    /// The address refused this sender since.
    Suppressed(String),
    /// It costs more than one message may.
    TooDear(String),
    /// A budget is used up: of the month or of the day, and whether the next one can be waited for.
    OverBudget { reason: String, monthly: bool, waits: bool },
    /// An operator paused the tenant or the driver, in words.
    Paused(String),
    /// The person was written to as often as they may be.
    TooOften(String),
    /// Another holder has it, or it was cancelled.
    Lost,
}

/// The attempt that an intent opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAttempt {
    pub id: AttemptId,
    pub number: u16,
}

/// What is written when an intent is recorded.
#[derive(Clone, Debug)]
pub struct IntentRecord {
    pub attempt: AttemptId,
    pub channel: Channel,
    pub driver: String,
    /// The driver's, whose names for messages belong to one attempt each; empty: they are not looked at.
    pub credential: String,
    pub address: Address,
    pub from: Option<String>,
    pub cost: MicroEuros,
    /// The tenant's local day, for its budgets.
    pub day: NaiveDate,
    pub at: DateTime<Utc>,
    /// What may not be passed, as the policy has it now.
    pub limits: IntentLimits,
}

/// What became of an outcome that was handed in under a lease that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Done,
    /// The provider's name for the message belongs to another attempt: nothing was written, the outcome is not to be
    /// believed (reliability.md F39).
    IdTaken,
}

/// How many messages a worker has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Whatever their lanes.
    Shared(u32),
    /// On each lane; none is taken where it is 0.
    Lanes(PerChannel<u32>),
}

#[async_trait]
pub trait Queue: Send + Sync {
    /// Takes due messages, oldest first, at most `most`; one whose lease ran out before its intent is due again.
    async fn claim(
        &self,
        worker: &str,
        now: DateTime<Utc>,
        lease_seconds: u32,
        most: u32,
    ) -> Result<Vec<Claimed>> {
        self.claim_into(worker, now, lease_seconds, Room::Shared(most)).await
    }
    /// The same with what there is room for.
    async fn claim_into(
        &self,
        worker: &str,
        now: DateTime<Utc>,
        lease_seconds: u32,
        room: Room,
    ) -> Result<Vec<Claimed>>;
    /// Opens an attempt: the fence, the suppressions, the limits and "no other open attempt" are checked in the same
    /// transaction. From here on a crash leaves the attempt unknown.
    async fn record_intent(&self, claimed: &Claimed, intent: IntentRecord) -> Result<Intent>;
    /// The attempt's outcome and the message's next step, together. With a stale fence the outcome settles its
    /// own attempt and nothing else (I5): `LeaseLost` says so.
    async fn settle(
        &self,
        claimed: &Claimed,
        attempt: AttemptId,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Settled>;
    /// An attempt that ended before its intent, because nothing could have been delivered yet (a refusal at RCPT,
    /// a link that failed): the attempt, its outcome and the next step in one transaction, so that no crash can
    /// leave such an attempt unknown. Refused as `record_intent` refuses.
    async fn record_unsent(
        &self,
        claimed: &Claimed,
        intent: IntentRecord,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Intent>;
    /// A next step without an attempt: expired while it waited, held again, settled by a timer, given back.
    async fn advance(&self, claimed: &Claimed, next: &Next, now: DateTime<Utc>) -> Result<()>;
    /// Attempts left open by a lease that ran out (or by an earlier life of this process, where `all_of` names
    /// the worker) become unknown, to be looked at again at `settle_at`; claims without an intent are given
    /// back; a message that saw three such crashes in a row, each time alone in hand, is quarantined. Idempotency keys
    /// that ran out are forgotten.
    async fn recover(
        &self,
        all_of: Option<&str>,
        now: DateTime<Utc>,
        settle_at: DateTime<Utc>,
    ) -> Result<Recovered>;
    /// When the next message is due, if any is.
    async fn next_due(&self) -> Result<Option<DateTime<Utc>>>;
}

/// What a recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub unknown: u64,
    pub given_back: u64,
    pub quarantined: u64,
}

#[async_trait]
pub trait Records: Send + Sync {
    async fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<MessageRecord>>;
    /// Any tenant's message: for the Unix socket, whose users see all tenants.
    async fn message_of_any_tenant(&self, id: MessageId) -> Result<Option<MessageRecord>>;
    /// Newest first.
    async fn search(&self, search: &Search) -> Result<Vec<MessageRecord>>;
    /// Cancels what is not in flight and not at its end; answers the status that it has now.
    async fn cancel(&self, tenant: &TenantId, id: MessageId, now: DateTime<Utc>)
    -> Result<Option<Cancelled>>;
    /// How many messages have each status.
    async fn count_by_status(&self) -> Result<Vec<(Status, u64)>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Done,
    /// Too late: in flight, or at an end.
    TooLate(Status),
}

/// Which messages to list.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// None: every tenant's.
    pub tenant: Option<TenantId>,
    pub recipient: Option<String>,
    pub status: Option<Status>,
    /// Only messages older than this one: the cursor.
    pub before: Option<MessageId>,
    /// 1 to 200.
    pub limit: u32,
}

/// What the store knows of a recipient and of a tenant's money when a decision is made.
#[derive(Clone, Debug, Default)]
pub struct KnownFacts {
    pub suppressed: PerChannel<Option<String>>,
    pub spend: Spend,
}

#[async_trait]
pub trait Knowledge: Send + Sync {
    /// What the store tells a decision, at once and without waiting, where memory has all of it and nobody ever refused
    /// at one of the addresses. None: ask for each by its own function, which keeps what it reads.
    fn remembered(&self, asked: &Asking<'_>) -> Option<Remembered>;
    /// Suppressions of these addresses for the tenant's senders, and what was spent on that local day and in
    /// its month by the tenant, by this origin, and by channel.
    async fn known_facts(
        &self,
        tenant: &TenantId,
        addresses: &PerChannel<Option<Address>>,
        senders: &PerChannel<Option<String>>,
        origin: Origin,
        day: NaiveDate,
    ) -> Result<KnownFacts>;
}

/// An API key as it is kept: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The public part, shown in lists: 12 characters.
    pub prefix: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    pub tenant: TenantId,
    /// `send`, `read`, `admin`.
    pub scopes: Vec<String>,
    pub label: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

#[async_trait]
pub trait Keys: Send + Sync {
    async fn add_key(&self, key: &StoredKey) -> Result<()>;
    async fn keys(&self, tenant: Option<&TenantId>) -> Result<Vec<StoredKey>>;
    async fn key_by_prefix(&self, prefix: &str) -> Result<Option<StoredKey>>;
    /// Whether there was such a key in force.
    async fn revoke_key(&self, prefix: &str, now: DateTime<Utc>) -> Result<bool>;
}

#[async_trait]
pub trait PolicyVersions: Send + Sync {
    /// Notes that a version is in force for a tenant, for replicas and for `audit`.
    async fn note_version(
        &self,
        tenant: &TenantId,
        version: &PolicyVersion,
        now: DateTime<Utc>,
    ) -> Result<()>;
}

/// Everything at once, for the place that puts the parts together.
pub trait Store:
    Intake
    + Links
    + Life
    + Queue
    + Records
    + Knowledge
    + Keys
    + PolicyVersions
    + Acts
    + Operate
    + Webhooks
    + Erasures
    + Receipts
    + Engagement
    + Contacts
    + Suppressions
    + Life
    + Caps
    + Numbers
    + Broadcasts
{
}
impl<T> Store for T where
    T: Intake
        + Links
        + Life
        + Queue
        + Records
        + Knowledge
        + Keys
        + PolicyVersions
        + Acts
        + Operate
        + Webhooks
        + Erasures
        + Receipts
        + Engagement
        + Contacts
        + Suppressions
        + Life
        + Caps
        + Numbers
        + Broadcasts
{
}
