//! The links of an html text: found, read, and led another way.
//!
//! Only the `href` of `<a>`, and only plain `http` and `https` addresses that are read without any doubt; comments,
//! scripts and styles are passed over, and everything else stays byte for byte as it was. It is no browser: what
//! it does not understand it leaves alone.

use std::ops::Range;

/// A mail with more links than this keeps the rest as they are.
const LINKS_MAX: u16 = 500;
/// Longer addresses stay as they are.
const URL_BYTES_MAX: usize = 4096;
/// Elements whose content is no html.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"];

/// Replaces each link that `may_follow(url, host)` by what `instead` makes of its place. Answers the text and
/// where its links led, in that order.
pub(super) fn lead(
    text: &str,
    may_follow: impl Fn(&str, &str) -> bool,
    instead: impl Fn(u16) -> String,
) -> (String, Vec<String>) {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    let (mut done, mut links) = (0, Vec::new());
    for at in hrefs(text) {
        let Some(url) = read(&text[at.clone()]) else { continue };
        let Some(host) = parts(&url) else { continue };
        if !may_follow(&url, &host) {
            continue;
        }
        let Ok(place @ ..LINKS_MAX) = u16::try_from(links.len()) else { break };
        out.push_str(&text[done..at.start]);
        out.push_str(&instead(place));
        done = at.end;
        links.push(url);
    }
    out.push_str(&text[done..]);
    (out, links)
}

/// Puts an image of one pixel at the end of the text.
pub(super) fn add_image(text: &mut String, url: &str) {
    let image =
        format!(r#"<img src="{url}" width="1" height="1" alt="" style="border:0;width:1px;height:1px">"#);
    let end = text.to_ascii_lowercase().rfind("</body").unwrap_or(text.len());
    text.insert_str(end, &image);
}

/// The host, in lower case, of an address that a browser may be sent to; none for anything else.
pub(super) fn parts(url: &str) -> Option<String> {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let rest = url.get(
        if lower.starts_with("https://") {
            8
        } else if lower.starts_with("http://") {
            7
        } else {
            return None;
        }..,
    )?;
    let visible = |b: u8| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b);
    if url.len() > URL_BYTES_MAX || !url.bytes().all(visible) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => (authority, ""),
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    // No user info, no address literals of version 6, no names outside of ASCII: all of them rare, and each a way
    // to seem another.
    let fine = host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.bytes().all(named)
        && port.len() <= 5
        && port.bytes().all(|b| b.is_ascii_digit());
    fine.then(|| host.trim_end_matches('.').to_ascii_lowercase())
}

/// The address that an attribute's value is, as a browser would ask for it; none where that is in doubt.
fn read(value: &str) -> Option<String> {
    let text = decode(value)?;
    let mut url = String::with_capacity(text.len());
    for c in text.trim_matches([' ', '\t', '\n', '\r', '\x0c']).chars() {
        match c {
            ' ' => url.push_str("%20"),
            c if c.is_control() => return None,
            c if c.is_ascii() => url.push(c),
            c => {
                let mut bytes = [0; 4];
                url.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
            }
        }
    }
    Some(url)
}

/// Character references taken away. One that is not known here makes the whole value doubtful.
fn decode(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '#').unwrap_or(after.len());
        let name = &after[..end];
        if after[end..].starts_with(';') {
            out.push(character(name)?);
            rest = &after[end + 1..];
            continue;
        }
        // `&b=1`: no reference, as browsers read it inside of attributes.
        if name.starts_with('#') || (legacy(name) && !after[end..].starts_with('=')) {
            return None;
        }
        out.push('&');
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// References that browsers know without their semicolon.
fn legacy(name: &str) -> bool {
    ["amp", "lt", "gt", "quot", "AMP", "LT", "GT", "QUOT"].contains(&name)
}

fn character(name: &str) -> Option<char> {
    Some(match name.as_bytes() {
        b"amp" | b"AMP" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x' | b'X', hex @ ..] => from_digits(hex, 16)?,
        [b'#', digits @ ..] => from_digits(digits, 10)?,
        _ => return None,
    })
}

fn from_digits(digits: &[u8], radix: u32) -> Option<char> {
    let text = std::str::from_utf8(digits).ok()?;
    char::from_u32(u32::from_str_radix(text, radix).ok()?).filter(|c| *c != '\0')
}

/// Where the values of the `href`s of `<a>` stand.
fn hrefs(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('<').map(|n| at + n) {
        let rest = &text[open..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            match comment.find("-->") {
                Some(end) => at = open + 4 + end + 3,
                None => break,
            }
            continue;
        }
        if !rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            at = open + 1;
            continue;
        }
        let Some(tag) = Tag::read(text, open) else { break };
        at = tag.end;
        if tag.name.eq_ignore_ascii_case("a") {
            found.extend(tag.href);
        } else if RAW.iter().any(|raw| tag.name.eq_ignore_ascii_case(raw)) {
            match end_of_raw(&text[at..], tag.name) {
                Some(end) => at += end,
                None => break,
            }
        }
    }
    found
}

/// Where the content of such an element ends.
fn end_of_raw(text: &str, name: &str) -> Option<usize> {
    text.match_indices("</")
        .map(|(at, _)| at)
        .find(|at| text.get(at + 2..at + 2 + name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)))
}

/// An opening tag.
struct Tag<'t> {
    name: &'t str,
    /// The first `href`, without its quotes.
    href: Option<Range<usize>>,
    /// Behind its `>`.
    end: usize,
}

impl<'t> Tag<'t> {
    /// The tag that begins at `open`; none where it never ends.
    fn read(text: &'t str, open: usize) -> Option<Self> {
        let bytes = text.as_bytes();
        let skip = |from: usize, stop: &dyn Fn(u8) -> bool| {
            bytes[from..].iter().position(|b| stop(*b)).map(|n| from + n)
        };
        let space = |b: u8| b.is_ascii_whitespace();
        let mut at = skip(open + 1, &|b| space(b) || b == b'/' || b == b'>')?;
        let mut tag = Self { name: &text[open + 1..at], href: None, end: 0 };
        loop {
            at = skip(at, &|b| !space(b) && b != b'/')?;
            if bytes[at] == b'>' {
                tag.end = at + 1;
                return Some(tag);
            }
            let name = at;
            // An equals sign in the first place is part of the name, says the standard.
            at = skip(at + 1, &|b| space(b) || b == b'/' || b == b'>' || b == b'=')?;
            let is_href = text.get(name..at).is_some_and(|n| n.eq_ignore_ascii_case("href"));
            at = skip(at, &|b| !space(b))?;
            if bytes[at] != b'=' {
                continue;
            }
            at = skip(at + 1, &|b| !space(b))?;
            let value = match bytes[at] {
                quote @ (b'"' | b'\'') => at + 1..skip(at + 1, &|b| b == quote)?,
                _ => at..skip(at, &|b| space(b) || b == b'>')?,
            };
            let quoted = value.start > at;
            at = value.end + usize::from(quoted);
            if is_href && tag.href.is_none() {
                tag.href = Some(value);
            }
        }
    }
}
