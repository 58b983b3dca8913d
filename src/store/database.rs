//! The two databases behind one face: a statement, its values, and the rows that come back.
//!
//! Statements are written once, in what SQLite and PostgreSQL both accept: `$1` placeholders, `TEXT` and
//! `BIGINT` and nothing else. This file knows no table, begins no transaction and retries nothing.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{
    AssertSqlSafe, PgConnection, Row as _, SqlSafeStr, SqliteConnection, postgres::PgRow, sqlite::SqliteRow,
};

use super::{
    StoreError,
    counters::Tally,
    recall::Notes,
    sqlite::{Cell, Direct, Refused},
};
use crate::domain::{
    channel::Channel,
    delivery::Status,
    ids::{AttemptId, BroadcastId, MessageId, TenantId},
    money::MicroEuros,
};

/// Why an operation did not come to its end.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(sqlx::Error),
    Sqlite(Refused),
    /// What is kept does not read back.
    Corrupt(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Fault::Sqlite(refused)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Sql(sqlx::Error::ColumnDecode { index, source }) => {
                StoreError::Corrupt(format!("column {index}: {source}"))
            }
            Fault::Sql(error) => StoreError::Unavailable(error.to_string()),
            Fault::Sqlite(refused) => StoreError::Unavailable(format!("the database refused: {refused}")),
            Fault::Corrupt(what) => StoreError::Corrupt(what),
        }
    }
}

/// What a statement is given: a text or a whole number, or the lack of one.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

macro_rules! into_value {
    ($($type:ty => |$it:ident| $make:expr),+ $(,)?) => {$(
        impl From<$type> for Value {
            fn from($it: $type) -> Self {
                $make
            }
        }
    )+};
}

into_value! {
    &str => |v| Value::Text(Some(v.to_owned())),
    String => |v| Value::Text(Some(v)),
    Option<String> => |v| Value::Text(v),
    Option<&str> => |v| Value::Text(v.map(str::to_owned)),
    i64 => |v| Value::Int(Some(v)),
    Option<i64> => |v| Value::Int(v),
    u16 => |v| Value::Int(Some(v.into())),
    u32 => |v| Value::Int(Some(v.into())),
    bool => |v| Value::Int(Some(v.into())),
    MicroEuros => |v| Value::Int(Some(v.0)),
    DateTime<Utc> => |v| Value::Int(Some(v.timestamp_millis())),
    Option<DateTime<Utc>> => |v| Value::Int(v.map(|at| at.timestamp_millis())),
    NaiveDate => |v| Value::Text(Some(v.format("%Y-%m-%d").to_string())),
    MessageId => |v| Value::Text(Some(v.to_string())),
    BroadcastId => |v| Value::Text(Some(v.to_string())),
    AttemptId => |v| Value::Text(Some(v.to_string())),
    Option<AttemptId> => |v| Value::Text(v.map(|id| id.to_string())),
    &TenantId => |v| Value::Text(Some(v.as_str().to_owned())),
    Status => |v| Value::Text(Some(v.as_str().to_owned())),
    Channel => |v| Value::Text(Some(v.as_str().to_owned())),
    Option<Channel> => |v| Value::Text(v.map(|c| c.as_str().to_owned())),
}

/// The values of a statement, in the order of its placeholders.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::database::Value::from($value)),*] };
}
pub(super) use values;

/// One row of an answer.
pub(super) enum Row {
    Direct(Vec<Cell>),
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn text(&self, at: usize) -> Result<String, Fault> {
        Ok(match self {
            Row::Direct(cells) => match cells.get(at) {
                Some(Cell::Text(text)) => text.clone(),
                _ => return Err(unlike(at)),
            },
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
        })
    }

    pub(super) fn maybe_text(&self, at: usize) -> Result<Option<String>, Fault> {
        Ok(match self {
            Row::Direct(cells) => match cells.get(at) {
                Some(Cell::Text(text)) => Some(text.clone()),
                Some(Cell::Null) => None,
                _ => return Err(unlike(at)),
            },
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
        })
    }

    pub(super) fn int(&self, at: usize) -> Result<i64, Fault> {
        Ok(match self {
            Row::Direct(cells) => match cells.get(at) {
                Some(Cell::Int(number)) => *number,
                _ => return Err(unlike(at)),
            },
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
        })
    }

    pub(super) fn maybe_int(&self, at: usize) -> Result<Option<i64>, Fault> {
        Ok(match self {
            Row::Direct(cells) => match cells.get(at) {
                Some(Cell::Int(number)) => Some(*number),
                Some(Cell::Null) => None,
                _ => return Err(unlike(at)),
            },
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
        })
    }
}

fn unlike(at: usize) -> Fault {
    Fault::Corrupt(format!("column {at} is not of its kind"))
}

/// A connection of either kind, borrowed, with what is to be counted before it commits.
pub(super) struct Link<'c> {
    connection: Connection<'c>,
    tally: Tally,
    notes: Notes,
}

enum Connection<'c> {
    /// On this thread.
    Direct(&'c mut Direct),
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// Binds each value; the types are said, so that a null has one too.
macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(int) => query.bind(int),
            };
        }
        query
    }};
}

impl<'c> Link<'c> {
    pub(super) fn direct(connection: &'c mut Direct) -> Self {
        Self::over(Connection::Direct(connection))
    }

    pub(super) fn sqlite(connection: &'c mut SqliteConnection) -> Self {
        Self::over(Connection::Sqlite(connection))
    }

    pub(super) fn postgres(connection: &'c mut PgConnection) -> Self {
        Self::over(Connection::Postgres(connection))
    }

    fn over(connection: Connection<'c>) -> Self {
        Self { connection, tally: Tally::default(), notes: Notes::default() }
    }

    /// What this transaction counts; the writer writes it down before the commit.
    pub(super) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// What this transaction changes of what decisions are made from.
    pub(super) fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Whether statements may lock rows for themselves (`FOR UPDATE SKIP LOCKED`): only PostgreSQL has more than
    /// one writer.
    pub(super) fn locks_rows(&self) -> bool {
        matches!(self.connection, Connection::Postgres(_))
    }

    /// Every row of the answer.
    pub(super) async fn rows(&mut self, sql: impl SqlSafeStr, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        let sql = sql.into_sql_str();
        let rows: Vec<Row> = match &mut self.connection {
            Connection::Direct(c) => c.rows(sql.as_str(), &values)?.into_iter().map(Row::Direct).collect(),
            Connection::Sqlite(c) => {
                let rows = bound!(sql.clone(), values).fetch_all(&mut **c).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Connection::Postgres(c) => {
                let rows = bound!(sql.clone(), values).fetch_all(&mut **c).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        };
        self.notes.changed(sql.as_str(), rows.len());
        Ok(rows)
    }

    /// The same with values that are only lent, for rows that may have to be written again.
    pub(super) async fn lent(&mut self, sql: &str, values: &[&Value]) -> Result<Vec<Row>, Fault> {
        self.notes.changed(sql, 1);
        if let Connection::Direct(c) = &mut self.connection {
            return Ok(c.rows(sql, values)?.into_iter().map(Row::Direct).collect());
        }
        self.rows(AssertSqlSafe(sql.to_owned()), values.iter().map(|value| (*value).clone()).collect()).await
    }

    /// The first row of the answer, where there is one.
    pub(super) async fn row(
        &mut self,
        sql: impl SqlSafeStr,
        values: Vec<Value>,
    ) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// How many rows the statement changed.
    pub(super) async fn run(&mut self, sql: impl SqlSafeStr, values: Vec<Value>) -> Result<u64, Fault> {
        let sql = sql.into_sql_str();
        let changed = match &mut self.connection {
            Connection::Direct(c) => c.run(sql.as_str(), &values)?,
            Connection::Sqlite(c) => bound!(sql.clone(), values).execute(&mut **c).await?.rows_affected(),
            Connection::Postgres(c) => bound!(sql.clone(), values).execute(&mut **c).await?.rows_affected(),
        };
        self.notes.changed(sql.as_str(), usize::try_from(changed).unwrap_or(usize::MAX));
        Ok(changed)
    }

    /// Statements without values, several if need be.
    pub(super) async fn script(&mut self, sql: impl SqlSafeStr) -> Result<(), Fault> {
        match &mut self.connection {
            Connection::Direct(c) => c.script(sql.into_sql_str().as_str())?,
            Connection::Sqlite(c) => {
                sqlx::raw_sql(sql).execute(&mut **c).await?;
            }
            Connection::Postgres(c) => {
                sqlx::raw_sql(sql).execute(&mut **c).await?;
            }
        }
        Ok(())
    }
}

/// `$1, $2, …`: as many placeholders as there are values, from `$first` on.
pub(super) fn placeholders(first: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * 5);
    for n in first..first + count {
        if n > first {
            text.push_str(", ");
        }
        text.push('$');
        text.push_str(&n.to_string());
    }
    text
}
