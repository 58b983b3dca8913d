//! Connections: the writer's session, which outlives a lost connection, and the readers' pools.
//!
//! A session begins, commits and rolls back; what happens in between is not its affair. It never retries a
//! transaction: only a connection that was found dead before anything was begun is made again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{
    Connection as _, PgConnection, PgPool, SqlitePool, pool::PoolConnection, postgres::PgConnectOptions,
};

use super::{
    StoreError,
    checkpoint::Log,
    database::{Fault, Link, values},
    sqlite::{Cell, Direct, NONE},
};

/// How long a database may take to answer a new connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long those that read may take to come back once the database is closed.
const CLOSE: Duration = Duration::from_secs(10);

/// How long the server keeps a transaction, and with it the rows that it holds, whose daemon says nothing: one that is
/// frozen (SIGSTOP, a paused machine) is never noticed by TCP, and the other replicas wait for its rows.
const SILENCE_MILLIS: &str = "10000";

/// What the embedded database's writer keeps of the file. No more: after many commits SQLite goes through all of it once
/// (a page that was split had a number past the end of the file for a moment), and what it keeps not the kernel does.
const CACHE_KIB: u32 = 16_384;

/// The writer's connection.
pub(super) enum Session {
    Sqlite(Direct),
    /// None while the server is out of reach.
    Postgres(Box<PgConnectOptions>, Option<PgConnection>),
}

impl Session {
    /// Opens the file for its one writer: a commit waits for the disk, what is deleted is overwritten.
    pub(super) fn sqlite(path: &Path, log_pages: u32) -> Result<Self, Fault> {
        let mut direct = Direct::open(path)?;
        direct.script(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA wal_autocheckpoint = {log_pages}; PRAGMA secure_delete = ON; PRAGMA cache_size = -{CACHE_KIB}"
        ))?;
        Ok(Session::Sqlite(direct))
    }

    pub(super) async fn postgres(options: PgConnectOptions) -> Result<Self, Fault> {
        let connection = connect(&options).await?;
        Ok(Session::Postgres(Box::new(options), Some(connection)))
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self, Session::Postgres(..))
    }

    /// The connection, where there is one.
    pub(super) fn link(&mut self) -> Option<Link<'_>> {
        match self {
            Session::Sqlite(c) => Some(Link::direct(c)),
            Session::Postgres(_, c) => c.as_mut().map(Link::postgres),
        }
    }

    /// Begins a transaction that will write, on a new connection where the old one is dead.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        match self {
            Session::Sqlite(c) => Ok(c.run("BEGIN IMMEDIATE", NONE).map(drop)?),
            Session::Postgres(options, connection) => {
                if let Some(c) = connection.as_mut()
                    && Link::postgres(c).script("BEGIN").await.is_ok()
                {
                    return Ok(());
                }
                *connection = None;
                let mut fresh = connect(options).await?;
                Link::postgres(&mut fresh).script("BEGIN").await?;
                *connection = Some(fresh);
                Ok(())
            }
        }
    }

    /// A number that changes when another connection than this one has committed; none where several writers are meant
    /// to. For inside a transaction, when nobody else can.
    pub(super) fn others_commits(&mut self) -> Result<Option<i64>, Fault> {
        let Session::Sqlite(c) = self else { return Ok(None) };
        match c.rows("PRAGMA data_version", NONE)?.first().and_then(|row| row.first()) {
            Some(Cell::Int(number)) => Ok(Some(*number)),
            _ => Err(Fault::Corrupt("a version of the data".into())),
        }
    }

    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        match self {
            Session::Sqlite(c) => Ok(c.run("COMMIT", NONE).map(drop)?),
            Session::Postgres(_, Some(c)) => Link::postgres(c).script("COMMIT").await,
            Session::Postgres(_, None) => Err(Fault::Sql(sqlx::Error::PoolClosed)),
        }
    }

    /// Between two commits, of which the last was of so many operations: the embedded database's log is folded in where
    /// it is long.
    pub(super) fn fold(&mut self, log: &Log, operations: usize) {
        if let Session::Sqlite(c) = self {
            log.fold(c);
            log.grew(operations as u64);
        }
    }

    /// Rolls back after a fault; true where the connection is gone and took the transaction with it.
    pub(super) async fn roll_back(&mut self, fault: &Fault) -> bool {
        let gone = match self.link() {
            None => true,
            // SQLite rolls some failures back by itself (a full disk); there is nothing left to do then.
            Some(mut link) => link.script("ROLLBACK").await.is_err(),
        };
        match self {
            Session::Sqlite(_) => false,
            Session::Postgres(_, connection) => {
                let lost = gone || matches!(fault, Fault::Sql(sqlx::Error::Io(_)));
                if lost {
                    *connection = None;
                }
                lost
            }
        }
    }

    /// Says goodbye; SQLite folds its log into the file.
    pub(super) async fn close(self) {
        let _ = match self {
            // Dropped, which closes it.
            Session::Sqlite(_) => Ok(()),
            Session::Postgres(_, Some(c)) => c.close().await,
            Session::Postgres(_, None) => Ok(()),
        };
    }
}

/// Connects, and makes sure that a commit waits for the disk (an administrator's `off` would break P1), and that a
/// daemon that freezes in a transaction holds nobody up for long.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Fault> {
    let timed_out = |_| {
        Fault::Sql(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database server does not answer",
        )))
    };
    let mut connection =
        tokio::time::timeout(CONNECT, PgConnection::connect_with(options)).await.map_err(timed_out)??;
    let sql = "SELECT set_config('synchronous_commit', 'on', false) \
               WHERE current_setting('synchronous_commit') IN ('off', 'local')";
    Link::postgres(&mut connection).rows(sql, values![]).await?;
    let sql = "SELECT set_config('idle_in_transaction_session_timeout', $1, false)";
    Link::postgres(&mut connection).rows(sql, values![SILENCE_MILLIS]).await?;
    Ok(connection)
}

/// Connections that only read.
#[derive(Clone)]
pub(super) enum Readers {
    Sqlite(SqlitePool, Arc<Beside>),
    Postgres(PgPool),
}

/// Connections of an embedded database that are read on the thread that asks.
pub(super) struct Beside {
    path: PathBuf,
    /// Those that nobody uses now.
    idle: Mutex<Vec<Direct>>,
}

/// The most of them that are kept open.
const IDLE_MAX: usize = 8;

/// One of them, until it is dropped.
pub(super) struct Lent {
    direct: Option<Direct>,
    to: Arc<Beside>,
}

impl Beside {
    fn lend(self: &Arc<Self>) -> Result<Lent, Fault> {
        let idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let direct = match idle {
            Some(direct) => direct,
            None => {
                let mut direct = Direct::open(&self.path)?;
                direct.script("PRAGMA query_only = ON; PRAGMA cache_size = -8192")?;
                direct
            }
        };
        Ok(Lent { direct: Some(direct), to: Arc::clone(self) })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.to.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        idle.extend(self.direct.take());
        idle.truncate(IDLE_MAX);
    }
}

/// One of them, for a while.
pub(super) enum Reader {
    Direct(Lent),
    Sqlite(PoolConnection<sqlx::Sqlite>),
    Postgres(PoolConnection<sqlx::Postgres>),
}

impl Readers {
    pub(super) async fn take(&self) -> Result<Reader, StoreError> {
        self.connect().await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// The same, with the error as it is.
    pub(super) async fn connect(&self) -> Result<Reader, sqlx::Error> {
        match self {
            Readers::Sqlite(pool, _) => pool.acquire().await.map(Reader::Sqlite),
            Readers::Postgres(pool) => pool.acquire().await.map(Reader::Postgres),
        }
    }

    /// One for short readings by key: an embedded database is read in place, which takes less time than to hand the
    /// statement to another thread, and must not take longer.
    pub(super) async fn near(&self) -> Result<Reader, StoreError> {
        match self {
            Readers::Sqlite(_, beside) => Ok(Reader::Direct(beside.lend()?)),
            Readers::Postgres(_) => self.take().await,
        }
    }

    pub(super) fn sqlite(pool: SqlitePool, path: PathBuf) -> Self {
        Readers::Sqlite(pool, Arc::new(Beside { path, idle: Mutex::default() }))
    }

    /// Waits for connections that are lent, but not for ever: one that never comes back must not keep the process from
    /// ending.
    pub(super) async fn close(&self) {
        let all_back = async {
            match self {
                Readers::Sqlite(pool, _) => pool.close().await,
                Readers::Postgres(pool) => pool.close().await,
            }
        };
        if tokio::time::timeout(CLOSE, all_back).await.is_err() {
            tracing::warn!(
                seconds = CLOSE.as_secs(),
                "a reading connection to the database is left behind: it did not close"
            );
        }
        if let Readers::Sqlite(_, beside) = self {
            beside.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
        }
    }
}

impl Reader {
    pub(super) fn link(&mut self) -> Link<'_> {
        match self {
            Reader::Direct(lent) => Link::direct(lent.direct.as_mut().expect("there until it is dropped")),
            Reader::Sqlite(c) => Link::sqlite(c),
            Reader::Postgres(c) => Link::postgres(c),
        }
    }
}
