//! SQLite on the caller's own thread: one connection, its prepared statements, and nothing in between.
//!
//! The writer's thread spends its time here, and so do the short readings that every message needs; a driver that hands
//! each statement to a thread of its own costs more than most statements do. All that is unsafe in the store is in this
//! file. It knows no table, begins no transaction, and never waits for anything but the disk (and, at most
//! `BUSY_MILLIS`, for another connection's lock).

#![allow(unsafe_code, reason = "the C interface of SQLite")]

use std::{
    borrow::Borrow,
    collections::HashMap,
    ffi::{CStr, CString, c_char, c_int},
    hash::{Hash, Hasher},
    path::Path,
    ptr::{self, NonNull},
};

use libsqlite3_sys as ffi;

use super::database::Value;

/// How long a lock of another connection is waited for.
const BUSY_MILLIS: c_int = 5000;
/// Prepared statements that are kept; the texts are few, and this bounds what a mistake would cost.
const STATEMENTS_MAX: usize = 512;

/// For statements without values.
pub(super) const NONE: &[Value] = &[];

/// Why SQLite refused, with its extended code.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) code: c_int,
    pub(super) words: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.words)
    }
}

/// One column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
    /// What no column of ours holds.
    Other,
}

/// An open connection.
pub(super) struct Direct {
    db: NonNull<ffi::sqlite3>,
    statements: Vec<Statement>,
    /// Where each is among them.
    places: HashMap<Text, usize>,
}

// SAFETY: a connection may move between threads as long as one uses it at a time (SQLite is built threadsafe), and it
// is only ever used through `&mut`.
unsafe impl Send for Direct {}

struct Statement {
    prepared: NonNull<ffi::sqlite3_stmt>,
    /// Which value each parameter takes: SQLite numbers `$2` and `$1` as they come, we by their names.
    order: Box<[usize]>,
}

/// A statement's text as a key: long texts that differ do so in length or in one of these places, and are compared
/// whole where they do not.
#[derive(PartialEq, Eq)]
struct Text(Box<str>);

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        sampled(&self.0, state);
    }
}

/// The same for a text that is only looked up.
#[derive(PartialEq, Eq)]
#[repr(transparent)]
struct Asked(str);

impl Hash for Asked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        sampled(&self.0, state);
    }
}

impl Borrow<Asked> for Text {
    fn borrow(&self) -> &Asked {
        Asked::new(&self.0)
    }
}

impl Asked {
    fn new(text: &str) -> &Self {
        // SAFETY: the same layout, by `repr(transparent)`.
        unsafe { &*(ptr::from_ref(text) as *const Self) }
    }
}

fn sampled<H: Hasher>(text: &str, state: &mut H) {
    let bytes = text.as_bytes();
    bytes.len().hash(state);
    for part in bytes.chunks(bytes.len() / 4 + 1) {
        part[..part.len().min(8)].hash(state);
    }
}

impl Direct {
    /// Opens a file that is there already.
    pub(super) fn open(path: &Path) -> Result<Self, Refused> {
        let unusable = || Refused { code: ffi::SQLITE_CANTOPEN, words: "the path holds a NUL".into() };
        let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| unusable())?;
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_NOMUTEX | ffi::SQLITE_OPEN_EXRESCODE;
        let mut db = ptr::null_mut();
        // SAFETY: the path ends in NUL and `db` is written before it is read.
        let code = unsafe { ffi::sqlite3_open_v2(path.as_ptr(), &mut db, flags, ptr::null()) };
        let Some(db) = NonNull::new(db) else {
            return Err(Refused { code, words: "out of memory".into() });
        };
        let direct = Self { db, statements: Vec::new(), places: HashMap::new() };
        direct.checked(code)?;
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_busy_timeout(db.as_ptr(), BUSY_MILLIS) };
        Ok(direct)
    }

    /// Statements without values or answers.
    pub(super) fn script(&mut self, sql: &str) -> Result<(), Refused> {
        let sql = CString::new(sql).map_err(|_| misuse("a statement holds a NUL"))?;
        // SAFETY: the connection is open and the text ends in NUL.
        let code = unsafe {
            ffi::sqlite3_exec(self.db.as_ptr(), sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut())
        };
        self.checked(code)
    }

    /// Every row of the answer.
    pub(super) fn rows<V: Borrow<Value>>(
        &mut self,
        sql: &str,
        values: &[V],
    ) -> Result<Vec<Vec<Cell>>, Refused> {
        let at = self.prepare(sql)?;
        let Statement { prepared, order } = &self.statements[at];
        let (statement, mut rows) = (prepared.as_ptr(), Vec::new());
        let done = self.bind(statement, order, values).and_then(|()| {
            loop {
                // SAFETY: the statement is this connection's, and its values live until the reset below.
                match unsafe { ffi::sqlite3_step(statement) } {
                    ffi::SQLITE_ROW => rows.push(row(statement)),
                    ffi::SQLITE_DONE => return Ok(()),
                    code => return Err(self.refused(code)),
                }
            }
        });
        // SAFETY: as above; the code repeats what `step` said already. No value is lent any longer.
        unsafe {
            ffi::sqlite3_reset(statement);
            ffi::sqlite3_clear_bindings(statement);
        }
        done.map(|()| rows)
    }

    /// How many rows the statement changed.
    pub(super) fn run(&mut self, sql: &str, values: &[Value]) -> Result<u64, Refused> {
        // SAFETY: the connection is open.
        let before = unsafe { ffi::sqlite3_total_changes64(self.db.as_ptr()) };
        self.rows(sql, values)?;
        // SAFETY: the connection is open.
        let after = unsafe { ffi::sqlite3_total_changes64(self.db.as_ptr()) };
        Ok(u64::try_from(after - before).unwrap_or(0))
    }

    /// The place of the statement, prepared now where it is not yet.
    fn prepare(&mut self, sql: &str) -> Result<usize, Refused> {
        if let Some(at) = self.places.get(Asked::new(sql)) {
            return Ok(*at);
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.places.clear();
            self.statements.clear();
        }
        let length = c_int::try_from(sql.len()).map_err(|_| misuse("a statement is too long"))?;
        let mut statement = ptr::null_mut();
        // SAFETY: the connection is open and the text is as long as is said.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                self.db.as_ptr(),
                sql.as_ptr().cast(),
                length,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &mut statement,
                ptr::null_mut(),
            )
        };
        self.checked(code)?;
        let prepared = NonNull::new(statement).ok_or_else(|| misuse("a statement is empty"))?;
        let mut statement = Statement { prepared, order: Box::default() };
        statement.order = statement.order()?;
        let at = self.statements.len();
        self.statements.push(statement);
        self.places.insert(Text(sql.into()), at);
        Ok(at)
    }

    /// Lends each value to the statement until it is bound anew or let go; the caller keeps them until the reset.
    fn bind<V: Borrow<Value>>(
        &self,
        statement: *mut ffi::sqlite3_stmt,
        order: &[usize],
        values: &[V],
    ) -> Result<(), Refused> {
        for (at, which) in (1..).zip(order) {
            let value =
                values.get(*which).ok_or_else(|| misuse("a statement has more places than values"))?;
            // SAFETY: the statement is this connection's; a text is as long as is said, and outlives the steps.
            let code = unsafe {
                match value.borrow() {
                    Value::Text(Some(text)) => {
                        let length = c_int::try_from(text.len()).map_err(|_| misuse("a text is too long"))?;
                        let start: *const c_char = text.as_ptr().cast();
                        ffi::sqlite3_bind_text(statement, at, start, length, ffi::SQLITE_STATIC())
                    }
                    Value::Int(Some(number)) => ffi::sqlite3_bind_int64(statement, at, *number),
                    Value::Text(None) | Value::Int(None) => ffi::sqlite3_bind_null(statement, at),
                }
            };
            self.checked(code)?;
        }
        Ok(())
    }

    fn checked(&self, code: c_int) -> Result<(), Refused> {
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(self.refused(code)) }
    }

    fn refused(&self, code: c_int) -> Refused {
        // SAFETY: the connection is open; the words live until its next call, and are copied before.
        let words = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(self.db.as_ptr())) };
        Refused { code, words: words.to_string_lossy().into_owned() }
    }
}

fn misuse(words: &str) -> Refused {
    Refused { code: ffi::SQLITE_MISUSE, words: words.into() }
}

fn row(statement: *mut ffi::sqlite3_stmt) -> Vec<Cell> {
    // SAFETY: the statement stands on a row; a text is read as long as SQLite says, and copied at once.
    unsafe {
        let columns = ffi::sqlite3_column_count(statement);
        let cell = |at| match ffi::sqlite3_column_type(statement, at) {
            ffi::SQLITE_NULL => Cell::Null,
            ffi::SQLITE_INTEGER => Cell::Int(ffi::sqlite3_column_int64(statement, at)),
            ffi::SQLITE_TEXT => {
                let start = ffi::sqlite3_column_text(statement, at);
                let length = usize::try_from(ffi::sqlite3_column_bytes(statement, at)).unwrap_or(0);
                if start.is_null() {
                    return Cell::Other;
                }
                match std::str::from_utf8(std::slice::from_raw_parts(start, length)) {
                    Ok(text) => Cell::Text(text.to_owned()),
                    Err(_) => Cell::Other,
                }
            }
            _ => Cell::Other,
        };
        (0..columns).map(cell).collect()
    }
}

impl Statement {
    fn order(&self) -> Result<Box<[usize]>, Refused> {
        // SAFETY: the statement is prepared; the names live as long as it does.
        let count = unsafe { ffi::sqlite3_bind_parameter_count(self.prepared.as_ptr()) };
        let which = |at| {
            // SAFETY: as above.
            let name = unsafe { ffi::sqlite3_bind_parameter_name(self.prepared.as_ptr(), at) };
            let name = NonNull::new(name.cast_mut())?;
            // SAFETY: as above, and it ends in NUL.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_str().ok()?;
            name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
        };
        (1..=count).map(which).collect::<Option<_>>().ok_or_else(|| misuse("a parameter is not like $1"))
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: nobody else holds it, and its connection is still open.
        unsafe { ffi::sqlite3_finalize(self.prepared.as_ptr()) };
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.statements.clear();
        // SAFETY: nobody else holds it, and no statement is left.
        unsafe { ffi::sqlite3_close(self.db.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::database::values;

    fn opened() -> (tempfile::TempDir, Direct) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        std::fs::File::create(&path).unwrap();
        (dir, Direct::open(&path).unwrap())
    }

    #[test]
    fn what_was_bound_comes_back() {
        let (_dir, mut db) = opened();
        db.script("CREATE TABLE t (a TEXT, b BIGINT); CREATE INDEX i ON t (b)").unwrap();
        let insert = "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)";
        let none: Option<i64> = None;
        assert_eq!(db.run(insert, &values!["Zoé \u{1f600}", i64::MIN, "", none][..]).unwrap(), 2);
        let select = "SELECT a, b FROM t WHERE b IS NOT NULL OR a = $1 ORDER BY a";
        for _ in 0..2 {
            assert_eq!(
                db.rows(select, &values![""][..]).unwrap(),
                [
                    [Cell::Text(String::new()), Cell::Null],
                    [Cell::Text("Zoé \u{1f600}".into()), Cell::Int(i64::MIN)]
                ]
            );
        }
        assert_eq!(db.run("UPDATE t SET b = 1 WHERE a = $1", &values!["nobody"][..]).unwrap(), 0);
        assert_eq!(db.rows("SELECT x'00', 1.5", NONE).unwrap(), [[Cell::Other, Cell::Other]]);
    }

    #[test]
    fn a_refusal_has_its_code_and_leaves_the_statement_usable() {
        let (_dir, mut db) = opened();
        db.script("CREATE TABLE t (a TEXT PRIMARY KEY)").unwrap();
        let insert = "INSERT INTO t (a) VALUES ($1)";
        assert_eq!(db.run(insert, &values!["x"][..]).unwrap(), 1);
        let refused = db.run(insert, &values!["x"][..]).unwrap_err();
        assert_eq!(refused.code & 0xff, ffi::SQLITE_CONSTRAINT, "{refused}");
        assert!(refused.words.contains("UNIQUE"), "{refused}");
        assert_eq!(db.run(insert, &values!["y"][..]).unwrap(), 1);
        assert!(db.rows("SELECT nonsense", NONE).unwrap_err().words.contains("nonsense"));
        assert!(db.rows("", NONE).is_err());
        assert!(db.run(insert, NONE).unwrap_err().words.contains("more places"));
        let turned = db.rows("SELECT $2, $1, $2", &values!["one", "two"][..]).unwrap();
        let text = |text: &str| Cell::Text(text.into());
        assert_eq!(turned, [[text("two"), text("one"), text("two")]]);
    }

    #[test]
    fn texts_that_look_alike_are_told_apart() {
        let (_dir, mut db) = opened();
        let alike = |n: u32| format!("SELECT {n:03} /* {} */", "-".repeat(600));
        for n in (0..900).chain(0..900) {
            assert_eq!(db.rows(&alike(n), NONE).unwrap(), [[Cell::Int(n.into())]]);
        }
        assert!(db.statements.len() <= STATEMENTS_MAX);
    }
}
