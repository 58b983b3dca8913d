//! What a command is given to read: a file, or standard input as `-`.

use std::io::Read as _;

use super::outcome::Failure;

/// As much as a message may be (details.md section 2), and a little more so that the daemon says it.
const BYTES_MAX: u64 = 17 << 20;

/// The bytes of `name`, or of standard input where it is `-`.
pub fn read(name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let outcome = if name == "-" {
        std::io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(name).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    let shown = if name == "-" { "standard input" } else { name };
    outcome.map_err(|error| Failure::Usage(format!("{shown} cannot be read: {error}")))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Failure::Usage(format!("{shown} is longer than {} MiB", BYTES_MAX >> 20)));
    }
    Ok(bytes)
}
