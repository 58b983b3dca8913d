//! A strategy's condition: one Rhai expression over `message`, compiled once.

use std::sync::Arc;

use super::{diagnostic::Diagnostic, verdict::ScriptFailure, view::MessageView};

/// A compiled `when`.
#[derive(Debug)]
pub struct Strategy {
    when: String,
}

impl Strategy {
    /// Compiles and checks `when`. Faults have no place in a file yet: `line`/`column` are within the
    /// expression, and the caller, who knows where it stands, moves them.
    pub fn compile(name: &str, when: &str) -> Result<Self, Vec<Diagnostic>> {
        let _ = name;
        Ok(Self { when: when.to_owned() })
    }

    /// Whether it holds for this message.
    pub fn matches(&self, message: &Arc<MessageView>) -> Result<bool, ScriptFailure> {
        let _ = (message, &self.when);
        todo!("skeleton")
    }
}
