//! How many SMS segments a text takes: GSM-7 (3GPP TS 23.038) or UCS-2.
//!
//! Counts only; it never changes a text ("smart encoding" is a provider's affair). The rule that matters in
//! French: `é è à ù Ç` are GSM-7, `ç ê œ` and the typographic apostrophe are not, and one of them makes the
//! whole message UCS-2, 70 characters a segment instead of 160.

/// The GSM-7 default alphabet, escape excluded.
const GSM7: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Sent as an escape and a second septet.
const GSM7_EXTENSION: &str = "^{}\\[~]|€\u{c}";

/// The alphabet that a text forces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Seven bits a character: 160 in one segment, 153 in each of several.
    Gsm7,
    /// Sixteen bits a unit: 70 in one segment, 67 in each of several.
    Ucs2,
}

/// The alphabet and the number of segments; an empty text takes none.
pub fn segments(text: &str) -> (Encoding, u32) {
    let septets: Option<usize> = text
        .chars()
        .map(|c| {
            if GSM7.contains(c) {
                Some(1)
            } else if GSM7_EXTENSION.contains(c) {
                Some(2)
            } else {
                None
            }
        })
        .sum();
    match septets {
        Some(0) => (Encoding::Gsm7, 0),
        Some(total) if total <= 160 => (Encoding::Gsm7, 1),
        Some(_) => (Encoding::Gsm7, packed(text, 153, |c| 1 + usize::from(GSM7_EXTENSION.contains(c)))),
        None => {
            let units: usize = text.chars().map(char::len_utf16).sum();
            let count = if units <= 70 { 1 } else { packed(text, 67, char::len_utf16) };
            (Encoding::Ucs2, count)
        }
    }
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
}
