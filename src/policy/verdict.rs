//! What a criterion says of one channel, and how it can fail to say it.

use std::{borrow::Cow, sync::Arc};

/// A script's answer, checked: the share is finite and in range.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub kind: VerdictKind,
    /// Empty for `neutral()`.
    pub reason: Arc<str>,
    /// Where the verdict function was called: line and column, from 1; none for neutral.
    pub position: Option<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VerdictKind {
    Neutral,
    /// `award(share, …)` is positive, `penalize(share, …)` negative: -1 to 1.
    Share(f64),
    Veto,
}

impl Verdict {
    /// What `neutral()` says: nothing.
    pub fn neutral() -> Self {
        Self { kind: VerdictKind::Neutral, reason: Arc::from(""), position: None }
    }

    /// What it gives of the criterion's weight, -1 to 1; a veto gives nothing.
    pub fn share(&self) -> f64 {
        match self.kind {
            VerdictKind::Share(share) => share,
            VerdictKind::Neutral | VerdictKind::Veto => 0.0,
        }
    }

    pub fn is_veto(&self) -> bool {
        self.kind == VerdictKind::Veto
    }
}

/// Why a script gave no verdict. It counts as neutral, is shown in the explanation, and trips an alarm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScriptFailure {
    /// What went wrong, in the author's words, with line and column where they are known.
    pub message: String,
    pub position: Option<(usize, usize)>,
}

/// A script's text as one line to show: cut at `chars_max`, and without control characters and marks that turn
/// the direction of writing, which could forge what a terminal or a log shows.
pub(super) fn one_line(text: &str, chars_max: usize) -> Cow<'_, str> {
    // Nearly all of them are plain and short.
    if text.len() <= chars_max && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut line: String = text.chars().take(chars_max).map(|c| if hidden(c) { ' ' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        line.push('…');
    }
    Cow::Owned(line)
}
