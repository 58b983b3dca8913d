//! Durable acceptance: messages a second through the store, beside a bare SQLite loop that commits the same rows in
//! groups, and beside the limit of the disk, an append log (performance.md G5). All three acknowledge only what is on
//! the disk.
//!
//!     cargo bench --bench store [-- --quick]
//!
//! *The same rows*: the bare loop works on a database of the store's own making, with its tables and indexes, and
//! writes for each message what the store wrote for one like it, column by column: a row of `messages`, of `bodies` and
//! of `idempotency_keys`, and for each commit the counters. It has prepared statements, values made beforehand, one
//! thread and nothing else; what the store does more is to make the values from the message, to look for twins of a
//! key, to count, and to keep what decisions read. *The log* appends the same bytes to a file that was allocated
//! beforehand, with one fdatasync for each group.
//!
//! The three take turns in one process. The processor's time is of the thread that writes, which other work on the
//! machine moves little; the rates want an idle machine. The folder is made in TMPDIR, else in the build's own: not on
//! a RAM disk, which would measure nothing.

use std::{
    ffi::{CStr, CString, c_int},
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use channel_orchestrator::{
    domain::{
        delivery::NewMessage,
        ids::{MessageId, RecipientId},
    },
    store::{Intake, OpenOptions, SqlStore, open},
};
use libsqlite3_sys as ffi;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinSet};

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/store/messages.rs"]
mod messages;

const CALLERS: [usize; 2] = [64, 256];
const PER_COMMIT: usize = 256;
const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 1;
const ROUND: Duration = Duration::from_millis(1500);
/// Bytes of the log that are allocated beforehand.
const LOG_BYTES: u64 = 512 << 20;

/// Something that keeps messages: the store, or what it is held against.
#[async_trait]
trait Keeper: Send + Sync {
    async fn keep(&self, id: MessageId);
    /// The thread that writes.
    fn thread(&self) -> &'static str;
}

struct Ours {
    store: Arc<SqlStore>,
    like: NewMessage,
}

#[async_trait]
impl Keeper for Ours {
    async fn keep(&self, id: MessageId) {
        let mut new = self.like.clone();
        new.id = id;
        new.request.recipient = RecipientId::parse(&recipient(id)).expect("a recipient");
        new.idempotency = Some((messages::key(&id.to_string()), [7; 32]));
        self.store.accept(new).await.expect("accepted");
    }

    fn thread(&self) -> &'static str {
        "store-writer"
    }
}

/// As many people as messages, in no order.
fn recipient(id: MessageId) -> String {
    let text = id.to_string();
    format!("p-{}", text.chars().rev().take(12).collect::<String>())
}

/// A message for a thread to write, and whom to tell.
struct Order {
    id: String,
    recipient: String,
    done: oneshot::Sender<()>,
}

/// A thread that takes what has gathered, has it written, and tells whoever waits.
struct Loop {
    orders: mpsc::SyncSender<Order>,
    name: &'static str,
}

impl Loop {
    fn start(name: &'static str, make: impl FnOnce() -> Box<dyn FnMut(&[Order])> + Send + 'static) -> Self {
        let (orders, queue) = mpsc::sync_channel::<Order>(8192);
        let work = move || {
            let mut write = make();
            let mut group = Vec::with_capacity(PER_COMMIT);
            while let Ok(first) = queue.recv() {
                group.push(first);
                while group.len() < PER_COMMIT
                    && let Ok(order) = queue.try_recv()
                {
                    group.push(order);
                }
                write(&group);
                for order in group.drain(..) {
                    let _ = order.done.send(());
                }
            }
        };
        thread::Builder::new().name(name.into()).spawn(work).expect("a thread");
        Self { orders, name }
    }
}

#[async_trait]
impl Keeper for Loop {
    async fn keep(&self, id: MessageId) {
        let (done, answer) = oneshot::channel();
        let order = Order { id: id.to_string(), recipient: recipient(id), done };
        self.orders.send(order).expect("the loop runs");
        answer.await.expect("the loop answers");
    }

    fn thread(&self) -> &'static str {
        self.name
    }
}

/// A column's value, as the store wrote it.
#[derive(Clone)]
enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// The bare loop's connection, with a statement and the values of the message that was there for each table.
struct Bare {
    db: *mut ffi::sqlite3,
    tables: Vec<(*mut ffi::sqlite3_stmt, Vec<Cell>)>,
    counters: Vec<(*mut ffi::sqlite3_stmt, Vec<Cell>)>,
    /// The id and the person of the message that was there, to be replaced by each one's own.
    like: (String, String),
}

impl Bare {
    fn open(path: &Path) -> Self {
        let path = CString::new(path.to_str().expect("a path in UTF-8")).expect("no NUL");
        let mut db = ptr::null_mut();
        // SAFETY: the path ends in NUL, and the pointer lives until it is written to.
        let code = unsafe { ffi::sqlite3_open(path.as_ptr(), &mut db) };
        assert_eq!(code, ffi::SQLITE_OK);
        let mut bare = Self { db, tables: Vec::new(), counters: Vec::new(), like: Default::default() };
        bare.run(
            c"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
              PRAGMA wal_autocheckpoint = 16000; PRAGMA secure_delete = ON; PRAGMA cache_size = -16384",
        );
        let first = bare.rows("SELECT id, recipient FROM messages").remove(0);
        let [Cell::Text(id), Cell::Text(recipient)] = &first[..] else { panic!("a message") };
        bare.like = (id.clone(), recipient.clone());
        for table in ["idempotency_keys", "messages", "bodies"] {
            // What the database computes itself is not in this list.
            let columns = bare.rows(&format!("SELECT name FROM pragma_table_info('{table}')"));
            let columns: Vec<&str> = columns
                .iter()
                .map(|row| match &row[..] {
                    [Cell::Text(name)] => name.as_str(),
                    _ => panic!("a column's name"),
                })
                .collect();
            let columns = columns.join(", ");
            let row = bare.rows(&format!("SELECT {columns} FROM {table}")).remove(0);
            let sql = format!("INSERT INTO {table} ({columns}) VALUES ({})", places(row.len()));
            bare.tables.push((bare.prepared(&sql), row));
        }
        for row in bare.rows("SELECT * FROM counters") {
            let sql = format!(
                "INSERT INTO counters VALUES ({}) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                places(row.len())
            );
            bare.counters.push((bare.prepared(&sql), row));
        }
        bare
    }

    fn write(&self, group: &[Order]) {
        self.run(c"BEGIN IMMEDIATE");
        for (insert, row) in &self.tables {
            for order in group {
                self.step(*insert, row, Some(order));
            }
        }
        for (upsert, row) in &self.counters {
            self.step(*upsert, row, None);
        }
        self.run(c"COMMIT");
    }

    fn step(&self, statement: *mut ffi::sqlite3_stmt, row: &[Cell], order: Option<&Order>) {
        for (at, cell) in (1..).zip(row) {
            let own = order.and_then(|order| match cell {
                Cell::Text(text) if *text == self.like.0 => Some(&order.id),
                Cell::Text(text) if *text == self.like.1 => Some(&order.recipient),
                _ => None,
            });
            // SAFETY: the statement is prepared, and every text lives until the reset.
            let code = unsafe {
                match (own, cell) {
                    (Some(text), _) | (None, Cell::Text(text)) => {
                        let length = c_int::try_from(text.len()).expect("short");
                        ffi::sqlite3_bind_text(
                            statement,
                            at,
                            text.as_ptr().cast(),
                            length,
                            ffi::SQLITE_STATIC(),
                        )
                    }
                    (None, Cell::Int(number)) => ffi::sqlite3_bind_int64(statement, at, *number),
                    (None, Cell::Null) => ffi::sqlite3_bind_null(statement, at),
                }
            };
            assert_eq!(code, ffi::SQLITE_OK);
        }
        // SAFETY: the statement is prepared and all its values are bound.
        let (done, reset) = unsafe { (ffi::sqlite3_step(statement), ffi::sqlite3_reset(statement)) };
        assert_eq!((done, reset), (ffi::SQLITE_DONE, ffi::SQLITE_OK));
    }

    fn run(&self, sql: &CStr) {
        // SAFETY: the connection is open and the text ends in NUL.
        let code =
            unsafe { ffi::sqlite3_exec(self.db, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut()) };
        assert_eq!(code, ffi::SQLITE_OK);
    }

    fn prepared(&self, sql: &str) -> *mut ffi::sqlite3_stmt {
        let (text, mut statement) = (CString::new(sql).expect("no NUL"), ptr::null_mut());
        // SAFETY: the connection is open and the text ends in NUL.
        let code =
            unsafe { ffi::sqlite3_prepare_v2(self.db, text.as_ptr(), -1, &mut statement, ptr::null_mut()) };
        assert_eq!(code, ffi::SQLITE_OK, "{sql}");
        statement
    }

    fn rows(&self, sql: &str) -> Vec<Vec<Cell>> {
        let statement = self.prepared(sql);
        let mut rows = Vec::new();
        // SAFETY: the statement is prepared and stands on a row while its columns are read; texts are copied.
        unsafe {
            while ffi::sqlite3_step(statement) == ffi::SQLITE_ROW {
                let cell = |at| match ffi::sqlite3_column_type(statement, at) {
                    ffi::SQLITE_NULL => Cell::Null,
                    ffi::SQLITE_INTEGER => Cell::Int(ffi::sqlite3_column_int64(statement, at)),
                    _ => {
                        let text = CStr::from_ptr(ffi::sqlite3_column_text(statement, at).cast());
                        Cell::Text(text.to_str().expect("UTF-8").to_owned())
                    }
                };
                rows.push((0..ffi::sqlite3_column_count(statement)).map(cell).collect());
            }
            ffi::sqlite3_finalize(statement);
        }
        rows
    }
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Appends the bytes of the bare loop's rows.
struct Log {
    file: File,
    bytes: Vec<u8>,
    at: u64,
}

impl Log {
    fn open(path: &Path, bytes_each: usize) -> Self {
        let mut file = File::create(path).expect("a file");
        let zeros = vec![0; 1 << 20];
        (0..LOG_BYTES >> 20).for_each(|_| file.write_all(&zeros).expect("room on the disk"));
        file.sync_all().expect("on the disk");
        Self { file, bytes: vec![b'x'; bytes_each], at: LOG_BYTES }
    }

    fn write(&mut self, group: &[Order]) {
        let mut all = Vec::with_capacity(group.len() * (self.bytes.len() + 64));
        for order in group {
            all.extend_from_slice(order.id.as_bytes());
            all.extend_from_slice(order.recipient.as_bytes());
            all.extend_from_slice(&self.bytes);
        }
        if self.at + all.len() as u64 > LOG_BYTES {
            self.at = self.file.seek(SeekFrom::Start(0)).expect("the start");
        }
        self.file.write_all(&all).expect("room");
        self.at += all.len() as u64;
        self.file.sync_data().expect("on the disk");
    }
}

/// What one keeper did in one round.
struct Round {
    kept: usize,
    took: Duration,
    each: Vec<Duration>,
    writer_seconds: f64,
}

fn round(runtime: &Runtime, keeper: &Arc<dyn Keeper>, callers: usize) -> Round {
    let each = Arc::new(Mutex::new(Vec::new()));
    let (begun, used) = (Instant::now(), thread_seconds(keeper.thread()));
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (keeper, each) = (Arc::clone(keeper), Arc::clone(&each));
            tasks.spawn(async move {
                let mut own = Vec::new();
                while begun.elapsed() < ROUND {
                    let asked = Instant::now();
                    keeper.keep(MessageId::new()).await;
                    own.push(asked.elapsed());
                }
                each.lock().expect("whole").extend(own);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a caller ends well");
        }
    });
    let each = std::mem::take(&mut *each.lock().expect("whole"));
    let writer_seconds = thread_seconds(keeper.thread()) - used;
    Round { kept: each.len(), took: begun.elapsed(), each, writer_seconds }
}

/// User and system time of the threads of that name, by the kernel's ticks of 10 ms.
fn thread_seconds(name: &str) -> f64 {
    let of = |folder: PathBuf| -> Option<f64> {
        let text = fs::read_to_string(folder.join("stat")).ok()?;
        let (before, after) = text.rsplit_once(')')?;
        let ticks = |at: usize| after.split_whitespace().nth(at)?.parse::<f64>().ok();
        before.ends_with(name).then(|| Some((ticks(11)? + ticks(12)?) / 100.0))?
    };
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter_map(|thread| of(thread.path())).sum()
}

fn keepers(runtime: &Runtime, folder: &Path) -> Vec<(&'static str, Arc<dyn Keeper>)> {
    let like = messages::message();
    let options = OpenOptions { per_commit: PER_COMMIT, ..Default::default() };
    let bare = folder.join("bare.db");
    // One message through the store itself is what the bare loop writes again and again.
    runtime.block_on(async {
        let made = open(&format!("sqlite:{}", bare.display()), options.clone()).await.expect("a store");
        Ours { store: made.clone(), like: like.clone() }.keep(like.id).await;
        made.close().await;
    });
    let first = Bare::open(&bare);
    let text = |cell: &Cell| if let Cell::Text(text) = cell { text.len() } else { 8 };
    let bytes = first.tables.iter().flat_map(|(_, row)| row).map(text).sum();
    println!("a message is {bytes} bytes of values");
    drop(first);
    let url = format!("sqlite:{}", folder.join("store.db").display());
    let store = runtime.block_on(open(&url, options)).expect("a store");
    let log = folder.join("log");
    vec![
        ("store", Arc::new(Ours { store, like })),
        (
            "bare SQLite",
            Arc::new(Loop::start("bare-writer", move || {
                let bare = Bare::open(&bare);
                Box::new(move |group| bare.write(group))
            })),
        ),
        (
            "append log",
            Arc::new(Loop::start("log-writer", move || {
                let mut log = Log::open(&log, bytes);
                Box::new(move |group| log.write(group))
            })),
        ),
    ]
}

fn main() {
    let quick = std::env::args().any(|word| word == "--quick");
    let counted = if quick { ROUNDS_QUICK } else { ROUNDS };
    let runtime = Runtime::new().expect("a runtime");
    let base =
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), Into::into);
    let folder = tempfile::tempdir_in(base).expect("a folder to write to");
    let keepers = keepers(&runtime, folder.path());
    for callers in CALLERS {
        let mut rounds: Vec<Vec<Round>> = keepers.iter().map(|_| Vec::new()).collect();
        // The first of each warms up and is not counted.
        for turn in 0..=counted {
            for ((_, keeper), done) in keepers.iter().zip(&mut rounds) {
                let made = round(&runtime, keeper, callers);
                if turn > 0 {
                    done.push(made);
                }
            }
        }
        println!("{callers} callers:");
        let mut medians = Vec::new();
        for ((name, _), rounds) in keepers.iter().zip(&mut rounds) {
            let mut rates: Vec<f64> = rounds.iter().map(|r| r.kept as f64 / r.took.as_secs_f64()).collect();
            rates.sort_by(f64::total_cmp);
            let mut each: Vec<Duration> =
                rounds.iter_mut().flat_map(|r| std::mem::take(&mut r.each)).collect();
            each.sort_unstable();
            let at = |share: usize| each[each.len() * share / 100].as_secs_f64() * 1e3;
            let kept: usize = rounds.iter().map(|r| r.kept).sum();
            let writer = rounds.iter().map(|r| r.writer_seconds).sum::<f64>() * 1e6 / kept as f64;
            let rate = rates[rates.len() / 2];
            println!(
                "  {name:<12} {rate:>8.0} messages/s   p50 {:>6.2} ms   p99 {:>6.2} ms   {writer:>5.1} us of the writer's thread each",
                at(50),
                at(99),
            );
            medians.push((rate, writer, at(99)));
        }
        println!(
            "  the store: {:.2} of bare SQLite ({:.2} by the writers' processor time), {:.2} of the log",
            medians[0].0 / medians[1].0,
            medians[1].1 / medians[0].1,
            medians[0].0 / medians[2].0
        );
        if callers == CALLERS[CALLERS.len() - 1] {
            println!("figure: store.accept {:.0} msgs/s", medians[0].0);
            println!("figure: store.accept_p99 {:.2} ms", medians[0].2);
            println!("figure: store.bare {:.0} msgs/s", medians[1].0);
            println!("figure: store.bare_p99 {:.2} ms", medians[1].2);
            println!("figure: store.log {:.0} msgs/s", medians[2].0);
        }
    }
}
