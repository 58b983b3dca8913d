//! What waits for the writer: operations with their callers.
//!
//! An operation says what it changes and nothing of when: batches, commits and retries are the writer's. Each caller is
//! answered once, whatever became of its operation.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{
    Acceptance, Result, StoreError,
    database::{Fault, Link},
    intake::Offer,
};

/// After a commit of at least so many operations the next one waits a moment for company, as long as it comes: a commit
/// costs about as much as ten operations, and they take each page once that they share.
const BUSY: usize = 8;
const COMPANY_EVERY: Duration = Duration::from_micros(250);
const COMPANY_MAX: Duration = Duration::from_millis(2);

/// A change of the database that is whole in itself. It may be run again after a rollback.
pub(super) trait Operation: Send + Sync + 'static {
    type Answer: Send + 'static;
    /// The family of failpoints around the commit that holds it (`NAME.pre_commit`); empty: none.
    fn name(&self) -> &'static str {
        ""
    }
    /// Whether it begins something: refused while the disk is full, so that what was begun can be written down.
    fn begins(&self) -> bool {
        false
    }
    fn apply(&self, link: &mut Link<'_>) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;
}

/// An operation with whoever waits for it.
#[async_trait]
pub(super) trait Job: Send {
    async fn apply(&mut self, link: &mut Link<'_>) -> Result<(), Fault>;
    fn answer(self: Box<Self>, verdict: Result<()>);
    fn name(&self) -> &'static str;
    fn begins(&self) -> bool;
}

pub(super) struct Waiting<O: Operation> {
    pub(super) operation: O,
    pub(super) answer: Option<O::Answer>,
    pub(super) caller: oneshot::Sender<Result<O::Answer>>,
}

#[async_trait]
impl<O: Operation> Job for Waiting<O> {
    async fn apply(&mut self, link: &mut Link<'_>) -> Result<(), Fault> {
        self.answer = Some(self.operation.apply(link).await?);
        Ok(())
    }

    fn answer(self: Box<Self>, verdict: Result<()>) {
        let lost = || StoreError::Unavailable("the operation was not run".into());
        let Waiting { answer, caller, .. } = *self;
        // A caller that went away meanwhile misses nothing that the database does not know.
        let _ = caller.send(verdict.and_then(|()| answer.ok_or_else(lost)));
    }

    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn begins(&self) -> bool {
        self.operation.begins()
    }
}

/// Messages to accept are told apart, so that those of one batch share their statements.
pub(super) enum Item {
    Accept(Box<Offer>, oneshot::Sender<Result<Acceptance>>, Option<Acceptance>),
    Other(Box<dyn Job>),
}

impl Item {
    pub(super) fn begins(&self) -> bool {
        match self {
            Item::Accept(..) => true,
            Item::Other(job) => job.begins(),
        }
    }

    pub(super) fn answer(self, verdict: Result<()>) {
        match self {
            Item::Other(job) => job.answer(verdict),
            Item::Accept(_, caller, answer) => {
                let lost = || StoreError::Unavailable("the operation was not run".into());
                let _ = caller.send(verdict.and_then(|()| answer.ok_or_else(lost)));
            }
        }
    }
}

/// Passes the points of each operation in the batch; nothing at all unless they are built in.
pub(super) fn failpoints(batch: &[Item], moment: &str) {
    if !cfg!(feature = "failpoints") {
        return;
    }
    for item in batch {
        let name = match item {
            Item::Accept(..) => "accept",
            Item::Other(job) => job.name(),
        };
        if !name.is_empty() {
            crate::failpoint::hit(&format!("{name}.{moment}"));
        }
    }
}

pub(super) fn answer(batch: Vec<Item>, verdict: &Result<()>) {
    for item in batch {
        item.answer(verdict.clone());
    }
}

/// After a commit of `last` operations, waits for more of them, on a thread of the writer's own: until there are twice as
/// many, nothing more comes, or it takes too long.
pub(super) fn gather(queue: &mut mpsc::Receiver<Item>, batch: &mut Vec<Item>, most: usize, last: usize) {
    let since = Instant::now();
    while last >= BUSY && batch.len() < most.min(last * 2) && since.elapsed() < COMPANY_MAX {
        std::thread::sleep(COMPANY_EVERY);
        let before = batch.len();
        while batch.len() < most
            && let Ok(item) = queue.try_recv()
        {
            batch.push(item);
        }
        if batch.len() == before {
            break;
        }
    }
}
