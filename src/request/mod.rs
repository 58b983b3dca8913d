//! Requests as callers write them (JSON, or TOML in policy tests), parsed into the domain, with every fault at
//! once.
//!
//! Unknown fields are faults. Addresses stay unread: that takes the tenant's region. Nothing here decides, and
//! nothing knows HTTP.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::{facts::Facts, message::MessageRequest};

mod convert;
mod faults;
pub mod lean;
mod shapes;
pub mod wire;

pub use faults::check_depth;

/// Levels of nesting that a request may have (details.md section 2).
pub const DEPTH_MAX: usize = 32;

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
    /// `POST /v1/decisions`: `at`, `explain`, `variant`, `sendAt`, `deadline`.
    Decision,
    /// `--explain` and policy tests: the same and `facts`.
    Explain,
    /// `POST /v1/messages`: `variant`, `sendAt`, `deadline`, `orderingKey`; content is required.
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
    /// Not JSON at all, or nested too deeply: line, column and what was expected.
    #[error("the body is not JSON: {0}")]
    Syntax(String),
    /// JSON, but not a request: all that is wrong with it.
    #[error("{}", .0.iter().map(|f| format!("{}: {}", f.pointer, f.detail)).collect::<Vec<_>>().join("; "))]
    Faults(Vec<Fault>),
}

/// Parses JSON bytes. What is well formed is read once, straight into its shape; only what is not is read again,
/// to find every fault.
pub fn parse(bytes: &[u8], purpose: Purpose) -> Result<Asked, RequestError> {
    faults::check_depth(bytes, DEPTH_MAX).map_err(RequestError::Syntax)?;
    let refused = match serde_json::from_slice::<shapes::Object<wire::Request>>(bytes) {
        Ok(shapes::Object(request)) => {
            return convert::to_domain(request, purpose).map_err(RequestError::Faults);
        }
        Err(refused) => refused,
    };
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| RequestError::Syntax(e.to_string()))?;
    match parse_value(value, purpose) {
        // Refused as a whole, yet no part is at fault: a field given twice.
        Ok(_) => Err(RequestError::Syntax(refused.to_string())),
        Err(error) => Err(error),
    }
}

/// Parses an untyped value: what policy tests hold.
pub fn parse_value(value: serde_json::Value, purpose: Purpose) -> Result<Asked, RequestError> {
    let (request, mut found) = faults::read(value);
    match convert::to_domain(request, purpose) {
        Ok(asked) if found.is_empty() => Ok(asked),
        Ok(_) => Err(RequestError::Faults(found)),
        Err(more) => {
            // A field that could not be read is not also missing.
            let named = |pointer: &str| found.iter().any(|f| f.pointer == pointer);
            let more: Vec<Fault> = more.into_iter().filter(|f| !named(&f.pointer)).collect();
            found.extend(more);
            Err(RequestError::Faults(found))
        }
    }
}

#[cfg(test)]
mod tests;
