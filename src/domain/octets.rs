//! Texts looked through many bytes at a time: it is done for every decision, and most texts hold nothing odd.
//!
//! The compiler makes one comparison of sixteen where it is told their number; what a text has beyond a multiple of it
//! would be looked at one by one, and is not here. Nothing here knows what a byte means, and nothing is changed.

/// Bytes that are looked at together.
const STEP: usize = 16;

/// Whether any byte is odd. `filler` is not: it stands beside what is shorter than a step.
#[inline]
pub fn any(bytes: &[u8], filler: u8, odd: impl Fn(u8) -> bool) -> bool {
    let step = |step: &[u8; STEP]| step.iter().fold(false, |found, byte| found | odd(*byte));
    let (steps, rest) = bytes.as_chunks::<STEP>();
    if steps.iter().any(step) {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    // The last sixteen, some of them for the second time.
    match bytes.last_chunk() {
        Some(last) => step(last),
        None => {
            let mut last = [filler; STEP];
            last[..rest.len()].copy_from_slice(rest);
            step(&last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_byte_is_found_wherever_it_stands() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert!(!any(&bytes, b' ', |byte| byte == b'"'), "none of {length}");
            for place in 0..length {
                bytes[place] = b'"';
                assert!(any(&bytes, b' ', |byte| byte == b'"'), "{place} of {length}");
                bytes[place] = b'a';
            }
        }
    }
}
