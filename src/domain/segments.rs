//! How many SMS segments a text takes: GSM-7 (3GPP TS 23.038) or UCS-2.
//!
//! Counts only; it never changes a text ("smart encoding" is a provider's affair). The rule that matters in
//! French: `é è à ù Ç` are GSM-7, `ç ê œ` and the typographic apostrophe are not, and one of them makes the
//! whole message UCS-2, 70 characters a segment instead of 160.

use super::octets;

/// The GSM-7 default alphabet, escape excluded.
const GSM7: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Sent as an escape and a second septet.
const GSM7_EXTENSION: &str = "^{}\\[~]|€\u{c}";
/// The septets of each ASCII character; 0 where the alphabet has none for it. A text is measured for every decision,
/// and is mostly of these.
const ASCII_SEPTETS: [u8; 128] = ascii_septets();
/// Bytes that are looked at together.
const STEP: usize = 32;

/// The alphabet that a text forces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Seven bits a character: 160 in one segment, 153 in each of several.
    Gsm7,
    /// Sixteen bits a unit: 70 in one segment, 67 in each of several.
    Ucs2,
}

/// How long a text is, in every measure that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    pub encoding: Encoding,
    /// Unicode scalar values.
    pub characters: u32,
    pub segments: u32,
}

/// The alphabet and the number of segments; an empty text takes none.
pub fn segments(text: &str) -> (Encoding, u32) {
    let Measure { encoding, segments, .. } = measure(text);
    (encoding, segments)
}

/// Measures a text in one pass.
pub fn measure(text: &str) -> Measure {
    if is_one_septet_each(text.as_bytes()) {
        let characters = saturated(text.len());
        let segments = match characters {
            0 => 0,
            1..=160 => 1,
            more => more.div_ceil(153),
        };
        return Measure { encoding: Encoding::Gsm7, characters, segments };
    }
    let Tally { characters, units, septets: total, foreign } = tally(text);
    let (encoding, segments) = match (foreign, total, units) {
        (false, ..=160, _) => (Encoding::Gsm7, 1),
        (false, ..) => (Encoding::Gsm7, packed(text, 153, septets)),
        (true, _, ..=70) => (Encoding::Ucs2, 1),
        (true, ..) if units == characters => (Encoding::Ucs2, saturated(units.div_ceil(67))),
        (true, ..) => (Encoding::Ucs2, packed(text, 67, char::len_utf16)),
    };
    Measure { encoding, characters: saturated(characters), segments }
}

/// A text's characters, UTF-16 units and septets, and whether one of them has no septets.
#[derive(Default)]
struct Tally {
    characters: usize,
    units: usize,
    septets: usize,
    foreign: bool,
}

fn tally(text: &str) -> Tally {
    let (mut tally, mut at) = (Tally::default(), 0);
    while at < text.len() {
        let plain = plain(&text.as_bytes()[at..]);
        tally.characters += plain;
        tally.units += plain;
        tally.septets += plain;
        at += plain;
        // What was in the way.
        if let Some(c) = text[at..].chars().next() {
            let size = septets(c);
            tally.characters += 1;
            tally.units += c.len_utf16();
            tally.septets += size;
            tally.foreign |= size == 0;
            at += c.len_utf8();
        }
    }
    tally
}

/// How many bytes at the beginning are characters of one septet, at least: most of a French text is, with a letter in
/// the way every few words. Byte by byte, so that a text of other letters loses nothing; many together once they go on.
fn plain(bytes: &[u8]) -> usize {
    let near = bytes.iter().take(STEP).take_while(|byte| ASCII_SEPTETS.get(usize::from(**byte)) == Some(&1));
    match near.count() {
        STEP => {
            let far = bytes[STEP..].chunks_exact(STEP).take_while(|chunk| is_one_septet_each(chunk));
            STEP + STEP * far.count()
        }
        near => near,
    }
}

/// Whether every byte is a character of one septet.
fn is_one_septet_each(bytes: &[u8]) -> bool {
    let other = |byte: u8| {
        ((byte < b' ') & (byte != b'\n'))
            | (byte > b'z')
            | (byte == b'`')
            | (byte.wrapping_sub(b'[') <= b'^' - b'[')
    };
    !octets::any(bytes, b' ', other)
}

/// The septets of a character; 0 where the alphabet has none for it.
fn septets(c: char) -> usize {
    if let Some(size) = ASCII_SEPTETS.get(c as usize) {
        return usize::from(*size);
    }
    match c {
        '£' | '¥' | 'è' | 'é' | 'ù' | 'ì' | 'ò' | 'Ç' | 'Ø' | 'ø' | 'Å' | 'å' | 'Δ' | 'Φ' | 'Γ' | 'Λ'
        | 'Ω' | 'Π' | 'Ψ' | 'Σ' | 'Θ' | 'Ξ' | 'Æ' | 'æ' | 'ß' | 'É' | '¤' | '¡' | 'Ä' | 'Ö' | 'Ñ' | 'Ü'
        | '§' | '¿' | 'ä' | 'ö' | 'ñ' | 'ü' | 'à' => 1,
        '€' => 2,
        _ => 0,
    }
}

const fn ascii_septets() -> [u8; 128] {
    let mut sizes = [0; 128];
    let mut size = 1;
    while size <= 2 {
        let alphabet = if size == 1 { GSM7.as_bytes() } else { GSM7_EXTENSION.as_bytes() };
        let mut at = 0;
        while at < alphabet.len() {
            if alphabet[at].is_ascii() {
                sizes[alphabet[at] as usize] = size;
            }
            at += 1;
        }
        size += 1;
    }
    sizes
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Segments of `room` units, none of which may cut an escaped character or a surrogate pair in two.
fn packed(text: &str, room: usize, size: impl Fn(char) -> usize) -> u32 {
    let (mut count, mut used) = (1_u32, 0);
    for size in text.chars().map(size) {
        if used + size > room {
            count += 1;
            used = 0;
        }
        used += size;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_borders() {
        for (text, encoding, expected) in [
            (String::new(), Encoding::Gsm7, 0),
            ("a".repeat(160), Encoding::Gsm7, 1),
            ("a".repeat(161), Encoding::Gsm7, 2),
            ("a".repeat(306), Encoding::Gsm7, 2),
            ("a".repeat(307), Encoding::Gsm7, 3),
            ("€".repeat(80), Encoding::Gsm7, 1),
            ("€".repeat(81), Encoding::Gsm7, 2),
            // 153 is odd: an escaped character never straddles two segments, so 76 fit in each.
            ("€".repeat(153), Encoding::Gsm7, 3),
            ("éèàùÇ".to_owned(), Encoding::Gsm7, 1),
            // Escaped characters take two septets each: 159 and one are 161.
            (format!("{}{{", "a".repeat(158)), Encoding::Gsm7, 1),
            (format!("{}{{", "a".repeat(159)), Encoding::Gsm7, 2),
            ("^{}\\[~]|€\u{c}".repeat(8), Encoding::Gsm7, 1),
            (format!("{}[{}", "a".repeat(152), "a".repeat(152)), Encoding::Gsm7, 3),
            ("ç".repeat(70), Encoding::Ucs2, 1),
            ("ê".repeat(134), Encoding::Ucs2, 2),
            ("œ".repeat(135), Encoding::Ucs2, 3),
            ("ê".repeat(71), Encoding::Ucs2, 2),
            (format!("’{}", "a".repeat(69)), Encoding::Ucs2, 1),
            ("😀".repeat(35), Encoding::Ucs2, 1),
            ("😀".repeat(36), Encoding::Ucs2, 2),
            ("😀".repeat(67), Encoding::Ucs2, 3),
            // 67 is odd: a surrogate pair never straddles two segments.
            (format!("{}😀", "ç".repeat(66)), Encoding::Ucs2, 1),
            (format!("{}😀{}", "ç".repeat(66), "ç".repeat(66)), Encoding::Ucs2, 3),
            ("\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}".repeat(9), Encoding::Ucs2, 2),
        ] {
            assert_eq!(segments(&text), (encoding, expected), "{} x {:?}", text.len(), text.chars().next());
        }
    }

    /// Every character that is told by a table, a list or a run of bytes, against the alphabet itself.
    #[test]
    fn each_character_takes_what_the_alphabet_says() {
        for c in (0..=0x2_FFFF).filter_map(char::from_u32) {
            let size = if GSM7.contains(c) { 1 } else { 2 * usize::from(GSM7_EXTENSION.contains(c)) };
            assert_eq!(septets(c), size, "{c:?}");
            let text = String::from(c);
            assert!(!is_one_septet_each(text.as_bytes()) || size == 1, "{c:?}");
            let encoding = if size == 0 { Encoding::Ucs2 } else { Encoding::Gsm7 };
            assert_eq!(measure(&text), Measure { encoding, characters: 1, segments: 1 }, "{c:?}");
        }
    }

    /// The short ways (one septet each, many at once, no surrogate pairs) count as packing one by one does.
    #[test]
    fn short_ways_count_as_the_long_one() {
        let one = [("a", ""), ("a", "{"), ("a", "é"), ("a", "ç"), ("ê", ""), ("ê", "😀")];
        let long = [("Nous vous attendons demain à 15 h, 12 rue des Lilas. ", "€"), ("Bonjour Zoé ! ", "ç")];
        let one = one.into_iter().flat_map(|pair| (0..1_000).map(move |length| (length, pair)));
        let long = long.into_iter().flat_map(|pair| (0..60).map(move |length| (length, pair)));
        for (length, (filler, last)) in one.chain(long) {
            let text = format!("{}{last}", filler.repeat(length));
            let found = measure(&text);
            let foreign = text.chars().any(|c| septets(c) == 0);
            let (room, size): (usize, fn(char) -> usize) =
                if foreign { (67, char::len_utf16) } else { (153, septets) };
            let total: usize = text.chars().map(size).sum();
            let one = if foreign { 70 } else { 160 };
            let expected = if total > one { packed(&text, room, size) } else { u32::from(total > 0) };
            assert_eq!(found.segments, expected, "{length} x {filler:?} and {last:?}");
            assert_eq!(found.characters as usize, text.chars().count());
        }
    }
}
