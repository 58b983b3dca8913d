//! JSON read forwards, once, without a copy where none is needed: the tokens of `lean`.
//!
//! `None` means "not for this reader", never "wrong": it says nothing of faults, and takes less than JSON allows.

use std::borrow::Cow;

/// Every byte of a word.
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// A place in a text.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no space, unread.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.next()? == expected).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let found = self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(())
    }

    /// Nothing but spaces is left.
    pub fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// A value, or null.
    pub fn given<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.peek()? == b'n' {
            self.word("null")?;
            return Some(None);
        }
        read(self).map(Some)
    }

    /// An object; `field` reads the value of the field that it is told.
    pub fn object(&mut self, mut field: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.next().map(|_| ());
        }
        loop {
            let name = self.plain()?;
            self.take(b':')?;
            field(self, name)?;
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// An array; `item` reads each of its values.
    pub fn array(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            return self.next().map(|_| ());
        }
        loop {
            item(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    pub fn truth(&mut self) -> Option<bool> {
        let yes = self.peek()? == b't';
        self.word(if yes { "true" } else { "false" })?;
        Some(yes)
    }

    /// A whole number as it is commonly written.
    pub fn whole(&mut self) -> Option<u32> {
        self.peek()?;
        let rest = self.text.as_bytes().get(self.at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = self.text.get(self.at..self.at + length)?;
        // What follows is a comma or a bracket, or the caller's next step fails: no fraction, no exponent.
        self.at += length;
        if length > 1 && digits.starts_with('0') { None } else { digits.parse().ok() }
    }

    /// A text without escapes.
    pub fn plain(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        self.as_it_is()
    }

    pub fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"')?;
        match self.as_it_is() {
            Some(text) => Some(Cow::Borrowed(text)),
            None => self.unescaped().map(Cow::Owned),
        }
    }

    /// What stands before the closing quote, where there are no escapes; else nothing is read.
    fn as_it_is(&mut self) -> Option<&'a str> {
        let start = self.at;
        let end = start + plain_run(self.text.as_bytes().get(start..)?);
        if *self.text.as_bytes().get(end)? != b'"' {
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    fn unescaped(&mut self) -> Option<String> {
        let bytes = self.text.as_bytes();
        let mut out = String::new();
        loop {
            let end = self.at + plain_run(bytes.get(self.at..)?);
            out.push_str(self.text.get(self.at..end)?);
            self.at = end + 1;
            match bytes.get(end)? {
                b'"' => return Some(out),
                b'\\' => out.push(self.escape()?),
                _ => return None,
            }
        }
    }

    /// The character after a backslash.
    fn escape(&mut self) -> Option<char> {
        let kind = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        Some(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let unit = self.four_digits()?;
                let pair = match unit {
                    0xD800..=0xDBFF => {
                        self.word("\\u")?;
                        [unit, self.four_digits()?]
                    }
                    _ => return char::from_u32(u32::from(unit)),
                };
                char::decode_utf16(pair).next()?.ok()?
            }
            _ => return None,
        })
    }

    fn four_digits(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        // `from_str_radix` takes a sign.
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    }
}

/// How many bytes there are before a quote, a backslash, a control character or the end.
fn plain_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*chunk);
        // The lowest bit that is set is right, and only that one is used.
        let equal = |byte: u8| {
            let differs = word ^ (LOW * u64::from(byte));
            differs.wrapping_sub(LOW) & !differs
        };
        let control = word.wrapping_sub(LOW * 0x20) & !word;
        let found = (equal(b'"') | equal(b'\\') | control) & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| **byte >= b' ' && **byte != b'"' && **byte != b'\\').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_where_the_first_odd_byte_stands() {
        for odd in [b'"', b'\\', 0, b'\n', 0x1f] {
            for length in 0..40 {
                let mut bytes = "é€ !~a[]".repeat(5).into_bytes();
                bytes.truncate(length);
                assert_eq!(plain_run(&bytes), length);
                // What follows does not matter, whatever it is.
                bytes.extend([odd, 0x21, 0x80, b'"', 0xff, 0x1f, odd, 0x22, 0x20, 0x5d]);
                assert_eq!(plain_run(&bytes), length, "{odd:#x}");
            }
        }
        assert_eq!(plain_run("\u{7f}\u{80}\u{ffff}".as_bytes()), 6);
    }
}
