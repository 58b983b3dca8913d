//! The one Rhai engine: what a script can call, and the limits within which it runs.
//!
//! Raw and curated: nothing is registered that blocks, reads a clock, draws a random number, speaks to the
//! outside, or makes a value much larger than what it was given. Nothing shared is mutable. The limits are those
//! of details.md section 4, reliability.md T29 and policy-engine.md part 3.

use std::{
    ops::{Range, RangeBounds, RangeInclusive},
    sync::{Arc, LazyLock},
};

use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FLOAT, INT, ImmutableString, Map, NativeCallContext,
    OptimizationLevel,
    packages::{ArithmeticPackage, BasicMathPackage, LogicPackage, Package},
};

use super::{
    fields::{self, Field, Value},
    verdict::{Verdict, VerdictKind, one_line},
    view::{ChannelView, HistoryView, MessageView},
};

/// Steps that one call may take; the longest shipped criterion takes about forty.
pub const OPERATIONS_MAX: u64 = 2_000;
/// Calls within calls.
pub const CALL_DEPTH_MAX: usize = 8;
/// Expressions within expressions.
pub const EXPRESSION_DEPTH_MAX: usize = 32;
/// Bytes of one script.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one string.
pub const STRING_BYTES_MAX: usize = 4 * 1024;
/// Items of one list, nested ones included.
pub const ARRAY_ITEMS_MAX: usize = 256;
/// Entries of one map, nested ones included.
pub const MAP_ENTRIES_MAX: usize = 64;
/// Variables in scope at once.
pub const VARIABLES_MAX: usize = 64;
/// Functions that one script may define.
pub const FUNCTIONS_MAX: usize = 32;
/// Characters of a reason; what is longer is cut.
pub const REASON_CHARS_MAX: usize = 500;

/// Words of the language that scripts do without.
pub const DISABLED_SYMBOLS: &[&str] = &[
    "eval",
    "import",
    "export",
    "print",
    "debug",
    "Fn",
    "call",
    "curry",
    "this",
    "is_def_fn",
    "is_def_var",
    "is_shared",
    "type_of",
    "global",
];

/// What scripts call, beside operators and the packages' functions on numbers.
pub const OUR_FUNCTIONS: &[&str] =
    &["award", "penalize", "neutral", "veto", "contains", "starts_with", "len", "percent", "to_string"];

/// `message` in a script.
#[derive(Clone)]
pub(super) struct Message(pub Arc<MessageView<'static>>);

/// `channel` in a script.
#[derive(Clone)]
pub(super) struct ChannelFacts(pub Arc<ChannelView>);

/// `channel.history` in a script.
#[derive(Clone, Copy)]
pub(super) struct History(pub HistoryView);

/// The engine that every script is compiled and run with. Never changed once made, so shared without a lock.
pub fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(build);
    &ENGINE
}

fn build() -> Engine {
    let mut engine = Engine::new_raw();
    limit(&mut engine);
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    register_fields(&mut engine);
    register_verdicts(&mut engine);
    register_texts(&mut engine);
    engine
}

fn limit(engine: &mut Engine) {
    engine
        .set_max_operations(OPERATIONS_MAX)
        .set_max_call_levels(CALL_DEPTH_MAX)
        .set_max_expr_depths(EXPRESSION_DEPTH_MAX, EXPRESSION_DEPTH_MAX)
        .set_max_string_size(STRING_BYTES_MAX)
        .set_max_array_size(ARRAY_ITEMS_MAX)
        .set_max_map_size(MAP_ENTRIES_MAX)
        .set_max_variables(VARIABLES_MAX)
        .set_max_functions(FUNCTIONS_MAX)
        // Under contention the interner sleeps 10 ms at a time (policy-engine.md 3c).
        .set_max_strings_interned(0)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_allow_looping(false)
        .set_allow_anonymous_fn(false)
        // What was checked is what runs.
        .set_optimization_level(OptimizationLevel::None);
    for symbol in DISABLED_SYMBOLS {
        engine.disable_symbol(*symbol);
    }
}

fn register_fields(engine: &mut Engine) {
    engine.register_type_with_name::<Message>("message");
    engine.register_type_with_name::<ChannelFacts>("channel");
    engine.register_type_with_name::<History>("channel.history");
    for Field { name, read, .. } in fields::MESSAGE {
        engine.register_get(name, move |message: &mut Message| to_dynamic(read(&message.0)));
    }
    for Field { name, read, .. } in fields::CHANNEL {
        engine.register_get(name, move |channel: &mut ChannelFacts| match read(&channel.0) {
            Value::History => Dynamic::from(History(channel.0.history)),
            value => to_dynamic(value),
        });
    }
    for Field { name, read, .. } in fields::HISTORY {
        engine.register_get(name, move |history: &mut History| to_dynamic(read(&history.0)));
    }
}

fn to_dynamic(value: Value<'_>) -> Dynamic {
    match value {
        Value::Text(text) => text.into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::Bool(truth) => truth.into(),
        Value::Texts(texts) => texts.iter().map(|t| t.as_str().into()).collect::<Array>().into(),
        Value::History | Value::Missing => Dynamic::UNIT,
    }
}

type Fallible<T> = Result<T, Box<EvalAltResult>>;

fn register_verdicts(engine: &mut Engine) {
    engine.register_type_with_name::<Verdict>("verdict");
    engine.register_fn("award", |ctx: NativeCallContext<'_>, share: FLOAT, reason: &str| {
        verdict(&ctx, share, 1.0, reason)
    });
    engine.register_fn("award", |ctx: NativeCallContext<'_>, share: INT, reason: &str| {
        verdict(&ctx, share as FLOAT, 1.0, reason)
    });
    engine.register_fn("penalize", |ctx: NativeCallContext<'_>, share: FLOAT, reason: &str| {
        verdict(&ctx, share, -1.0, reason)
    });
    engine.register_fn("penalize", |ctx: NativeCallContext<'_>, share: INT, reason: &str| {
        verdict(&ctx, share as FLOAT, -1.0, reason)
    });
    engine.register_fn("veto", |ctx: NativeCallContext<'_>, reason: &str| Verdict {
        kind: VerdictKind::Veto,
        reason: one_line(reason, REASON_CHARS_MAX).into(),
        position: place(ctx.call_position()),
    });
    engine.register_fn("neutral", Verdict::neutral);
}

/// Checks the share, and notes where the script said it.
fn verdict(ctx: &NativeCallContext<'_>, share: FLOAT, sign: FLOAT, reason: &str) -> Fallible<Verdict> {
    if !(0.0..=1.0).contains(&share) {
        return Err(fault(ctx, format!("{}({share}, ...): a share is a number from 0 to 1", ctx.fn_name())));
    }
    Ok(Verdict {
        // Adding 0 turns -0 into 0.
        kind: VerdictKind::Share(share * sign + 0.0),
        reason: one_line(reason, REASON_CHARS_MAX).into(),
        position: place(ctx.call_position()),
    })
}

fn fault(ctx: &NativeCallContext<'_>, words: String) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(words.into(), ctx.call_position()).into()
}

/// Line and column from 1, if Rhai knows them.
pub(super) fn place(position: rhai::Position) -> Option<(usize, usize)> {
    position.line().map(|line| (line, position.position().unwrap_or(1)))
}

fn register_texts(engine: &mut Engine) {
    engine.register_fn("contains", |text: &str, part: &str| text.contains(part));
    engine.register_fn("contains", |list: &mut Array, item: Dynamic| list.iter().any(|i| same(i, &item)));
    engine.register_fn("contains", |_missing: (), _part: Dynamic| false);
    // `minutes in 0..=30`: what is missing lies in no range.
    engine.register_fn("contains", |range: &mut Range<INT>, item: Dynamic| within(&item, range));
    engine.register_fn("contains", |range: &mut RangeInclusive<INT>, item: Dynamic| within(&item, range));
    engine.register_fn("starts_with", |text: &str, part: &str| text.starts_with(part));
    engine.register_fn("starts_with", |_missing: (), _part: &str| false);
    engine.register_fn("len", |text: &str| text.chars().count() as INT);
    engine.register_fn("len", |list: &mut Array| list.len() as INT);
    engine.register_fn("percent", |ctx: NativeCallContext<'_>, rate: FLOAT| percent(&ctx, rate));
    engine.register_fn("percent", |ctx: NativeCallContext<'_>, rate: INT| percent(&ctx, rate as FLOAT));
    // What `${...}` in a text calls. A list or map is not spelled out: it could be much larger than a string.
    engine.register_fn("to_string", |text: ImmutableString| text);
    engine.register_fn("to_string", |c: char| c.to_string());
    engine.register_fn("to_string", |number: INT| number.to_string());
    engine.register_fn("to_string", |number: FLOAT| number.to_string());
    engine.register_fn("to_string", |truth: bool| truth.to_string());
    engine.register_fn("to_string", |_missing: ()| String::new());
    engine.register_fn("to_string", |list: &mut Array| format!("[{} values]", list.len()));
    engine.register_fn("to_string", |map: &mut Map| format!("#{{{} values}}", map.len()));
}

fn within(item: &Dynamic, range: &impl RangeBounds<INT>) -> bool {
    item.as_int().is_ok_and(|number| range.contains(&number))
}

/// Equality of plain values; lists and objects equal nothing.
fn same(a: &Dynamic, b: &Dynamic) -> bool {
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return *a == *b;
    }
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.as_bool().is_ok_and(|a| b.as_bool() == Ok(a)) || (a.is_unit() && b.is_unit()),
        _ => false,
    }
}

fn number(value: &Dynamic) -> Option<FLOAT> {
    value.as_float().ok().or_else(|| value.as_int().ok().map(|n| n as FLOAT))
}

fn percent(ctx: &NativeCallContext<'_>, rate: FLOAT) -> Fallible<String> {
    if !rate.is_finite() {
        return Err(fault(ctx, format!("percent({rate}): not a number to show")));
    }
    Ok(format!("{}%", (rate * 100.0).round()))
}

#[cfg(test)]
mod tests;
