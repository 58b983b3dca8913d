//! One fault in a policy file: what was found, where, what was expected, and how to mend it.
//!
//! Faults are values, gathered and told all at once; how they look on a terminal is the command line's affair,
//! how they look in JSON follows from `Serialize`.

use serde::{Deserialize, Serialize};

pub use crate::domain::suggest::nearest;

/// A fault (or a warning) with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Stable and kebab-case, such as `unknown-key`: for translation and for search.
    pub code: String,
    /// Relative to the policies folder: `tenants/acme.toml`.
    pub file: String,
    /// From 1; none where the fault is the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Characters to underline from `column`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// What was found and what was expected.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line as it stands in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema)]
pub enum Severity {
    /// Keeps the bundle from going live.
    Error,
    /// Is told and changes nothing.
    Warning,
}

impl Diagnostic {
    /// An error about a whole file.
    pub fn error(code: &str, file: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.to_owned(),
            file: file.to_owned(),
            line: None,
            column: None,
            length: None,
            message: message.into(),
            hint: None,
            excerpt: None,
        }
    }

    /// The same as a warning.
    pub fn warning(code: &str, file: &str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, file, message) }
    }

    /// Points at a line and column (from 1), `length` characters long, with that line as the excerpt.
    pub fn at(mut self, source: &str, line: usize, column: usize, length: usize) -> Self {
        self.line = Some(line);
        self.column = Some(column);
        self.length = Some(length.max(1));
        self.excerpt = source.lines().nth(line.saturating_sub(1)).map(str::to_owned);
        self
    }

    /// Points at a byte range of the source.
    pub fn span(self, source: &str, span: std::ops::Range<usize>) -> Self {
        let start = span.start.min(source.len());
        let end = span.end.clamp(start, source.len());
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = source[..start].matches('\n').count() + 1;
        let column = source[line_start..start].chars().count() + 1;
        let length = source[start..end].lines().next().unwrap_or("").chars().count();
        self.at(source, line, column, length)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `file:line:column: message`: one line, for logs.
impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_becomes_a_line_a_column_and_an_excerpt() {
        let source = "a = 1\né = 2\n";
        let fault = Diagnostic::error("x", "f.toml", "bad").span(source, 11..12);
        assert_eq!((fault.line, fault.column, fault.length), (Some(2), Some(5), Some(1)));
        assert_eq!(fault.excerpt.as_deref(), Some("é = 2"));
        assert_eq!(fault.to_string(), "f.toml:2:5: bad");
    }
}
