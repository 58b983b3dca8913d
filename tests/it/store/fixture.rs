//! A fresh database for each test, and messages to put into it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use channel_orchestrator::{
    domain::{
        address::{Address, RawContacts},
        channel::Channel,
        decision::{ChannelDecision, Decision},
        delivery::{Hop, NewMessage, OnUnknown, Outcome, Plan, Status},
        ids::{AttemptId, IdempotencyKey, MessageId, PolicyVersion, RecipientId, TenantId},
        message::{Content, MessageClass, MessageKind, MessageRequest, Origin, Preferences, Priority},
        money::MicroEuros,
    },
    store::{Claimed, Intent, IntentRecord, OpenOptions, Queue, SqlStore, open},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

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
        let schema = format!("t{}_{}", std::process::id(), SCHEMAS.fetch_add(1, Ordering::Relaxed));
        let base = Base::Postgres { server, schema };
        let Base::Postgres { server, schema } = &base else { unreachable!() };
        let mut admin = PgConnection::connect(server).await.unwrap();
        let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        Some(base)
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

    pub async fn audit(&self) {
        super::audit::audit(self).await;
    }
}

/// An instant of 15 November 2025, Paris, seconds after ten o'clock.
pub fn at(seconds: i64) -> DateTime<Utc> {
    "2025-11-15T09:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

pub fn tenant() -> TenantId {
    TenantId::parse("agency").unwrap()
}

pub fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}

pub const SMS_COST: MicroEuros = MicroEuros(50_000);

fn request() -> MessageRequest {
    MessageRequest {
        tenant: tenant(),
        recipient: RecipientId::parse("p-1").unwrap(),
        recipient_name: Some("Zoé".into()),
        contacts: RawContacts { phone: Some("06 12 34 56 78".into()), ..Default::default() },
        kind: Some(MessageKind::Notification),
        priority: Some(Priority::Urgent),
        send_within: Some(10),
        preferences: Preferences { preferred: vec![Channel::Email], ..Default::default() },
        time_zone: Some(chrono_tz::Europe::Paris),
        locale: Some("fr".into()),
        event_at: Some(at(7200)),
        tags: vec!["reminder".into()],
        origin: Origin::Api,
        consent: None,
        content: Content { body: "Rendez-vous à 15 h".into(), ..Default::default() },
        send_at: None,
        deadline: None,
        ordering_key: None,
    }
}

fn decision() -> Decision {
    let channel = |channel, score| ChannelDecision {
        channel,
        eligible: true,
        gates: vec![],
        score,
        confidence: 0.9,
        reason: "SMS best for urgent messages (98% open rate)".into(),
        held_until: None,
        held_reason: None,
        cost: SMS_COST,
        delivery_seconds: 5,
        notes: vec![],
        criteria: vec![],
    };
    Decision {
        tenant: tenant(),
        policy_version: PolicyVersion::parse(&"ab".repeat(32)).unwrap(),
        generation: 1,
        variant: None,
        strategy: None,
        strategy_errors: vec![],
        at: at(0),
        time_zone: "Europe/Paris".into(),
        priority: Priority::Urgent,
        chosen: Some(Channel::Sms),
        held_until: None,
        channels: vec![
            channel(Channel::Sms, 40.0),
            channel(Channel::Email, 25.123_456),
            channel(Channel::WhatsApp, 10.1),
            channel(Channel::Telegram, 0.0),
        ],
    }
}

fn hop(channel: Channel, address: Address) -> Hop {
    Hop {
        channel,
        address,
        drivers: vec!["sandbox".into()],
        from: Some("AGENCE".into()),
        from_name: None,
        reply_to: None,
        cost: SMS_COST,
        quiet_hours: None,
        french_legal_window: false,
        retry_delays: vec![60, 300, 900],
        on_unknown: OnUnknown::ResendOnce,
    }
}

/// An SMS with an email to fall back to, queued ten o'clock sharp.
pub fn message() -> NewMessage {
    NewMessage {
        id: MessageId::new(),
        request: request(),
        decision: decision(),
        plan: Some(Plan {
            hops: vec![
                hop(Channel::Sms, Address::Phone("+33612345678".into())),
                hop(Channel::Email, Address::Email("zoe@example.fr".into())),
            ],
            not_before: None,
            held_reason: None,
            deadline: at(86_400),
            class: MessageClass::Transactional,
            time_zone: "Europe/Paris".into(),
        }),
        status: Status::Queued,
        status_reason: None,
        accepted_at: at(0),
        idempotency: None,
    }
}

pub fn marketing() -> NewMessage {
    let mut message = message();
    message.request.kind = Some(MessageKind::Marketing);
    message.plan.as_mut().unwrap().class = MessageClass::Marketing;
    message
}

/// A message that waits until `until`.
pub fn held(until: DateTime<Utc>) -> NewMessage {
    let mut message = message();
    message.status = Status::Held;
    message.status_reason = Some("quiet hours until 08:00".into());
    message.plan.as_mut().unwrap().not_before = Some(until);
    message
}

/// The intent that a worker would record for what it claimed.
pub fn intent(claimed: &Claimed, now: DateTime<Utc>) -> IntentRecord {
    let hop = &claimed.plan.hops[usize::from(claimed.hop)];
    IntentRecord {
        attempt: AttemptId::new(),
        channel: hop.channel,
        driver: "sandbox".into(),
        address: hop.address.clone(),
        from: hop.from.clone(),
        cost: hop.cost,
        day: now.date_naive(),
        at: now,
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
