//! Requests as callers write them (JSON, or TOML in policy tests), parsed into the domain, with every fault at
//! once. Unknown fields are faults. Addresses stay unread: that takes the tenant's region.

use serde::Serialize;

use crate::domain::{facts::Facts, message::MessageRequest};
use chrono::{DateTime, Utc};

/// A request to decide or to send, with what only decisions may carry beside it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub request: MessageRequest,
    /// Decisions, `--explain` and policy tests only.
    pub at: Option<DateTime<Utc>>,
    pub explain: bool,
    pub variant: Option<String>,
    /// `--explain` and policy tests only.
    pub facts: Option<Facts>,
}

/// Where a request is parsed for: what may stand beside context and content depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// POST /v1/decisions: `at`, `explain`, `variant`, sendAt, deadline.
    Decision,
    /// `--explain` and policy tests: the same and `facts`.
    Explain,
    /// POST /v1/messages: `explain`? no; `variant`, `sendAt`, `deadline`, `orderingKey`.
    Message,
}

/// One fault in a request, with its place as an RFC 6901 JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Fault {
    pub pointer: String,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Why bytes are no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON at all: line, column and what was expected.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// JSON, but not a request: all that is wrong with it.
    #[error("{} fault(s) in the request", .0.len())]
    Faults(Vec<Fault>),
}

/// Parses JSON bytes.
pub fn parse(bytes: &[u8], purpose: Purpose) -> Result<Asked, RequestError> {
    let _ = (bytes, purpose);
    todo!("skeleton")
}

/// Parses an untyped value: what policy tests hold.
pub fn parse_value(value: serde_json::Value, purpose: Purpose) -> Result<Asked, RequestError> {
    let _ = (value, purpose);
    todo!("skeleton")
}
