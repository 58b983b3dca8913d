//! Faults in policy and settings files as a compiler shows them: the line, a caret, and how to mend it.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::policy::diagnostic::{Diagnostic, Severity};

/// Every fault under the other. `width` is the line's; the text carries colours.
pub fn render(faults: &[Diagnostic], width: usize) -> String {
    let renderer = Renderer::styled().term_width(width);
    faults.iter().map(|fault| format!("{}\n\n", one(&renderer, fault))).collect()
}

fn one(renderer: &Renderer, fault: &Diagnostic) -> String {
    let level = match fault.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(fault.message.as_str()).id(fault.code.as_str());
    let place = fault.line.zip(fault.column).zip(fault.excerpt.as_deref());
    let report = match place {
        Some(((line, column), excerpt)) => {
            let span = bytes(excerpt, column, fault.length.unwrap_or(1));
            let snippet = Snippet::source(excerpt)
                .path(fault.file.as_str())
                .line_start(line)
                .annotation(AnnotationKind::Primary.span(span));
            title.element(snippet)
        }
        None => {
            let mut origin = Origin::path(fault.file.as_str());
            if let Some(line) = fault.line {
                origin = origin.line(line);
                if let Some(column) = fault.column {
                    origin = origin.char_column(column);
                }
            }
            title.element(origin)
        }
    };
    match &fault.hint {
        Some(hint) => renderer.render(&[report.element(Level::HELP.message(hint.as_str()))]),
        None => renderer.render(&[report]),
    }
}

/// Characters from `column` (from 1) as a range of bytes within the line.
fn bytes(excerpt: &str, column: usize, length: usize) -> std::ops::Range<usize> {
    let at = |character: usize| excerpt.char_indices().nth(character).map_or(excerpt.len(), |(byte, _)| byte);
    let start = at(column.saturating_sub(1));
    start..at(column.saturating_sub(1) + length).max(start)
}

/// `2 errors, 1 warning`.
pub fn tally(faults: &[Diagnostic]) -> String {
    let errors = faults.iter().filter(|fault| fault.is_error()).count();
    let warnings = faults.len() - errors;
    let counted = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{count} {word}s")),
    };
    let parts: Vec<String> =
        [counted(errors, "error"), counted(warnings, "warning")].into_iter().flatten().collect();
    if parts.is_empty() { "no errors".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(fault: &Diagnostic) -> String {
        one(&Renderer::plain(), fault)
    }

    #[test]
    fn a_fault_shows_its_line_with_a_caret_and_the_mend() {
        let source = "[weights]\n  # à la carte\nprefrence = 30\n";
        let fault = Diagnostic::error("unknown-key", "tenants/acme.toml", "unknown weight `prefrence`")
            .at(source, 3, 1, 9)
            .hint("did you mean `preferences`?");
        let shown = plain(&fault);
        for expected in [
            "error[unknown-key]: unknown weight `prefrence`",
            "--> tenants/acme.toml:3:1",
            "3 | prefrence = 30",
            "^^^^^^^^^",
            "help: did you mean `preferences`?",
        ] {
            assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
        }
    }

    #[test]
    fn a_fault_of_a_whole_file_and_one_past_the_end_of_its_line() {
        let shown = plain(&Diagnostic::warning("empty", "tests/a.toml", "no test in this file"));
        assert!(shown.contains("warning[empty]") && shown.contains("--> tests/a.toml"), "{shown}");
        let shown = plain(&Diagnostic::error("open", "a.rhai", "expected }").at("fn score(é {", 1, 99, 3));
        assert!(shown.contains("fn score(é {"), "{shown}");
    }
}
