//! What the store does when the database fails it, and which databases it refuses to open.

use channel_orchestrator::{
    domain::delivery::{ErrorClass, Next, Outcome},
    store::{Access, Intake, Keys, OpenOptions, Queue, Records, StoreError, open},
};
use std::time::{Duration, Instant};

use sqlx::{Connection, SqliteConnection};
use tokio::task::JoinSet;

use super::fixture::{Base, accepted, at, begin, claim_one, message, tenant};

fn read_only() -> OpenOptions {
    OpenOptions { access: Access::ReadOnly, ..Default::default() }
}

async fn refusal(url: &str, options: OpenOptions) -> String {
    match open(url, options).await {
        Ok(_) => panic!("{url} was opened"),
        Err(StoreError::Unusable(words)) => words,
        Err(other) => panic!("{url}: {other:?}"),
    }
}

async fn a_newer_schema_is_refused_with_words(base: &Base) {
    base.open().await.close().await;
    base.sql("UPDATE meta SET value = '99' WHERE name = 'schema'").await;
    for options in [OpenOptions::default(), read_only()] {
        let words = refusal(&base.url(), options).await;
        assert!(words.contains("schema version 99") && words.contains("newer orchestrator"), "{words}");
    }
    base.sql(&format!("UPDATE meta SET value = '{}' WHERE name = 'schema'", base.versions())).await;
}

async fn an_upgrade_that_fails_leaves_nothing_behind(base: &Base) {
    base.open().await.close().await;
    // As a database of an earlier version would be whose upgrade cannot be done: its first step fails midway.
    base.sql("UPDATE meta SET value = '0' WHERE name = 'schema'; DROP TABLE messages").await;
    let words = refusal(&base.url(), OpenOptions::default()).await;
    assert!(words.contains("tables cannot be made"), "{words}");
    let sql = if base.is_postgres() {
        "SELECT tablename::text FROM pg_tables WHERE tablename = 'messages' AND schemaname = current_schema()"
    } else {
        "SELECT name FROM sqlite_schema WHERE name = 'messages'"
    };
    assert!(base.texts(sql).await.is_empty(), "a half upgrade stayed");
    let words = refusal(&base.url(), read_only()).await;
    assert!(words.contains("upgrades the database"), "{words}");
    base.drop_tables().await;
    base.open().await.close().await;
}

async fn a_reader_reads_beside_the_daemon_and_changes_nothing(base: &Base) {
    let words = refusal(&base.url(), read_only()).await;
    assert!(words.contains("orchestrator serve"), "{words}");
    let daemon = base.open().await;
    let new = message();
    daemon.accept(new.clone()).await.unwrap();
    for stopped in [false, true] {
        if stopped {
            daemon.close().await;
        }
        let reader = open(&base.url(), read_only()).await.unwrap();
        assert!(reader.message(&tenant(), new.id).await.unwrap().is_some());
        assert!(reader.keys(None).await.unwrap().is_empty());
        assert!(matches!(reader.accept(message()).await, Err(StoreError::Unusable(_))));
        reader.close().await;
    }
}

/// `keys` changes the database that a daemon has open; the daemon sees it.
async fn a_command_beside_the_daemon_may_change_a_little(base: &Base) {
    let beside = OpenOptions { access: Access::Beside, ..Default::default() };
    let words = refusal(&base.url(), beside.clone()).await;
    assert!(words.contains("orchestrator serve"), "{words}");
    let daemon = base.open().await;
    let command = open(&base.url(), beside).await.unwrap();
    let key = super::knowledge::stored("co_aaaaaaaaa", &tenant());
    command.add_key(&key).await.unwrap();
    command.close().await;
    assert_eq!(daemon.key_by_prefix("co_aaaaaaaaa").await.unwrap(), Some(key));
    daemon.accept(message()).await.unwrap();
    daemon.close().await;
}

async fn after_closing_everything_is_refused_and_nothing_is_lost(base: &Base) {
    let store = base.open().await;
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let store = store.clone();
        callers.spawn(async move { store.accept(message()).await });
    }
    store.close().await;
    let mut kept = 0;
    while let Some(done) = callers.join_next().await {
        match done.unwrap() {
            Ok(_) => kept += 1,
            Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(base.texts("SELECT id FROM messages").await.len(), kept);
    assert!(matches!(store.accept(message()).await, Err(StoreError::Unavailable(_))));
}

super::on_both!(
    a_newer_schema_is_refused_with_words,
    an_upgrade_that_fails_leaves_nothing_behind,
    a_reader_reads_beside_the_daemon_and_changes_nothing,
    a_command_beside_the_daemon_may_change_a_little,
    after_closing_everything_is_refused_and_nothing_is_lost,
);

/// A commit that fails: a constraint that is only checked there, put in behind the store's back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_stops_the_store() {
    let base = Base::sqlite();
    let store = base.open().await;
    let before = message();
    store.accept(before.clone()).await.unwrap();
    base.sql(
        "CREATE TABLE nowhere (id TEXT PRIMARY KEY); \
         CREATE TABLE trap (id TEXT REFERENCES nowhere (id) DEFERRABLE INITIALLY DEFERRED); \
         CREATE TRIGGER spring AFTER INSERT ON messages BEGIN INSERT INTO trap VALUES (NEW.id); END",
    )
    .await;
    let mut failed = store.failed();
    assert!(failed.borrow_and_update().is_none());
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        callers.spawn(async move { store.accept(message()).await });
    }
    let (mut unknown, mut refused) = (0, 0);
    while let Some(done) = callers.join_next().await {
        match done.unwrap() {
            Err(StoreError::OutcomeUnknown(_)) => unknown += 1,
            Err(StoreError::Unavailable(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(unknown >= 1 && unknown + refused == 8, "{unknown} unknown, {refused} refused");
    failed.changed().await.unwrap();
    assert!(failed.borrow().as_ref().unwrap().contains("commit failed"));
    // Nothing that writes is taken any more, not even what would succeed; a worker is told to stop.
    assert!(matches!(store.claim("w", at(0), 60, 10).await, Err(StoreError::OutcomeUnknown(_))));
    assert!(matches!(store.accept(message()).await, Err(StoreError::Unavailable(_))));
    assert!(store.message(&tenant(), before.id).await.unwrap().is_some(), "reading still works");
    store.close().await;
    base.sql("DROP TRIGGER spring").await;
    let again = base.open().await;
    assert_eq!(claim_one(&again, "w", at(0)).await.id, before.id);
    again.close().await;
    base.audit().await;
}

/// SQLite answers a full disk by rolling the transaction back itself; room may come back, so the process lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_sqlite_rolled_back_is_refused_and_the_next_one_is_not() {
    let base = Base::sqlite();
    let store = base.open().await;
    base.sql("CREATE TRIGGER full BEFORE INSERT ON bodies BEGIN SELECT RAISE(ROLLBACK, 'no room'); END")
        .await;
    let error = store.accept(message()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("no room")), "{error:?}");
    assert!(store.failed().borrow().is_none());
    base.sql("DROP TRIGGER full").await;
    store.accept(message()).await.unwrap();
    assert_eq!(base.texts("SELECT id FROM messages").await.len(), 1, "no half of the refused one stayed");
    store.close().await;
    base.audit().await;
}

/// A commit that is stuck (the disk is slow, or somebody holds the database): whoever would wait for it and for others
/// besides is refused at once; what waits already is written in the end (reliability.md F16, P11).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_wait_for_several_slow_commits_is_refused_at_once() {
    let base = Base::sqlite();
    let store = base.open_with(OpenOptions { per_commit: 4, ..OpenOptions::default() }).await;
    store.accept(message()).await.unwrap();
    let mut holder = SqliteConnection::connect(&base.url()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let store = store.clone();
        callers.spawn(async move { store.accept(message()).await });
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    let asked = Instant::now();
    let error = store.accept(message()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("keeps up with")), "{error:?}");
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    while let Some(done) = callers.join_next().await {
        done.unwrap().unwrap();
    }
    store.accept(message()).await.unwrap();
    assert_eq!(base.texts("SELECT id FROM messages").await.len(), 12);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_is_refused() {
    let base = Base::sqlite();
    let store = base.open().await;
    // "Try again", not "wrong settings": the other one may be on its way out.
    let second = open(&base.url(), OpenOptions::default()).await;
    let Err(StoreError::Unavailable(words)) = second else { panic!("{:?}", second.err()) };
    assert!(words.contains(&format!("another orchestrator (pid {}) uses", std::process::id())), "{words}");
    store.close().await;
    base.open().await.close().await;
}

#[tokio::test]
async fn a_database_that_does_not_answer_may_answer_later() {
    // Port 1 is nobody's.
    let error = open("postgres://o@127.0.0.1:1/o", OpenOptions::default()).await.err().unwrap();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("does not answer")), "{error:?}");
}

#[tokio::test]
async fn what_is_no_database_is_named() {
    let base = Base::sqlite();
    let Base::Sqlite(dir) = &base else { unreachable!() };
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(40)).unwrap();
    let words = refusal(&format!("sqlite:{}", path.display()), OpenOptions::default()).await;
    assert!(words.contains("notes.txt") && words.contains("not a database"), "{words}");
    for (url, expected) in [
        ("mysql://localhost/x", "expected sqlite:PATH or postgres://"),
        ("sqlite:", "needs the path of a file"),
        ("sqlite::memory:", "needs the path of a file"),
    ] {
        let words = refusal(url, OpenOptions::default()).await;
        assert!(words.contains(expected), "{words}");
    }
}

/// A server that is being started again: whoever started us should try again, nothing is wrong with the settings.
#[tokio::test]
async fn a_server_that_does_not_answer_is_no_wrong_setting() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("postgres://somebody@localhost/orchestrator?host={}", dir.path().display());
    let Err(error) = open(&url, OpenOptions::default()).await else { panic!("{url} was opened") };
    assert!(
        matches!(&error, StoreError::Unavailable(words) if words.contains("does not answer")),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let base = Base::sqlite();
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    let Base::Sqlite(dir) = &base else { unreachable!() };
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state"), 0o700);
    for file in ["state/store.db", "state/store.db-wal", "state/store.db.lock"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    store.close().await;
}

/// The server ends the connection between two transactions: the next one is made on a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_made_again() {
    let Some(base) = Base::postgres().await else { return };
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    store.close().await;
    // Told apart from the other tests' connections by a name of its own.
    let own = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
               WHERE pid <> pg_backend_pid() AND application_name = 'lost-connection'";
    let url = format!("{}&application_name=lost-connection", base.url());
    let store = open(&url, OpenOptions::default()).await.unwrap();
    assert!(!base.texts(own).await.is_empty());
    let claimed = claim_one(&store, "w", at(0)).await;
    assert!(!base.texts(own).await.is_empty());
    let attempt = begin(&store, &claimed, at(0)).await;
    let busy = Outcome::failed(ErrorClass::Temporary, "busy");
    let retry = Next::RetryAt { at: at(60), reason: "busy".into() };
    store.settle(&claimed, attempt, &busy, &retry, at(1)).await.unwrap();
    assert!(store.failed().borrow().is_none());
    store.close().await;
    base.audit().await;
    base.drop_schema().await;
}

/// The server ends the connection in the midst of a commit: nobody can say whether it happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_in_a_commit_leaves_the_outcome_unknown() {
    let Some(base) = Base::postgres().await else { return };
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    base.sql(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER trap AFTER UPDATE ON messages DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION die()",
    )
    .await;
    let lost = store.claim("w", at(0), 60, 10).await;
    assert!(matches!(lost, Err(StoreError::OutcomeUnknown(_))), "{lost:?}");
    assert!(store.failed().borrow().is_some());
    assert!(matches!(store.accept(message()).await, Err(StoreError::Unavailable(_))));
    store.close().await;
    base.sql("DROP TRIGGER trap ON messages").await;
    let again = base.open().await;
    let claimed = claim_one(&again, "w", at(0)).await;
    let attempt = begin(&again, &claimed, at(0)).await;
    again.settle(&claimed, attempt, &accepted(), &Next::Sent, at(1)).await.unwrap();
    again.close().await;
    base.audit().await;
    base.drop_schema().await;
}

/// PostgreSQL's own refusal to commit is a rollback: one operation fails, the store goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_refused_is_a_rollback() {
    let Some(base) = Base::postgres().await else { return };
    let store = base.open().await;
    base.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$; \
         CREATE CONSTRAINT TRIGGER trap AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION no()",
    )
    .await;
    let refused = store.accept(message()).await;
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("not today")),
        "{refused:?}"
    );
    base.sql("DROP TRIGGER trap ON messages").await;
    store.accept(message()).await.unwrap();
    assert_eq!(base.texts("SELECT id FROM messages").await.len(), 1);
    store.close().await;
    base.drop_schema().await;
}

/// Found by the 466th of a thousand damages (F14, `slow::bits`): it was told as a database that does not answer, so that
/// whoever watches over the daemon would have started it again for ever.
#[tokio::test]
async fn a_damage_in_what_the_start_counts_is_told_as_one() {
    for table in ["bodies", "suppressions"] {
        let base = Base::sqlite();
        base.open().await.close().await;
        base.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
        let roots = format!("SELECT CAST(rootpage AS TEXT) FROM sqlite_schema WHERE tbl_name = '{table}'");
        let roots = base.texts(&roots).await;
        let size = base.texts("SELECT CAST(page_size AS TEXT) FROM pragma_page_size").await;
        let (size, Base::Sqlite(dir)) = (size[0].parse::<usize>().unwrap(), &base) else { unreachable!() };
        let file = dir.path().join("state/store.db");
        let mut bytes = std::fs::read(&file).unwrap();
        for root in roots {
            let page = (root.parse::<usize>().unwrap() - 1) * size;
            bytes[page..page + 8].fill(0xff);
        }
        std::fs::write(&file, bytes).unwrap();
        let large = OpenOptions { look_through_bytes: 0, ..OpenOptions::default() };
        let words = refusal(&base.url(), large).await;
        assert!(words.contains("is damaged") && words.contains("the last backup"), "{table}: {words}");
    }
}

/// Found by the 89th of 120 damages (F14, `slow::bits`): the threads that read ended by a panic in sqlx, one connection after
/// the other, and whoever closed the database waited for them for ever. SQLite's own check finds nothing wrong in it.
#[tokio::test]
async fn a_type_s_name_that_is_no_text_is_told_as_damage_at_the_start() {
    let base = Base::sqlite();
    base.open().await.close().await;
    base.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let Base::Sqlite(dir) = &base else { unreachable!() };
    let file = dir.path().join("state/store.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let named = b"request TEXT";
    let place = bytes.windows(named.len()).position(|words| words == named).expect("the table of bodies");
    bytes[place + named.len() - 1] ^= 0x80;
    std::fs::write(&file, bytes).unwrap();
    let words = refusal(&base.url(), OpenOptions::default()).await;
    assert!(words.contains("is damaged") && words.contains("definition of a table"), "{words}");
}
