//! Where a value may stand in a template's html: as text, or in a quoted attribute; a link only through `link`.
//!
//! Escaping protects text and quoted values and nothing else (reliability.md T31), so every other place is
//! refused when the file is read, before anybody's name stands there. It corrects nothing.

use super::scan::{Piece, Use, pieces, words};

/// A value in a place where escaping does not protect.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsafe {
    pub span: std::ops::Range<usize>,
    pub why: String,
    pub hint: &'static str,
}

/// Attributes that lead somewhere.
const LINKS: [&str; 6] = ["href", "src", "action", "formaction", "background", "poster"];
/// Elements whose inside is no text.
const RAW: [&str; 2] = ["script", "style"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Text,
    Comment,
    /// Inside `<script>` or `<style>`.
    Raw(String),
    /// After `<`: the name so far.
    TagName(String),
    /// Between attributes: the element, and the attribute's name so far.
    Tag {
        element: String,
        attribute: String,
    },
    /// After `attribute=`.
    Value {
        element: String,
        attribute: String,
    },
    /// Inside quotes; whether anything stands before.
    Quoted {
        element: String,
        attribute: String,
        quote: char,
        begun: bool,
    },
    /// An unquoted value.
    Bare {
        element: String,
    },
}

/// Every value that stands where it must not.
pub fn unsafe_places(text: &str) -> Vec<Unsafe> {
    let (mut place, mut found) = (Place::Text, Vec::new());
    for piece in pieces(text) {
        match piece {
            Piece::Text(range) => place = walk(place, &text[range]),
            Piece::Code { tag: true, .. } => {}
            Piece::Code { tag: false, inner } => {
                let expression = &text[inner.clone()];
                if let Some((why, hint)) = refused(&place, expression) {
                    found.push(Unsafe { span: inner, why, hint });
                }
                if let Place::Quoted { begun, .. } = &mut place {
                    *begun = true;
                }
            }
        }
    }
    found
}

fn refused(place: &Place, expression: &str) -> Option<(String, &'static str)> {
    match place {
        Place::Text => None,
        Place::Comment => Some(("a value inside an html comment".into(), "take it out of <!-- -->")),
        Place::Raw(element) => {
            Some((format!("a value inside <{element}>"), "values stand in texts and in quoted attributes"))
        }
        Place::TagName(_) | Place::Tag { .. } => Some((
            "a value in place of an element's or attribute's name".into(),
            "values stand in texts and in quoted attributes",
        )),
        Place::Value { attribute, .. } => Some((
            format!("the value of {attribute} without quotes"),
            "put straight quotes around it: title=\"{{ name }}\"",
        )),
        Place::Bare { .. } => Some((
            "a value in an attribute without quotes".into(),
            "put straight quotes around it: title=\"{{ name }}\"",
        )),
        Place::Quoted { attribute, begun, .. } => quoted(attribute, *begun, expression),
    }
}

fn quoted(attribute: &str, begun: bool, expression: &str) -> Option<(String, &'static str)> {
    if attribute == "style" || attribute == "srcset" || attribute.starts_with("on") {
        return Some((
            format!("a value inside {attribute}=\"...\""),
            "write the styles out; values stand in texts",
        ));
    }
    let expression = format!("{{{{{expression}}}}}");
    let filters = words(&expression);
    let last = filters.iter().rev().find(|word| word.used_as == Use::Filter).map(|word| word.text);
    if LINKS.contains(&attribute) && !begun && !matches!(last, Some("link" | "lien")) {
        return Some((
            format!("a link in {attribute} that is not checked"),
            "write {{ name | link }}: only https, http, mailto and tel pass",
        ));
    }
    None
}

/// Reads html on from a place; forgiving, as browsers are.
fn walk(mut place: Place, html: &str) -> Place {
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        let mut used = c.len_utf8();
        place = match place {
            Place::Text if rest.starts_with("<!--") => {
                used = 4;
                Place::Comment
            }
            Place::Text if c == '<' => Place::TagName(String::new()),
            Place::Text => Place::Text,
            Place::Comment if rest.starts_with("-->") => {
                used = 3;
                Place::Text
            }
            Place::Comment => Place::Comment,
            Place::Raw(element) => {
                let end = format!("</{element}");
                if rest.get(..end.len()).is_some_and(|start| start.eq_ignore_ascii_case(&end)) {
                    Place::TagName(String::new())
                } else {
                    Place::Raw(element)
                }
            }
            Place::TagName(name) => tag_name(name, c),
            Place::Tag { element, attribute } => tag(element, attribute, c),
            Place::Value { element, attribute } => match c {
                '"' | '\'' => Place::Quoted { element, attribute, quote: c, begun: false },
                c if c.is_whitespace() => Place::Value { element, attribute },
                '>' => after(element),
                _ => Place::Bare { element },
            },
            Place::Quoted { element, attribute, quote, begun } => {
                if c == quote {
                    Place::Tag { element, attribute: String::new() }
                } else {
                    Place::Quoted { element, attribute, quote, begun: begun || !c.is_whitespace() }
                }
            }
            Place::Bare { element } => match c {
                '>' => after(element),
                c if c.is_whitespace() => Place::Tag { element, attribute: String::new() },
                _ => Place::Bare { element },
            },
        };
        rest = &rest[used..];
    }
    place
}

fn tag_name(mut name: String, c: char) -> Place {
    match c {
        '<' if name.is_empty() => Place::TagName(name),
        // "a < b" is no element.
        c if name.is_empty() && !c.is_alphabetic() && !matches!(c, '/' | '!' | '?') => Place::Text,
        '>' => after(name),
        c if c.is_whitespace() || (c == '/' && !name.is_empty()) => {
            Place::Tag { element: name, attribute: String::new() }
        }
        c => {
            name.extend(c.to_lowercase());
            Place::TagName(name)
        }
    }
}

fn tag(element: String, mut attribute: String, c: char) -> Place {
    match c {
        '>' => after(element),
        // With no name before it, it is the first letter of one.
        '=' if !attribute.trim().is_empty() => {
            Place::Value { element, attribute: attribute.trim().to_owned() }
        }
        // The space stays: what follows it is a new name, unless it is `=`.
        c if c.is_whitespace() || c == '/' => Place::Tag { element, attribute: attribute + " " },
        c => {
            if attribute.ends_with(' ') {
                attribute.clear();
            }
            attribute.extend(c.to_lowercase());
            Place::Tag { element, attribute }
        }
    }
}

/// What comes after an element's `>`.
fn after(element: String) -> Place {
    if RAW.contains(&element.as_str()) { Place::Raw(element) } else { Place::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whys(html: &str) -> Vec<String> {
        unsafe_places(html).into_iter().map(|fault| fault.why).collect()
    }

    #[test]
    fn texts_and_quoted_attributes_may_hold_values() {
        for html in [
            "<p>Bonjour {{ name }} &lt; 3 < 4</p>",
            "<img alt=\"{{ name }}\" src=\"{{ photo | link }}\">",
            "<a class='x' href='{{ url|lien }}?a={{ name }}'>{{ name }}</a>",
            "<a href=\"https://example.com/{{ id }}\">x</a>",
            "<style>p { color: red }</style><p>{{ name }}</p>",
            "<!-- a > b --><p title = \"{{ name }}\">{% if a %}<b>{{ a }}</b>{% endif %}</p>",
        ] {
            assert_eq!(whys(html), Vec::<String>::new(), "{html}");
        }
    }

    #[test]
    fn every_other_place_is_refused() {
        for (html, why) in [
            ("<a href=\"{{ url }}\">", "a link in href that is not checked"),
            ("<a href=\" {{ url }}\">", "a link in href that is not checked"),
            ("<a href=\"{{ url | link | upper }}\">", "a link in href that is not checked"),
            ("<p title={{ name }}>", "the value of title without quotes"),
            ("<p title=a{{ name }}>", "a value in an attribute without quotes"),
            ("<p {{ name }}>", "a value in place of an element's or attribute's name"),
            ("<{{ name }}>", "a value in place of an element's or attribute's name"),
            ("<script>x = '{{ name }}'</script>", "a value inside <script>"),
            ("<STYLE>{{ name }}</STYLE>", "a value inside <style>"),
            ("<p style=\"color: {{ c }}\">", "a value inside style=\"...\""),
            ("<p onclick=\"f('{{ c }}')\">", "a value inside onclick=\"...\""),
            ("<!-- {{ name }} -->", "a value inside an html comment"),
            ("<<{{ name }}", "a value in place of an element's or attribute's name"),
            ("<a href=\"\"=\"{{ name }}", "a value in place of an element's or attribute's name"),
        ] {
            assert_eq!(whys(html), [why], "{html}");
        }
    }
}
