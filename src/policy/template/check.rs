//! From a template's file to a template, or every fault in it at once, each with its place and its mend.
//!
//! Every text is compiled, read for words that the language does not have, and rendered with the example, with
//! and without what is optional: what goes live has come out once. It judges no style.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use minijinja::value::Value;

use super::{
    Approved, Form, Template, data,
    document::{self, Draft, FormDraft, Text},
    filters, html,
    language::{self, Engine, Failure},
    scan::{self, Use},
    words::shape,
};
use crate::{
    domain::{
        channel::{Channel, PerChannel},
        segments::{self, Encoding},
    },
    policy::{
        assemble::SourceFile,
        diagnostic::{Diagnostic, Severity, nearest},
        document::{
            place,
            source::{FAULTS_MAX, SourceText},
        },
    },
};

/// The tags that the language has.
const TAGS: [&str; 7] = ["if", "elif", "else", "endif", "for", "endfor", "set"];
/// Tags of the engine that are left out.
const REFUSED_TAGS: [&str; 11] =
    ["include", "import", "from", "extends", "block", "macro", "call", "filter", "autoescape", "raw", "with"];
/// RFC 5322's line limit.
const SUBJECT_CHARS_MAX: usize = 998;
/// The most that WhatsApp and Telegram take.
const CHAT_CHARS_MAX: usize = 4096;
/// The zone that examples are rendered in.
const ZONE: chrono_tz::Tz = chrono_tz::Europe::Paris;

impl Template {
    /// Reads, compiles and checks a file. `id` is its name without `.toml`.
    ///
    /// # Errors
    /// Every fault, each with its place.
    pub fn compile(id: &str, file: &SourceFile) -> Result<Self, Vec<Diagnostic>> {
        let source = SourceText::read(file).map_err(|fault| vec![*fault])?;
        let mut draft = document::read(&source);
        let faults = std::mem::take(&mut draft.faults);
        let broken = faults.iter().any(|fault| fault.code == "syntax");
        let mut check = Check { source: &source, engine: Engine::new(), faults, warnings: Vec::new() };
        if !broken {
            check.compile(&draft);
            check.variables(&draft);
            check.try_out(&draft);
        }
        let Check { engine, faults, warnings, .. } = check;
        if !faults.is_empty() {
            return Err(faults);
        }
        let names = |list: &[(String, Range<usize>)]| list.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self {
            id: id.to_owned(),
            file: file.path.clone(),
            required: names(&draft.required),
            optional: names(&draft.optional),
            example: draft.example.clone(),
            locales: forms(&draft),
            engine: engine.rest(),
            warnings,
        })
    }
}

fn forms(draft: &Draft) -> BTreeMap<String, PerChannel<Option<Form>>> {
    let mut locales: BTreeMap<String, PerChannel<Option<Form>>> = BTreeMap::new();
    for form in &draft.forms {
        let approved = form.approved.as_ref().map(|approved| Approved {
            name: approved.name.clone(),
            language: approved.language.clone(),
            parameters: approved.parameters.len(),
        });
        let (subject, html) = (form.subject.is_some(), form.html.is_some());
        locales.entry(form.locale.clone()).or_default()[form.channel] =
            Some(Form { subject, html, approved });
    }
    locales
}

struct Check<'s> {
    source: &'s SourceText,
    engine: Engine,
    faults: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Check<'_> {
    /// Each text on its own: its syntax, and words that the language does not have.
    fn compile(&mut self, draft: &Draft) {
        for text in draft.forms.iter().flat_map(FormDraft::texts) {
            let known = self.faults.len();
            self.words(text);
            // What is refused by name needs no second fault in the engine's words.
            if let Err(failure) = self.engine.add(&text.name, &text.text)
                && self.faults.len() == known
            {
                self.failed("template-syntax", text, &failure);
            }
            if text.name.ends_with(".html") {
                for place in html::unsafe_places(&text.text).into_iter().take(self.room()) {
                    let told = format!("{}: {}", text.name, place.why);
                    let fault = self.fault("unsafe-place", text, &place.span, told);
                    self.faults.push(fault.hint(place.hint));
                }
            }
        }
    }

    /// Faults that may still be told: nobody reads the thousandth.
    fn room(&self) -> usize {
        FAULTS_MAX.saturating_sub(self.faults.len())
    }

    fn words(&mut self, text: &Text) {
        for word in scan::words(&text.text) {
            if self.room() == 0 {
                return;
            }
            let (told, hint) = match word.used_as {
                Use::Tag if !TAGS.contains(&word.text) => unknown_tag(word.text),
                Use::Filter if !filters::names().any(|name| name == word.text) => unknown_filter(word.text),
                Use::Test => (
                    format!("there is no test \"is {}\"", word.text),
                    "write {% if NAME %}: it holds where NAME is given and not empty".to_owned(),
                ),
                Use::Call => (
                    format!("there are no functions: {}(", word.text),
                    format!("there are filters: {{{{ name | {} }}}}", near_filter(word.text)),
                ),
                _ => continue,
            };
            let fault = self.fault("unknown-word", text, &word.span(), format!("{}: {told}", text.name));
            self.faults.push(fault.hint(hint));
        }
    }

    /// What is used must be declared, and what is declared should be used.
    fn variables(&mut self, draft: &Draft) {
        let declared = || draft.required.iter().chain(&draft.optional);
        let mut used = BTreeSet::new();
        for text in draft.forms.iter().flat_map(FormDraft::texts) {
            for name in self.engine.variables(&text.name) {
                if self.room() == 0 {
                    return;
                }
                if declared().all(|(known, _)| *known != name) {
                    self.undeclared(text, &name, declared().map(|(known, _)| known.as_str()));
                }
                used.insert(name);
            }
        }
        // Where a text has faults, what it uses is not known.
        if !self.faults.is_empty() {
            return;
        }
        for (name, span) in declared().filter(|(name, _)| !used.contains(name)) {
            let told = format!("the variable {name:?} is declared and used in no text");
            let fault = self.source.fault("unused-variable", span.clone(), told);
            self.warn(fault, "use it, or take it out of the list");
        }
    }

    fn undeclared<'n>(&mut self, text: &Text, name: &str, declared: impl Iterator<Item = &'n str>) {
        let word = scan::words(&text.text)
            .into_iter()
            .find(|word| word.used_as == Use::Name && word.text == name)
            .map_or(0..text.text.len(), |word| word.span());
        let told = format!("{}: {name:?} is not declared", text.name);
        let fault = self.fault("undeclared-variable", text, &word, told);
        self.faults.push(match nearest(name, declared) {
            Some(meant) => fault.hint(format!("did you mean {meant:?}?")),
            None => fault.hint(format!("add {name:?} to variables, or to optional if it may be missing")),
        });
    }

    /// Renders every text with the example, and with what it must have alone.
    fn try_out(&mut self, draft: &Draft) {
        if !self.faults.is_empty() {
            return;
        }
        let optional: Vec<&str> = draft.optional.iter().map(|(name, _)| name.as_str()).collect();
        for (name, value) in &draft.example {
            if let Some(why) = data::unfit(value) {
                let (_, span) = draft
                    .required
                    .iter()
                    .chain(&draft.optional)
                    .find(|(known, _)| known == name)
                    .cloned()
                    .unwrap_or_default();
                self.faults.push(self.source.fault("bad-example", span, format!("example.{name}: {why}")));
            }
        }
        let given = || draft.example.iter().map(|(name, value)| (name.as_str(), language::value(value)));
        let whole = language::values(given(), optional.iter().copied(), ZONE);
        let bare = given().filter(|(name, _)| !optional.contains(name));
        let bare = language::values(bare, optional.iter().copied(), ZONE);
        for form in &draft.forms {
            let outcomes: Vec<(&Text, String)> =
                form.texts().filter_map(|text| Some((text, self.rendered(text, &whole, &bare)?))).collect();
            for (text, outcome) in outcomes {
                self.outcome(form, text, &outcome);
            }
        }
        self.missing_forms(draft);
    }

    /// The text as it comes out with everything; tells what fails either way.
    fn rendered(&mut self, text: &Text, whole: &Value, bare: &Value) -> Option<String> {
        let outcome = match self.engine.render(&text.name, whole) {
            Ok(outcome) => outcome,
            Err(failure) => {
                self.failed("example-failed", text, &failure);
                return None;
            }
        };
        match self.engine.render(&text.name, bare) {
            Ok(bare) if shape(&text.name, &bare).trim().is_empty() => {
                let told = format!("{}: nothing is left without what is optional", text.name);
                let fault = self.fault("empty", text, &(0..0), told);
                self.faults.push(fault.hint("write something that is always there"));
                None
            }
            Ok(_) => Some(outcome),
            Err(failure) => {
                self.failed("optional-printed", text, &failure);
                None
            }
        }
    }

    /// What the example shows of a text: segments of an SMS, lengths that no channel takes.
    fn outcome(&mut self, form: &FormDraft, text: &Text, outcome: &str) {
        let outcome = shape(&text.name, outcome);
        let characters = outcome.chars().count();
        let whole = 0..text.text.len();
        if text.name.ends_with(".subject") && characters > SUBJECT_CHARS_MAX {
            let told = format!("{}: {characters} characters; at most {SUBJECT_CHARS_MAX}", text.name);
            self.faults.push(self.fault("too-long", text, &whole, told));
        }
        let chat = matches!(form.channel, Channel::WhatsApp | Channel::Telegram);
        if chat && characters > CHAT_CHARS_MAX {
            let told =
                format!("{}: {characters} characters; {} takes {CHAT_CHARS_MAX}", text.name, form.channel);
            self.faults.push(self.fault("too-long", text, &whole, told));
        }
        if form.channel == Channel::Sms {
            self.segments(text, &outcome);
        }
    }

    /// More than one SMS, or an alphabet that halves it, is worth knowing beforehand.
    fn segments(&mut self, text: &Text, outcome: &str) {
        let (encoding, count) = segments::segments(outcome);
        if count <= 1 && encoding == Encoding::Gsm7 {
            return;
        }
        let characters = outcome.chars().count();
        let plural = if count == 1 { "" } else { "s" };
        let told =
            format!("{}: {count} segment{plural} ({characters} characters) with the example", text.name);
        let odd = outcome.chars().find(|c| segments::segments(&c.to_string()).0 == Encoding::Ucs2);
        let Some(odd) = odd.filter(|_| encoding == Encoding::Ucs2) else {
            let fault = self.fault("sms-segments", text, &(0..0), told);
            return self.warn(fault, "160 characters fit in one, 153 in each of several; each is paid for");
        };
        let at = text.text.find(odd).map_or(0..0, |at| at..at + odd.len_utf8());
        let told =
            format!("{told}: because of {odd} ({}) one holds 70 characters instead of 160", describe(odd));
        let fault = self.fault("sms-segments", text, &at, told);
        self.warn(fault, &instead(odd));
    }

    /// A channel that only some languages have.
    fn missing_forms(&mut self, draft: &Draft) {
        let locales: BTreeSet<&str> = draft.forms.iter().map(|form| form.locale.as_str()).collect();
        for locale in &locales {
            let has = |channel| draft.forms.iter().any(|f| f.locale == *locale && f.channel == channel);
            let elsewhere = |channel| draft.forms.iter().find(|form| form.channel == channel);
            let missing: Vec<&FormDraft> =
                Channel::ALL.into_iter().filter(|c| !has(*c)).filter_map(elsewhere).collect();
            for form in missing {
                let told = format!("{locale} has no {} form, and {} has one", form.channel, form.locale);
                let fault = self.source.fault("missing-form", form.key.clone(), told);
                let hint = format!("who reads {locale} is not written to by {}", form.channel);
                self.warn(fault, &hint);
            }
        }
    }

    fn failed(&mut self, code: &str, text: &Text, failure: &Failure) {
        let start = line_start(&text.text, failure.line);
        let bytes = failure.bytes.clone().unwrap_or(start..start);
        let fault = self.fault(code, text, &bytes, format!("{}: {}", text.name, failure.words));
        self.faults.push(match failure.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        });
    }

    /// A fault at bytes of a text, shown where they stand in the file.
    fn fault(&self, code: &str, text: &Text, bytes: &Range<usize>, message: String) -> Diagnostic {
        let (line, column) = line_and_column(&text.text, bytes.start);
        let file = &self.source.text;
        let (line, column) = place::in_file(file, text.span.clone(), line, column);
        let shown = text.text.get(bytes.clone()).unwrap_or_default();
        let length = shown.lines().next().unwrap_or_default().chars().count();
        Diagnostic::error(code, &self.source.file, message).at(file, line, column, length)
    }

    fn warn(&mut self, fault: Diagnostic, hint: &str) {
        self.warnings.push(Diagnostic { severity: Severity::Warning, ..fault }.hint(hint));
    }
}

fn unknown_tag(tag: &str) -> (String, String) {
    let told = if REFUSED_TAGS.contains(&tag) {
        format!("{{% {tag} %}} is not for templates: each stands alone, and is always escaped")
    } else {
        format!("there is no tag {{% {tag} %}}")
    };
    let hint = match nearest(tag, TAGS) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("there are {}", TAGS.join(", ")),
    };
    (told, hint)
}

fn unknown_filter(filter: &str) -> (String, String) {
    let hint = match nearest(filter, filters::names()) {
        _ if filter == "safe" => "everything is escaped in html; write the html in the template".to_owned(),
        Some(meant) => format!("did you mean {meant:?}?"),
        None => {
            let all: Vec<&str> = filters::FILTERS.iter().map(|(name, ..)| *name).collect();
            format!("there are {}", all.join(", "))
        }
    };
    (format!("there is no filter {filter:?}"), hint)
}

fn near_filter(name: &str) -> &'static str {
    nearest(name, filters::names())
        .and_then(|near| filters::names().find(|known| *known == near))
        .unwrap_or("upper")
}

/// The character's common name, for those that look like another.
fn describe(c: char) -> String {
    match c {
        '’' | '‘' => "a curly apostrophe".to_owned(),
        '“' | '”' => "a curly quote".to_owned(),
        '«' | '»' => "a French quote".to_owned(),
        '…' => "three dots in one character".to_owned(),
        '–' | '—' => "a long dash".to_owned(),
        '\u{a0}' | '\u{202f}' => "a space that does not break".to_owned(),
        c => format!("U+{:04X}", c as u32),
    }
}

/// What an SMS can have in its place.
fn instead(c: char) -> String {
    let plain = match c {
        '’' | '‘' => "'",
        '“' | '”' | '«' | '»' => "\"",
        '…' => "...",
        '–' | '—' => "-",
        '\u{a0}' | '\u{202f}' => "an ordinary space",
        'ç' => "c",
        'ê' | 'ë' => "e",
        'â' => "a",
        'î' | 'ï' => "i",
        'ô' => "o",
        'û' => "u",
        'œ' => "oe",
        'À' => "A",
        'È' | 'Ê' => "E",
        _ => return "leave it out of SMS; é è à ù ì ò are free".to_owned(),
    };
    format!("write {plain} instead; é è à ù are free")
}

fn line_start(text: &str, line: usize) -> usize {
    let skipped = line.saturating_sub(1);
    if skipped == 0 {
        return 0;
    }
    text.match_indices('\n').nth(skipped - 1).map_or(text.len(), |(at, _)| at + 1)
}

fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = &text[..byte];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}
