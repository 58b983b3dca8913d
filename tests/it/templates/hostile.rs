//! Data that wants to be more than data (reliability.md T9, T31, T32): no element, no attribute, no header line
//! and no code comes of it.

use channel_orchestrator::{domain::channel::Channel, policy::template::Need};
use serde_json::{Map, Value, json};

use super::{compile, with_template, words};
use crate::support::bundle;

/// What has broken out of templates elsewhere.
const POLYGLOTS: [&str; 14] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "\" onfocus=\"alert(1)\" autofocus=\"",
    "</p></div></body><h1>x</h1>",
    "jaVasCript:/*-/*`/*\\`/*'/*\"/**/(/* */oNcliCk=alert() )//%0D%0A//</stYle/</titLe/</teXtarEa/</scRipt/--!>\\x3csVg/<sVg/oNloAd=alert()//>",
    "<!-- x",
    "--> <b>x</b>",
    "<![CDATA[<b>x</b>]]>",
    "{{ 7 * 7 }}{% for x in y %}{% endfor %}",
    "{{ secret }} ${7*7} #{7*7} <%= 7*7 %>",
    "&lt;script&gt; &#60;b&#62;",
    "*gras* _italique_ [lien](https://example.com) `code`",
    "\u{202e}gnirts \u{200b} <b\u{0300}>",
];

/// The elements and attributes of a document, in order, without any text or value.
fn skeleton(html: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), html);
    while let Some(open) = rest.find('<') {
        rest = &rest[open + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            found.push("comment".to_owned());
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
            continue;
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(rest.len());
        let mut element = rest[..end].trim_end_matches('/').to_ascii_lowercase();
        let name = element.clone();
        rest = &rest[end..];
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
            if rest.is_empty() || rest.starts_with('>') {
                break;
            }
            let end =
                rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | '>' | '/')).unwrap_or(rest.len());
            let end = end.max(1);
            element.push_str(&format!(" {}", rest[..end].to_ascii_lowercase()));
            rest = rest[end..].trim_start();
            if let Some(value) = rest.strip_prefix('=') {
                let value = value.trim_start();
                let after = match value.chars().next() {
                    Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).map_or("", |(_, after)| after),
                    _ => value.trim_start_matches(|c: char| !c.is_whitespace() && c != '>'),
                };
                rest = after;
            }
        }
        found.push(element);
        // What is inside these is no html.
        if matches!(name.as_str(), "script" | "style") {
            let lower = rest.to_ascii_lowercase();
            rest = lower.find(&format!("</{name}")).map_or("", |at| &rest[at..]);
        }
    }
    found
}

#[test]
fn the_parser_of_this_test_sees_what_breaks_out() {
    assert_eq!(skeleton("<p class=\"a\">x</p>"), ["p class", "/p"]);
    assert_eq!(skeleton("<p title=\"\" onfocus=\"x\">"), ["p title onfocus"]);
    assert_eq!(skeleton("a < b <!-- <b> --> <br/>"), ["comment", "br"]);
}

/// Every text of an example replaced, links aside: those must lead somewhere.
fn replaced(value: &Value, with: &str) -> Value {
    match value {
        Value::String(text) if text.starts_with("https://") => Value::String(text.clone()),
        Value::String(_) => with.into(),
        Value::Array(items) => items.iter().map(|item| replaced(item, with)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), replaced(field, with)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[test]
fn no_element_and_no_attribute_comes_from_data() {
    let bundle = bundle("");
    for (id, template) in bundle.templates() {
        let example = Value::Object(template.example().clone());
        let plain = |data: &Value| {
            let content = json!({ "templateId": id, "data": data });
            words(&bundle, json!({}), content, Need::Send).unwrap_or_else(|e| panic!("{id}: {e:?}"))
        };
        let forms = plain(&replaced(&example, "Marie")).rendering.unwrap().forms;
        let honest = skeleton(forms[Channel::Email].as_ref().unwrap().html.as_ref().unwrap());
        assert!(honest.len() > 10, "{id}: {honest:?}");
        for polyglot in POLYGLOTS {
            let forms = plain(&replaced(&example, polyglot)).rendering.unwrap().forms;
            for (channel, form) in forms.iter() {
                let Some(form) = form else { continue };
                if let Some(html) = &form.html {
                    assert_eq!(skeleton(html), honest, "{id}: {polyglot}\n{html}");
                }
                // Text stays text, letter for letter.
                assert!(form.body.contains(polyglot.trim()), "{id} {channel}: {}", form.body);
                let subject = form.subject.as_deref().unwrap_or_default();
                assert!(!subject.contains(char::is_control), "{id}: {subject:?}");
            }
        }
    }
}

const SUBJECT: &str = r#"
variables = ["name"]
optional = ["url"]
[example]
name = "Marie"
url = "https://example.com"
[fr.email]
subject = "Bonjour {{ name }}"
text = "Bonjour {{ name }}"
html = "<p>{{ name }}</p>{% if url %}<a href=\"{{ url | lien }}\">x</a>{% endif %}"
[fr.whatsapp]
text = "{{ name }}"
approved = { name = "x", language = "fr", parameters = ["{{ name }}"] }
"#;

#[test]
fn a_header_gets_no_second_line_and_control_characters_are_refused() {
    let bundle = with_template(SUBJECT);
    let ask = |name: &str| {
        words(&bundle, json!({}), json!({ "templateId": "T", "data": { "name": name } }), Need::Send)
    };
    let forms = ask("Marie\r\nBcc: a@example.com\t\n  x").unwrap().rendering.unwrap().forms;
    let email = forms[Channel::Email].as_ref().unwrap();
    assert_eq!(email.subject.as_deref(), Some("Bonjour Marie Bcc: a@example.com x"));
    assert_eq!(email.body, "Bonjour Marie\nBcc: a@example.com\t\n  x");
    let approved = forms[Channel::WhatsApp].as_ref().unwrap().approved_template.as_ref().unwrap();
    assert_eq!(approved.parameters, ["Marie Bcc: a@example.com x"]);
    for control in ["\0", "\u{7f}", "\u{85}", "\u{1b}[31m"] {
        let faults = ask(&format!("Marie{control}")).unwrap_err();
        assert_eq!(faults[0].pointer, "/content/data/name");
        assert!(faults[0].detail.contains("control character"), "{faults:?}");
    }
}

#[test]
fn a_link_leads_somewhere_or_is_refused() {
    let bundle = with_template(SUBJECT);
    let ask = |url: &str| {
        let data = json!({ "name": "Marie", "url": url });
        words(&bundle, json!({}), json!({ "templateId": "T", "data": data }), Need::Send)
    };
    for url in ["https://example.com/?a=1&b=\"2\"", "mailto:a@example.com", "TEL:+33612345678"] {
        let html = ask(url).unwrap().rendering.unwrap().forms[Channel::Email].clone().unwrap().html.unwrap();
        assert_eq!(skeleton(&html), ["p", "/p", "a href", "/a"], "{html}");
    }
    for url in
        ["javascript:alert(1)", " jAvascript:alert(1)", "data:text/html,x", "//example.com", "https://a b"]
    {
        let faults = ask(url).unwrap_err();
        assert_eq!(faults[0].pointer, "/content/data");
        assert!(faults[0].detail.contains("the link must begin with https://"), "{faults:?}");
        assert!(!faults[0].detail.contains("alert"), "a fault shows no value: {faults:?}");
    }
}

/// Pieces of html, of which any heap may be somebody's template.
const PIECES: [&str; 24] = [
    "<p>",
    "</p>",
    "<a href=\"",
    "<a href='",
    "\"",
    "'",
    ">",
    "<",
    " title=",
    " title=\"",
    "=",
    " ",
    "x",
    "/",
    "<!--",
    "-->",
    "<script>",
    "</script>",
    "<style>",
    "</style>",
    " onclick=\"",
    "{{ a }}",
    "{{ a }}",
    "{{ b | link }}",
];

/// Whatever html is let through: no value changes what it is made of.
#[test]
fn html_that_is_let_through_holds_any_value() {
    let mut state = 42_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let heaps = (0..600).map(|at| {
        let html: String = (0..=draw(8)).map(|_| PIECES[draw(PIECES.len())]).collect();
        let html =
            html.replace("{{ a }}", "{{ a | default('-') }}").replace("{{ b |", "{{ b | default('tel:1') |");
        let head = "optional = [\"a\", \"b\"]\n[example]\na = \"a\"\nb = \"https://example.com\"\n";
        let email = format!("[fr.email]\nsubject = \"x\"\ntext = \"x\"\nhtml = '''x{html}'''\n");
        (format!("T{at}"), format!("{head}{email}"))
    });
    let taken =
        heaps.filter_map(|(id, text)| Some((id.clone(), std::sync::Arc::new(compile(&id, &text).ok()?))));
    let bundle = bundle("").with_templates(std::sync::Arc::new(taken.collect()));
    assert!((100..600).contains(&bundle.templates().len()), "{}", bundle.templates().len());
    for id in bundle.templates().keys() {
        let made = |a: &str, b: &str| {
            let content = json!({ "templateId": id, "data": { "a": a, "b": b } });
            let words = words(&bundle, json!({}), content, Need::Send).unwrap();
            words.rendering.unwrap().forms[Channel::Email].clone().unwrap().html.unwrap()
        };
        let honest = made("Marie", "https://example.com/a");
        for polyglot in POLYGLOTS {
            let hostile = made(polyglot, "https://example.com/\"><b/onclick='x'>");
            assert_eq!(skeleton(&hostile), skeleton(&honest), "{honest}\n{hostile}");
        }
    }
}
