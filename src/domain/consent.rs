//! What a person's answer says of whether they may be written to.
//!
//! Exact words of refusal and return, French and English (reliability.md T25), and what only comes near them: that
//! refuses too, and asks a person to look. A word inside another sense ("arrêt de bus", "ne pas stopper") is neither.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::channel::Channel;

mod words;

use words::{
    AFTER_A_PLAIN_STOP, BEFORE_A_PLAIN_STOP, ENDING, ENDING_POLITELY, FILLERS, NEGATIONS, PHRASES,
    PLAIN_STEMS, POLITENESS, START, STOP,
};

/// What an inbound text means for consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A refusal, in one of the words for it.
    Stop,
    /// A refusal in other words: it counts, and is to be reviewed.
    NearStop,
    /// Takes a refusal back.
    Start,
    Other,
}

impl Meaning {
    pub const fn as_str(self) -> &'static str {
        match self {
            Meaning::Stop => "stop",
            Meaning::NearStop => "near_stop",
            Meaning::Start => "start",
            Meaning::Other => "other",
        }
    }
}

/// What a text says, whatever its case, accents, width, spacing and punctuation.
pub fn meaning(text: &str) -> Meaning {
    let folded = folded(text);
    let words = words(&folded);
    let joined = words.concat();
    if words.is_empty() {
        return Meaning::Other;
    }
    if START.contains(joined.as_str()) {
        return Meaning::Start;
    }
    // "STOP 36111" is what French senders ask for.
    let without_numbers: String =
        words.iter().filter(|w| !w.bytes().all(|b| b.is_ascii_digit())).map(String::as_str).collect();
    if STOP.contains(without_numbers.as_str()) {
        return Meaning::Stop;
    }
    if comes_near(&folded, &words, &without_numbers) { Meaning::NearStop } else { Meaning::Other }
}

fn comes_near(folded: &str, words: &[String], joined: &str) -> bool {
    let sentence = format!(" {} ", words.join(" "));
    if NEGATIONS.iter().any(|phrase| sentence.contains(&format!(" {phrase}"))) {
        return false;
    }
    if words.iter().any(|word| PLAIN_STEMS.iter().any(|stem| word.starts_with(stem))) {
        return true;
    }
    if PHRASES.iter().any(|phrase| sentence.contains(&format!(" {phrase} "))) {
        return true;
    }
    // "S T O P", "STOOOP", "unsubscrieb": a text that is nothing but the word.
    let squeezed = squeezed(joined);
    if STOP.iter().any(|stop| self::squeezed(stop) == squeezed) || is_misspelt(joined) {
        return true;
    }
    // "Wrong number, please stop": one clause of it is enough.
    folded.split(CLAUSE_ENDS).any(|clause| says_end(&self::words(clause))) || says_end(words) || shouts(words)
}

/// What clauses end with.
const CLAUSE_ENDS: [char; 12] = [',', '.', ';', ':', '!', '?', '(', ')', '\n', '"', '—', '–'];

/// Nothing but an ending and words that give it no other sense.
fn says_end(words: &[String]) -> bool {
    let ends = |word: &str| ENDING.contains(word) || squeezed(word) == "stop";
    let number = |word: &str| word.bytes().all(|b| b.is_ascii_digit());
    let beside = |word: &str| POLITENESS.contains(word) || FILLERS.contains(word) || number(word);
    if words.iter().any(|w| ends(w)) && words.iter().all(|w| ends(w) || beside(w)) {
        return true;
    }
    let politely = |word: &str| ENDING_POLITELY.contains(word);
    words.iter().any(|w| politely(w)) && words.iter().all(|w| politely(w) || POLITENESS.contains(w.as_str()))
}

/// A "stop" that begins or ends a short text, whatever the rest, unless its neighbour makes it a place or a visit.
fn shouts(words: &[String]) -> bool {
    const SHORT: usize = 12;
    let [first, .., last] = words else { return false };
    if words.len() > SHORT {
        return false;
    }
    let (second, before_last) = (words[1].as_str(), words[words.len() - 2].as_str());
    (first == "stop" && !AFTER_A_PLAIN_STOP.contains(second))
        || (last == "stop" && !BEFORE_A_PLAIN_STOP.contains(before_last))
        || matches!(last.as_str(), "arretez" | "stoppez" | "cessez")
}

/// A single long word with a slip of the finger in it.
fn is_misspelt(joined: &str) -> bool {
    const LONG: &[&str] = &[
        "unsubscribe",
        "desabonnement",
        "desabonner",
        "desinscription",
        "desinscrire",
        "stopall",
        "desabonnez",
    ];
    (6..=20).contains(&joined.len())
        && LONG.iter().any(|word| strsim::damerau_levenshtein(joined, word) <= word.len() / 5)
}

/// Without the repetition of letters.
fn squeezed(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if !out.ends_with(c) {
            out.push(c);
        }
    }
    out
}

/// The longest text that is looked through, in characters: an answer to a message is shorter.
const LOOKED_AT: usize = 2_000;

/// Compatibility forms folded, accents taken off, in lower case.
fn folded(text: &str) -> String {
    let folded: String = text
        .nfkd()
        .filter(|c| !is_combining_mark(*c) && !is_invisible(*c))
        .take(LOOKED_AT)
        .flat_map(char::to_lowercase)
        .collect();
    // Once more: lowering may bring a mark of its own (the Turkish dotted I).
    folded.nfkd().filter(|c| !is_combining_mark(*c)).map(|c| if c == 'œ' { 'o' } else { c }).collect()
}

/// Words of letters and digits.
fn words(folded: &str) -> Vec<String> {
    folded.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// Characters that stand between letters without being seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2064}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

/// An address as the store knows it, from what a provider writes: `+` and digits, a mailbox with its domain in lower
/// case, a chat as it is.
pub fn address_key(channel: Channel, text: &str) -> String {
    match channel {
        Channel::Sms | Channel::WhatsApp => number(text).unwrap_or_else(|| text.trim().to_owned()),
        Channel::Email => match text.trim().rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
            None => text.trim().to_owned(),
        },
        Channel::Telegram => text.trim().to_owned(),
    }
}

/// A sender in one form, so that a policy's `from` and a provider's `to` are the same text where they are the same
/// sender.
pub fn sender_key(channel: Channel, text: &str) -> String {
    match channel {
        Channel::Sms | Channel::WhatsApp => number(text).unwrap_or_else(|| text.trim().to_owned()),
        Channel::Email => text.trim().to_lowercase(),
        Channel::Telegram => text.trim().to_owned(),
    }
}

/// Whether a sender, as `sender_key` writes it, is what the person sees, so that it can be compared: a number, a
/// mailbox. A messaging service, a name or a bot hides behind something else.
pub fn is_plain_sender(channel: Channel, key: &str) -> bool {
    match channel {
        Channel::Sms | Channel::WhatsApp => key.starts_with('+'),
        Channel::Email => key.contains('@'),
        Channel::Telegram => false,
    }
}

/// `+` and digits, from a number in international form with or without its sign.
fn number(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("whatsapp:").unwrap_or(text);
    let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')')).collect();
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    let all = !digits.is_empty() && digits.len() <= 15 && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests;
