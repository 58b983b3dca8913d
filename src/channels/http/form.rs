//! `application/x-www-form-urlencoded`, written and read strictly.
//!
//! What does not decode is refused: a signature is over the decoded pairs, and two readings of one body would be
//! two truths. It neither sorts nor merges.

/// Pairs as a form; everything but letters, digits and `-._~` is escaped, a blank too.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut form = String::new();
    for (name, value) in pairs {
        if !form.is_empty() {
            form.push('&');
        }
        escape(name, &mut form);
        form.push('=');
        escape(value, &mut form);
    }
    form
}

/// One part of a path or a query, escaped.
pub fn escaped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    escape(text, &mut made);
    made
}

fn escape(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// The pairs of a form, in their order, duplicates and empty values included; `None` where one does not decode.
pub fn decode(form: &[u8]) -> Option<Vec<(String, String)>> {
    let pieces = form.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| {
            let at = piece.iter().position(|byte| *byte == b'=');
            let (name, value) = at.map_or((piece, &[][..]), |at| (&piece[..at], &piece[at + 1..]));
            Some((unescaped(name)?, unescaped(value)?))
        })
        .collect()
}

fn unescaped(text: &[u8]) -> Option<String> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(rest.next())? * 16 + digit(rest.next())?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let pairs = [("To", "+33612345678"), ("Body", "Ça & là = 100 % 👍\n"), ("Empty", ""), ("To", "~_-.")];
        let form = encode(pairs);
        assert!(
            form.starts_with("To=%2B33612345678&Body=%C3%87a%20%26%20l%C3%A0%20%3D%20100%20%25"),
            "{form}"
        );
        let read = decode(form.as_bytes()).unwrap();
        assert!(read.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(pairs));
    }

    #[test]
    fn what_does_not_decode_is_refused() {
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "%c3=1", "a=%+1"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decode(b"a=\xff"), None);
        assert_eq!(decode(b"").unwrap(), []);
        assert_eq!(decode(b"a&b=&=c&a=x+y").unwrap().len(), 4);
    }
}
