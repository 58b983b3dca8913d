//! Where a place within a TOML string stands in its file: a condition's fault is shown on the admin's line.
//!
//! Undoes quotes, escapes and line continuations; it validates nothing, the parser did.

use std::ops::Range;

/// Line and column (from 1, in characters) in the file of a line and column within the string's value.
/// `span` is the string with its quotes.
pub fn in_file(source: &str, span: Range<usize>, line: usize, column: usize) -> (usize, usize) {
    let raw = source.get(span.clone()).unwrap_or_default();
    let (open, escapes) = match raw.as_bytes() {
        [b'"', b'"', b'"', ..] => (3, true),
        [b'\'', b'\'', b'\'', ..] => (3, false),
        [b'"', ..] => (1, true),
        [b'\'', ..] => (1, false),
        _ => (0, false),
    };
    let mut at = span.start + open;
    if open == 3 {
        // A line break right after the opening quotes is no part of the value.
        let rest = &source[at..span.end];
        at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let end = span.end.saturating_sub(open.max(1)).max(at);
    let (mut seen_line, mut seen_column) = (1, 1);
    while at < end && (seen_line, seen_column) < (line, column) {
        let rest = &source[at..end];
        let (width, decoded) = unit(rest, escapes);
        at += width;
        match decoded {
            Some('\n') => (seen_line, seen_column) = (seen_line + 1, 1),
            Some('\r') | None => {}
            Some(_) => seen_column += 1,
        }
    }
    let before = &source[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The bytes that the next piece of the raw text takes, and the character that it stands for, if any.
fn unit(rest: &str, escapes: bool) -> (usize, Option<char>) {
    let Some(first) = rest.chars().next() else { return (1, None) };
    if first != '\\' || !escapes {
        return (first.len_utf8(), Some(first));
    }
    let digits = match rest[1..].chars().next() {
        Some('u') => 4,
        Some('U') => 8,
        Some('x') => 2,
        Some('n') => return (2, Some('\n')),
        Some(c) if c.is_whitespace() => {
            let skipped = rest[1..].len() - rest[1..].trim_start().len();
            return (1 + skipped, None);
        }
        Some(c) => return (1 + c.len_utf8(), Some(c)),
        None => return (1, None),
    };
    ((2 + digits).min(rest.len()), Some('x'))
}

#[cfg(test)]
mod tests {
    use super::in_file;

    fn place(source: &str, line: usize, column: usize) -> (usize, usize) {
        let start = source.find(['"', '\'']).unwrap();
        in_file(source, start..source.trim_end().len(), line, column)
    }

    #[test]
    fn every_way_to_write_a_string() {
        assert_eq!(place("when = 'abc'\n", 1, 3), (1, 11));
        assert_eq!(place("when = \"a \\\"b\\\" c\"\n", 1, 7), (1, 17), "escapes count once");
        assert_eq!(place("x = 1\nwhen = '''\nab\n  cd'''\n", 2, 4), (4, 4));
        assert_eq!(place("when = '''ab\ncd'''\n", 1, 2), (1, 12));
        assert_eq!(place("when = \"\"\"\\\n   ab\"\"\"\n", 1, 2), (2, 5), "a continued line");
        assert_eq!(place("when = '''\r\nab\r\ncd'''\r\n", 2, 2), (3, 2), "Windows line ends");
        assert_eq!(place("é = 'ab'\n", 1, 1), (1, 6), "columns are characters");
        assert_eq!(place("when = 'abc'\n", 9, 9), (1, 12), "past the end is the end");
    }
}
