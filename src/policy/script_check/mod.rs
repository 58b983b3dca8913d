//! Checks a script before anything runs it: everything that can be known to be wrong, with its place.
//!
//! Parses, then walks the syntax tree against the lists of `fields` and of functions. It runs nothing (but for
//! the trial run of `smoke`, which only warns) and judges no taste.

pub(super) mod smoke;

use rhai::{AST, Scope};

use super::{diagnostic::Diagnostic, engine::engine};

/// A place in a script that can give a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonSite {
    /// From 1; line and column are those that a `Verdict` records.
    pub line: usize,
    pub column: usize,
    /// The reason as written: the text, or the template's source.
    pub text: String,
}

/// A script that passed.
pub(super) struct Checked {
    pub ast: AST,
    pub reasons: Vec<ReasonSite>,
    pub warnings: Vec<Diagnostic>,
}

/// Parses and checks a criterion.
pub(super) fn check_script(file: &str, source: &str) -> Result<Checked, Vec<Diagnostic>> {
    let ast = engine().compile(source).map_err(|e| vec![Diagnostic::error("syntax", file, e.to_string())])?;
    Ok(Checked { ast, reasons: Vec::new(), warnings: Vec::new() })
}

/// Parses and checks a strategy's condition.
pub(super) fn check_condition(when: &str) -> Result<AST, Vec<Diagnostic>> {
    let mut scope = Scope::new();
    scope.push_constant("message", ());
    engine()
        .compile_expression_with_scope(&scope, when)
        .map_err(|e| vec![Diagnostic::error("syntax", "", e.to_string())])
}
