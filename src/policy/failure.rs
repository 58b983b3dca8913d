//! What went wrong while a script ran, in the author's words.
//!
//! Rhai's own messages name types and limits as Rust knows them; here they say what was found, what was
//! expected, and where. Nothing is decided here: a failure counts as neutral wherever it goes.

use rhai::{Dynamic, EvalAltResult};

use super::{
    engine::{
        ARRAY_ITEMS_MAX, CALL_DEPTH_MAX, MAP_ENTRIES_MAX, OPERATIONS_MAX, STRING_BYTES_MAX, engine, place,
    },
    verdict::{ScriptFailure, one_line},
};

/// Characters of a failure's message; a script chooses some of them.
const MESSAGE_CHARS_MAX: usize = 500;

/// Puts a run-time error into words. `file` is where the script came from.
pub(super) fn explain(file: &str, error: &EvalAltResult) -> ScriptFailure {
    let innermost = unwrap(error);
    let position = place(innermost.position()).or_else(|| place(error.position()));
    failure(file, position, &words(innermost))
}

/// A failure at a place in `file`.
pub(super) fn failure(file: &str, position: Option<(usize, usize)>, words: &str) -> ScriptFailure {
    let words = one_line(words, MESSAGE_CHARS_MAX);
    let message = match position {
        Some((line, column)) => format!("{file}:{line}:{column}: {words}"),
        None => format!("{file}: {words}"),
    };
    ScriptFailure { message, position }
}

/// What a script returned, for a message about it.
pub(super) fn describe(value: &Dynamic) -> String {
    if let Ok(number) = value.as_int() {
        return format!("the number {number}");
    }
    if let Ok(number) = value.as_float() {
        return format!("the number {number}");
    }
    if let Ok(truth) = value.as_bool() {
        return format!("{truth}");
    }
    if value.is_unit() {
        return "nothing".to_owned();
    }
    match value.as_immutable_string_ref() {
        Ok(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
        Err(_) => format!("a value of type {}", engine().map_type_name(value.type_name())),
    }
}

fn unwrap(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => unwrap(inner),
        other => other,
    }
}

fn words(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorTooManyOperations(_) => {
            format!("it takes more than {OPERATIONS_MAX} steps: a criterion must be short")
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            format!("its functions call each other more than {CALL_DEPTH_MAX} deep")
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => format!(
            "{} grew too large: at most {STRING_BYTES_MAX} bytes in a text, {ARRAY_ITEMS_MAX} values in a list, \
             {MAP_ENTRIES_MAX} in a map",
            what.to_lowercase()
        ),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            format!("there is no function {signature}")
        }
        EvalAltResult::ErrorDotExpr(..) | EvalAltResult::ErrorIndexingType(..) => {
            strip_position(&error.to_string())
        }
        EvalAltResult::ErrorRuntime(value, _) => match value.as_immutable_string_ref() {
            Ok(text) => text.to_string(),
            Err(_) => format!("it threw {}", describe(value)),
        },
        EvalAltResult::ErrorArithmetic(what, _) => what.clone(),
        EvalAltResult::ErrorMismatchDataType(expected, found, _) => {
            format!("{expected} was expected, and this is {found}")
        }
        EvalAltResult::ErrorVariableNotFound(name, _) => format!("there is no variable {name}"),
        EvalAltResult::ErrorPropertyNotFound(name, _) => format!("there is no field {name}"),
        other => strip_position(&other.to_string()),
    }
}

/// Rhai ends its messages with "(line 3, position 4)", which is said in front already.
fn strip_position(message: &str) -> String {
    match message.rfind(" (line ") {
        Some(at) => message[..at].to_owned(),
        None => message.to_owned(),
    }
}
