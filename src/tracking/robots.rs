//! Who it is that opens a mail or follows its links: a person, or a machine on the way to one.
//!
//! Pure. Machines are counted apart and are never a reason to do anything (reliability.md T23); where nothing
//! speaks for a machine it is a person. The known names are in `robots.txt` beside this file.

use chrono::TimeDelta;

/// Names of programs, in lower case: a line that begins with `=` is a whole User-Agent, any other a part of one.
const KNOWN: &str = include_str!("robots.txt");

/// Nobody has read a mail this soon after it was made; scanners on its way have. Milliseconds.
const TOO_SOON_MS: i64 = 2_000;

/// Clicks on one message within this time are looked at together. Milliseconds.
pub const BURST_MS: i64 = 5_000;

/// This many different links within a burst are more than a person follows, however many there are.
const BURST_LINKS: usize = 5;

/// One request for an image or a link, as far as it tells who asks.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    pub head: bool,
    pub user_agent: Option<&'a str>,
    /// A header says that it is fetched ahead (`Sec-Purpose`, `Purpose`, `X-Moz`).
    pub prefetch: bool,
    /// Since the mail was made.
    pub after: TimeDelta,
}

impl Visit<'_> {
    pub fn is_machine(&self) -> bool {
        self.head
            || self.prefetch
            || self.after.num_milliseconds() < TOO_SOON_MS
            || self.user_agent.is_none_or(is_known_machine)
    }
}

/// Whether so many different links of a message, out of all that it has, were followed too quickly for a person.
pub fn is_burst(followed: usize, of: usize) -> bool {
    followed >= BURST_LINKS || (followed >= 2 && followed >= of)
}

fn is_known_machine(user_agent: &str) -> bool {
    let text = user_agent.trim().to_ascii_lowercase();
    if text.is_empty() {
        return true;
    }
    KNOWN.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).any(|line| {
        match line.strip_prefix('=') {
            Some(whole) => text == whole,
            None => text.contains(line),
        }
    })
}
