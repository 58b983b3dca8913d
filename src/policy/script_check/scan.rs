//! A script's text cut into lexemes, for what the syntax tree doesn't keep: where a brace opened, what a `switch`
//! arm is compared with, how a reason is written.
//!
//! It follows Rhai's strings, templates and comments and judges nothing: a text that doesn't parse is scanned, too.

/// What a lexeme is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Word,
    Number,
    /// `"..."`.
    Text,
    /// `` `...` ``, all that is within `${}` included.
    Template,
    /// `'x'`.
    Char,
    Symbol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lexeme {
    pub shape: Shape,
    /// Bytes of the source.
    pub start: usize,
    pub end: usize,
    /// From 1, in characters, as Rhai counts them.
    pub line: usize,
    pub column: usize,
}

impl Lexeme {
    pub fn text<'a>(&self, source: &'a str) -> &'a str {
        &source[self.start..self.end]
    }

    pub fn is(&self, source: &str, symbol: &str) -> bool {
        matches!(self.shape, Shape::Symbol | Shape::Word) && self.text(source) == symbol
    }

    pub fn chars(&self, source: &str) -> usize {
        self.text(source).chars().count()
    }
}

const PAIRS: &[&str] = &["=>", "==", "!=", "<=", ">=", "&&", "||", "..", "??", "?.", "**", "::"];

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    column: usize,
}

/// All lexemes of a source, comments and blanks left out.
pub(super) fn scan(source: &str) -> Vec<Lexeme> {
    let mut scanner = Scanner { source, at: 0, line: 1, column: 1 };
    let mut out = Vec::new();
    loop {
        scanner.skip_blank();
        let (start, line, column) = (scanner.at, scanner.line, scanner.column);
        let Some(shape) = scanner.lexeme() else { break };
        out.push(Lexeme { shape, start, end: scanner.at, line, column });
    }
    out
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn bump_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
    }

    fn skip_blank(&mut self) {
        loop {
            let before = self.at;
            self.bump_while(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.bump_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                self.skip_block_comment();
            }
            if self.at == before {
                break;
            }
        }
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) {
        let mut depth = 0usize;
        loop {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.bump();
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.bump();
            }
            if self.bump().is_none() || depth == 0 {
                break;
            }
        }
    }

    fn lexeme(&mut self) -> Option<Shape> {
        let c = self.peek()?;
        if c.is_alphabetic() || c == '_' {
            self.bump_while(|c| c.is_alphanumeric() || c == '_');
            return Some(Shape::Word);
        }
        if c.is_ascii_digit() {
            self.number();
            return Some(Shape::Number);
        }
        match c {
            '"' | '\'' => {
                self.quoted(c);
                Some(if c == '"' { Shape::Text } else { Shape::Char })
            }
            '`' => {
                self.template();
                Some(Shape::Template)
            }
            _ => {
                let pair = PAIRS.iter().find(|pair| self.rest().starts_with(**pair));
                for _ in 0..pair.map_or(1, |pair| pair.len()) {
                    self.bump();
                }
                Some(Shape::Symbol)
            }
        }
    }

    /// `1.5`, but not `1..5`.
    fn number(&mut self) {
        self.bump_while(|c| c.is_alphanumeric() || c == '_');
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
            self.bump();
            self.bump_while(|c| c.is_alphanumeric() || c == '_');
        }
    }

    fn quoted(&mut self, quote: char) {
        self.bump();
        while let Some(c) = self.peek() {
            // Without a `\` before it, a line's end ends an unterminated text.
            if c == '\n' {
                return;
            }
            self.bump();
            if c == '\\' {
                self.bump();
            } else if c == quote {
                return;
            }
        }
    }

    /// Templates within templates are followed without recursion, so that no source can exhaust the stack.
    fn template(&mut self) {
        // For each open template: how many braces are open in its `${}`; none: in its text.
        let mut open: Vec<Option<usize>> = Vec::new();
        loop {
            let Some(c) = self.peek() else { return };
            let starts_code = self.rest().starts_with("${");
            match open.last_mut() {
                None | Some(Some(_)) if c == '`' => open.push(None),
                Some(None) if c == '`' => {
                    open.pop();
                }
                Some(inside @ None) if starts_code => {
                    *inside = Some(1);
                    self.bump();
                }
                Some(None) => {}
                Some(Some(_)) if c == '"' => {
                    self.quoted('"');
                    continue;
                }
                Some(Some(braces)) if c == '{' => *braces += 1,
                Some(inside @ Some(1)) if c == '}' => *inside = None,
                Some(Some(braces)) if c == '}' => *braces -= 1,
                _ => {}
            }
            self.bump();
            if open.is_empty() {
                return;
            }
        }
    }
}

/// The index of the lexeme at a place.
pub(super) fn at(lexemes: &[Lexeme], place: (usize, usize)) -> Option<usize> {
    lexemes.binary_search_by_key(&place, |l| (l.line, l.column)).ok()
}

/// The source of the expression that starts at a place and ends before a `,` or closing bracket of its own level.
pub(super) fn expression_text(source: &str, lexemes: &[Lexeme], place: (usize, usize)) -> Option<String> {
    let first = at(lexemes, place)?;
    let mut depth = 0usize;
    let mut end = lexemes[first].start;
    for lexeme in &lexemes[first..] {
        if lexeme.shape == Shape::Symbol {
            match lexeme.text(source) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth == 0 => break,
                ")" | "]" | "}" => depth -= 1,
                "," | ";" if depth == 0 => break,
                _ => {}
            }
        }
        end = lexeme.end;
    }
    Some(source[lexemes[first].start..end].to_owned())
}

/// The texts that the arms of the `switch` at a place are compared with.
pub(super) fn switch_texts<'a>(source: &'a str, lexemes: &'a [Lexeme], place: (usize, usize)) -> Vec<Lexeme> {
    let Some(first) = at(lexemes, place) else { return Vec::new() };
    let mut depth = 0usize;
    let mut arms = Vec::new();
    for (at, lexeme) in lexemes.iter().enumerate().skip(first + 1) {
        match lexeme.shape {
            Shape::Symbol => match lexeme.text(source) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && lexeme.is(source, "}") {
                        break;
                    }
                }
                _ => {}
            },
            Shape::Text if depth == 1 => {
                // A condition (`"a" if x == "b" =>`) has texts of its own.
                let begins = ["{", ",", "|", "}"].iter().any(|s| lexemes[at - 1].is(source, s));
                let next = lexemes.get(at + 1);
                if begins && next.is_some_and(|n| ["=>", "|", "if"].iter().any(|s| n.is(source, s))) {
                    arms.push(*lexeme);
                }
            }
            _ => {}
        }
    }
    arms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        scan(source).iter().map(|l| l.text(source)).collect()
    }

    #[test]
    fn strings_templates_and_comments_are_whole() {
        let source =
            "let a = \"x } // no\"; // {\n/* { /* } */ */ let b = `t ${f(\"}\") + `in ${c}`} u` + 'y';";
        let expected = [
            "let",
            "a",
            "=",
            "\"x } // no\"",
            ";",
            "let",
            "b",
            "=",
            "`t ${f(\"}\") + `in ${c}`} u`",
            "+",
            "'y'",
            ";",
        ];
        assert_eq!(texts(source), expected);
        let words: Vec<_> = scan(source).iter().map(|l| (l.line, l.column)).collect();
        assert_eq!(words[5], (2, 17));
    }

    #[test]
    fn what_never_ends_is_scanned_to_the_end() {
        for source in ["\"abc", "`abc ${", "/* /* */", "'", "`${`${`${", "\"\\"] {
            scan(source);
        }
    }

    #[test]
    fn the_arms_of_a_switch_are_found_and_those_of_an_inner_one_are_not() {
        let source = "switch p {\n  \"a\" | \"b\" => switch q { \"x\" => f(\"y\"), _ => 1 },\n  \"c\" if z == \"e\" => \"d\",\n}";
        let lexemes = scan(source);
        let arms: Vec<_> = switch_texts(source, &lexemes, (1, 1)).iter().map(|l| l.text(source)).collect();
        assert_eq!(arms, ["\"a\"", "\"b\"", "\"c\""]);
    }
}
