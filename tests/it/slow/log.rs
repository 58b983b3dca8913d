//! The embedded database's log while somebody reads (reliability.md F17): what is read keeps it from being begun anew, and
//! it stays bounded all the same. A reader that never ends is not what is promised: nothing bounds the log then.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use channel_orchestrator::store::{Intake, Records, Search};
use sqlx::{Connection, SqliteConnection};
use tokio::task::JoinSet;

use crate::store::fixture::{Base, message, tenant};

/// The bar of F17.
const LOG_MAX: u64 = 256 << 20;
/// How much is written while the long reader reads, and in all.
const WHILE_READ: u64 = 128 << 20;
const IN_ALL: u64 = 512 << 20;
/// A message's text; so many are offered at a time.
const TEXT: u64 = 256 << 10;
const AT_ONCE: u64 = 8;
/// Who reads for a moment, one after another, so that somebody always does.
const READERS: usize = 3;

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |found| found.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_bounded_after_a_long_reader_and_while_somebody_always_reads() {
    let base = Base::sqlite();
    let store = base.open().await;
    let Base::Sqlite(folder) = &base else { unreachable!() };
    let log = folder.path().join("state/store.db-wal");
    let (over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (store, over, reads) = (store.clone(), over.clone(), reads.clone());
        readers.spawn(async move {
            let newest = Search { tenant: Some(tenant()), limit: 1, ..Search::default() };
            while !over.load(Ordering::Relaxed) {
                store.search(&newest).await.unwrap();
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut long = SqliteConnection::connect(&base.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT COUNT(*) FROM messages").execute(&mut long).await.unwrap();
    let (mut long, mut written, mut held, mut longest) = (Some(long), 0, 0, 0);
    while written < IN_ALL {
        let mut callers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (store, mut new) = (store.clone(), message());
            new.request.content.body = "x".repeat(usize::try_from(TEXT).unwrap());
            callers.spawn(async move { store.accept(new).await.map(drop) });
        }
        while let Some(done) = callers.join_next().await {
            done.unwrap().unwrap();
        }
        written += TEXT * AT_ONCE;
        longest = longest.max(length(&log));
        if written >= WHILE_READ
            && let Some(reader) = long.take()
        {
            held = length(&log);
            reader.close().await.unwrap();
        }
    }
    over.store(true, Ordering::Relaxed);
    readers.join_all().await;
    println!(
        "{} MiB written, {} reads: the log was {} MiB long when the long reader ended, {} MiB at most",
        written >> 20,
        reads.load(Ordering::Relaxed),
        held >> 20,
        longest >> 20
    );
    assert!(held >= WHILE_READ, "{held} bytes: the long reader held nothing up");
    assert!(reads.load(Ordering::Relaxed) > 0 && longest <= LOG_MAX, "{longest} bytes");
    store.close().await;
    base.audit().await;
}
