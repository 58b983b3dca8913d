//! Checks a script before anything runs it: everything that can be known to be wrong, with its place and the mend.
//!
//! Parses, then walks the syntax tree against the lists of `fields` and of functions. It runs nothing (but for
//! the trial run of `smoke`, which only warns) and judges no taste.

mod calls;
mod comparisons;
mod faults;
mod kinds;
mod parse_words;
mod scan;
pub(super) mod smoke;
mod walk;

use std::collections::BTreeSet;

use rhai::{AST, Scope, Stmt};

pub(super) use self::walk::Function;
use self::{kinds::Family, parse_words::Broken, walk::Walk};
use super::{
    criterion::ENTRY_POINT,
    diagnostic::{self, Diagnostic},
    engine::{SOURCE_BYTES_MAX, engine},
};

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
    pub functions: Vec<Function>,
    pub reasons: Vec<ReasonSite>,
    pub warnings: Vec<Diagnostic>,
}

/// Parses and checks a criterion.
pub(super) fn check_script(file: &str, source: &str) -> Result<Checked, Vec<Diagnostic>> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(vec![parse_words::too_large(file, source.len(), SOURCE_BYTES_MAX)]);
    }
    // Some editors put a byte order mark first; it is no part of the script.
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let lexemes = scan::scan(source);
    let ast = engine()
        .compile(source)
        .map_err(|error| vec![Broken { file, source, lexemes: &lexemes }.explain(&error)])?;
    let functions = walk::functions(&ast);
    let mut walk = Walk::new(file, source, &lexemes, &functions);
    walk.script(ENTRY_POINT);
    check_shape(&mut walk, &ast);
    let (reasons, faults) = (walk.reasons, in_order(walk.faults));
    if faults.iter().any(Diagnostic::is_error) {
        return Err(faults);
    }
    Ok(Checked { ast, functions, reasons, warnings: faults })
}

/// Every literal in a script, as written; whole numbers with their negative beside them.
pub(super) fn literals(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for lexeme in scan::scan(source) {
        let text = lexeme.text(source);
        match lexeme.shape {
            scan::Shape::Number => {
                found.insert(format!("-{text}"));
                found.insert(text.to_owned());
            }
            scan::Shape::Text | scan::Shape::Char => {
                found.insert(text.to_owned());
            }
            _ => {}
        }
    }
    found
}

/// Parses and checks a strategy's condition. The file is unknown here.
pub(super) fn check_condition(when: &str) -> Result<AST, Vec<Diagnostic>> {
    let file = "";
    if when.len() > SOURCE_BYTES_MAX {
        return Err(vec![parse_words::too_large(file, when.len(), SOURCE_BYTES_MAX)]);
    }
    let lexemes = scan::scan(when);
    let mut scope = Scope::new();
    scope.push_constant("message", ());
    let ast = engine()
        .compile_expression_with_scope(&scope, when)
        .map_err(|error| vec![Broken { file, source: when, lexemes: &lexemes }.explain(&error)])?;
    let mut walk = Walk::new(file, when, &lexemes, &[]);
    let kind = walk.condition(&ast);
    if let Some(family) = kind.family().filter(|family| *family != Family::Bool) {
        let start = ast.statements().first().map_or(rhai::Position::NONE, Stmt::position);
        walk.error(
            "not-a-condition",
            start,
            format!("`when` must be true or false, and this is {}", family.noun()),
            "compare it with something",
        );
    }
    let faults = in_order(walk.faults);
    if faults.iter().any(Diagnostic::is_error) { Err(faults) } else { Ok(ast) }
}

/// The script as a whole: `score` with its two parameters, and nothing but functions.
fn check_shape(walk: &mut Walk<'_>, ast: &AST) {
    for statement in ast.statements() {
        let (what, hint) = match statement {
            Stmt::Var(..) => ("a value", "functions don't see it: move it into `fn score`"),
            _ => ("this", "it would never run: move it into `fn score`"),
        };
        walk.error(
            "top-level-code",
            statement.position(),
            format!("{what} stands outside the functions, where nothing but `fn` belongs"),
            hint,
        );
    }
    for function in walk.functions {
        if calls::natives().contains_key(&function.name) {
            walk.error(
                "name-taken",
                function.start,
                format!("there is a function `{}` already", function.name),
                "choose another name",
            );
        }
    }
    for definition in ast.iter_fn_def().filter(|d| d.this_type.is_some()) {
        walk.error(
            "not-available",
            definition.body.start_position(),
            format!("`{}`: functions don't belong to a type here", definition.name),
            "write `fn name(parameters)`",
        );
    }
    check_entry_point(walk);
}

fn check_entry_point(walk: &mut Walk<'_>) {
    let functions = walk.functions;
    if functions.iter().any(|f| f.name == ENTRY_POINT && f.parameters.len() == 2) {
        return;
    }
    let wanted = "`fn score(message, channel) { ... }`";
    if let Some(other) = functions.iter().find(|f| f.name == ENTRY_POINT) {
        let message = format!(
            "`score` has {} parameters; it is given two: a message and a channel",
            other.parameters.len()
        );
        walk.error("no-score", other.start, message, format!("write {wanted}"));
        return;
    }
    let names = functions.iter().map(|f| f.name.as_str());
    let near = nearest(ENTRY_POINT, names).map(|name| format!("; `{name}` was found"));
    let message = format!("a criterion defines `fn score(message, channel)`{}", near.unwrap_or_default());
    let fault = Diagnostic::error("no-score", walk.file, message).hint(format!("write {wanted}"));
    walk.faults.push(fault);
}

/// The candidate that a misspelt name is nearest to; a name longer than any is not even compared.
fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 { None } else { diagnostic::nearest(name, candidates) }
}

/// By place, each once.
fn in_order(mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    faults.sort_by_key(|fault| (fault.line, fault.column));
    faults.dedup();
    faults
}
