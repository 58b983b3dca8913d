//! A strategy's condition: one Rhai expression over `message`, compiled once.
//!
//! It sees no channel: a strategy chooses between channels, so it can't depend on one.

use std::{fmt, sync::Arc};

use rhai::{AST, Dynamic, Scope};

use super::{
    diagnostic::Diagnostic,
    engine::{Message, engine},
    failure, script_check,
    verdict::ScriptFailure,
    view::MessageView,
};

/// A compiled `when`.
pub struct Strategy {
    name: String,
    ast: AST,
}

impl Strategy {
    /// Compiles and checks `when`. Faults have no place in a file yet: `line`/`column` are within the
    /// expression, and the caller, who knows where it stands, moves them.
    pub fn compile(name: &str, when: &str) -> Result<Self, Vec<Diagnostic>> {
        let ast = script_check::check_condition(when)?;
        Ok(Self { name: name.to_owned(), ast })
    }

    /// Whether it holds for this message. What is neither true nor false is a failure.
    pub fn matches(&self, message: &Arc<MessageView<'static>>) -> Result<bool, ScriptFailure> {
        let mut scope = Scope::new();
        scope.push_constant("message", Message(Arc::clone(message)));
        let result: Dynamic = engine()
            .eval_ast_with_scope(&mut scope, &self.ast)
            .map_err(|error| failure::explain(&self.file(), &error))?;
        result.as_bool().map_err(|_| {
            let words = format!("`when` gave {}; it must be true or false", failure::describe(&result));
            failure::failure(&self.file(), None, &words)
        })
    }

    fn file(&self) -> String {
        format!("strategy {:?}", self.name)
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strategy").field("name", &self.name).finish_non_exhaustive()
    }
}
