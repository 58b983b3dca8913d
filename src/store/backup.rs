//! A copy of an embedded database, made while the daemon works on it.
//!
//! One moment of it, whole, durable before it is reported. It overwrites nothing. PostgreSQL has its own tools.

use std::{fs::File, os::unix::fs::PermissionsExt, path::Path};

use super::{Result, SqlStore, StoreError, database::values};

impl SqlStore {
    /// Copies everything to a file that is not there yet. The copy is its owner's alone (0600), because messages
    /// are in it.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        let shown = to.display();
        if to.exists() {
            return Err(StoreError::Unusable(format!("{shown} is there already: name a new file")));
        }
        let Some(text) = to.to_str() else {
            return Err(StoreError::Unusable(format!("{shown} is not a file name in UTF-8")));
        };
        let failed = |error: std::io::Error| {
            StoreError::Unusable(format!("cannot make {shown}: {error}: the folder must be there and yours"))
        };
        // Made first, so that nobody else can read it while it grows: SQLite takes an empty file.
        let made = File::create_new(to).map_err(failed)?;
        made.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        drop(made);
        let copied = self.copy_into(text).await;
        if copied.is_err() {
            let _ = std::fs::remove_file(to);
        }
        copied?;
        File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    async fn copy_into(&self, file: &str) -> Result<()> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        if link.locks_rows() {
            return Err(StoreError::Unusable(
                "this database is PostgreSQL: back it up with pg_dump, which copies one moment of it too"
                    .into(),
            ));
        }
        // A connection that only reads may not write another file either.
        link.script("PRAGMA query_only = OFF").await?;
        let copied = link.run("VACUUM INTO $1", values![file]).await;
        link.script("PRAGMA query_only = ON").await?;
        copied?;
        Ok(())
    }
}
