//! The one way into the queue: gather the facts, decide, keep, ring the bell.
//!
//! Nothing else puts a message in the queue. It sends nothing, knows no HTTP and measures nothing but how long
//! a decision took.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    bell::{Bell, OutcomeListener},
    bundles::{Generation, PolicyHandle},
    channels::Drivers,
    decide::{self, DecisionInput, explanation::Explanation},
    domain::{
        address::{Contact, Reach, read_contacts},
        channel::PerChannel,
        decision::{Decision, Gate},
        delivery::{Counting, MessageRecord, NewMessage, Plan, Status},
        facts::Facts,
        ids::{BroadcastId, IdempotencyKey, MessageId, TenantId},
        message::MessageRequest,
        question::Question,
        time::{Clock, Moment},
    },
    failpoint,
    policy::{
        bundle::Bundle,
        template::{DataFault, Need, Words},
    },
    request::{Asked, Fault},
    store::{Acceptance, Store, StoreError},
};

pub mod budgets;
mod canonical;
mod gather;
mod weigh;

use gather::About;
pub use weigh::Weighed;

/// How long a waiter trusts the bell before it looks for itself: workers may be in another process.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Decides and accepts.
pub struct Orchestrator {
    pub store: Arc<dyn Store>,
    pub policies: PolicyHandle,
    pub drivers: Drivers,
    pub clock: Arc<dyn Clock>,
    pub bell: Arc<Bell>,
}

/// A decision that keeps and sends nothing.
#[derive(Clone, Debug)]
pub struct Preview {
    pub decision: Decision,
    /// Where it was asked for.
    pub explanation: Option<Explanation>,
    /// How long deciding took, without gathering the facts.
    pub took: Duration,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Submitted {
    pub record: MessageRecord,
    /// The key had been used before for the same body.
    pub replayed: bool,
}

/// What became of a broadcast's row.
#[derive(Clone, Debug)]
pub enum RowOutcome {
    /// Kept as a message: `queued`, `held`, or at its end at once where no channel may be used.
    Kept { id: MessageId, status: Status, decision: Box<Decision> },
    /// Its key had been used before for the same body.
    Repeated(MessageId),
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("no tenant {0}: its file would be policies/tenants/{0}.toml")]
    UnknownTenant(TenantId),
    #[error("no variant {name:?} in the tenant's policy (it has: {})", known.join(", "))]
    UnknownVariant { name: String, known: Vec<String> },
    /// The template that it names cannot be rendered for it: it is unknown, or data is missing.
    #[error("{}", .0.iter().map(|f| format!("{}: {}", f.pointer, f.detail)).collect::<Vec<_>>().join("; "))]
    Content(Vec<Fault>),
    /// Kept as `skipped` or `expired`, with its reasons.
    #[error("no channel may be used")]
    NoChannel { record: Box<MessageRecord>, replayed: bool },
    #[error("the Idempotency-Key belongs to another message, {0}")]
    KeyReused(MessageId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long an answer may wait for an outcome, and what ends the wait early.
struct Patience<'a> {
    until: tokio::time::Instant,
    closing: &'a CancellationToken,
}

/// Everything that one decision was made from, so that explaining and planning use the same.
struct Decided {
    bundle: Arc<Bundle>,
    words: Words,
    contacts: PerChannel<Contact>,
    facts: Facts,
    at: DateTime<Utc>,
    variant: Option<String>,
    generation: u64,
    decision: Decision,
    took: Duration,
}

impl Decided {
    fn input<'a>(&'a self, request: &'a MessageRequest) -> DecisionInput<'a> {
        DecisionInput {
            question: Question::of(request),
            reach: Reach::of(&self.contacts),
            words: &self.words,
            facts: &self.facts,
            at: self.at,
            variant: self.variant.as_deref(),
            generation: self.generation,
        }
    }
}

impl Orchestrator {
    /// Decides without keeping or sending anything.
    pub async fn preview(&self, asked: &Asked) -> Result<Preview, SubmitError> {
        let at = asked.at.unwrap_or_else(|| self.clock.now());
        let decided = self.decide(asked, at, Need::Measure).await?;
        let explanation = asked.explain.then(|| {
            let input = decided.input(&asked.request);
            let mut explanation = decide::explanation::explain(&decided.bundle, &input, &decided.decision);
            explanation.took_micros = u64::try_from(decided.took.as_micros()).unwrap_or(u64::MAX);
            explanation
        });
        Ok(Preview { decision: decided.decision, explanation, took: decided.took })
    }

    /// Decides, keeps, and wakes a worker. `wait` bounds how long the answer may wait for an outcome.
    pub async fn submit(
        &self,
        asked: Asked,
        key: Option<IdempotencyKey>,
        wait: Duration,
    ) -> Result<Submitted, SubmitError> {
        self.submit_until(asked, key, wait, &CancellationToken::new()).await
    }

    /// The same, and the wait also ends when `closing` does: a daemon that stops answers what it knows. What
    /// comes before the wait is never cut short by it.
    pub async fn submit_until(
        &self,
        asked: Asked,
        key: Option<IdempotencyKey>,
        wait: Duration,
        closing: &CancellationToken,
    ) -> Result<Submitted, SubmitError> {
        let patience = Patience { until: tokio::time::Instant::now() + wait, closing };
        let tenant = asked.request.tenant.clone();
        let now = self.clock.now();
        let idempotency = key.map(|key| (key, canonical::hash(&asked.request, asked.variant.as_deref())));
        if let Some((key, hash)) = &idempotency
            && let Some((id, kept)) = self.store.find_key(&tenant, key, now).await?
        {
            if kept != *hash {
                return Err(SubmitError::KeyReused(id));
            }
            return self.replay(&tenant, id, &patience).await;
        }
        let message = self.prepare(asked, idempotency, now, None).await?;
        let (id, status, chosen) = (message.id, message.status, message.plan.is_some());
        // Who does not wait is told what was accepted; nothing is read for that.
        let at_once = (wait.is_zero() && status == Status::Queued).then(|| MessageRecord::queued(&message));
        let listener = self.bell.listen(id);
        failpoint::hit("accept.pre_begin");
        match self.store.accept(message).await? {
            Acceptance::New => {}
            Acceptance::Duplicate(first) => return self.replay(&tenant, first, &patience).await,
            Acceptance::KeyReused(first) => return Err(SubmitError::KeyReused(first)),
        }
        self.bell.ring_change(id);
        if !chosen {
            let record = Box::new(self.look(&tenant, id).await?);
            return Err(SubmitError::NoChannel { record, replayed: false });
        }
        // A held message rings too: the worker that sleeps until the next due moment has to know of it.
        self.bell.ring_due();
        let record = match at_once {
            Some(record) => record,
            None if status.is_settled() => self.look(&tenant, id).await?,
            None => self.outcome(&tenant, id, &listener, &patience, true).await?,
        };
        Ok(Submitted { record, replayed: false })
    }

    /// The same for a row of a broadcast, and nothing is waited for.
    pub async fn submit_row(
        &self,
        asked: Asked,
        key: Option<IdempotencyKey>,
        broadcast: (BroadcastId, u32),
    ) -> Result<RowOutcome, SubmitError> {
        let (tenant, now) = (asked.request.tenant.clone(), self.clock.now());
        let idempotency = key.map(|key| (key, canonical::hash(&asked.request, asked.variant.as_deref())));
        if let Some((key, hash)) = &idempotency
            && let Some((id, kept)) = self.store.find_key(&tenant, key, now).await?
        {
            return if kept == *hash {
                Ok(RowOutcome::Repeated(id))
            } else {
                Err(SubmitError::KeyReused(id))
            };
        }
        let message = self.prepare(asked, idempotency, now, Some(broadcast)).await?;
        let (id, status, decision) = (message.id, message.status, Box::new(message.decision.clone()));
        match self.store.accept(message).await? {
            Acceptance::New => {}
            Acceptance::Duplicate(first) => return Ok(RowOutcome::Repeated(first)),
            Acceptance::KeyReused(first) => return Err(SubmitError::KeyReused(first)),
        }
        self.bell.ring_change(id);
        self.bell.ring_due();
        Ok(RowOutcome::Kept { id, status, decision })
    }

    /// Decides, and makes of it the message that is to be kept.
    async fn prepare(
        &self,
        asked: Asked,
        idempotency: Option<(IdempotencyKey, [u8; 32])>,
        now: DateTime<Utc>,
        broadcast: Option<(BroadcastId, u32)>,
    ) -> Result<NewMessage, SubmitError> {
        let decided = self.decide(&asked, now, Need::Send).await?;
        let plan = decide::plan(
            &decided.bundle,
            &decided.input(&asked.request),
            &decided.decision,
            &decided.contacts,
            &asked.request.preferences.fallback,
        );
        let (status, status_reason) = first_status(&decided.decision, plan.as_ref(), now);
        let policy = decided.bundle.policy();
        let day = Moment::of(now, policy.time_zone).local.date();
        let counting = Counting { day: policy.learning.analytics.then_some(day), broadcast };
        Ok(NewMessage {
            id: MessageId::new(),
            request: asked.request,
            decision: decided.decision,
            plan,
            status,
            status_reason,
            accepted_at: now,
            idempotency,
            counting,
        })
    }

    /// One generation, one instant and one reading of the facts serve the whole decision.
    async fn decide(&self, asked: &Asked, at: DateTime<Utc>, need: Need) -> Result<Decided, SubmitError> {
        let request = &asked.request;
        let generation = self.policies.current();
        let bundle = self.tenant(&generation, &request.tenant)?;
        let variant = match &asked.variant {
            Some(name) if !bundle.has_variant(name) => {
                return Err(SubmitError::UnknownVariant { name: name.clone(), known: variants(&bundle) });
            }
            Some(name) => Some(name.clone()),
            None => decide::assign_variant(&bundle, &request.recipient).map(str::to_owned),
        };
        let words = Words::of(&bundle, request, need)
            .map_err(|faults| SubmitError::Content(faults.into_iter().map(fault).collect()))?;
        let contacts = read_contacts(&request.contacts, bundle.policy().region);
        let mut facts = match &asked.facts {
            Some(facts) => facts.clone(),
            None => self.facts(&bundle, About::of(request), &contacts, at).await?,
        };
        let input = DecisionInput {
            question: Question::of(request),
            reach: Reach::of(&contacts),
            words: &words,
            facts: &facts,
            at,
            variant: variant.as_deref(),
            generation: generation.number,
        };
        failpoint::hit("route.loaded");
        let started = Instant::now();
        failpoint::hit("route.eval_start");
        let mut decision = decide::decide(&bundle, &input);
        failpoint::hit("route.eval_end");
        if decision.chosen.is_none()
            && let Some(waiting) = self.without_pauses(&bundle, &facts).filter(|_| asked.facts.is_none())
        {
            decision = decide::decide(&bundle, &DecisionInput { facts: &waiting, ..input });
            facts = waiting;
        }
        let took = started.elapsed();
        let generation = generation.number;
        Ok(Decided { generation, bundle, words, contacts, facts, at, variant, decision, took })
    }

    fn tenant(&self, generation: &Generation, tenant: &TenantId) -> Result<Arc<Bundle>, SubmitError> {
        generation.tenant(tenant).cloned().ok_or_else(|| SubmitError::UnknownTenant(tenant.clone()))
    }

    /// The message that an earlier use of the key made, with its outcome if that comes in time.
    async fn replay(
        &self,
        tenant: &TenantId,
        id: MessageId,
        patience: &Patience<'_>,
    ) -> Result<Submitted, SubmitError> {
        let listener = self.bell.listen(id);
        let record = self.outcome(tenant, id, &listener, patience, false).await?;
        if record.plan.is_none() {
            return Err(SubmitError::NoChannel { record: Box::new(record), replayed: true });
        }
        Ok(Submitted { record, replayed: true })
    }

    /// Looks until the message is settled or the patience over. `fresh`: it was accepted just now, so that
    /// there is nothing to see before the bell rings.
    async fn outcome(
        &self,
        tenant: &TenantId,
        id: MessageId,
        listener: &OutcomeListener<'_>,
        patience: &Patience<'_>,
        fresh: bool,
    ) -> Result<MessageRecord, StoreError> {
        let mut wait_first = fresh;
        loop {
            if !wait_first {
                let record = self.look(tenant, id).await?;
                if record.status.is_settled() || patience.is_over() {
                    return Ok(record);
                }
            }
            wait_first = false;
            let look_at = patience.until.min(tokio::time::Instant::now() + LOOK_EVERY);
            tokio::select! {
                () = listener.changed() => {}
                () = tokio::time::sleep_until(look_at) => {}
                () = patience.closing.cancelled() => {}
            }
        }
    }

    async fn look(&self, tenant: &TenantId, id: MessageId) -> Result<MessageRecord, StoreError> {
        let missing = || StoreError::Corrupt(format!("{id} was accepted and cannot be found"));
        self.store.message(tenant, id).await?.ok_or_else(missing)
    }
}

impl Patience<'_> {
    fn is_over(&self) -> bool {
        self.closing.is_cancelled() || tokio::time::Instant::now() >= self.until
    }
}

/// `queued` or `held` where there is a plan; else `expired` if but for its deadline a channel could have been
/// used, and `skipped` otherwise.
fn first_status(decision: &Decision, plan: Option<&Plan>, now: DateTime<Utc>) -> (Status, Option<String>) {
    if let Some(plan) = plan {
        return match plan.not_before {
            Some(at) if at > now => (Status::Held, plan.held_reason.clone()),
            _ => (Status::Queued, None),
        };
    }
    let only_late = |c: &&crate::domain::decision::ChannelDecision| {
        !c.gates.is_empty() && c.gates.iter().all(|g| g.gate == Gate::Deadline)
    };
    match decision.channels.iter().find(only_late) {
        Some(late) => (Status::Expired, late.gates.first().map(|g| g.reason.clone())),
        None => (Status::Skipped, Some("no channel may be used".into())),
    }
}

fn fault(found: DataFault) -> Fault {
    let DataFault { pointer, detail, hint } = found;
    Fault { pointer, detail, hint }
}

/// The names that a request may choose from, for the words that refuse another.
fn variants(bundle: &Bundle) -> Vec<String> {
    let policy = bundle.policy();
    let split = policy.split.iter().map(|(name, _)| name.clone());
    let mut names: Vec<String> =
        policy.variants.keys().cloned().chain(split).chain(["control".to_owned()]).collect();
    names.sort();
    names.dedup();
    names
}
