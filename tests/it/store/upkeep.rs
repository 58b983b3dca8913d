//! What an operator does with a database: audits it, copies it while it is worked on, upgrades it.

use std::os::unix::fs::PermissionsExt;

use channel_orchestrator::{
    domain::delivery::{Next, Status},
    store::{Access, Intake, OpenOptions, Queue, Records, StoreError, open},
};
use serde_json::Value;

use super::{
    fixture::{Base, accepted, at, begin, claim_one, key, message},
    on_both,
};

/// What to break, the invariant that must be named, and what mends it again.
const BREAKS: &[(&str, &str, &str)] = &[
    ("UPDATE bodies SET message_id = 'x'", "I1", "UPDATE bodies SET message_id = (SELECT id FROM messages)"),
    (
        "UPDATE idempotency_keys SET message_id = 'x'",
        "I1",
        "UPDATE idempotency_keys SET message_id = (SELECT id FROM messages)",
    ),
    ("UPDATE attempts SET number = 3", "I2", "UPDATE attempts SET number = 1"),
    (
        "INSERT INTO suppressions (address, channel, sender, tenant, reason, created_at) \
         SELECT address, channel, '', '', 'STOP', started_at - 1 FROM attempts",
        "I3",
        "DELETE FROM suppressions",
    ),
    ("UPDATE attempts SET status = 'intent'", "I4", "UPDATE attempts SET status = 'accepted'"),
    ("UPDATE messages SET lease_until = 1", "I5", "UPDATE messages SET lease_until = NULL"),
    ("UPDATE attempts SET fence = 99", "I5", "UPDATE attempts SET fence = 1"),
    ("UPDATE messages SET attempts = 13", "I6", "UPDATE messages SET attempts = 1"),
    (
        "UPDATE messages SET class = 'marketing', resend_used = 1",
        "I7",
        "UPDATE messages SET class = 'transactional', resend_used = 0",
    ),
    (
        "UPDATE messages SET status = 'failed', due_at = 1",
        "I8",
        "UPDATE messages SET status = 'sent', due_at = NULL",
    ),
    ("UPDATE attempts SET channel = 'email'", "I8", "UPDATE attempts SET channel = 'sms'"),
    (
        "UPDATE messages SET status = 'queued', due_at = 1, deadline = 1",
        "I9",
        "UPDATE messages SET status = 'sent', due_at = NULL",
    ),
    (
        "INSERT INTO receipts (message_id, attempt, kind, provider_at, received_at, credential) \
         SELECT message_id, 'x', 'delivered', 0, 0, 'c' FROM attempts",
        "I11",
        "DELETE FROM receipts",
    ),
    ("UPDATE attempts SET cost = cost + 1", "I14", "UPDATE attempts SET cost = cost - 1"),
];

/// One message that was sent, with a key.
async fn sent(base: &Base) {
    let store = base.open().await;
    let mut message = message();
    message.idempotency = Some((key("order-1"), [7; 32]));
    store.accept(message).await.unwrap();
    let claimed = claim_one(&store, "w", at(1)).await;
    let attempt = begin(&store, &claimed, at(1)).await;
    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(2)).await.unwrap();
    store.close().await;
}

async fn the_audit_finds_each_invariant_that_is_broken(base: &Base) {
    sent(base).await;
    for (breaks, invariant, mends) in BREAKS {
        base.sql(breaks).await;
        let options = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
        let store = base.open_with(options).await;
        let findings = store.audit(at(3)).await.unwrap();
        store.close().await;
        let found: Vec<_> = findings.iter().filter(|finding| finding.breaches > 0).collect();
        assert!(found.iter().any(|finding| finding.invariant == *invariant), "{breaks}: {found:?}");
        assert!(found.iter().all(|finding| !finding.examples.is_empty()), "{found:?}");
        base.sql(mends).await;
        base.audit().await;
    }
}

async fn a_database_of_the_first_version_is_upgraded_and_its_messages_are_sent(base: &Base) {
    let old = message();
    base.open().await.close().await;
    base.drop_tables().await;
    base.sql(&first_schema(base)).await;
    base.sql("CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)").await;
    let (id, due) = (old.id, at(0).timestamp_millis());
    let request = serde_json::to_string(&old.request).unwrap().replace('\'', "''");
    let decision = serde_json::to_string(&old.decision).unwrap().replace('\'', "''");
    let plan = plan_of_the_first_version(serde_json::to_value(old.plan.unwrap()).unwrap());
    base.sql(&format!(
        "INSERT INTO meta VALUES ('schema', '1'); INSERT INTO messages (id, tenant, recipient, status, class, \
         origin, accepted_at, due_at, deadline) VALUES ('{id}', 'agency', 'p-1', 'queued', 'transactional', 'api', \
         {due}, {due}, {deadline}); INSERT INTO bodies VALUES ('{id}', '{request}', '{decision}', '{plan}')",
        deadline = at(86_400).timestamp_millis(),
    ))
    .await;
    let read_only = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
    let refused = open(&base.url(), read_only).await.unwrap_err().to_string();
    assert!(refused.contains("schema version 1"), "{refused}");
    let store = base.open().await;
    let claimed = claim_one(&store, "w", at(1)).await;
    let attempt = begin(&store, &claimed, at(1)).await;
    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(2)).await.unwrap();
    let record = store.message_of_any_tenant(id).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Sent);
    store.close().await;
}

/// What the first version's plans had and no more, with what says nothing written out.
fn plan_of_the_first_version(mut plan: Value) -> String {
    let write_out = |object: &mut Value, later: &[&str], empty: &[&str]| {
        let object = object.as_object_mut().unwrap();
        object.retain(|name, _| !later.contains(&name.as_str()));
        for name in empty {
            object.entry(*name).or_insert(Value::Null);
        }
    };
    write_out(&mut plan, &["escalation", "priority", "tracking"], &["not_before", "held_reason"]);
    for hop in plan["hops"].as_array_mut().unwrap() {
        let empty = ["from", "from_name", "reply_to", "quiet_hours", "after_retries"];
        write_out(hop, &["rendered"], &empty);
    }
    plan.to_string().replace('\'', "''")
}

/// The first migration in the database's own dialect.
fn first_schema(base: &Base) -> String {
    let (kept, dropped) = if base.is_postgres() { ("postgres", "sqlite") } else { ("sqlite", "postgres") };
    let text = include_str!("../../../src/store/migrations/0001_first.sql");
    let mut out = String::new();
    for (at, part) in text.split("/*").enumerate() {
        let (inner, rest) = if at == 0 { ("", part) } else { part.split_once("*/").unwrap() };
        out.push_str(inner.strip_prefix(kept).unwrap_or_default());
        assert!(at == 0 || inner.starts_with(kept) || inner.starts_with(dropped), "{inner}");
        out.push_str(rest);
    }
    out
}

async fn a_copy_made_while_messages_come_in_holds_what_was_acknowledged_before(base: &Base) {
    let store = base.open().await;
    let mut before = Vec::new();
    for _ in 0..20 {
        let message = message();
        before.push(message.id);
        store.accept(message).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    if base.is_postgres() {
        let refused = store.backup(&file).await.unwrap_err().to_string();
        assert!(refused.contains("pg_dump") && !file.exists(), "{refused}");
        store.close().await;
        return;
    }
    let busy = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                store.accept(message()).await.unwrap();
            }
        })
    };
    store.backup(&file).await.unwrap();
    busy.await.unwrap();
    let again = store.backup(&file).await.unwrap_err();
    assert!(matches!(&again, StoreError::Unusable(why) if why.contains("there already")), "{again}");
    let nowhere = store.backup(&folder.path().join("none/copy.db")).await.unwrap_err().to_string();
    assert!(nowhere.contains("folder"), "{nowhere}");
    store.close().await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let copy = open(&format!("sqlite:{}", file.display()), OpenOptions::default()).await.unwrap();
    for id in before {
        assert!(copy.message_of_any_tenant(id).await.unwrap().is_some(), "{id} is not in the copy");
    }
    assert!(copy.audit(at(1)).await.unwrap().iter().all(|finding| finding.breaches == 0));
    // It goes on from there: what is due is claimed.
    assert_eq!(copy.claim("w", at(1), 60, 10).await.unwrap().len(), 10);
    copy.close().await;
}

on_both!(
    the_audit_finds_each_invariant_that_is_broken,
    a_database_of_the_first_version_is_upgraded_and_its_messages_are_sent,
    a_copy_made_while_messages_come_in_holds_what_was_acknowledged_before,
);
