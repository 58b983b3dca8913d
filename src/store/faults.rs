//! What a database's own words for a failure mean for whoever writes: once more, no room, or no trust.
//!
//! Reads codes and nothing else. What follows from them is the writer's affair.

use super::database::Fault;

/// PostgreSQL's classes 57P (operator intervention) and 08 (connection): the server goes away, so that its word
/// says nothing of the commit.
pub(super) fn is_shutdown(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Deadlocks and serialization failures: the same again may succeed.
pub(super) fn is_conflict(fault: &Fault) -> bool {
    let Fault::Sql(sqlx::Error::Database(error)) = fault else { return false };
    matches!(error.code().as_deref(), Some("40001" | "40P01"))
}

/// SQLite's IOERR, CORRUPT and NOTADB, extended codes included: going on would make it worse (F10, F14).
pub(super) fn is_broken_storage(fault: &Fault) -> bool {
    matches!(sqlite_code(fault).map(|code| code & 0xff), Some(10 | 11 | 26))
}

pub(super) const SQLITE_READONLY: i32 = 8;
pub(super) const SQLITE_FULL: i32 = 13;
pub(super) const SQLITE_IOERR_WRITE: i32 = 778;

/// SQLite's extended result code, where it is SQLite that speaks: to the writer in place, or through a pool.
pub(super) fn sqlite_code(fault: &Fault) -> Option<i32> {
    match fault {
        Fault::Sqlite(refused) => Some(refused.code),
        Fault::Sql(sqlx::Error::Database(error)) => {
            error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
            error.code()?.parse().ok()
        }
        Fault::Sql(_) | Fault::Corrupt(_) => None,
    }
}

/// SQLite's CORRUPT: the file is a database, and not as SQLite wrote it.
pub(super) fn is_damage(fault: &Fault) -> bool {
    sqlite_code(fault).is_some_and(|code| code & 0xff == 11)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::Refused;

    fn refused(code: i32) -> Fault {
        Fault::Sqlite(Refused { code, words: "no".into() })
    }

    #[test]
    fn what_sqlite_says_in_place_is_read() {
        // FULL, IOERR_WRITE, IOERR_FSYNC, CORRUPT_INDEX, NOTADB, READONLY_DBMOVED, CONSTRAINT_UNIQUE.
        let all = [13, 778, 1034, 779, 26, 1032, 2067];
        let broken = all.map(|code| is_broken_storage(&refused(code)));
        assert_eq!(broken, [false, true, true, true, true, false, false]);
        assert_eq!(
            all.map(|code| is_damage(&refused(code))),
            [false, false, false, true, false, false, false]
        );
        assert_eq!(all.map(|code| sqlite_code(&refused(code))), all.map(Some));
        assert_eq!(sqlite_code(&Fault::Corrupt("a row".into())), None);
    }
}
