//! A fresh database for each test, and the steps that tests take most.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use channel_orchestrator::{
    domain::{delivery::Outcome, ids::AttemptId},
    store::{Claimed, Intent, IntentLimits, IntentRecord, OpenOptions, Queue, SqlStore, open},
};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

pub use super::messages::*;

/// Where a test's database is; the folder goes with it.
pub enum Base {
    Sqlite(tempfile::TempDir),
    Postgres { server: String, schema: String },
}

static SCHEMAS: AtomicU32 = AtomicU32::new(0);

impl Base {
    pub fn sqlite() -> Self {
        Base::Sqlite(tempfile::tempdir().unwrap())
    }

    /// None where no server is named, which is a failure where everything is to be run.
    pub async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("ORCHESTRATOR_TEST_POSTGRES") else {
            let all = std::env::var("ORCHESTRATOR_TEST_REQUIRE_ALL").is_ok_and(|v| v == "1");
            assert!(!all, "ORCHESTRATOR_TEST_POSTGRES names no server, but every test is to be run");
            println!("not run: ORCHESTRATOR_TEST_POSTGRES names no PostgreSQL server");
            return None;
        };
        Some(Self::on_server(server).await)
    }

    /// A schema of its own on a server.
    pub async fn on_server(server: String) -> Self {
        let schema = format!("t{}_{}", std::process::id(), SCHEMAS.fetch_add(1, Ordering::Relaxed));
        let base = Base::Postgres { server, schema };
        let Base::Postgres { server, schema } = &base else { unreachable!() };
        let mut admin = PgConnection::connect(server).await.unwrap();
        let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        base
    }

    pub async fn drop_schema(&self) {
        if let Base::Postgres { server, schema } = self {
            let mut admin = PgConnection::connect(server).await.unwrap();
            let sql = format!("DROP SCHEMA {schema} CASCADE");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        }
    }

    pub fn url(&self) -> String {
        match self {
            Base::Sqlite(dir) => format!("sqlite:{}", dir.path().join("state/store.db").display()),
            Base::Postgres { server, schema } => {
                let joint = if server.contains('?') { '&' } else { '?' };
                format!("{server}{joint}options[search_path]={schema}")
            }
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Base::Postgres { .. })
    }

    pub async fn open(&self) -> Arc<SqlStore> {
        self.open_with(OpenOptions::default()).await
    }

    pub async fn open_with(&self, options: OpenOptions) -> Arc<SqlStore> {
        open(&self.url(), options).await.unwrap()
    }

    /// Runs SQL behind the store's back.
    pub async fn sql(&self, sql: &str) {
        match self {
            Base::Sqlite(_) => {
                let mut c = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut c).await.unwrap();
                c.close().await.unwrap();
            }
            Base::Postgres { .. } => {
                let mut c = PgConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut c).await.unwrap();
                c.close().await.unwrap();
            }
        }
    }

    /// The first column of each row.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.all_texts(&[sql]).await.remove(0)
    }

    /// The first column of each row of each query, on one connection.
    pub async fn all_texts(&self, queries: &[&str]) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        match self {
            Base::Sqlite(_) => {
                let mut c = SqliteConnection::connect(&self.url()).await.unwrap();
                for sql in queries {
                    let rows = sqlx::query(AssertSqlSafe(*sql)).fetch_all(&mut c).await.unwrap();
                    found.push(rows.iter().map(|row| row.get(0)).collect());
                }
                c.close().await.unwrap();
            }
            Base::Postgres { .. } => {
                let mut c = PgConnection::connect(&self.url()).await.unwrap();
                for sql in queries {
                    let rows = sqlx::query(AssertSqlSafe(*sql)).fetch_all(&mut c).await.unwrap();
                    found.push(rows.iter().map(|row| row.get(0)).collect());
                }
                c.close().await.unwrap();
            }
        }
        found
    }

    /// The schema version that this program makes: its migrations' count.
    pub fn versions(&self) -> usize {
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations")).unwrap().count()
    }

    /// As if nothing had ever been there.
    pub async fn drop_tables(&self) {
        let sql = if self.is_postgres() {
            "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()"
        } else {
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        };
        for table in self.texts(sql).await {
            self.sql(&format!("DROP TABLE {table}")).await;
        }
    }

    pub async fn audit(&self) {
        super::audit::audit(self).await;
    }
}

/// The intent that a worker would record for what it claimed.
pub fn intent(claimed: &Claimed, now: DateTime<Utc>) -> IntentRecord {
    let hop = &claimed.plan.hops[usize::from(claimed.hop)];
    IntentRecord {
        attempt: AttemptId::new(),
        channel: hop.channel,
        driver: "sandbox".into(),
        // Its names for messages are not looked at: tests give the same one again and again.
        credential: String::new(),
        address: hop.address.clone(),
        from: hop.from.clone(),
        cost: hop.cost,
        day: now.date_naive(),
        at: now,
        limits: IntentLimits::default(),
    }
}

/// Claims what is expected to be the one message due.
pub async fn claim_one(store: &SqlStore, worker: &str, now: DateTime<Utc>) -> Claimed {
    let mut claimed = store.claim(worker, now, 60, 10).await.unwrap();
    assert_eq!(claimed.len(), 1, "one message is due");
    claimed.remove(0)
}

/// Records an intent that must be granted.
pub async fn begin(store: &SqlStore, claimed: &Claimed, now: DateTime<Utc>) -> AttemptId {
    match store.record_intent(claimed, intent(claimed, now)).await.unwrap() {
        Intent::Recorded(open) => open.id,
        other => panic!("the intent was not recorded: {other:?}"),
    }
}

pub fn accepted() -> Outcome {
    Outcome::Accepted { provider_message_id: Some("SM1".into()), cost: None }
}
