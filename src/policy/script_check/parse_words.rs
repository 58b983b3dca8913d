//! Parse errors in helpful words: Rhai says what its parser missed; here it says what the author meant.
//!
//! Parsing stops at the first error, so there is one of these at a time. Nothing here decides whether a script is
//! valid.

use rhai::{LexError, ParseError, ParseErrorType};

use super::{
    nearest,
    scan::{self, Lexeme, Shape},
};
use crate::policy::{
    diagnostic::Diagnostic,
    engine::{EXPRESSION_DEPTH_MAX, FUNCTIONS_MAX, STRING_BYTES_MAX, place},
    fields,
};

/// What is known of the script whose parse failed.
pub(super) struct Broken<'a> {
    pub file: &'a str,
    pub source: &'a str,
    pub lexemes: &'a [Lexeme],
}

/// An operator or word of another language, and what to write here.
const FOREIGN: &[(&str, &str)] = &[
    ("and", "write `&&`"),
    ("or", "write `||`"),
    ("not", "write `!` before what is denied, as in `!message.quiet`"),
    ("et", "write `&&`"),
    ("ou", "write `||`"),
    ("non", "write `!` before what is denied, as in `!message.quiet`"),
    ("elif", "write `else if`"),
    ("elsif", "write `else if`"),
    ("elseif", "write `else if`"),
    ("then", "write the block in braces: `if condition { ... }`"),
    ("null", "what may be missing is compared with `()`"),
    ("nil", "what may be missing is compared with `()`"),
    ("None", "what may be missing is compared with `()`"),
    ("undefined", "what may be missing is compared with `()`"),
    ("True", "write `true`"),
    ("False", "write `false`"),
    ("def", "write `fn score(message, channel) { ... }`"),
    ("func", "write `fn score(message, channel) { ... }`"),
    ("function", "write `fn score(message, channel) { ... }`"),
    ("var", "write `let`"),
    ("case", "an arm is `\"value\" => result,`, without `case`"),
    ("default", "the last arm is `_ => result,`"),
    ("match", "write `switch`"),
];

impl Broken<'_> {
    /// The parse error as a fault.
    pub fn explain(&self, error: &ParseError) -> Diagnostic {
        let found = place(error.1).and_then(|at| scan::at(self.lexemes, at)).map(|at| self.lexemes[at]);
        if let Some(fault) = found.and_then(|lexeme| self.foreign(&lexeme, error.err_type())) {
            return fault;
        }
        match error.err_type() {
            ParseErrorType::UnexpectedEOF | ParseErrorType::WrongFnDefinition => {
                self.unclosed().unwrap_or_else(|| self.plain(error))
            }
            ParseErrorType::MissingToken(token, _) => self.missing(token, error),
            ParseErrorType::BadInput(bad) => self.bad_input(bad, error),
            ParseErrorType::VariableUndefined(name) => self.unknown_variable(name, error),
            ParseErrorType::Reserved(word) if word == "#" => {
                self.here("syntax", error, "a remark does not begin with `#` here").hint("write `//`")
            }
            ParseErrorType::Reserved(word) => self
                .here("reserved-word", error, format!("`{word}` is a word of the language"))
                .hint("choose another name"),
            ParseErrorType::UnknownOperator(operator) if operator == "?" => self
                .here("syntax", error, "there is no `? :` here")
                .hint("write `if condition { this } else { that }`"),
            ParseErrorType::ExprTooDeep => self.here(
                "too-deep",
                error,
                format!("more than {EXPRESSION_DEPTH_MAX} expressions within each other"),
            ),
            ParseErrorType::TooManyFunctions => {
                self.here("too-large", error, format!("more than {FUNCTIONS_MAX} functions"))
            }
            ParseErrorType::LiteralTooLarge(what, most) => {
                self.here("too-large", error, format!("{}: at most {most}", what.to_lowercase()))
            }
            ParseErrorType::AssignmentToConstant(name) if !name.is_empty() => self
                .here("read-only", error, format!("`{name}` is a `const`: it can't be changed"))
                .hint("write `let` where it is made"),
            ParseErrorType::FnMissingBody(name) => self
                .here("syntax", error, format!("`fn {name}(...)` needs its body in braces"))
                .hint("write `{` after the parameters"),
            _ => self.plain(error),
        }
    }

    /// A word or sign of another language at the place of the error.
    fn foreign(&self, found: &Lexeme, kind: &ParseErrorType) -> Option<Diagnostic> {
        let text = found.text(self.source);
        if let Some((word, instead)) = FOREIGN.iter().find(|(word, _)| *word == text) {
            // As a name, a word such as `match` is merely reserved.
            let as_name = matches!(kind, ParseErrorType::Reserved(_)) && self.names_something(found);
            let code = if matches!(*word, "and" | "or" | "not" | "et" | "ou" | "non") {
                "word-operator"
            } else {
                "foreign-word"
            };
            return (!as_name)
                .then(|| self.on(found, code, format!("`{word}` means nothing in a script")).hint(*instead));
        }
        if text == "=" && matches!(kind, ParseErrorType::BadInput(_)) {
            return Some(
                self.on(found, "single-equals", "`=` sets a value; it doesn't compare").hint("write `==`"),
            );
        }
        if matches!(text.chars().next(), Some('“' | '”' | '‘' | '’' | '«' | '»')) {
            return Some(
                self.on(found, "syntax", format!("`{text}` is no quotation mark of the language"))
                    .hint("write plain double quotes: `\"`"),
            );
        }
        None
    }

    /// `let match`, `fn match`, or a parameter.
    fn names_something(&self, found: &Lexeme) -> bool {
        let before = self.lexemes.iter().take_while(|l| l.start < found.start).last();
        before.is_some_and(|l| ["let", "const", "fn", "(", ","].iter().any(|s| l.is(self.source, s)))
    }

    fn missing(&self, token: &str, error: &ParseError) -> Diagnostic {
        let next = place(error.1).and_then(|at| scan::at(self.lexemes, at));
        if next.is_none()
            && let Some(fault) = self.unclosed()
        {
            return fault;
        }
        // The place is that of what follows; what is missing belongs after what comes before.
        let before = match (next, place(error.1)) {
            (Some(at), _) => at.checked_sub(1).map(|at| self.lexemes[at]),
            (None, Some(at)) => self.lexemes.iter().take_while(|l| (l.line, l.column) < at).last().copied(),
            (None, None) => self.lexemes.last().copied(),
        };
        let Some(before) = before else { return self.plain(error) };
        let (what, wanted) = match token {
            ";" => ("a statement must end with `;` before the next one begins".to_owned(), "`;`".to_owned()),
            "," => {
                let either = "`,` or the closing bracket".to_owned();
                (format!("{either} is missing here"), either)
            }
            other => (format!("a `{other}` is missing here"), format!("`{other}`")),
        };
        let column = before.column + before.chars(self.source);
        Diagnostic::error("missing-token", self.file, what)
            .at(self.source, before.line, column, 1)
            .hint(format!("write {wanted} after `{}`", last_line(before.text(self.source))))
    }

    fn bad_input(&self, bad: &LexError, error: &ParseError) -> Diagnostic {
        match bad {
            LexError::UnexpectedInput(word)
                if matches!(word.as_str(), "loop" | "while" | "for" | "do" | "break" | "continue") =>
            {
                self.here("not-available", error, format!("`{word}`: there are no loops in a script"))
                    .hint("a criterion answers for one channel at a time; use `if`, `switch` and `in`")
            }
            LexError::UnexpectedInput(sign) if sign == "}" || sign == ")" || sign == "]" => self
                .here("unbalanced", error, format!("this `{sign}` closes nothing"))
                .hint("take it away, or open what it closes"),
            LexError::UnexpectedInput(sign) if sign == "|" || sign == "||" => self
                .here("not-available", error, "there are no functions without a name in a script")
                .hint("write `fn name(parameters) { ... }` beside `fn score`"),
            LexError::ImproperSymbol(word, _)
                if crate::policy::engine::DISABLED_SYMBOLS.contains(&word.as_str()) =>
            {
                self.here("not-available", error, format!("`{word}` is not available in a script"))
                    .hint("a script sees `message` and `channel`, and nothing else")
            }
            LexError::ImproperSymbol(sign, words) => {
                let fault = self.here("syntax", error, format!("`{sign}` is no sign of the language"));
                match (sign.as_str(), words.as_str()) {
                    ("->", _) => fault.hint("write `=>`"),
                    ("===", _) => fault.hint("write `==`"),
                    ("!==", _) => fault.hint("write `!=`"),
                    (_, "") => fault,
                    (_, words) => fault.hint(words.to_owned()),
                }
            }
            LexError::UnterminatedString => self
                .here("unbalanced", error, "this text never ends")
                .hint("close it with the quotation mark that opened it, on the same line"),
            LexError::MalformedChar(text) => self
                .here("syntax", error, format!("'{text}': single quotes hold one character"))
                .hint(format!("write \"{text}\"")),
            _ => self.plain(error),
        }
    }

    fn unknown_variable(&self, name: &str, error: &ParseError) -> Diagnostic {
        let fault = self.here("unknown-variable", error, format!("there is no variable `{name}`"));
        if self.is_top_level_value(name) {
            return fault.hint(format!(
                "`{name}` stands outside the functions, which see only their parameters: move it into the function"
            ));
        }
        if self.lexemes.windows(2).any(|w| w[0].is(self.source, "fn") && w[1].is(self.source, name)) {
            return fault.hint(format!("`{name}` is a function: call it, as in `{name}(...)`"));
        }
        let all = fields::MESSAGE
            .iter()
            .map(|f| (f.name, f.kind.words()))
            .chain(fields::CHANNEL.iter().map(|f| (f.name, f.kind.words())));
        if all.clone().filter_map(|(_, words)| words).any(|words| words.contains(&name)) {
            return fault.hint(format!("a text stands in quotation marks: \"{name}\""));
        }
        if fields::MESSAGE.iter().any(|f| f.name == name) {
            return fault.hint(format!("did you mean `message.{name}`?"));
        }
        if fields::CHANNEL.iter().any(|f| f.name == name) {
            return fault.hint(format!("did you mean `channel.{name}`?"));
        }
        let known = self.names_declared();
        match nearest(name, known.iter().copied()) {
            Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
            None => fault.hint(format!("there are: {}", known.join(", "))),
        }
    }

    /// Parameters and variables, wherever they are declared.
    fn names_declared(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        let mut in_parameters = false;
        for (at, lexeme) in self.lexemes.iter().enumerate() {
            let is = |symbol| lexeme.is(self.source, symbol);
            let after = |symbol| at.checked_sub(1).is_some_and(|b| self.lexemes[b].is(self.source, symbol));
            if is("(") && at >= 2 && self.lexemes[at - 2].is(self.source, "fn") {
                in_parameters = true;
            } else if is(")") {
                in_parameters = false;
            } else if lexeme.shape == Shape::Word && (in_parameters || after("let") || after("const")) {
                names.push(lexeme.text(self.source));
            }
        }
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { vec!["message", "channel"] } else { names }
    }

    /// `let x` or `const x` outside every function.
    fn is_top_level_value(&self, name: &str) -> bool {
        let mut depth = 0usize;
        self.lexemes.windows(2).any(|pair| {
            match pair[0].text(self.source) {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
                && ["let", "const"].iter().any(|word| pair[0].is(self.source, word))
                && pair[1].is(self.source, name)
        })
    }

    /// The bracket that was never closed: the first whose partner stands less far in than it, else the innermost.
    fn unclosed(&self) -> Option<Diagnostic> {
        let mut open: Vec<Lexeme> = Vec::new();
        let mut suspect: Option<Lexeme> = None;
        for lexeme in self.lexemes.iter().filter(|l| l.shape == Shape::Symbol) {
            match lexeme.text(self.source) {
                "{" | "(" | "[" => open.push(*lexeme),
                "}" | ")" | "]" => {
                    let partner = open.pop()?;
                    let begins_line = self.indent(lexeme.line) + 1 == lexeme.column;
                    if begins_line && self.indent(partner.line) > self.indent(lexeme.line) {
                        suspect.get_or_insert(partner);
                    }
                }
                _ => {}
            }
        }
        let innermost = open.pop()?;
        let opened = suspect.unwrap_or(innermost);
        let sign = opened.text(self.source);
        let closing = match sign {
            "(" => ")",
            "[" => "]",
            _ => "}",
        };
        Some(
            self.on(
                &opened,
                "unbalanced",
                format!("the `{sign}` opened on line {} is never closed", opened.line),
            )
            .hint(format!("write `{closing}` where it ends")),
        )
    }

    /// Blanks at the start of a line.
    fn indent(&self, line: usize) -> usize {
        let text = self.source.lines().nth(line - 1).unwrap_or("");
        text.chars().take_while(|c| c.is_whitespace()).count()
    }

    fn plain(&self, error: &ParseError) -> Diagnostic {
        let words = error.err_type().to_string();
        let mut chars = words.chars();
        let lowered: String =
            chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default();
        self.here("syntax", error, lowered)
    }

    /// A fault at the place of the error, over the whole lexeme there.
    fn here(&self, code: &str, error: &ParseError, message: impl Into<String>) -> Diagnostic {
        let fault = Diagnostic::error(code, self.file, message);
        match place(error.1) {
            Some((line, column)) => {
                let length = scan::at(self.lexemes, (line, column))
                    .map_or(1, |at| self.lexemes[at].chars(self.source));
                fault.at(self.source, line, column, length)
            }
            None => fault,
        }
    }

    fn on(&self, lexeme: &Lexeme, code: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.file, message).at(
            self.source,
            lexeme.line,
            lexeme.column,
            lexeme.chars(self.source),
        )
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text)
}

/// A script larger than this is not even parsed.
pub(super) fn too_large(file: &str, bytes: usize, most: usize) -> Diagnostic {
    Diagnostic::error("too-large", file, format!("{bytes} bytes; a script has at most {most}"))
        .hint(format!("a criterion is short, and a text in it has at most {STRING_BYTES_MAX} bytes"))
}
