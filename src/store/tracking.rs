//! Where the links of sent mails lead, and the key that signs what comes back by them.
//!
//! The key is made once and shared by all replicas through the database. Links outlive the texts that they stood
//! in; forgetting them is retention's affair.

use async_trait::async_trait;

use super::{
    Result, SqlStore, StoreError,
    database::{Fault, Link, values},
    jobs::Operation,
    rows,
};
use crate::domain::ids::MessageId;

/// The name of the key's row in `meta`.
const KEY: &str = "token_key";

/// A link of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLink {
    pub url: String,
    /// How many links the message has.
    pub of: usize,
}

#[async_trait]
pub trait Links: Send + Sync {
    /// The key of all tokens. Where none is kept yet, `fresh` is, from now on and for every replica.
    async fn token_key(&self, fresh: [u8; 32]) -> Result<[u8; 32]>;
    /// Keeps where a message's links lead; the first list stays, for the same text gives the same.
    async fn put_links(&self, message: MessageId, urls: &[String]) -> Result<()>;
    /// The `index`th link of a message, from 0.
    async fn link(&self, message: MessageId, index: u16) -> Result<Option<KnownLink>>;
}

#[async_trait]
impl Links for SqlStore {
    async fn token_key(&self, fresh: [u8; 32]) -> Result<[u8; 32]> {
        self.writer()?.run(TokenKey { fresh }).await
    }

    async fn put_links(&self, message: MessageId, urls: &[String]) -> Result<()> {
        let urls = rows::to_json(&urls).map_err(StoreError::from)?;
        self.writer()?.run(PutLinks { message, urls }).await
    }

    async fn link(&self, message: MessageId, index: u16) -> Result<Option<KnownLink>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT urls FROM links WHERE message_id = $1";
        let Some(row) = reader.link().row(sql, values![message]).await? else { return Ok(None) };
        let urls: Vec<String> = serde_json::from_str(&row.text(0)?)
            .map_err(|_| StoreError::Corrupt("a message's links".into()))?;
        let of = urls.len();
        Ok(urls.into_iter().nth(index.into()).map(|url| KnownLink { url, of }))
    }
}

struct TokenKey {
    fresh: [u8; 32],
}

impl Operation for TokenKey {
    type Answer = [u8; 32];

    async fn apply(&self, link: &mut Link<'_>) -> Result<[u8; 32], Fault> {
        let sql = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        link.run(sql, values![KEY, rows::to_hex(&self.fresh)]).await?;
        // A replica that won is waited for by the insert, and seen by this.
        match link.row("SELECT value FROM meta WHERE name = $1", values![KEY]).await? {
            Some(row) => rows::hash(&row.text(0)?),
            None => Err(Fault::Corrupt("the key of the tokens".into())),
        }
    }
}

struct PutLinks {
    message: MessageId,
    urls: String,
}

impl Operation for PutLinks {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let sql = "INSERT INTO links (message_id, urls) VALUES ($1, $2) ON CONFLICT (message_id) DO NOTHING";
        link.run(sql, values![self.message, self.urls.as_str()]).await?;
        Ok(())
    }
}
