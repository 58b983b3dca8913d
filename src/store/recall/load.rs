//! Fills the filters with what was there when the database was opened, beside the work and in small readings.
//!
//! The writer adds what is new from the first commit on, so that no moment is missed; until this has come to its end
//! the filters deny nothing and everything is read from the tables. It changes nothing.

use std::sync::Arc;

use super::Recall;
use crate::{
    domain::ids::TenantId,
    store::{StoreError, connect::Readers, database::values, rows},
};

/// Rows of one reading: a reading that lasted would keep the log from being folded in.
const AT_ONCE: i64 = 2000;

/// Reads once through three indexes.
#[derive(Clone)]
pub(in crate::store) struct Loader {
    pub(in crate::store) recall: Arc<Recall>,
    pub(in crate::store) readers: Readers,
}

impl Loader {
    /// To the end, or until the database cannot be read: decisions then go on reading it themselves.
    pub(in crate::store) async fn run(self) {
        if let Err(error) = self.load().await {
            tracing::warn!(%error, "what decisions read could not be loaded; they read the database each time");
        }
    }

    async fn load(&self) -> Result<(), StoreError> {
        let recall = &self.recall;
        let reading = (recall.refused.wanted(), recall.written_to.wanted(), recall.keys.wanted());
        self.refusals().await?;
        self.recall.refused.completed(reading.0);
        self.keys().await?;
        self.recall.keys.completed(reading.2);
        self.people().await?;
        self.recall.written_to.completed(reading.1);
        Ok(())
    }

    async fn refusals(&self) -> Result<(), StoreError> {
        let salt = "SELECT value FROM meta WHERE name = 'address_salt'";
        if let Some(row) = self.readers.take().await?.link().row(salt, values![]).await? {
            let _ = self.recall.salt.set(row.text(0)?);
        }
        let (mut address, mut channel) = (String::new(), String::new());
        loop {
            let sql = "SELECT address, channel FROM suppressions WHERE (address, channel) > ($1, $2) \
                       GROUP BY address, channel ORDER BY address, channel LIMIT CAST($3 AS BIGINT)";
            let values = values![address.as_str(), channel.as_str(), AT_ONCE];
            let found = self.readers.take().await?.link().rows(sql, values).await?;
            for row in &found {
                (address, channel) = (row.text(0)?, row.text(1)?);
                self.recall.refused.add(&(rows::channel(&channel)?, address.as_str()));
            }
            if found.is_empty() {
                return Ok(());
            }
        }
    }

    async fn keys(&self) -> Result<(), StoreError> {
        let (mut tenant, mut key) = (String::new(), String::new());
        loop {
            let sql = "SELECT tenant, key FROM idempotency_keys WHERE (tenant, key) > ($1, $2) \
                       ORDER BY tenant, key LIMIT CAST($3 AS BIGINT)";
            let values = values![tenant.as_str(), key.as_str(), AT_ONCE];
            let found = self.readers.take().await?.link().rows(sql, values).await?;
            for row in &found {
                (tenant, key) = (row.text(0)?, row.text(1)?);
                let of = rows::parsed(tenant.clone(), TenantId::parse)?;
                self.recall.keys.add(&(&of, key.as_str()));
            }
            if found.is_empty() {
                return Ok(());
            }
        }
    }

    async fn people(&self) -> Result<(), StoreError> {
        let (mut tenant, mut recipient) = (String::new(), String::new());
        loop {
            let sql = "SELECT tenant, recipient FROM messages WHERE (tenant, recipient) > ($1, $2) \
                       GROUP BY tenant, recipient ORDER BY tenant, recipient LIMIT CAST($3 AS BIGINT)";
            let values = values![tenant.as_str(), recipient.as_str(), AT_ONCE];
            let found = self.readers.take().await?.link().rows(sql, values).await?;
            for row in &found {
                (tenant, recipient) = (row.text(0)?, row.text(1)?);
                let of = rows::parsed(tenant.clone(), TenantId::parse)?;
                self.recall.written_to.add(&(of, recipient.clone()));
            }
            if found.is_empty() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}
