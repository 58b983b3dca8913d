//! Death at the statements of an upgrade (reliability.md F18): the old tables or the new ones, never something between.

use super::bench::{Bench, Channel, Mood, UNHURRIED, in_runtime, is_built_for_it};
use crate::store::fixture::Base;

/// The first schema, as the first daemon made it.
const FIRST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations/0001_first.sql"));
const KEY: &str = "INSERT INTO idempotency_keys (tenant, key, body_hash, message_id, created_at, expires_at) \
                   VALUES ('acme', 'old', '', 'msg', 1, 9000000000000000)";

/// Every seventh statement, or each.
fn step() -> usize {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { 1 } else { 7 }
}

#[test]
fn killed_at_the_statements_of_an_upgrade_it_is_upgraded_at_the_next_start() {
    if !is_built_for_it() {
        return;
    }
    for postgres in [false, true] {
        let mut deaths = 0;
        for hit in (1..).step_by(step()) {
            let Some(base) = database(postgres) else { return };
            let url = base.url();
            let mut bench = Bench::on(None, Channel::Sms, Mood::Well, UNHURRIED);
            bench.set_up(&format!("database = {url:?}\n"), "");
            bench.start_to_die("migrate.statement", hit);
            let died = bench.deaths == 1;
            let versions = in_runtime(base.texts("SELECT value FROM meta WHERE name = 'schema'"));
            assert_eq!(versions, [base.versions().to_string()], "hit {hit}");
            let kept = in_runtime(base.texts("SELECT key FROM idempotency_keys WHERE key = 'old'"));
            assert_eq!(kept, ["old"], "hit {hit}");
            bench.submit(0);
            let record = bench.settled(0);
            assert!(matches!(record["status"].as_str(), Some("sent" | "delivered")), "{record}");
            bench.end();
            in_runtime(base.drop_schema());
            deaths += usize::from(died);
            if !died {
                break;
            }
        }
        assert!(deaths > 40 / step(), "{deaths} deaths");
        println!("{deaths} deaths in an upgrade, on {}", if postgres { "PostgreSQL" } else { "SQLite" });
    }
}

/// A database of the first version that holds something.
fn database(postgres: bool) -> Option<Base> {
    let base = if postgres { in_runtime(Base::postgres())? } else { Base::sqlite() };
    if let Base::Sqlite(dir) = &base {
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::File::create(dir.path().join("state/store.db")).unwrap();
    }
    let meta = "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL); \
                INSERT INTO meta VALUES ('schema', '1')";
    // Comments that begin with a database's name hold what is for it alone.
    let own = if postgres { "/*postgres" } else { "/*sqlite" };
    let first = FIRST.split("/*").map(|part| {
        let whole = format!("/*{part}");
        match (whole.strip_prefix(own), part.split_once("*/")) {
            (Some(_), Some((inner, rest))) => format!("{}{rest}", inner.trim_start_matches(&own[2..])),
            (None, Some((_, rest))) => rest.to_owned(),
            _ => part.to_owned(),
        }
    });
    let first: String = first.collect();
    in_runtime(base.sql(&format!("{meta}; {first}; {KEY}")));
    Some(base)
}
