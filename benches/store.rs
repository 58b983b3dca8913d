//! Durable acceptance: messages a second through the store, beside a bare SQLite loop that commits the same bytes
//! in groups on the same disk (performance.md G5). Both are acknowledged only after their commit is on disk.
//!
//! `cargo bench --bench store`. The folder is made in TMPDIR, else in the build's own: not on a RAM disk, which
//! would measure nothing.

use std::{
    ffi::{CString, c_int},
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use channel_orchestrator::{
    domain::{delivery::NewMessage, ids::MessageId},
    store::{Intake, OpenOptions, SqlStore, open},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use libsqlite3_sys as ffi;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinSet};

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/store/messages.rs"]
mod messages;

const CALLERS: [u64; 2] = [64, 256];
const PER_COMMIT: usize = 256;

/// A bare row as large as a message's, with the same key to be unique by.
struct BareRow {
    id: String,
    key: String,
    body: Arc<str>,
    done: oneshot::Sender<()>,
}

/// One connection, one thread, nothing between it and SQLite.
struct Bare {
    rows: mpsc::SyncSender<BareRow>,
}

impl Bare {
    fn start(path: &Path) -> Self {
        let (rows, queue) = mpsc::sync_channel::<BareRow>(8192);
        let path = CString::new(path.to_str().expect("a path in UTF-8")).expect("no NUL");
        thread::spawn(move || {
            let db = BareConnection::open(&path);
            let mut waiting = Vec::new();
            while let Ok(row) = queue.recv() {
                db.run(c"BEGIN IMMEDIATE");
                let mut next = Some(row);
                while let Some(row) = next {
                    db.insert(&row);
                    waiting.push(row.done);
                    next = if waiting.len() < PER_COMMIT { queue.try_recv().ok() } else { None };
                }
                db.run(c"COMMIT");
                for done in waiting.drain(..) {
                    let _ = done.send(());
                }
            }
        });
        Self { rows }
    }

    async fn accept(&self, id: String, key: String, body: Arc<str>) {
        let (done, answer) = oneshot::channel();
        let row = BareRow { id, key, body, done };
        self.rows.send(row).expect("the loop runs");
        answer.await.expect("the loop answers");
    }
}

struct BareConnection {
    db: *mut ffi::sqlite3,
    insert: *mut ffi::sqlite3_stmt,
}

impl BareConnection {
    fn open(path: &CString) -> Self {
        let (mut db, mut insert) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the path ends in NUL, and the pointers live until they are written to.
        let code = unsafe { ffi::sqlite3_open(path.as_ptr(), &mut db) };
        assert_eq!(code, ffi::SQLITE_OK);
        let mut bare = Self { db, insert };
        bare.run(
            c"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=16000;
              CREATE TABLE row (id TEXT PRIMARY KEY, tenant TEXT, key TEXT, due BIGINT, body TEXT) WITHOUT ROWID;
              CREATE UNIQUE INDEX row_key ON row (tenant, key);
              CREATE INDEX row_due ON row (due) WHERE due IS NOT NULL",
        );
        let sql = c"INSERT INTO row VALUES (?1, 'agency', ?2, 1, ?3) ON CONFLICT (tenant, key) DO NOTHING";
        // SAFETY: the connection is open and the text ends in NUL.
        let code =
            unsafe { ffi::sqlite3_prepare_v2(bare.db, sql.as_ptr(), -1, &mut insert, ptr::null_mut()) };
        assert_eq!(code, ffi::SQLITE_OK);
        bare.insert = insert;
        bare
    }

    fn run(&self, sql: &std::ffi::CStr) {
        // SAFETY: the connection is open and the text ends in NUL.
        let code =
            unsafe { ffi::sqlite3_exec(self.db, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut()) };
        assert_eq!(code, ffi::SQLITE_OK);
    }

    fn insert(&self, row: &BareRow) {
        for (at, text) in [(1, row.id.as_str()), (2, &row.key), (3, &row.body)] {
            let length = c_int::try_from(text.len()).expect("short");
            // SAFETY: the statement is prepared, and SQLite copies the text (SQLITE_TRANSIENT).
            let code = unsafe {
                ffi::sqlite3_bind_text(self.insert, at, text.as_ptr().cast(), length, ffi::SQLITE_TRANSIENT())
            };
            assert_eq!(code, ffi::SQLITE_OK);
        }
        // SAFETY: the statement is prepared and all its values are bound.
        let (done, reset) = unsafe { (ffi::sqlite3_step(self.insert), ffi::sqlite3_reset(self.insert)) };
        assert_eq!((done, reset), (ffi::SQLITE_DONE, ffi::SQLITE_OK));
    }
}

/// A message like `like`, with an id and a key of its own.
fn fresh(like: &NewMessage) -> NewMessage {
    let mut new = like.clone();
    new.id = MessageId::new();
    new.idempotency = Some((messages::key(&new.id.to_string()), [7; 32]));
    new
}

/// Lets `callers` share `total` acceptances, each waiting for its own before the next.
fn timed<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    callers: u64,
    total: u64,
    one: impl Fn() -> F + Clone + Send + 'static,
) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let one = one.clone();
            let share = total / callers + u64::from(caller < total % callers);
            tasks.spawn(async move {
                for _ in 0..share {
                    one().await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a caller ends well");
        }
        start.elapsed()
    })
}

fn folder() -> tempfile::TempDir {
    let base =
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), Into::into);
    tempfile::tempdir_in(base).expect("a folder to write to")
}

fn accepts(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (dir, template) = (folder(), messages::message());
    let body: Arc<str> = [
        serde_json::to_string(&template.request).expect("JSON"),
        serde_json::to_string(&template.decision).expect("JSON"),
        serde_json::to_string(&template.plan).expect("JSON"),
    ]
    .concat()
    .into();
    println!("a message is {} bytes of JSON", body.len());
    let url = format!("sqlite:{}", dir.path().join("store.db").display());
    let options = OpenOptions { per_commit: PER_COMMIT, ..Default::default() };
    let store: Arc<SqlStore> = runtime.block_on(open(&url, options)).expect("a store");
    let bare = Arc::new(Bare::start(&dir.path().join("bare.db")));
    let mut group = c.benchmark_group("accept");
    group.throughput(Throughput::Elements(1));
    for callers in CALLERS {
        group.bench_function(BenchmarkId::new("store", callers), |bencher| {
            let (store, template) = (store.clone(), template.clone());
            bencher.iter_custom(|total| {
                let (store, template) = (store.clone(), template.clone());
                timed(&runtime, callers, total, move || {
                    let (store, new) = (store.clone(), fresh(&template));
                    async move {
                        store.accept(new).await.expect("accepted");
                    }
                })
            });
        });
        group.bench_function(BenchmarkId::new("bare", callers), |bencher| {
            bencher.iter_custom(|total| {
                let (bare, body) = (bare.clone(), body.clone());
                timed(&runtime, callers, total, move || {
                    let (bare, body, id) = (bare.clone(), body.clone(), MessageId::new().to_string());
                    async move { bare.accept(id.clone(), id, body).await }
                })
            });
        });
    }
    group.finish();
    runtime.block_on(store.close());
}

criterion_group!(benches, accepts);
criterion_main!(benches);
