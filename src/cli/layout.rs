//! How wide a line is, and words fitted into it. No colours here: widths are those of plain text.

use std::io::IsTerminal;

/// Where nobody's terminal says otherwise.
const WIDTH_PLAIN: usize = 110;

/// Characters in a line of standard output: the terminal's, else `COLUMNS`, else enough for four columns.
pub fn width() -> usize {
    let stdout = std::io::stdout();
    let of_terminal = || {
        stdout.is_terminal().then_some(())?;
        let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    };
    let of_variable = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns >= 20);
    of_terminal().or_else(of_variable).unwrap_or(WIDTH_PLAIN)
}

/// `text` in lines of at most `width` characters, broken between words, and within one only where it is longer
/// than a line.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + rest.len() > width {
            lines.push(String::new());
            used = 0;
        }
        while rest.len() > width {
            let tail = rest.split_off(width);
            if let Some(line) = lines.last_mut() {
                line.extend(rest);
            }
            lines.push(String::new());
            rest = tail;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            used += rest.len();
            line.extend(rest);
        }
    }
    lines
}

/// `text` followed by spaces up to `width` characters; longer texts stay whole.
pub fn fit(text: &str, width: usize) -> String {
    let padding = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(padding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_long_words_within() {
        assert_eq!(wrapped("SMS best for urgent messages", 12), ["SMS best for", "urgent", "messages"]);
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped("à côté été", 6), ["à côté", "été"]);
        for width in 1..20 {
            for line in wrapped("one three-hundred 12 été incomprehensibilities", width) {
                assert!(line.chars().count() <= width, "{line:?} in {width}");
            }
        }
    }
}
