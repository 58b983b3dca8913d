//! The one writer: many callers, one transaction, one fsync.
//!
//! Callers queue whole operations; the writer takes what has gathered, at most `per_commit`, and answers each
//! caller once the commit that holds its operation is durable. An operation that fails is run again alone, so that
//! it spoils nobody else's. A commit that fails may or may not have happened (reliability.md fact 5), so the writer
//! then refuses everything: the process stops and reads again what is there. While the disk is full it refuses what
//! begins something, and writes the rest into the room that the ballast gave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Acceptance, Result, StoreError, attempts,
    ballast::{Ballast, Shortage},
    checkpoint::Log,
    connect::Session,
    counters,
    database::{Fault, Link},
    engagement,
    faults::{
        SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_READONLY, is_broken_storage, is_conflict, is_shutdown,
        sqlite_code,
    },
    intake::{self, Offer},
    jobs::{Item, Operation, Waiting, answer, failpoints, gather},
    open::OpenOptions,
    pace::Pace,
    recall::{self, Loader, Notes},
};

/// New messages are refused where the commits before their own would take longer than this.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// What the writer did so far: more operations than commits is what group commit is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounts {
    pub commits: u64,
    pub operations: u64,
}

struct Shared {
    failed: watch::Sender<Option<String>>,
    shortage: watch::Sender<Option<Shortage>>,
    closed: AtomicBool,
    ended: watch::Sender<bool>,
    commits: AtomicU64,
    operations: AtomicU64,
    pace: Pace,
}

/// The callers' side.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Item>,
    shared: Arc<Shared>,
    /// Places in the queue that new messages leave to what was accepted already.
    reserve: usize,
    per_commit: usize,
}

impl Writer {
    /// Starts the writer on the current runtime. Without a ballast a full disk is told to each caller as it is met.
    pub(super) fn start(
        mut session: Session,
        ballast: Option<Ballast>,
        options: &OpenOptions,
        loader: Option<Loader>,
        log: Arc<Log>,
    ) -> Self {
        let queue = options.queue;
        let (sender, receiver) = mpsc::channel(queue.max(4));
        let shared = Arc::new(Shared {
            failed: watch::Sender::new(None),
            shortage: watch::Sender::new(ballast.as_ref().and_then(Ballast::shortage)),
            closed: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            commits: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            pace: Pace::new(),
        });
        let others_commits = session.others_commits().ok().flatten();
        let (per_commit, shared_too) = (options.per_commit.max(1), Arc::clone(&shared));
        let task = Task {
            session,
            ballast,
            queue: receiver,
            per_commit,
            loader,
            others_commits,
            log,
            shared: shared_too,
        };
        start(task);
        Self { reserve: sender.max_capacity() / 4, queue: sender, shared, per_commit }
    }

    pub(super) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.shared.failed.subscribe()
    }

    /// Why what begins something is refused now.
    pub(super) fn shortage(&self) -> Option<&'static str> {
        self.shared.shortage.borrow().map(Shortage::words)
    }

    pub(super) fn counts(&self) -> WriterCounts {
        WriterCounts {
            commits: self.shared.commits.load(Ordering::Relaxed),
            operations: self.shared.operations.load(Ordering::Relaxed),
        }
    }

    /// Keeps new messages out once the queue is three quarters full, or would keep them waiting for long because the
    /// disk is slow (F16): a refusal is before acceptance or not at all (reliability.md P11).
    pub(super) async fn accept(&self, offer: Offer) -> Result<Acceptance> {
        self.refuse_after_failure(StoreError::Unavailable)?;
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        if self.queue.capacity() <= self.reserve || self.shared.pace.of(waiting / self.per_commit) > WAIT_MAX
        {
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
    /// The disk takes nothing more, so that nothing was written; the batch is rolled back.
    NoRoom(Shortage, Fault),
    /// The commit itself failed.
    Commit(String),
}

struct Task {
    session: Session,
    ballast: Option<Ballast>,
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
        let mut last = 0;
        while self.queue.recv_many(&mut batch, self.per_commit).await > 0 {
            if !self.session.is_postgres() {
                gather(&mut self.queue, &mut batch, self.per_commit, last);
            }
            last = batch.len();
            let batch = std::mem::replace(&mut batch, Vec::with_capacity(self.per_commit));
            match self.failure() {
                Some(why) => answer(batch, &Err(StoreError::Unavailable(why))),
                None => {
                    let admitted = self.admit(batch);
                    self.write(admitted).await;
                }
            }
            self.session.fold(&self.log, last);
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

    /// What may be written now: while the disk is full, nothing that begins something.
    fn admit(&mut self, batch: Vec<Item>) -> Vec<Item> {
        let Some(ballast) = &mut self.ballast else { return batch };
        let Some(shortage) = ballast.shortage() else { return batch };
        if ballast.recovers() {
            self.shared.shortage.send_replace(None);
            return batch;
        }
        let (refused, admitted) = batch.into_iter().partition(Item::begins);
        answer(refused, &Err(StoreError::Unavailable(shortage.words().into())));
        admitted
    }

    /// What is left of a batch that found no room, once the ballast gave its own; nothing where it had none to give.
    fn make_room(&mut self, batch: Vec<Item>, shortage: Shortage, fault: Fault) -> Vec<Item> {
        if self.ballast.as_mut().is_some_and(|ballast| ballast.release(shortage)) {
            self.shared.shortage.send_replace(Some(shortage));
            return self.admit(batch);
        }
        answer(batch, &Err(fault.into()));
        Vec::new()
    }

    /// Commits a batch, or, where one of its operations failed, each of them alone.
    async fn write(&mut self, mut batch: Vec<Item>) {
        while !batch.is_empty() {
            match self.commit(&mut batch).await {
                Err(Trouble::NoRoom(shortage, fault)) => batch = self.make_room(batch, shortage, fault),
                committed => return self.written(batch, committed).await,
            }
        }
    }

    async fn written(&mut self, batch: Vec<Item>, committed: Result<(), Trouble>) {
        match committed {
            Ok(()) => answer(batch, &Ok(())),
            Err(Trouble::Operation(fault)) if batch.len() == 1 => answer(batch, &Err(self.verdict(fault))),
            Err(Trouble::Operation(_)) => {
                for item in batch {
                    self.write_alone(item).await;
                }
            }
            Err(Trouble::Nothing(error)) => answer(batch, &Err(error)),
            Err(Trouble::NoRoom(_, fault)) => answer(batch, &Err(fault.into())),
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
                Err(Trouble::NoRoom(shortage, fault)) => {
                    batch = self.make_room(batch, shortage, fault);
                    if batch.is_empty() {
                        return;
                    }
                }
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

    /// Whether a fault says that the disk takes no write. A failed sync is no such thing: it may have been written.
    fn shortage_of(&self, fault: &Fault) -> Option<Shortage> {
        let code = sqlite_code(fault)?;
        if code & 0xff == SQLITE_FULL {
            return Some(Shortage::Full);
        }
        let refused = code == SQLITE_IOERR_WRITE || code & 0xff == SQLITE_READONLY;
        let read_only = || self.ballast.as_ref().is_some_and(Ballast::is_read_only);
        (refused && read_only()).then_some(Shortage::ReadOnly)
    }

    async fn commit(&mut self, batch: &mut [Item]) -> Result<(), Trouble> {
        self.shared.pace.begin();
        let committed = self.transaction(batch).await;
        let accepts = batch.iter().any(|item| matches!(item, Item::Accept(..)));
        self.shared.pace.end(accepts && committed.is_ok());
        committed
    }

    async fn transaction(&mut self, batch: &mut [Item]) -> Result<(), Trouble> {
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
                if let Some(shortage) = self.shortage_of(&fault) {
                    return Err(Trouble::NoRoom(shortage, fault));
                }
                return Err(if lost { Trouble::Nothing(fault.into()) } else { Trouble::Operation(fault) });
            }
        };
        failpoints(batch, "pre_commit");
        if let Some(recall) = &recall {
            recall.before(&notes);
        }
        if let Err(fault) = self.session.commit().await {
            // The last frame of a transaction is what commits it: where a write found no room, it is not whole.
            if let Some(shortage) = self.shortage_of(&fault) {
                let _ = self.session.roll_back(&fault).await;
                if let Some(recall) = &recall {
                    recall.undone(&notes);
                }
                return Err(Trouble::NoRoom(shortage, fault));
            }
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
