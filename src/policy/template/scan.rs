//! The words of a template's code with their places: tags, filters, calls and names between `{{ }}` and `{% %}`.
//!
//! A scan, not a parse: the engine parses. It exists because the engine checks filters only when a line runs, and
//! because an admin wants every fault with its place.

/// What a word is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// `{% if`
    Tag,
    /// `| euros`
    Filter,
    /// `is defined`
    Test,
    /// `range(`, also `.upper(`
    Call,
    /// A variable.
    Name,
}

/// A word and its bytes in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'t> {
    pub used_as: Use,
    pub text: &'t str,
    pub at: usize,
}

impl Word<'_> {
    pub fn span(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.text.len()
    }
}

/// Words of the language itself.
const KEYWORDS: [&str; 14] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None", "loop"];

/// Whether a name may be a variable's.
pub fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 64
        && !KEYWORDS.contains(&text)
}

/// Every word of the text's code, in order.
pub fn words(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    for piece in pieces(text) {
        if let Piece::Code { tag, inner } = piece {
            code(text, inner, tag, &mut found);
        }
    }
    found
}

/// What a template's text is made of, as byte ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(std::ops::Range<usize>),
    /// Between `{{` and `}}`, or `{%` and `%}`.
    Code {
        tag: bool,
        inner: std::ops::Range<usize>,
    },
}

/// Splits a text at its delimiters; comments are left out.
pub fn pieces(text: &str) -> Vec<Piece> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let Some(open) = opening(rest) else {
            found.push(Piece::Text(at..text.len()));
            break;
        };
        if open > 0 {
            found.push(Piece::Text(at..at + open));
        }
        let start = at + open + 2;
        let close = match &rest[open..open + 2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        let end = if close == "#}" {
            text[start..].find(close).map_or(text.len(), |end| start + end)
        } else {
            code_end(text, start, close)
        };
        if close != "#}" {
            found.push(Piece::Code { tag: close == "%}", inner: start..end });
        }
        at = (end + 2).min(text.len());
    }
    found
}

/// Where the first delimiter stands: each byte is looked at once, however many delimiters there are.
fn opening(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
}

/// Where the code ends: the closing delimiter outside of quotes.
fn code_end(text: &str, start: usize, close: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text[start..].char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if text[start + at..].starts_with(close) => return start + at,
            None => {}
        }
    }
    text.len()
}

fn code<'t>(text: &'t str, inner: std::ops::Range<usize>, tag: bool, found: &mut Vec<Word<'t>>) {
    let source = &text[inner.clone()];
    let mut at = 0;
    // The last word or sign before this one, and whether a word stood in the code yet.
    let (mut before, mut first) = ("", true);
    while let Some(c) = source[at..].chars().next() {
        if c == '"' || c == '\'' {
            at = string_end(source, at, c);
            before = "string";
        } else if c.is_alphabetic() || c == '_' {
            let length = source[at..].find(|c: char| !c.is_alphanumeric() && c != '_');
            let end = length.map_or(source.len(), |length| at + length);
            let word = &source[at..end];
            let called = source[end..].trim_start().starts_with('(');
            let used_as = match before {
                _ if tag && first => Some(Use::Tag),
                "|" => Some(Use::Filter),
                "is" | "is not" => Some(Use::Test),
                _ if called => Some(Use::Call),
                "." => None,
                _ => Some(Use::Name),
            };
            let keyword = used_as != Some(Use::Tag) && KEYWORDS.contains(&word);
            // A test may have a keyword's name: `is none`.
            if let Some(used_as) = used_as.filter(|u| !keyword || *u == Use::Test)
                && !(used_as == Use::Test && word == "not")
            {
                found.push(Word { used_as, text: word, at: inner.start + at });
            }
            before = if before == "is" && word == "not" { "is not" } else { word };
            first = false;
            at = end;
        } else {
            if !c.is_whitespace() {
                before = &source[at..at + c.len_utf8()];
            }
            at += c.len_utf8();
        }
    }
}

fn string_end(source: &str, start: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in source[start + 1..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return start + 1 + at + 1,
            _ => {}
        }
    }
    source.len()
}

#[cfg(test)]
mod tests {
    use super::{Use::*, *};

    fn seen(text: &str) -> Vec<(Use, &str)> {
        words(text).iter().map(|word| (word.used_as, word.text)).collect()
    }

    #[test]
    fn words_are_told_apart_by_where_they_stand() {
        assert_eq!(
            seen("{{ price | euros }} {% if not x and y.z is defined %}{{ f('a }} | b') }}{% endif %}"),
            [
                (Name, "price"),
                (Filter, "euros"),
                (Tag, "if"),
                (Name, "x"),
                (Name, "y"),
                (Test, "defined"),
                (Call, "f"),
                (Tag, "endif")
            ]
        );
        assert_eq!(seen("{# {{ no }} #}{%- for a in b -%}"), [(Tag, "for"), (Name, "a"), (Name, "b")]);
        assert_eq!(seen("{{ a is not none }}"), [(Name, "a"), (Test, "none")]);
        assert_eq!(seen("{{ a.upper() }}"), [(Name, "a"), (Call, "upper")]);
        assert_eq!(words("é {{ nom }}")[0].span(), 6..9);
    }

    #[test]
    fn what_is_never_closed_ends_with_the_text() {
        for text in ["{{ a", "{% if", "{# a", "{{ 'a }}", "{{", "{"] {
            let _ = words(text);
            for piece in pieces(text) {
                let (Piece::Text(range) | Piece::Code { inner: range, .. }) = piece;
                assert!(text.get(range).is_some(), "{text}");
            }
        }
    }
}
