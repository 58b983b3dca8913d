//! The language of templates: minijinja with almost everything left out.
//!
//! No loader, no function, no other template, no way to switch escaping off; strict about what is missing;
//! bounded in steps and in output. A value that is missing or no text is refused rather than printed.

use std::{collections::BTreeMap, fmt, io, sync::OnceLock};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, escape_formatter,
    syntax::SyntaxConfig,
    value::{Value, ValueKind},
};
use serde_json::{Map, Value as Json};

use super::{
    filters,
    scan::{self, Piece},
};

/// Steps that one text may take.
const FUEL: u64 = 50_000;
/// Bytes that one text may come to.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// A name that no expression can write, under which filters find the reader's zone.
pub const ZONE: &str = " zone";

/// The texts of one template. Compiled they take many times their size, and most templates wait for long to be used:
/// one that was checked rests as text until somebody renders it.
pub struct Engine {
    /// None at rest.
    compiled: OnceLock<Environment<'static>>,
    texts: BTreeMap<String, Text>,
}

/// One text as the engine gets it.
struct Text {
    source: String,
    /// Bytes at which a sign of ours was put in.
    put_in: Vec<usize>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} texts)", self.texts.len())
    }
}

/// Why a text did not come out. `bytes` are those of the template that failed, where they are known.
#[derive(Clone, Debug)]
pub struct Failure {
    pub words: String,
    pub hint: Option<&'static str>,
    pub line: usize,
    pub bytes: Option<std::ops::Range<usize>>,
}

/// What filters ask of the text that they stand in.
pub fn locale_of(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// The language, without a text.
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(20);
    // Where a fault stands in the text is known in debug mode only.
    environment.set_debug(true);
    // A tag on a line of its own leaves no empty line behind; `keep_line_ends` spares the others.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Undefined => {
            Err(Error::new(ErrorKind::UndefinedError, "a value that is missing is printed"))
        }
        ValueKind::None => Err(Error::new(
            ErrorKind::UndefinedError,
            "it is optional, and is printed where it may be missing",
        )),
        ValueKind::String | ValueKind::Number | ValueKind::Bool => escape_formatter(out, state, value),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "a list or a table is printed as a text")),
    });
    filters::register(&mut environment);
    environment
}

impl Engine {
    pub fn new() -> Self {
        Self { compiled: OnceLock::from(environment()), texts: BTreeMap::new() }
    }

    /// Compiles one text under its name.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let (source, put_in) = keep_line_ends(text);
        self.environment();
        if let Some(environment) = self.compiled.get_mut() {
            let added = environment.add_template_owned(name.to_owned(), source.clone());
            added.map_err(|error| explain(&error, &source, &put_in))?;
        }
        self.texts.insert(name.to_owned(), Text { source, put_in });
        Ok(())
    }

    /// Lets go of what was compiled, until it is needed.
    pub fn rest(self) -> Self {
        Self { compiled: OnceLock::new(), ..self }
    }

    fn environment(&self) -> &Environment<'static> {
        self.compiled.get_or_init(|| {
            let mut environment = environment();
            for (name, text) in &self.texts {
                // It was taken when it was added, and is the same: rendering would tell that it is not there.
                let _ = environment.add_template_owned(name.clone(), text.source.clone());
            }
            environment
        })
    }

    /// The variables that a text reads, without those that it makes itself.
    pub fn variables(&self, name: &str) -> Vec<String> {
        let Ok(template) = self.environment().get_template(name) else { return Vec::new() };
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        variables.sort();
        variables
    }

    /// One text with these values.
    pub fn render(&self, name: &str, values: &Value) -> Result<String, Failure> {
        let put_in = self.texts.get(name).map(|text| text.put_in.as_slice()).unwrap_or_default();
        let template = self.environment().get_template(name).map_err(|error| explain(&error, "", put_in))?;
        let mut out = Capped(Vec::new());
        let rendered = template.render_captured_to(values.clone(), &mut out);
        rendered.map_err(|error| explain(&error, template.source(), put_in))?;
        // It is made of texts: it is one.
        Ok(String::from_utf8(out.0).unwrap_or_default())
    }
}

/// The values that a text sees: those given, nothing (`none`) for each name of `absent`, and the zone.
pub fn values<'v>(
    given: impl IntoIterator<Item = (&'v str, Value)>,
    absent: impl IntoIterator<Item = &'v str>,
    zone: chrono_tz::Tz,
) -> Value {
    let mut all: BTreeMap<&str, Value> = absent.into_iter().map(|name| (name, Value::from(()))).collect();
    all.extend(given);
    all.insert(ZONE, Value::from(zone.name()));
    Value::from_pairs(all)
}

/// JSON as templates see it; line ends are `\n`.
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(yes) => Value::from(*yes),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(float)) => Value::from(float),
            (None, None) => Value::from(number.to_string()),
        },
        Json::String(text) => Value::from(text.replace("\r\n", "\n").replace('\r', "\n")),
        Json::Array(items) => items.iter().map(value).collect::<Vec<Value>>().into(),
        Json::Object(fields) => object(fields),
    }
}

fn object(fields: &Map<String, Json>) -> Value {
    Value::from_pairs(fields.iter().map(|(key, field)| (key.as_str(), value(field))))
}

/// Takes so many bytes and no more.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine drops the line end after every tag. Only where a tag has the line to itself is that meant: after
/// "{% endif %}" at the end of a sentence the line end stays, by a `+` in the tag.
fn keep_line_ends(text: &str) -> (String, Vec<usize>) {
    let pieces = scan::pieces(text);
    let mut put_in = Vec::new();
    for piece in &pieces {
        let Piece::Code { tag: true, inner } = piece else { continue };
        if !text[inner.end..].starts_with("%}\n") || text[inner.clone()].ends_with(['-', '+']) {
            continue;
        }
        let line = text[..inner.start].rfind('\n').map_or(0, |at| at + 1);
        let says = |piece: &Piece| match piece {
            Piece::Text(range) => {
                let (start, end) = (range.start.max(line), range.end.min(inner.start));
                text.get(start..end).is_some_and(|part| !part.trim().is_empty())
            }
            Piece::Code { tag: false, inner: code } => (line..inner.start).contains(&code.start),
            Piece::Code { .. } => false,
        };
        if pieces.iter().any(says) {
            put_in.push(inner.end);
        }
    }
    let mut source = text.to_owned();
    for at in put_in.iter().rev() {
        source.insert(*at, '+');
    }
    (source, put_in)
}

/// An error of the engine in our words. They hold no value: data is personal.
fn explain(error: &Error, text: &str, put_in: &[usize]) -> Failure {
    let bytes = error.range().filter(|range| text.get(range.clone()).is_some());
    let code = bytes.clone().and_then(|range| text.get(range)).map(str::trim).filter(|c| !c.is_empty());
    let named = code.map_or_else(|| "a value".to_owned(), |code| format!("`{}`", shortened(code)));
    let detail = error.detail().unwrap_or_default();
    let (words, hint) = match error.kind() {
        ErrorKind::SyntaxError | ErrorKind::BadEscape => (format!("not a template: {detail}"), mend(detail)),
        ErrorKind::UndefinedError if detail.starts_with("it is optional") => {
            (format!("{named}: {detail}"), Some("put it between {% if NAME %} and {% endif %}"))
        }
        ErrorKind::UndefinedError => (format!("{named} is missing"), None),
        ErrorKind::OutOfFuel => (format!("it takes more than {FUEL} steps"), Some("make it shorter")),
        ErrorKind::WriteFailure => {
            (format!("it comes to more than {} KiB", OUTPUT_BYTES_MAX / 1024), Some("make it shorter"))
        }
        ErrorKind::InvalidOperation | ErrorKind::NonPrimitive | ErrorKind::MissingArgument => {
            (format!("{named} cannot be worked out: {}", own_words(detail)), None)
        }
        kind => (format!("{named}: {kind}"), None),
    };
    let own = |at: usize| at - put_in.iter().enumerate().filter(|(n, place)| **place + n < at).count();
    let bytes = bytes.map(|range| own(range.start)..own(range.end));
    Failure { words, hint, line: error.line().unwrap_or(1), bytes }
}

/// Our filters' own words, and none that may quote a value.
fn own_words(detail: &str) -> &str {
    const OURS: [&str; 3] = ["a list or a table", "expected ", "the link "];
    if OURS.iter().any(|ours| detail.starts_with(ours)) { detail } else { "the value does not fit" }
}

fn shortened(code: &str) -> String {
    code.lines().next().unwrap_or_default().chars().take(60).collect()
}

/// What was probably meant.
fn mend(detail: &str) -> Option<&'static str> {
    if detail.contains("end of input") || detail.contains("unclosed") || detail.contains("end of block") {
        return Some("close what is open: {{ name }}, {% if name %} ... {% endif %}");
    }
    if detail.contains("end of variable block") || detail.contains("end of print statement") {
        return Some("a variable is written {{ name }}: letters, digits and _ only");
    }
    if detail.contains("unknown statement") {
        return Some("there are if, elif, else, endif, for, endfor and set");
    }
    None
}
