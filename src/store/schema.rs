//! The tables: their versions, and the way from an older one to the present one.
//!
//! Each step is applied once, all steps that are due in one transaction, so that a crash leaves the old schema or
//! the new one. A database that a newer program made is refused, not guessed at. Nothing is ever stepped back.

use sqlx::AssertSqlSafe;

use super::{
    StoreError,
    database::{Fault, Link, values},
};
use crate::failpoint;

/// Each step's SQL, in order; step N makes version N + 1.
const STEPS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_delivery.sql"),
    include_str!("migrations/0003_receipts.sql"),
    include_str!("migrations/0004_numbers.sql"),
    include_str!("migrations/0005_operating.sql"),
    include_str!("migrations/0006_tracking.sql"),
    include_str!("migrations/0007_checksums.sql"),
    include_str!("migrations/0008_lanes.sql"),
];

/// The version that this program reads and writes.
pub(super) const VERSION: usize = STEPS.len();

/// Any number that nobody else's advisory lock has: "chanorch" in ASCII.
const LOCK: i64 = 0x6368_616e_6f72_6368;

/// Brings the schema to this program's version, inside one transaction.
pub(super) async fn migrate(link: &mut Link<'_>) -> Result<(), StoreError> {
    begin(link).await.map_err(unusable)?;
    let done = steps(link).await;
    match done {
        Ok(()) => link.script("COMMIT").await.map_err(unusable),
        Err(error) => {
            let _ = link.script("ROLLBACK").await;
            Err(error)
        }
    }
}

/// The schema of a database that is only read: it must be there and of this version.
pub(super) async fn check(link: &mut Link<'_>) -> Result<(), StoreError> {
    let found = version(link).await.map_err(|_| {
        StoreError::Unusable(
            "the database holds no tables of this program: name the right one, or run `orchestrator serve` once"
                .into(),
        )
    })?;
    refuse_newer(found)?;
    if found < VERSION {
        return Err(StoreError::Unusable(format!(
            "the database has schema version {found}, this program reads {VERSION}: run `orchestrator serve` \
             once, it upgrades the database"
        )));
    }
    Ok(())
}

async fn begin(link: &mut Link<'_>) -> Result<(), Fault> {
    if link.locks_rows() {
        link.script("BEGIN").await?;
        // Two replicas that start together: the second waits, and finds the work done.
        link.rows("SELECT pg_advisory_xact_lock($1)", values![LOCK]).await?;
        return Ok(());
    }
    link.script("BEGIN IMMEDIATE").await
}

async fn steps(link: &mut Link<'_>) -> Result<(), StoreError> {
    link.script("CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)")
        .await
        .map_err(unusable)?;
    let found = version(link).await.map_err(unusable)?;
    refuse_newer(found)?;
    for step in &STEPS[found..] {
        let sql = dialect(step, link.locks_rows());
        for statement in statements(&sql) {
            link.script(AssertSqlSafe(statement)).await.map_err(unusable)?;
            failpoint::hit("migrate.statement");
        }
    }
    if found < VERSION {
        let sql = "INSERT INTO meta (name, value) VALUES ('schema', $1) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        link.run(sql, values![VERSION.to_string()]).await.map_err(unusable)?;
    }
    Ok(())
}

async fn version(link: &mut Link<'_>) -> Result<usize, Fault> {
    match link.row("SELECT value FROM meta WHERE name = 'schema'", values![]).await? {
        None => Ok(0),
        Some(row) => {
            let text = row.text(0)?;
            text.parse().map_err(|_| Fault::Corrupt(format!("{text:?} is not a schema version")))
        }
    }
}

fn refuse_newer(found: usize) -> Result<(), StoreError> {
    if found > VERSION {
        return Err(StoreError::Unusable(format!(
            "the database has schema version {found}, made by a newer orchestrator; this one knows versions up \
             to {VERSION}. Run the newer program, or restore a copy from before the upgrade"
        )));
    }
    Ok(())
}

fn unusable(fault: Fault) -> StoreError {
    match StoreError::from(fault) {
        StoreError::Unavailable(why) => {
            StoreError::Unusable(format!("the database's tables cannot be made or read: {why}"))
        }
        other => other,
    }
}

/// Takes the parts of a step that one database alone has, and drops the other's.
fn dialect(sql: &str, postgres: bool) -> String {
    let (kept, dropped) = if postgres { ("postgres", "sqlite") } else { ("sqlite", "postgres") };
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("/*") {
        let Some((inner, tail)) = after.split_once("*/") else { break };
        out.push_str(before);
        if let Some(own) = inner.strip_prefix(kept) {
            out.push_str(own.trim_start());
        } else if !inner.starts_with(dropped) {
            out.push_str(&format!("/*{inner}*/"));
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The statements of a step, each without the comments that stand on lines of their own. A statement ends with its
/// line.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let (mut all, mut current) = (Vec::new(), String::new());
    for line in lines.filter(|line| !line.trim().is_empty()) {
        current.push_str(line);
        current.push('\n');
        if line.trim_end().ends_with(';') {
            all.push(std::mem::take(&mut current));
        }
    }
    if !current.is_empty() {
        all.push(current);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_run_statement_by_statement() {
        let sql = "-- a; b\nCREATE TABLE a (\n    -- c;\n    b TEXT\n);\n\nCREATE INDEX i ON a (b);\n";
        assert_eq!(statements(sql), ["CREATE TABLE a (\n    b TEXT\n);\n", "CREATE INDEX i ON a (b);\n"]);
        for (n, step) in STEPS.iter().enumerate() {
            for statement in statements(&dialect(step, false)) {
                let words = statement.split_whitespace().next().unwrap_or_default();
                assert!(matches!(words, "CREATE" | "ALTER" | "INSERT" | "DROP"), "step {n}: {statement}");
                assert_eq!(statement.matches(';').count(), 1, "step {n}: {statement}");
            }
        }
    }

    #[test]
    fn a_step_says_once_what_the_databases_share() {
        let sql =
            "CREATE TABLE a (b TEXT /*postgres COLLATE \"C\"*/ NOT NULL) /*sqlite WITHOUT ROWID*/; /* c */";
        assert_eq!(dialect(sql, false), "CREATE TABLE a (b TEXT  NOT NULL) WITHOUT ROWID; /* c */");
        assert_eq!(dialect(sql, true), "CREATE TABLE a (b TEXT COLLATE \"C\" NOT NULL) ; /* c */");
    }
}
