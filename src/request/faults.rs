//! Every fault of a value at once, from a parser that stops at the first.
//!
//! A part that cannot be read is noted, taken out, and the rest is read again: the shapes stay the only
//! description of a request. It looks at shapes; what values mean is `convert`'s.

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{Fault, shapes::Object, wire};
use crate::domain::suggest::nearest;

/// The most faults that are looked for: more help nobody.
const FAULTS_MAX: usize = 64;

/// Refuses what is nested more deeply than `most`, before anything is parsed.
pub fn check_depth(bytes: &[u8], most: usize) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > most {
                    return Err(format!("nested more than {most} levels deep at byte {}", at + 1));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// What can be read of a value, and what cannot.
pub fn read(mut value: Value) -> (wire::Request, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut taken = Taken::default();
    while faults.len() < FAULTS_MAX {
        let error = match serde_path_to_error::deserialize::<_, Object<wire::Request>>(&value) {
            Ok(Object(request)) => return (request, faults),
            Err(error) => error,
        };
        let steps = steps(error.path());
        let (detail, hint) = in_words(&error.inner().to_string());
        faults.push(Fault { pointer: taken.pointer(&steps), detail, hint });
        if !taken.take_out(&mut value, &steps) {
            break;
        }
    }
    (wire::Request::default(), faults)
}

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &Path) -> Vec<Step> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            _ => None,
        })
        .collect()
}

/// The elements taken out of arrays so far, so that later places are told as the caller counts them.
#[derive(Default)]
struct Taken(Vec<(String, usize)>);

impl Taken {
    fn pointer(&self, steps: &[Step]) -> String {
        let mut pointer = String::new();
        for step in steps {
            let step = match step {
                Step::Key(key) => key.replace('~', "~0").replace('/', "~1"),
                Step::Index(index) => self.original(&pointer, *index).to_string(),
            };
            pointer = format!("{pointer}/{step}");
        }
        pointer
    }

    fn original(&self, parent: &str, index: usize) -> usize {
        let mut gone: Vec<usize> = self.0.iter().filter(|(p, _)| p == parent).map(|(_, i)| *i).collect();
        gone.sort_unstable();
        gone.into_iter().fold(index, |at, gone| if gone <= at { at + 1 } else { at })
    }

    /// Whether the place was there to be taken out.
    fn take_out(&mut self, value: &mut Value, steps: &[Step]) -> bool {
        let Some((last, above)) = steps.split_last() else { return false };
        let mut node = value;
        for step in above {
            let next = match step {
                Step::Key(key) => node.get_mut(key),
                Step::Index(index) => node.get_mut(index),
            };
            let Some(next) = next else { return false };
            node = next;
        }
        match (last, node) {
            (Step::Key(key), Value::Object(map)) => map.remove(key).is_some(),
            (Step::Index(index), Value::Array(items)) if *index < items.len() => {
                let parent = self.pointer(above);
                self.0.push((parent.clone(), self.original(&parent, *index)));
                items.remove(*index);
                true
            }
            _ => false,
        }
    }
}

/// The parser's words in ours, with the word that was probably meant.
fn in_words(message: &str) -> (String, Option<String>) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let misspelt = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some((word, known)) = quoted.split_first().filter(|_| misspelt) else {
        // The one Rust type that a caller can meet.
        return (message.replace("expected u32", "expected a whole number, 0 or more"), None);
    };
    let kind = if message.starts_with("unknown field") { "unknown field" } else { "unknown value" };
    let hint = match nearest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    (format!("{kind} `{word}`"), Some(hint))
}
