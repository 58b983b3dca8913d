//! A template's TOML as texts with their places: keys known, types right, every fault at once.
//!
//! It knows what a template looks like and nothing of the language inside the texts.

use std::{collections::BTreeMap, ops::Range};

use serde_json::{Map, Value as Json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{part, scan};
use crate::{
    domain::channel::Channel,
    policy::{
        diagnostic::{Diagnostic, nearest},
        document::{
            source::{FAULTS_MAX, SourceText},
            values,
        },
    },
};

/// Variables of one template.
const VARIABLES_MAX: usize = 50;
/// Characters of one text.
const TEXT_CHARS_MAX: usize = 100_000;
/// Placeholders of an approved template.
const PARAMETERS_MAX: usize = 20;

/// The keys of the top, beside the locales.
pub const TOP: [&str; 4] = ["description", "variables", "optional", "example"];

/// What admins write for a key in French, and what it is called.
const FRENCH: [(&str, &str); 14] = [
    ("exemple", "example"),
    ("optionnel", "optional"),
    ("optionnelles", "optional"),
    ("facultatif", "optional"),
    ("facultatives", "optional"),
    ("texte", "text"),
    ("corps", "text"),
    ("message", "text"),
    ("objet", "subject"),
    ("sujet", "subject"),
    ("titre", "subject"),
    ("mail", "email"),
    ("courriel", "email"),
    ("nom", "name"),
];

/// A text of the file: what it is called in the engine, and where it stands.
#[derive(Debug)]
pub struct Text {
    pub name: String,
    pub text: String,
    /// Bytes of the string with its quotes.
    pub span: Range<usize>,
}

/// One channel's form in one language.
#[derive(Debug)]
pub struct FormDraft {
    pub locale: String,
    pub channel: Channel,
    /// Bytes of the channel's key.
    pub key: Range<usize>,
    pub subject: Option<Text>,
    pub text: Text,
    pub html: Option<Text>,
    pub approved: Option<ApprovedDraft>,
}

#[derive(Debug)]
pub struct ApprovedDraft {
    pub name: String,
    pub language: String,
    pub parameters: Vec<Text>,
}

impl FormDraft {
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        let parameters = self.approved.iter().flat_map(|approved| &approved.parameters);
        self.subject.iter().chain([&self.text]).chain(&self.html).chain(parameters)
    }
}

/// The file, as far as it could be read.
#[derive(Debug, Default)]
pub struct Draft {
    /// Each with its place.
    pub required: Vec<(String, Range<usize>)>,
    pub optional: Vec<(String, Range<usize>)>,
    pub example: Map<String, Json>,
    pub forms: Vec<FormDraft>,
    pub faults: Vec<Diagnostic>,
}

type Node<'i> = Spanned<DeValue<'i>>;

struct Reader<'s> {
    source: &'s SourceText,
    draft: Draft,
    /// The last fault was one too many.
    full: bool,
}

/// Reads a template's file.
pub fn read(source: &SourceText) -> Draft {
    let (tree, faults) = source.parse();
    let mut reader = Reader { source, draft: Draft { faults, ..Draft::default() }, full: false };
    let broken = !reader.draft.faults.is_empty();
    let table = tree.get_ref();
    reader.top(table);
    // What a broken line took with it is not also missing.
    if broken {
        reader.draft.faults.retain(|fault| fault.code == "syntax");
    }
    reader.draft
}

impl Reader<'_> {
    fn top(&mut self, table: &DeTable<'_>) {
        let mut names = BTreeMap::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "description" => {
                    self.text_of(value, "description");
                }
                "variables" => self.draft.required = self.variables(value, "variables", &mut names),
                "optional" => self.draft.optional = self.variables(value, "optional", &mut names),
                "example" => {}
                name if is_locale(name) => self.locale(name, key.span(), value),
                name => self.unknown(name, key.span(), &TOP, "and locales such as [fr.sms] or [en.email]"),
            }
        }
        self.example(table.get_key_value("example"));
        if self.draft.forms.is_empty() && self.draft.faults.is_empty() {
            self.fault("no-forms", 0..0, "the template has no text for any channel");
            self.hint("add a section such as [fr.sms] with text = \"...\"");
        }
    }

    /// A list of names, each declared once.
    fn variables(
        &mut self,
        value: &Node<'_>,
        key: &str,
        seen: &mut BTreeMap<String, ()>,
    ) -> Vec<(String, Range<usize>)> {
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(value, key, "a list of names: [\"firstName\", \"date\"]");
            return Vec::new();
        };
        let mut names = Vec::new();
        for item in items {
            let Some(name) = item.get_ref().as_str() else {
                self.wrong(item, key, "a name between straight quotes");
                continue;
            };
            if !scan::is_name(name) {
                self.fault("bad-name", item.span(), format!("{key}: {name:?} is no name for a variable"));
                self.hint("letters without accents, digits and _, from a letter on: firstName, date_rdv");
            } else if seen.insert(name.to_owned(), ()).is_some() {
                self.fault("duplicate", item.span(), format!("{key}: {name:?} is declared twice"));
                self.hint("name it once, in variables or in optional");
            } else {
                names.push((name.to_owned(), item.span()));
            }
        }
        if names.len() > VARIABLES_MAX {
            self.fault("too-many", value.span(), format!("{key}: more than {VARIABLES_MAX} variables"));
        }
        names
    }

    /// A value for every variable, and for nothing else.
    fn example(&mut self, found: Option<(&Spanned<std::borrow::Cow<'_, str>>, &Node<'_>)>) {
        let declared: Vec<String> = self.draft.required.iter().map(|(name, _)| name.clone()).collect();
        let optional: Vec<String> = self.draft.optional.iter().map(|(name, _)| name.clone()).collect();
        let all: Vec<&str> = declared.iter().chain(&optional).map(String::as_str).collect();
        let (span, table) = match found.map(|(key, value)| (key.span(), value.get_ref())) {
            Some((span, DeValue::Table(table))) => (span, Some(table)),
            Some((span, _)) => {
                self.fault(
                    "wrong-type",
                    span,
                    "example: expected a section, [example], with a value for each variable",
                );
                return;
            }
            None => (0..0, None),
        };
        for (key, value) in table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if all.contains(&name) {
                self.draft.example.insert(name.to_owned(), values::json(value.get_ref()));
            } else {
                self.unknown(name, key.span(), &all, "declare it in variables or optional, or take it out");
            }
        }
        let missing: Vec<&str> =
            all.iter().filter(|name| !self.draft.example.contains_key(**name)).copied().collect();
        if !missing.is_empty() {
            let at = if table.is_some() { span } else { self.first_name() };
            let told = format!("[example] has no value for {}", missing.join(", "));
            self.fault("missing-example", at, told);
            self.hint("the example is what the template is checked with: give every variable a value");
        }
    }

    fn first_name(&self) -> Range<usize> {
        let names = self.draft.required.iter().chain(&self.draft.optional);
        names.map(|(_, span)| span.clone()).next().unwrap_or(0..0)
    }

    fn locale(&mut self, locale: &str, key: Range<usize>, value: &Node<'_>) {
        let DeValue::Table(table) = value.get_ref() else {
            self.fault(
                "wrong-type",
                key,
                format!("{locale}: expected channels: [{locale}.sms], [{locale}.email]"),
            );
            return;
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let Some(channel) = Channel::parse(name) else {
                let names = Channel::ALL.map(Channel::as_str);
                self.unknown(name, key.span(), &names, "the channels are sms, email, whatsapp and telegram");
                continue;
            };
            self.form(locale, channel, key.span(), value);
        }
    }

    fn form(&mut self, locale: &str, channel: Channel, key: Range<usize>, value: &Node<'_>) {
        let section = format!("{locale}.{channel}");
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(value, &section, "a section with text = \"...\"");
            return;
        };
        let keys: &[&str] = match channel {
            Channel::Sms | Channel::Telegram => &["text"],
            Channel::Email => &["subject", "text", "html"],
            Channel::WhatsApp => &["text", "approved"],
        };
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if !keys.contains(&name) {
                self.unknown(name, key.span(), keys, &format!("[{section}] has {}", keys.join(", ")));
            }
        }
        let locale_key = locale.to_lowercase();
        let mut text = |what: &str, needed: bool| {
            let name = part(&locale_key, channel, what);
            match table.get(what) {
                Some(value) => self.text_of(value, &format!("{section}.{what}")).map(|text| Text {
                    name,
                    text,
                    span: value.span(),
                }),
                None => {
                    if needed {
                        self.fault("missing-key", key.clone(), format!("[{section}] has no {what}"));
                        self.hint(format!("add {what} = \"...\""));
                    }
                    None
                }
            }
        };
        let subject = text("subject", channel == Channel::Email);
        let html = text("html", false);
        let text = text("text", true);
        let approved = table.get("approved").filter(|_| channel == Channel::WhatsApp);
        let approved = approved.and_then(|value| self.approved(&section, &locale_key, value));
        if let Some(text) = text {
            let locale = locale_key;
            self.draft.forms.push(FormDraft { locale, channel, key, subject, text, html, approved });
        }
    }

    /// The provider's approved template, with the values of its placeholders in order.
    fn approved(&mut self, section: &str, locale: &str, value: &Node<'_>) -> Option<ApprovedDraft> {
        const KEYS: [&str; 3] = ["name", "language", "parameters"];
        let section = format!("{section}.approved");
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(
                value,
                &section,
                "{ name = \"...\", language = \"fr\", parameters = [\"{{ firstName }}\"] }",
            );
            return None;
        };
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if !KEYS.contains(&name) {
                self.unknown(
                    name,
                    key.span(),
                    &KEYS,
                    "an approved template has name, language and parameters",
                );
            }
        }
        let mut word = |what: &str, shaped: fn(&str) -> bool, shape: &str| match table.get(what) {
            Some(value) => match value.get_ref().as_str().filter(|text| shaped(text)) {
                Some(text) => Some(text.to_owned()),
                None => {
                    self.wrong(value, &format!("{section}.{what}"), shape);
                    None
                }
            },
            None => {
                self.fault("missing-key", value.span(), format!("{section} has no {what}"));
                self.hint(format!("add {what}, {shape}"));
                None
            }
        };
        let name = word("name", is_approved_name, "as the provider knows it: a-z, 0-9 and _");
        let language = word("language", is_language, "as the provider knows it: \"fr\" or \"en_US\"");
        let parameters = match table.get("parameters").map(|list| (list, list.get_ref())) {
            None => Vec::new(),
            Some((_, DeValue::Array(items))) if items.len() <= PARAMETERS_MAX => {
                let mut texts = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    let name = part(locale, Channel::WhatsApp, &format!("approved.{at}"));
                    let text = self.text_of(item, &format!("{section}.parameters"));
                    texts.extend(text.map(|text| Text { name, text, span: item.span() }));
                }
                texts
            }
            Some((list, _)) => {
                let expected = format!("a list of at most {PARAMETERS_MAX} texts");
                self.wrong(list, &format!("{section}.parameters"), &expected);
                Vec::new()
            }
        };
        Some(ApprovedDraft { name: name?, language: language?, parameters })
    }

    /// A text that is not empty and not endless.
    fn text_of(&mut self, value: &Node<'_>, what: &str) -> Option<String> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(value, what, "a text between straight quotes");
            return None;
        };
        if text.trim().is_empty() {
            self.fault("empty", value.span(), format!("{what} is empty"));
            self.hint("write the text, or take the line out");
            return None;
        }
        if text.chars().count() > TEXT_CHARS_MAX {
            self.fault("too-long", value.span(), format!("{what} has more than {TEXT_CHARS_MAX} characters"));
            return None;
        }
        if let Some(c) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.fault("control-character", value.span(), format!("{what} holds {c:?}"));
            self.hint("only line breaks and tabs may stand in a text");
            return None;
        }
        Some(text.replace("\r\n", "\n"))
    }

    fn wrong(&mut self, value: &Node<'_>, what: &str, expected: &str) {
        let found = values::describe(value.get_ref());
        self.fault("wrong-type", value.span(), format!("{what}: expected {expected}, found {found}"));
    }

    fn unknown(&mut self, key: &str, span: Range<usize>, known: &[&str], all: &str) {
        let shown: String = key.chars().take(60).collect();
        self.fault("unknown-key", span, format!("unknown key {shown:?}"));
        let french = FRENCH.iter().find(|(word, _)| *word == key.to_lowercase()).map(|(_, meant)| *meant);
        match french.filter(|m| known.contains(m)).or_else(|| nearest(key, known.iter().copied())) {
            Some(meant) => self.hint(format!("did you mean {meant:?}?")),
            None => self.hint(all),
        }
    }

    /// Told while there is room for it: nobody reads the thousandth.
    fn fault(&mut self, code: &str, span: Range<usize>, message: impl Into<String>) {
        self.full = self.draft.faults.len() >= FAULTS_MAX;
        if !self.full {
            self.draft.faults.push(self.source.fault(code, span, message));
        }
    }

    /// How to mend the fault told last.
    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.draft.faults.last_mut().filter(|_| !self.full) {
            last.hint = Some(hint.into());
        }
    }
}

/// `fr`, `en-GB`.
fn is_locale(name: &str) -> bool {
    let (language, region) = name.split_once('-').unwrap_or((name, "FR"));
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && region.len() == 2
        && region.bytes().all(|b| b.is_ascii_uppercase())
}

fn is_approved_name(name: &str) -> bool {
    (1..=512).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_language(name: &str) -> bool {
    is_locale(&name.replace('_', "-"))
}
