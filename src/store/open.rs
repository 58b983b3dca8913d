//! Opening: from a URL to a store that is ready, or to words about why not.
//!
//! Nothing here guesses: a database that is locked, newer, damaged or on the wrong disk is refused with what to
//! do about it. The store outlives lost connections, never a commit that failed.

use std::{
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, atomic::AtomicI64},
    time::Duration,
};

use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Result, StoreError,
    ballast::Ballast,
    checkpoint::{Checkpointer, Log},
    connect::{Reader, Readers, Session},
    database::{Fault, Link, values},
    faults::is_damage,
    files::{self, FileLock},
    recall::{Loader, Recall},
    schema,
    writer::{Writer, WriterCounts},
};

/// The oldest SQLite that is known to keep what it promises: 3.51.3 mends a rare corruption of its log.
const SQLITE_MIN: (u32, u32, u32) = (3, 51, 3);

/// A log this long (224 MiB, in pages) is folded in by the commit that makes it so: only where `checkpoint` does not.
const LOG_PAGES: u32 = 57_344;

/// What a database is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// A daemon's: alone on an embedded database, and upgraded where it is older.
    #[default]
    Daemon,
    /// For commands that change a little (`keys`), also while a daemon runs: the database must be there, and of
    /// this version.
    Beside,
    /// For commands that only look, also while a daemon runs. Changes are refused.
    ReadOnly,
}

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub access: Access,
    /// Operations that may wait for the writer; new messages are refused at three quarters of it.
    pub queue: usize,
    /// The most operations in one commit.
    pub per_commit: usize,
    /// Connections that read.
    pub readers: u32,
    /// How often the embedded database's log is folded into its file, beside the commits; zero: by commits alone.
    pub checkpoint_every: Duration,
    /// Room on an embedded database's disk that is kept for the outcomes of what is under way when the disk is full.
    pub ballast_bytes: u64,
    /// An embedded database of at most this size is looked through before it is used; a larger one would keep its
    /// daemon from starting for long.
    pub look_through_bytes: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            access: Access::Daemon,
            queue: 8192,
            per_commit: 256,
            readers: 4,
            checkpoint_every: Duration::from_millis(100),
            ballast_bytes: 0,
            look_through_bytes: 64 << 20,
        }
    }
}

/// A database in use. Dropping it lets the process go on without it; `close` writes what is queued first.
pub struct SqlStore {
    readers: Readers,
    writer: Option<Writer>,
    checkpointer: Mutex<Option<Checkpointer>>,
    /// What decisions are made from, for a daemon alone on its database.
    pub(super) recall: Option<Arc<Recall>>,
    loader: Option<AbortOnDropHandle<()>>,
    /// When keys that ran out were last looked for, in milliseconds.
    pub(super) pruned_at: AtomicI64,
    /// Let go of when the store is closed.
    lock: Mutex<Option<FileLock>>,
}

impl std::fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqlStore")
    }
}

/// Opens `sqlite:PATH` or `postgres://…`, brings its tables up to date and starts the writer on the current
/// runtime.
pub async fn open(url: &str, options: OpenOptions) -> Result<Arc<SqlStore>> {
    let store = if let Some(path) = url.strip_prefix("sqlite:") {
        open_sqlite(path.strip_prefix("//").unwrap_or(path).into(), &options).await?
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        open_postgres(url, &options).await?
    } else {
        let scheme = url.split(':').next().unwrap_or_default();
        return Err(StoreError::Unusable(format!(
            "{scheme:?} is not a kind of database: expected sqlite:PATH or postgres://USER@HOST/DATABASE"
        )));
    };
    Ok(Arc::new(store))
}

impl SqlStore {
    /// Resolves (changes) once the database cannot be trusted any more, with the words why: the process stops then
    /// with exit code 75, so that it is started again and reads what is really there.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        match &self.writer {
            Some(writer) => writer.failed(),
            None => watch::Sender::new(None).subscribe(),
        }
    }

    /// Commits and operations so far.
    pub fn counts(&self) -> WriterCounts {
        self.writer.as_ref().map(Writer::counts).unwrap_or_default()
    }

    /// Writes what is queued, refuses the rest, and closes the connections.
    pub async fn close(&self) {
        if let Some(task) = &self.loader {
            task.abort();
        }
        let checkpointer = self.checkpointer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(checkpointer) = checkpointer {
            let _ = tokio::task::spawn_blocking(|| checkpointer.stop()).await;
        }
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        drop(self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take());
    }

    pub(super) fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| {
            StoreError::Unusable("the database was opened to be read; nothing can be changed".into())
        })
    }

    pub(super) async fn reader(&self) -> Result<Reader> {
        self.readers.take().await
    }

    /// For short readings by key, which every message needs.
    pub(super) async fn near(&self) -> Result<Reader> {
        self.readers.near().await
    }
}

fn cannot_open(what: &str, fault: Fault) -> StoreError {
    let why = match fault {
        // It may be there in a moment: whoever started us is told to try again, not that the settings are wrong.
        Fault::Sql(error @ (sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)) => {
            return StoreError::Unavailable(format!("{what} does not answer: {error}"));
        }
        // Class 57 of SQLSTATE: the server is starting up, or going down. 53300: it has no connection left.
        Fault::Sql(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| code.starts_with("57P0") || code == "53300") =>
        {
            return StoreError::Unavailable(format!("{what}: {error}"));
        }
        fault if is_damage(&fault) => {
            return damaged(what, &StoreError::from(fault).to_string());
        }
        Fault::Sql(error) => error.to_string(),
        Fault::Sqlite(refused) => refused.to_string(),
        Fault::Corrupt(why) => why,
    };
    StoreError::Unusable(format!("cannot open the database {what}: {why}"))
}

async fn open_sqlite(path: PathBuf, options: &OpenOptions) -> Result<SqlStore> {
    let shown = path.display().to_string();
    if shown.is_empty() || shown == ":memory:" {
        return Err(StoreError::Unusable(
            "sqlite: needs the path of a file, as in sqlite:/var/lib/x/store.db".into(),
        ));
    }
    let (read_only, beside) = (options.access == Access::ReadOnly, options.access == Access::Beside);
    if (read_only || beside) && !path.is_file() {
        return Err(StoreError::Unusable(format!(
            "there is no database at {shown}: `orchestrator serve` makes it"
        )));
    }
    let lock = if read_only || beside { None } else { Some(files::prepare(&path)?) };
    // Before the database is opened, which takes a little room as well.
    let ballast = lock.as_ref().map(|_| Ballast::beside(&path, options.ballast_bytes));
    let base = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    let mut session = None;
    if !read_only {
        let mut made = Session::sqlite(&path, LOG_PAGES).map_err(|f| cannot_open(&shown, f))?;
        if let Some(mut link) = made.link() {
            require_version(&mut link, &shown).await?;
            read_schema(&mut link, &shown).await?;
            let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
            if !beside && bytes <= options.look_through_bytes {
                look_through(&mut link, &shown).await?;
            }
            ready(&mut link, options.access).await?;
        }
        session = Some(made);
    }
    let reading = base.clone().pragma("query_only", "ON").pragma("cache_size", "-16384");
    let pool = SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(reading);
    let readers = Readers::sqlite(pool, path.clone());
    if read_only {
        schema::check(&mut readers.take().await?.link()).await?;
    }
    let log = Arc::<Log>::default();
    let checkpointer = match (&session, options.checkpoint_every) {
        (Some(_), every) if every > Duration::ZERO && !beside => {
            let started = Checkpointer::start(&path, every, Arc::clone(&log));
            Some(started.map_err(|fault| cannot_open(&shown, fault))?)
        }
        _ => None,
    };
    let recall = match options.access {
        Access::Daemon => Some(recall(&readers).await.map_err(|fault| cannot_open(&shown, fault))?),
        Access::Beside | Access::ReadOnly => None,
    };
    let loader = recall.clone().map(|recall| Loader { recall, readers: readers.clone() });
    let writer = session.map(|session| Writer::start(session, ballast, options, loader.clone(), log));
    // Only now, when whatever is written is noted.
    let loader = loader.map(|loader| AbortOnDropHandle::new(tokio::spawn(loader.run())));
    let (pruned_at, checkpointer) = (AtomicI64::new(0), Mutex::new(checkpointer));
    Ok(SqlStore { readers, writer, checkpointer, recall, loader, lock: Mutex::new(lock), pruned_at })
}

/// Empty, and as large as what is there asks for: the newest row's number tells about how many there are.
async fn recall(readers: &Readers) -> Result<Arc<Recall>, Fault> {
    let sql = "SELECT (SELECT COALESCE(MAX(rowid), 0) FROM bodies), (SELECT COUNT(*) FROM suppressions)";
    let row = readers.connect().await.map_err(Fault::Sql)?.link().row(sql, values![]).await?;
    let count = |at: usize| -> Result<u64, Fault> {
        let number = row.as_ref().map(|row| row.int(at)).transpose()?.unwrap_or(0);
        Ok(u64::try_from(number).unwrap_or(0))
    };
    Ok(Arc::new(Recall::new(count(0)?, count(1)?)))
}

/// A daemon brings the tables up to date; beside one they have to be.
async fn ready(link: &mut Link<'_>, access: Access) -> Result<()> {
    match access {
        Access::Daemon => schema::migrate(link).await,
        Access::Beside | Access::ReadOnly => schema::check(link).await,
    }
}

async fn require_version(link: &mut Link<'_>, shown: &str) -> Result<()> {
    let row = link.row("SELECT sqlite_version()", values![]).await.map_err(|f| cannot_open(shown, f))?;
    let text = match row {
        Some(row) => row.text(0).map_err(|f| cannot_open(shown, f))?,
        None => String::new(),
    };
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let found: (u32, u32, u32) = (next(), next(), next());
    if found < SQLITE_MIN {
        return Err(StoreError::Unusable(format!(
            "this build has SQLite {text}, but 3.51.3 is the oldest that is safe here: build it with the bundled one"
        )));
    }
    Ok(())
}

/// Refuses a file that is damaged, before anything is written into it (reliability.md F14).
/// Every word of the tables' definitions, which SQLite's own check takes for whatever they are: sqlx takes the names of types
/// for UTF-8, and a reading thread that finds another ends by a panic, with its connection.
async fn read_schema(link: &mut Link<'_>, shown: &str) -> Result<()> {
    let sql = "SELECT COALESCE(sql, '') FROM sqlite_schema";
    let rows = link.rows(sql, values![]).await.map_err(|f| cannot_open(shown, f))?;
    match rows.iter().any(|row| row.text(0).is_err()) {
        true => Err(damaged(shown, "the definition of a table is no text")),
        false => Ok(()),
    }
}

async fn look_through(link: &mut Link<'_>, shown: &str) -> Result<()> {
    let rows = link.rows("PRAGMA integrity_check(1)", values![]).await.map_err(|f| cannot_open(shown, f))?;
    let said = rows.first().map(|row| row.text(0)).transpose().map_err(|f| cannot_open(shown, f))?;
    match said {
        Some(said) if said != "ok" => Err(damaged(shown, &said)),
        _ => Ok(()),
    }
}

fn damaged(shown: &str, what: &str) -> StoreError {
    StoreError::Unusable(format!(
        "the database {shown} is damaged ({what}): keep the file for whoever looks into it, and go on from the last \
         backup (`orchestrator serve --database sqlite:COPY`)"
    ))
}

async fn open_postgres(url: &str, options: &OpenOptions) -> Result<SqlStore> {
    // The URL may hold a password: errors never show it.
    let mut parsed = PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::Unusable(format!("the postgres:// URL cannot be read: {error}")))?
        .disable_statement_logging();
    if parsed.get_application_name().is_none() {
        parsed = parsed.application_name("channel-orchestrator");
    }
    let shown = format!("{} on {}", parsed.get_database().unwrap_or("postgres"), parsed.get_host());
    let read_only = options.access == Access::ReadOnly;
    let reading = PgPoolOptions::new()
        .max_connections(options.readers.max(1))
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(parsed.clone().options([("default_transaction_read_only", "on")]));
    let readers = Readers::Postgres(reading);
    if read_only {
        schema::check(&mut readers.take().await?.link()).await?;
        return Ok(SqlStore {
            readers,
            writer: None,
            checkpointer: Mutex::new(None),
            recall: None,
            loader: None,
            lock: Mutex::new(None),
            pruned_at: AtomicI64::new(0),
        });
    }
    let mut session = Session::postgres(parsed).await.map_err(|f| cannot_open(&shown, f))?;
    if let Some(mut link) = session.link() {
        ready(&mut link, options.access).await?;
    }
    let writer = Some(Writer::start(session, None, options, None, Arc::default()));
    Ok(SqlStore {
        readers,
        writer,
        checkpointer: Mutex::new(None),
        recall: None,
        loader: None,
        lock: Mutex::new(None),
        pruned_at: AtomicI64::new(0),
    })
}
