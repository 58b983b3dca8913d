//! A `multipart/form-data` body (RFC 7578): some fields and a file, as the APIs that take files want them.
//!
//! Whole in memory, its length known before the first byte leaves. A file's name loses its folders and whatever
//! could end the header it stands in; a type that is no type becomes plain bytes.

use super::mime;

/// Longer than any media type (RFC 6838 section 4.2: 127 characters for each half).
const TYPE_MAX: usize = 255;

/// A body, and the type that names its boundary.
#[derive(Clone, PartialEq, Eq)]
pub struct Multipart {
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Sizes only: what is in it is personal data.
impl std::fmt::Debug for Multipart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Multipart({} bytes)", self.body.len())
    }
}

/// A file to send.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// The field that it is the value of.
    pub field: &'a str,
    pub name: &'a str,
    pub content_type: &'a str,
    pub bytes: &'a [u8],
}

/// Writes the fields and then the file. `seed` makes the boundary: letters, digits, `_` and `-`, at most 50; where
/// the content happens to hold the boundary it is made longer until it does not.
pub fn form(seed: &str, fields: &[(&str, &str)], file: File<'_>) -> Multipart {
    let boundary = boundary(seed, fields, &file);
    let mut body = Vec::with_capacity(file.bytes.len() + 1024);
    for (name, value) in fields {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        file.field,
        mime::file_name(file.name),
        media_type(file.content_type)
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file.bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Multipart { content_type: format!("multipart/form-data; boundary={boundary}"), body }
}

fn boundary(seed: &str, fields: &[(&str, &str)], file: &File<'_>) -> String {
    let mut boundary = format!("form-{seed}");
    let held = |boundary: &str| {
        contains(file.bytes, boundary.as_bytes()) || fields.iter().any(|(_, value)| value.contains(boundary))
    };
    // Each round's boundary is longer than the one before, so that it ends.
    while held(&boundary) {
        boundary.push('x');
    }
    boundary
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// `type/subtype` without parameters, in lower case, where the text begins with one.
pub fn media_type(text: &str) -> String {
    let bare = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |half: &str| {
        !half.is_empty() && half.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match bare.split_once('/') {
        Some((kind, subtype)) if bare.len() <= TYPE_MAX && token(kind) && token(subtype) => bare,
        _ => "application/octet-stream".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file<'a>(name: &'a str, content_type: &'a str, bytes: &'a [u8]) -> File<'a> {
        File { field: "document", name, content_type, bytes }
    }

    #[test]
    fn fields_and_file_stand_between_the_boundaries() {
        let form = form("a1", &[("chat_id", "42")], file("plan.pdf", "application/pdf", b"%PDF\r\n"));
        assert_eq!(form.content_type, "multipart/form-data; boundary=form-a1");
        assert_eq!(
            String::from_utf8(form.body).unwrap(),
            "--form-a1\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n42\r\n\
             --form-a1\r\nContent-Disposition: form-data; name=\"document\"; filename=\"plan.pdf\"\r\n\
             Content-Type: application/pdf\r\n\r\n%PDF\r\n\r\n--form-a1--\r\n"
        );
    }

    #[test]
    fn no_content_can_hold_the_boundary() {
        for bytes in [&b"form-a1"[..], b"\r\n--form-a1--\r\n form-a1x"] {
            let form = form("a1", &[("text", "form-a1xx")], file("a", "a/b", bytes));
            let boundary = form.content_type.split_once("boundary=").unwrap().1.to_owned();
            assert!(!contains(bytes, boundary.as_bytes()) && !"form-a1xx".contains(&boundary), "{boundary}");
        }
    }

    #[test]
    fn hostile_names_and_types_stay_in_their_place() {
        let hostile = file("a\"\r\nContent-Type: text/html\r\n\r\n<b>", "text/html\r\nX: y", b"");
        let written = String::from_utf8(form("a1", &[], hostile).body).unwrap();
        assert_eq!(written.matches("Content-Type:").count(), 1, "{written}");
        assert!(written.contains("Content-Type: application/octet-stream\r\n\r\n"), "{written}");
        for (given, taken) in [
            ("application/pdf", "application/pdf"),
            ("Text/Plain; charset=utf-8", "text/plain"),
            ("", "application/octet-stream"),
            ("pdf", "application/octet-stream"),
            ("a/b/c", "application/octet-stream"),
            ("é/x", "application/octet-stream"),
        ] {
            assert_eq!(media_type(given), taken, "{given}");
        }
    }
}
