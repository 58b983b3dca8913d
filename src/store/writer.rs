//! The one writer: many callers, one transaction, one fsync.
//!
//! Callers queue whole operations; the writer takes what has gathered, at most `per_commit`, and answers each
//! caller once the commit that holds its operation is durable. An operation that fails is run again alone, so that
//! it spoils nobody else's. A commit that fails may or may not have happened (reliability.md fact 5), so the writer
//! then refuses everything: the process stops and reads again what is there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Acceptance, Result, StoreError, attempts,
    checkpoint::Log,
    connect::Session,
    counters,
    database::{Fault, Link},
    engagement,
    intake::{self, Offer},
    recall::{self, Loader, Notes},
};

/// A change of the database that is whole in itself. It may be run again after a rollback.
pub(super) trait Operation: Send + Sync + 'static {
    type Answer: Send + 'static;
    /// The family of failpoints around the commit that holds it (`NAME.pre_commit`); empty: none.
    fn name(&self) -> &'static str {
        ""
    }
    fn apply(&self, link: &mut Link<'_>) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;
}

/// An operation with whoever waits for it.
#[async_trait]
trait Job: Send {
    async fn apply(&mut self, link: &mut Link<'_>) -> Result<(), Fault>;
    fn answer(self: Box<Self>, verdict: Result<()>);
    fn name(&self) -> &'static str;
}

struct Waiting<O: Operation> {
    operation: O,
    answer: Option<O::Answer>,
    caller: oneshot::Sender<Result<O::Answer>>,
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
}

/// Messages to accept are told apart, so that those of one batch share their statements.
enum Item {
    Accept(Box<Offer>, oneshot::Sender<Result<Acceptance>>, Option<Acceptance>),
    Other(Box<dyn Job>),
}

impl Item {
    fn answer(self, verdict: Result<()>) {
        match self {
            Item::Other(job) => job.answer(verdict),
            Item::Accept(_, caller, answer) => {
                let lost = || StoreError::Unavailable("the operation was not run".into());
                let _ = caller.send(verdict.and_then(|()| answer.ok_or_else(lost)));
            }
        }
    }
}

/// What the writer did so far: more operations than commits is what group commit is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounts {
    pub commits: u64,
    pub operations: u64,
}

struct Shared {
    failed: watch::Sender<Option<String>>,
    closed: AtomicBool,
    ended: watch::Sender<bool>,
    commits: AtomicU64,
    operations: AtomicU64,
}

/// The callers' side.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Item>,
    shared: Arc<Shared>,
    /// Places in the queue that new messages leave to what was accepted already.
    reserve: usize,
}

impl Writer {
    /// Starts the writer on the current runtime.
    pub(super) fn start(
        mut session: Session,
        queue: usize,
        per_commit: usize,
        loader: Option<Loader>,
        log: Arc<Log>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(queue.max(4));
        let shared = Arc::new(Shared {
            failed: watch::Sender::new(None),
            closed: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            commits: AtomicU64::new(0),
            operations: AtomicU64::new(0),
        });
        let others_commits = session.others_commits().ok().flatten();
        let (per_commit, shared_too) = (per_commit.max(1), Arc::clone(&shared));
        let task =
            Task { session, queue: receiver, per_commit, loader, others_commits, log, shared: shared_too };
        start(task);
        Self { reserve: sender.max_capacity() / 4, queue: sender, shared }
    }

    pub(super) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.shared.failed.subscribe()
    }

    pub(super) fn counts(&self) -> WriterCounts {
        WriterCounts {
            commits: self.shared.commits.load(Ordering::Relaxed),
            operations: self.shared.operations.load(Ordering::Relaxed),
        }
    }

    /// Keeps new messages out once the queue is three quarters full: a refusal is before acceptance or not at all
    /// (reliability.md P11).
    pub(super) async fn accept(&self, offer: Offer) -> Result<Acceptance> {
        self.refuse_after_failure(StoreError::Unavailable)?;
        if self.queue.capacity() <= self.reserve {
            return Err(StoreError::Unavailable(
                "more messages wait to be written than the disk keeps up with; try again in a moment".into(),
            ));
        }
        let (caller, answer) = oneshot::channel();
        self.enqueue(Item::Accept(Box::new(offer), caller, None)).await?;
        self.wait(answer).await
    }

    /// Runs an operation in the next transaction; waits for its place where the queue is full. After a failure a
    /// worker must not wait for better times, as it would for a database that is away: it is told to stop.
    pub(super) async fn run<O: Operation>(&self, operation: O) -> Result<O::Answer> {
        self.refuse_after_failure(StoreError::OutcomeUnknown)?;
        let (caller, answer) = oneshot::channel();
        self.enqueue(Item::Other(Box::new(Waiting { operation, answer: None, caller }))).await?;
        self.wait(answer).await
    }

    /// Writes what is queued, then closes the connection.
    pub(super) async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        let (caller, done) = oneshot::channel();
        let last = Waiting { operation: Last, answer: None, caller };
        if self.queue.send(Item::Other(Box::new(last))).await.is_ok() {
            let _ = done.await;
        }
        let _ = self.shared.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn refuse_after_failure(&self, refusal: fn(String) -> StoreError) -> Result<()> {
        if let Some(why) = self.shared.failed.borrow().as_ref() {
            return Err(refusal(why.clone()));
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(())
    }

    async fn enqueue(&self, item: Item) -> Result<()> {
        self.queue.send(item).await.map_err(|_| closed())
    }

    /// A writer that vanished with an operation in hand may have committed it.
    async fn wait<T>(&self, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::OutcomeUnknown("the writer ended before it answered".into())))
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the database is closed: the process is stopping".into())
}

/// Nothing: what is answered when all before it is written.
struct Last;

impl Operation for Last {
    type Answer = ();
    async fn apply(&self, _: &mut Link<'_>) -> Result<(), Fault> {
        Ok(())
    }
}

/// How a batch ended that did not commit.
enum Trouble {
    /// Nothing was begun, or all was rolled back with the connection.
    Nothing(StoreError),
    /// One operation failed; the batch is rolled back.
    Operation(Fault),
    /// The commit itself failed.
    Commit(String),
}

struct Task {
    session: Session,
    queue: mpsc::Receiver<Item>,
    per_commit: usize,
    /// What decisions are made from, where this is the only writer.
    loader: Option<Loader>,
    /// As the session counted them at the last commit.
    others_commits: Option<i64>,
    log: Arc<Log>,
    shared: Arc<Shared>,
}

/// On a thread of its own where the database is worked on in place, else on the runtime.
fn start(task: Task) {
    if task.session.is_postgres() {
        tokio::spawn(task.run());
        return;
    }
    let runtime = tokio::runtime::Handle::current();
    let shared = Arc::clone(&task.shared);
    let thread = std::thread::Builder::new().name("store-writer".into());
    if let Err(error) = thread.spawn(move || runtime.block_on(task.run())) {
        fail(&shared, format!("the writer's thread cannot be started: {error}"));
        shared.ended.send_replace(true);
    }
}

/// Should the task end by a panic, nobody goes on as if it were there.
struct Watchdog(Arc<Shared>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fail(&self.0, "the writer of the database stopped unexpectedly".into());
        }
        self.0.ended.send_replace(true);
    }
}

fn fail(shared: &Shared, why: String) {
    tracing::error!(%why, "the database can no longer be trusted; the process must stop");
    shared.failed.send_replace(Some(why));
}

impl Task {
    async fn run(mut self) {
        let watchdog = Watchdog(Arc::clone(&self.shared));
        let mut batch = Vec::with_capacity(self.per_commit);
        while self.queue.recv_many(&mut batch, self.per_commit).await > 0 {
            let batch = std::mem::take(&mut batch);
            match self.failure() {
                Some(why) => answer(batch, &Err(StoreError::Unavailable(why))),
                None => self.write(batch).await,
            }
            self.session.fold(&self.log);
            if self.shared.closed.load(Ordering::Acquire) && self.queue.is_empty() {
                self.queue.close();
            }
        }
        self.session.close().await;
        drop(watchdog);
    }

    fn failure(&self) -> Option<String> {
        self.shared.failed.borrow().clone()
    }

    /// Commits a batch, or, where one of its operations failed, each of them alone.
    async fn write(&mut self, mut batch: Vec<Item>) {
        match self.commit(&mut batch).await {
            Ok(()) => answer(batch, &Ok(())),
            Err(Trouble::Operation(fault)) if batch.len() == 1 => answer(batch, &Err(self.verdict(fault))),
            Err(Trouble::Operation(_)) => {
                for item in batch {
                    self.write_alone(item).await;
                }
            }
            Err(Trouble::Nothing(error)) => answer(batch, &Err(error)),
            Err(Trouble::Commit(why)) => self.unknown(batch, why),
        }
    }

    /// One operation, once more where the database asks for that (deadlock, serialization failure).
    async fn write_alone(&mut self, item: Item) {
        let mut batch = vec![item];
        for tries in 1.. {
            if let Some(why) = self.failure() {
                return answer(batch, &Err(StoreError::Unavailable(why)));
            }
            match self.commit(&mut batch).await {
                Ok(()) => return answer(batch, &Ok(())),
                Err(Trouble::Operation(fault)) if tries < 3 && is_conflict(&fault) => {}
                Err(Trouble::Operation(fault)) => return answer(batch, &Err(self.verdict(fault))),
                Err(Trouble::Nothing(error)) => return answer(batch, &Err(error)),
                Err(Trouble::Commit(why)) => return self.unknown(batch, why),
            }
        }
    }

    fn unknown(&self, batch: Vec<Item>, why: String) {
        fail(&self.shared, format!("a commit failed: {why}"));
        answer(batch, &Err(StoreError::OutcomeUnknown(why)));
    }

    /// What a caller is told; a disk that fails is told to the process as well.
    fn verdict(&self, fault: Fault) -> StoreError {
        if is_broken_storage(&fault) {
            fail(&self.shared, format!("the database's storage fails: {fault:?}"));
        }
        fault.into()
    }

    /// Whether another program wrote since the last commit: nothing in memory knows of that.
    fn notice_others(&mut self) -> Result<(), Fault> {
        let Some(loader) = &self.loader else { return Ok(()) };
        let now = self.session.others_commits()?;
        if self.others_commits.is_some_and(|before| Some(before) != now) {
            tracing::info!("another program wrote to the database: what decisions read is read anew");
            loader.recall.forget();
            tokio::spawn(loader.clone().run());
        }
        self.others_commits = now;
        Ok(())
    }

    async fn commit(&mut self, batch: &mut [Item]) -> Result<(), Trouble> {
        let operations = batch.len() as u64;
        self.session.begin().await.map_err(|fault| Trouble::Nothing(self.verdict(fault)))?;
        let recall = self.loader.as_ref().map(|loader| Arc::clone(&loader.recall));
        if let Err(fault) = self.notice_others() {
            self.session.roll_back(&fault).await;
            return Err(Trouble::Nothing(self.verdict(fault)));
        }
        let applied = match self.session.link() {
            Some(mut link) => apply(&mut link, batch, recall.is_some()).await,
            None => return Err(Trouble::Nothing(closed())),
        };
        let notes = match applied {
            Ok(notes) => notes,
            Err(fault) => {
                let lost = self.session.roll_back(&fault).await;
                return Err(if lost { Trouble::Nothing(fault.into()) } else { Trouble::Operation(fault) });
            }
        };
        failpoints(batch, "pre_commit");
        if let Some(recall) = &recall {
            recall.before(&notes);
        }
        if let Err(fault) = self.session.commit().await {
            // PostgreSQL's word that it refused to commit is a rollback; no word at all is not.
            let refused = self.session.is_postgres()
                && matches!(&fault, Fault::Sql(sqlx::Error::Database(e)) if !is_shutdown(e.code().as_deref()));
            if refused {
                let _ = self.session.roll_back(&fault).await;
                return Err(Trouble::Operation(fault));
            }
            if let Some(recall) = &recall {
                recall.distrust();
            }
            return Err(Trouble::Commit(StoreError::from(fault).to_string()));
        }
        failpoints(batch, "post_commit");
        if let Some(recall) = &recall {
            recall.after(&notes);
        }
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.operations.fetch_add(operations, Ordering::Relaxed);
        Ok(())
    }
}

/// Passes the points of each operation in the batch; nothing at all unless they are built in.
fn failpoints(batch: &[Item], moment: &str) {
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

/// New messages first and together, then the rest in order: whoever waits here knows of no other's order.
async fn apply(link: &mut Link<'_>, batch: &mut [Item], find_people: bool) -> Result<Notes, Fault> {
    let mut offers = Vec::new();
    let mut answers = Vec::new();
    for item in batch.iter_mut() {
        if let Item::Accept(offer, _, answer) = item {
            offers.push(&**offer);
            answers.push(answer);
        }
    }
    if !offers.is_empty() {
        for (answer, made) in answers.into_iter().zip(intake::accept_all(link, &offers).await?) {
            *answer = Some(made);
        }
        link.notes().settle_up();
    }
    for item in batch {
        if let Item::Other(job) = item {
            job.apply(link).await?;
            link.notes().settle_up();
        }
    }
    counters::write(link).await?;
    attempts::write_spend(link).await?;
    engagement::write_rates(link).await?;
    link.notes().settle_up();
    if find_people {
        recall::find_people(link).await?;
    }
    Ok(std::mem::take(link.notes()))
}

fn answer(batch: Vec<Item>, verdict: &Result<()>) {
    for item in batch {
        item.answer(verdict.clone());
    }
}

/// PostgreSQL's classes 57P (operator intervention) and 08 (connection): the server goes away, so that its word
/// says nothing of the commit.
fn is_shutdown(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Deadlocks and serialization failures: the same again may succeed.
fn is_conflict(fault: &Fault) -> bool {
    let Fault::Sql(sqlx::Error::Database(error)) = fault else { return false };
    matches!(error.code().as_deref(), Some("40001" | "40P01"))
}

/// A disk that fails, or a file that is damaged.
fn is_broken_storage(fault: &Fault) -> bool {
    matches!(fault, Fault::Sqlite(refused) if refused.is_broken_storage())
}
