//! A policy file's text, made safe to read: bounded, UTF-8, parsed as TOML with every syntax fault it has.
//!
//! Knows nothing of keys. Nesting is bounded by the parser itself (80 levels), size and number of faults here.

use std::{ops::Range, sync::Arc};

use toml::{Spanned, de::DeTable};

use crate::policy::{assemble::SourceFile, diagnostic::Diagnostic};

/// A policy file larger than this is refused unread (reliability.md F31).
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// Faults told of one file; a file with more is told so.
pub const FAULTS_MAX: usize = 50;

/// A file's name and text, kept for as long as a fault may have to point into it.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    pub file: String,
    pub text: String,
}

impl SourceText {
    /// The file as text, or why it is none.
    pub fn read(file: &SourceFile) -> Result<Arc<Self>, Box<Diagnostic>> {
        if file.bytes.len() > FILE_BYTES_MAX {
            let found = file.bytes.len() / 1024;
            let fault = Diagnostic::error(
                "file-too-large",
                &file.path,
                format!("the file has {found} KiB; a policy file has at most {}", FILE_BYTES_MAX / 1024),
            );
            return Err(Box::new(fault.hint("a tenant's file needs only what differs from default.toml")));
        }
        let bytes = file.bytes.as_slice();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Arc::new(Self {
                file: file.path.clone(),
                text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
            })),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let lossy = String::from_utf8_lossy(bytes);
                let line = good.matches('\n').count() + 1;
                let column = good.rsplit('\n').next().unwrap_or("").chars().count() + 1;
                let fault = Diagnostic::error("not-utf8", &file.path, "this character is not UTF-8 text");
                Err(Box::new(fault.at(&lossy, line, column, 1).hint("save the file with the encoding UTF-8")))
            }
        }
    }

    /// A fault at a byte range.
    pub fn fault(&self, code: &str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, &self.file, message).span(&self.text, span)
    }

    /// The line, from 1, that a byte stands on.
    pub fn line(&self, byte: usize) -> usize {
        self.text.as_bytes()[..byte.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// The tree, as far as it could be read, and every fault of syntax.
    pub fn parse(&self) -> (Spanned<DeTable<'_>>, Vec<Diagnostic>) {
        let (tree, errors) = DeTable::parse_recoverable(&self.text);
        let mut faults: Vec<Diagnostic> = Vec::new();
        for error in errors.iter().take(FAULTS_MAX + 1) {
            let span = error.span().unwrap_or(0..0);
            let fault = self.fault("syntax", span.clone(), format!("not TOML: {}", error.message()));
            // What follows from the first fault on a line confuses more than it tells.
            if faults.last().is_some_and(|last| last.line == fault.line) {
                continue;
            }
            let line = fault.excerpt.clone().unwrap_or_default();
            faults.push(match syntax_hint(&line, error.message()) {
                Some(hint) => fault.hint(hint),
                None => fault,
            });
        }
        (tree, faults)
    }
}

/// `22h00` or `8h`.
fn french_time(value: &str) -> bool {
    let digits = |text: &str, most: usize| text.len() <= most && text.bytes().all(|c| c.is_ascii_digit());
    value
        .trim_matches('"')
        .split_once(['h', 'H'])
        .is_some_and(|(hour, minute)| !hour.is_empty() && digits(hour, 2) && digits(minute.trim(), 2))
}

/// `20 €`, `0,05 EUR` or `80%`.
fn with_unit(value: &str) -> bool {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',');
    let unit = if unit.len() < value.len() { unit.trim() } else { "" };
    matches!(
        unit.to_lowercase().as_str(),
        "€" | "$" | "%" | "eur" | "euro" | "euros" | "points" | "s" | "min"
    )
}

/// What was probably meant by a line that is not TOML.
fn syntax_hint(line: &str, message: &str) -> Option<&'static str> {
    let code = line.split('#').next().unwrap_or("");
    let value = code.split_once('=').map(|(_, value)| value.trim());
    let decimal_comma = |v: &str| {
        v.split_once(',').is_some_and(|(a, b)| {
            !a.is_empty() && !b.is_empty() && (a.to_owned() + b).bytes().all(|c| c.is_ascii_digit())
        })
    };
    if message.contains("recursion") {
        return Some("tables and lists are nested too deeply; a policy needs four levels");
    }
    if message.contains("duplicate") {
        return Some("the key or section stands twice in this file; keep one");
    }
    if code.contains(['“', '”', '«', '»', '‘', '’']) {
        return Some("use straight quotes: \"...\"");
    }
    match value {
        Some(v) if french_time(v) => Some("a time of day stands in quotes, with a colon: \"22:00\""),
        Some(v) if with_unit(v) => Some("a number stands alone, without a unit: 20, or 0.05"),
        Some("") => Some("a value is missing after the ="),
        Some(v) if decimal_comma(v) => Some("numbers are written with a point: 0.05"),
        Some("True" | "TRUE" | "yes" | "oui" | "vrai") => Some("yes is written true"),
        Some("False" | "FALSE" | "no" | "non" | "faux") => Some("no is written false"),
        Some(v) if v.starts_with(char::is_alphabetic) => {
            Some("texts stand between straight quotes, such as \"Europe/Paris\"")
        }
        Some(v) if v.starts_with('"') && v.matches('"').count() % 2 == 1 => {
            Some("the closing quote is missing")
        }
        Some(v) if v.starts_with('{') && !v.contains('}') => Some("the closing } of the table is missing"),
        Some(v) if v.starts_with('[') && !v.contains(']') => Some("the closing ] of the list is missing"),
        None if code.trim_start().starts_with('[') && !code.contains(']') => {
            Some("a section is written [name]: the closing ] is missing")
        }
        None if code.contains(':') => Some("a key and its value are joined by =, not by :"),
        None if !code.trim().is_empty() && !code.trim_start().starts_with('[') => {
            Some("a line is a key, =, and a value; a remark begins with #")
        }
        _ => None,
    }
}
