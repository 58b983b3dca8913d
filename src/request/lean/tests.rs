//! The lean reader against the whole one, on requests that are generated: good, on the edge, and broken.

use std::fmt::Write;

use super::*;
use crate::request::{self, Asked, Purpose};

/// What the whole reader found, as the lean one tells it.
fn lean_of(asked: &Asked) -> Lean<'_> {
    let request = &asked.request;
    let own = &request.preferences;
    let set = |channels: &[Channel]| {
        let mut named = Named::default();
        channels.iter().for_each(|channel| named.add(*channel));
        named
    };
    Lean {
        tenant: request.tenant.as_str(),
        recipient: request.recipient.as_str().into(),
        contacts: request.contacts.written(),
        kind: request.kind,
        priority: request.priority,
        send_within: request.send_within,
        preferences: LeanPreferences {
            preferred: set(&own.preferred),
            disabled: set(&own.disabled),
            quiet_start: own.quiet_start,
            quiet_end: own.quiet_end,
            allow_sms_in_quiet_hours: own.allow_sms_in_quiet_hours,
        },
        time_zone: request.time_zone,
        locale: request.locale.as_deref().map(Cow::Borrowed),
        event_at: request.event_at,
        tags: request.tags.clone(),
        origin: request.origin,
        consent: request.consent,
        content: request.content.profile(),
        at: asked.at,
        send_at: request.send_at,
        deadline: request.deadline,
        variant: asked.variant.as_deref().map(Cow::Borrowed),
    }
}

/// Whether the lean reader takes it; then the whole one must take it too, and read the same.
#[track_caller]
fn is_taken(bytes: &[u8]) -> bool {
    let Some(lean) = parse(bytes) else { return false };
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    let asked = request::parse(bytes, Purpose::Decision).unwrap_or_else(|e| panic!("{e}: {}", shown()));
    assert_eq!(lean, lean_of(&asked), "{}", shown());
    let content = &asked.request.content;
    let whole = asked.explain
        || asked.facts.is_some()
        || content.template.is_some()
        || !content.data.is_empty()
        || !content.attachments.is_empty();
    assert!(!whole, "{}", shown());
    true
}

/// A linear congruential generator: every run has the same requests.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

const CHANNELS: &[&str] = &["sms", "email", "whatsapp", "telegram"];
const INSTANTS: &[&str] = &["2025-11-14T23:00:00+01:00", "2025-11-14T22:00:00Z", "2025-11-14t10:00:00.5z"];
/// Values that hardly anybody sends, and what nobody should.
const ODD: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "5e0",
    "1e999",
    "01",
    "43200",
    "43201",
    "4294967296",
    "\"\"",
    "[]",
    "{}",
    "[null]",
    "[\"sms\",\"fax\"]",
    "{\"level\":\"low\",\"level\":\"low\"}",
    "{\"low\":null}",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\"\\ud83d\\u0041\"",
    "\"\\u+041\"",
    "\"\\x\"",
    "\"a\\u0009b\"",
    "\"a\u{85}b\"",
    "\"a\u{7f}b\"",
    "\"\\u0085\"",
    "\"a\tb\"",
    "\"24:00\"",
    "\"8:00\"",
    "\" 8:00\"",
    "\"08:0\"",
    "\"2025-11-14\"",
    "\"2025-11-31T00:00:00Z\"",
    "\"Europe/Pari\"",
    "\"UTC\"",
    "\"Tenant\"",
    "\"-t\"",
    "nul",
    "\"",
    "tru",
    "{\"a\":1}",
    "[[[[]]]]",
    "{\"filename\":\"a.pdf\"}",
    "[{\"filename\":\"a.pdf\",\"content\":\"JVBERg==\"}]",
];

/// A text as some writer of JSON puts it.
fn quoted(dice: &mut Dice, text: &str) -> String {
    let plain = dice.below(4) > 0;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str(dice.one(&["\\n", "\\u000a", "\\u000A"])),
            '/' => out.push_str(dice.one(&["/", "\\/", "\\u002f"])),
            c if plain || (c.is_ascii() && dice.below(8) > 0) => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

fn body(dice: &mut Dice) -> String {
    let words = [
        "Bonjour ", "rappel ", "ça ", "été ", "15h. ", "€ ", "{x} ", "😀 ", "\n", "« ", "\u{a0}", "a/b ",
        "\"q\" ",
    ];
    let mut text = String::new();
    for _ in 0..dice.below(60) {
        text.push_str(dice.one(&words));
    }
    text
}

fn channels_of(dice: &mut Dice) -> String {
    let some: Vec<String> = (0..dice.below(4)).map(|_| format!("\"{}\"", dice.one(CHANNELS))).collect();
    format!("[{}]", some.join(","))
}

/// An object of these fields: in any order, some left out, some with a value that is odd.
fn object(dice: &mut Dice, odd: bool, mut fields: Vec<(&str, String)>) -> String {
    for at in (1..fields.len()).rev() {
        fields.swap(at, dice.below(at + 1));
    }
    let space = dice.one(&["", "", " ", "\n  ", "\r\n\t"]);
    let mut out = String::from("{");
    for (name, value) in fields {
        let needed = ["tenantId", "prospectId", "context"].contains(&name);
        if !needed && dice.below(3) == 0 {
            continue;
        }
        let value = if odd && dice.below(12) == 0 { dice.one(ODD).to_owned() } else { value };
        let name = if odd && dice.below(60) == 0 { dice.one(&["facts", "x", "\\u0061t", ""]) } else { name };
        for _ in 0..if odd && dice.below(80) == 0 { 2 } else { 1 } {
            if out.len() > 1 {
                out.push(',');
            }
            let _ = write!(out, "{space}\"{name}\"{space}:{space}{value}");
        }
    }
    out.push_str(space);
    out.push('}');
    out
}

fn context(dice: &mut Dice, odd: bool) -> String {
    let level = format!("\"{}\"", dice.one(&["low", "normal", "high", "urgent"]));
    let within = dice.one(&["1", "10", "43200"]).to_owned();
    let priority = object(dice, odd, vec![("level", level), ("sendWithin", within)]);
    let (preferred, fallback, disabled) = (channels_of(dice), channels_of(dice), channels_of(dice));
    let let_through = dice.one(&["true", "false", "null"]).to_owned();
    let preferences = object(
        dice,
        odd,
        vec![
            ("preferredChannels", preferred),
            ("fallbackChannels", fallback),
            ("disabledChannels", disabled),
            ("quietHoursStart", "\"22:00\"".into()),
            ("quietHoursEnd", "\"08:30\"".into()),
            ("allowSMSDuringQuietHours", let_through),
        ],
    );
    let tag = quoted(dice, "été");
    let texts = ["acme", "prospect_456", "André \"Dédé\" Müller", "+33612345678", "marie@example.com"];
    let [tenant, recipient, name, phone, email] = texts.map(|text| match text {
        "acme" => "\"acme\"".to_owned(),
        other => quoted(dice, other),
    });
    let kinds = ["appointment", "notification", "marketing", "survey", "document", "general"];
    let fields = vec![
        ("tenantId", tenant),
        ("prospectId", recipient),
        ("prospectName", name),
        ("prospectPhone", phone.clone()),
        ("prospectEmail", email),
        ("prospectWhatsApp", phone),
        ("prospectTelegram", "\"@chat_name\"".into()),
        ("messageType", format!("\"{}\"", dice.one(&kinds))),
        ("priority", priority),
        ("preferences", preferences),
        ("timezone", dice.one(&["\"Europe/Paris\"", "\"UTC\"", "null"]).into()),
        ("locale", "\"fr\"".into()),
        ("eventAt", format!("\"{}\"", dice.one(INSTANTS))),
        ("tags", format!("[{tag}, \"vip\"]")),
        ("origin", dice.one(&["\"api\"", "\"public\"", "\"campaign\"", "\"broadcast\""]).into()),
        ("consent", dice.one(&["true", "false", "null"]).into()),
    ];
    object(dice, odd, fields)
}

fn some_request(dice: &mut Dice, odd: bool) -> String {
    let body = body(dice);
    let (subject, text, html) = (quoted(dice, "Rappel RDV"), quoted(dice, &body), quoted(dice, "<p>x</p>"));
    let mut fields = vec![("subject", subject), ("body", text), ("html", html)];
    fields.extend([("data", "{}".to_owned()), ("attachments", "[]".to_owned())]);
    if odd && dice.below(8) == 0 {
        fields.push(("templateId", "\"NPS_SURVEY\"".into()));
    }
    let content = object(dice, odd, fields);
    let context = context(dice, odd);
    let fields = vec![
        ("context", context),
        ("content", content),
        ("at", format!("\"{}\"", dice.one(INSTANTS))),
        ("explain", "false".into()),
        ("variant", "\"control\"".into()),
        ("sendAt", "\"2025-11-15T10:00:00Z\"".into()),
        ("deadline", dice.one(&["\"2025-11-15T10:00:01Z\"", "\"2025-11-16T00:00:00+05:30\""]).into()),
        ("orderingKey", "\"k\"".into()),
    ];
    object(dice, odd, fields)
}

const REQUESTS: usize = 20_000;

#[test]
fn what_is_clean_is_taken_and_read_alike() {
    let mut dice = Dice(42);
    for _ in 0..REQUESTS {
        let text = some_request(&mut dice, false);
        assert!(is_taken(text.as_bytes()), "{text}");
    }
}

#[test]
fn what_is_odd_is_read_alike_or_left() {
    let mut dice = Dice(7);
    let mut taken = 0;
    for _ in 0..REQUESTS {
        taken += usize::from(is_taken(some_request(&mut dice, true).as_bytes()));
    }
    // Some of it is only rare.
    assert!((REQUESTS / 20..REQUESTS * 19 / 20).contains(&taken), "{taken}");
}

#[test]
fn what_is_broken_is_read_alike_or_left() {
    let mut dice = Dice(3);
    let mut taken = 0;
    for _ in 0..REQUESTS {
        let mut bytes = some_request(&mut dice, false).into_bytes();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            match dice.below(5) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(
                    at,
                    *dice
                        .one(&["\"", "\\", "{", "}", "[", "]", ",", ":", " ", "\0", "0"])
                        .as_bytes()
                        .first()
                        .unwrap(),
                ),
                2 => bytes[at] = dice.below(256) as u8,
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let odd = dice.one(ODD).as_bytes();
                    bytes.splice(at..at, odd.iter().copied());
                }
            }
        }
        taken += usize::from(is_taken(&bytes));
    }
    // A byte changed within a text is a text still.
    assert!((REQUESTS / 50..REQUESTS * 4 / 5).contains(&taken), "{taken}");
}

#[test]
fn each_odd_value_in_each_place() {
    let fields = [
        "context",
        "content",
        "at",
        "explain",
        "variant",
        "sendAt",
        "deadline",
        "orderingKey",
        "facts",
        "context/tenantId",
        "context/prospectId",
        "context/prospectName",
        "context/prospectPhone",
        "context/messageType",
        "context/priority",
        "context/priority/level",
        "context/priority/sendWithin",
        "context/preferences",
        "context/preferences/preferredChannels",
        "context/preferences/quietHoursStart",
        "context/preferences/allowSMSDuringQuietHours",
        "context/timezone",
        "context/locale",
        "context/eventAt",
        "context/tags",
        "context/origin",
        "context/consent",
        "content/subject",
        "content/body",
        "content/html",
        "content/templateId",
        "content/data",
        "content/attachments",
        "content/nothing",
    ];
    let least = r#""tenantId":"acme","prospectId":"p""#;
    for field in fields {
        for odd in ODD {
            let (above, name) = field.rsplit_once('/').unwrap_or(("", field));
            let text = match above {
                "" if name == "context" => format!("{{\"context\":{odd}}}"),
                "" => format!("{{\"context\":{{{least}}},\"{name}\":{odd}}}"),
                "content" => format!("{{\"context\":{{{least}}},\"content\":{{\"{name}\":{odd}}}}}"),
                "context" if name.ends_with("Id") => {
                    let rest = least.split(',').find(|given| !given.contains(name)).unwrap();
                    format!("{{\"context\":{{{rest},\"{name}\":{odd}}}}}")
                }
                "context" => format!("{{\"context\":{{{least},\"{name}\":{odd}}}}}"),
                deeper => {
                    let inner = deeper.trim_start_matches("context/");
                    format!("{{\"context\":{{{least},\"{inner}\":{{\"{name}\":{odd}}}}}}}")
                }
            };
            is_taken(text.as_bytes());
        }
    }
}

#[test]
fn limits_are_where_the_whole_reader_has_them() {
    let of = |name: &str, value: &str| {
        format!(r#"{{"context":{{"tenantId":"acme","prospectId":"p","{name}":{value}}}}}"#)
    };
    let text = |length: usize| format!("\"{}\"", "é".repeat(length));
    for (name, most) in [("prospectName", NAME_MAX), ("locale", LOCALE_MAX)] {
        assert!(is_taken(of(name, &text(most)).as_bytes()), "{name}");
        assert!(!is_taken(of(name, &text(most + 1)).as_bytes()), "{name}");
    }
    let tags = |count: usize, length: usize| format!("[{}]", vec![text(length); count].join(","));
    assert!(is_taken(of("tags", &tags(TAGS_MAX, TAG_MAX)).as_bytes()));
    assert!(!is_taken(of("tags", &tags(TAGS_MAX + 1, 1)).as_bytes()));
    assert!(!is_taken(of("tags", &tags(1, TAG_MAX + 1)).as_bytes()));
    assert!(!is_taken(of("tags", "[\"\"]").as_bytes()));
    let id = |length: usize| {
        let recipient = "é".repeat(length);
        format!(r#"{{"context":{{"tenantId":"acme","prospectId":"{recipient}"}}}}"#)
    };
    assert!(is_taken(id(256).as_bytes()) && !is_taken(id(257).as_bytes()) && !is_taken(id(0).as_bytes()));
    assert!(!is_taken(b"{\"context\":{\"tenantId\":\"acme\",\"prospectId\":\"p\"}} x"));
    assert!(!is_taken(b"\xef\xbb\xbf{\"context\":{\"tenantId\":\"acme\",\"prospectId\":\"p\"}}"));
}
