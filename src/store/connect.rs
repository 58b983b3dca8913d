//! Connections: the writer's session, which outlives a lost connection, and the readers' pools.
//!
//! A session begins, commits and rolls back; what happens in between is not its affair. It never retries a
//! transaction: only a connection that was found dead before anything was begun is made again.

use std::time::Duration;

use sqlx::{
    Connection as _, PgConnection, PgPool, SqliteConnection, SqlitePool, pool::PoolConnection,
    postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};

use super::{
    StoreError,
    database::{Fault, Link, values},
};

/// How long a database may take to answer a new connection.
const CONNECT: Duration = Duration::from_secs(5);

/// The writer's connection.
pub(super) enum Session {
    Sqlite(SqliteConnection),
    /// None while the server is out of reach.
    Postgres(Box<PgConnectOptions>, Option<PgConnection>),
}

impl Session {
    pub(super) async fn sqlite(options: &SqliteConnectOptions) -> Result<Self, Fault> {
        Ok(Session::Sqlite(SqliteConnection::connect_with(options).await?))
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
            Session::Sqlite(c) => Some(Link::sqlite(c)),
            Session::Postgres(_, c) => c.as_mut().map(Link::postgres),
        }
    }

    /// Begins a transaction that will write, on a new connection where the old one is dead.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        match self {
            Session::Sqlite(c) => Link::sqlite(c).script("BEGIN IMMEDIATE").await,
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

    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        match self.link() {
            Some(mut link) => link.script("COMMIT").await,
            None => Err(Fault::Sql(sqlx::Error::PoolClosed)),
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
            Session::Sqlite(c) => c.close().await,
            Session::Postgres(_, Some(c)) => c.close().await,
            Session::Postgres(_, None) => Ok(()),
        };
    }
}

/// Connects, and makes sure that a commit waits for the disk: an administrator's `off` would break P1.
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
    Ok(connection)
}

/// Connections that only read.
#[derive(Clone)]
pub(super) enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// One of them, for a while.
pub(super) enum Reader {
    Sqlite(PoolConnection<sqlx::Sqlite>),
    Postgres(PoolConnection<sqlx::Postgres>),
}

impl Readers {
    pub(super) async fn take(&self) -> Result<Reader, StoreError> {
        let taken = match self {
            Readers::Sqlite(pool) => pool.acquire().await.map(Reader::Sqlite),
            Readers::Postgres(pool) => pool.acquire().await.map(Reader::Postgres),
        };
        taken.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    pub(super) async fn close(&self) {
        match self {
            Readers::Sqlite(pool) => pool.close().await,
            Readers::Postgres(pool) => pool.close().await,
        }
    }
}

impl Reader {
    pub(super) fn link(&mut self) -> Link<'_> {
        match self {
            Reader::Sqlite(c) => Link::sqlite(c),
            Reader::Postgres(c) => Link::postgres(c),
        }
    }
}
