//! From the text of a `tests/*.toml` to its tests, or every fault in it at once, each with its place.
//!
//! What stands under `context`, `content` and `facts` is read by `request`, like any caller's request. Nothing
//! is decided here.

use std::ops::Range;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{DEFAULT_AT, Expectation, Held, PolicyTest, TestFile};
use crate::{
    domain::{channel::Channel, ids::TenantId, time::parse_time_of_day},
    policy::{
        assemble::SourceFile,
        diagnostic::{Diagnostic, nearest},
        document::{source::SourceText, values::json},
    },
    request::{Asked, Purpose, RequestError, parse_value},
};

const TEST_KEYS: [&str; 8] = ["name", "tenant", "at", "variant", "facts", "context", "content", "expect"];
const EXPECT_KEYS: [&str; 6] = ["channel", "alternatives", "excluded", "held", "confidence", "reasons"];
/// How to mend what no better word is known for.
const FORM: &str = "a test is written: [[test]], and under it name = \"...\", tenant = \"...\", context = { ... }, \
                    content = { ... }, expect = { channel = \"sms\" }";
/// More tests than anyone waits for at each save.
const TESTS_MAX: usize = 1_000;

/// Reads a file of tests. Never fails: faults are part of what it gives.
pub fn parse_file(file: &SourceFile) -> TestFile {
    let mut read = TestFile::default();
    let source = match SourceText::read(file) {
        Ok(source) => source,
        Err(fault) => {
            read.tenants = named_by_scan(&String::from_utf8_lossy(&file.bytes));
            read.blame_all(vec![*fault]);
            return read;
        }
    };
    let text = source.text.as_str();
    let (root, mut faults) = source.parse();
    if !faults.is_empty() {
        read.tenants = named_by_scan(text);
        for fault in &mut faults {
            fault.hint.get_or_insert_with(|| FORM.to_owned());
        }
        read.blame_all(faults);
        return read;
    }
    Reader { path: &file.path, text, found: Vec::new() }.read(root.get_ref(), &mut read);
    read.tenants.sort_unstable();
    read.tenants.dedup();
    read
}

impl TestFile {
    /// A file that cannot be read holds up every tenant that it names; one that names none belongs to nobody.
    fn blame_all(&mut self, faults: Vec<Diagnostic>) {
        for fault in faults {
            for tenant in &self.tenants {
                self.faults.push((Some(tenant.clone()), fault.clone()));
            }
            if self.tenants.is_empty() {
                self.faults.push((None, fault));
            }
        }
    }
}

/// The tenants that a text which is no TOML names, line by line: `tenant = "acme"`.
fn named_by_scan(text: &str) -> Vec<TenantId> {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let quoted = value.trim().split('#').next()?.trim().trim_matches(['"', '\'']).to_owned();
        (key.trim() == "tenant").then_some(quoted)
    };
    let mut found: Vec<TenantId> =
        text.lines().filter_map(value).filter_map(|id| TenantId::parse(&id).ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Reads one file; `found` gathers the faults of the test at hand.
struct Reader<'a> {
    path: &'a str,
    text: &'a str,
    found: Vec<Diagnostic>,
}

type Node<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn read(&mut self, root: &DeTable<'_>, read: &mut TestFile) {
        for key in root.keys().filter(|key| key.get_ref() != "test") {
            self.unknown(key.get_ref(), key.span(), &["test"], "a file of tests holds [[test]] only");
        }
        let entries = match root.get("test").map(Spanned::get_ref) {
            None => &[][..],
            Some(DeValue::Array(entries)) => entries.as_ref(),
            Some(_) => {
                self.fault("wrong-type", 0..0, "`test` is no list");
                self.hint("write [[test]] above each test");
                &[][..]
            }
        };
        read.faults.extend(self.found.drain(..).map(|fault| (None, fault)));
        for entry in entries.iter().take(TESTS_MAX) {
            let (tenant, test) = self.test(entry);
            read.tenants.extend(tenant.clone());
            read.faults.extend(self.found.drain(..).map(|fault| (tenant.clone(), fault)));
            read.tests.extend(test);
        }
        if entries.len() > TESTS_MAX {
            let told = format!("{} tests; the first {TESTS_MAX} are run", entries.len());
            let fault = Diagnostic::warning("too-many-tests", self.path, told);
            read.faults.push((None, fault.hint("put the others into a file of their own")));
        }
    }

    /// One `[[test]]`: the tenant that it names, and the test if nothing is wrong with it.
    fn test(&mut self, entry: &Node<'_>) -> (Option<TenantId>, Option<PolicyTest>) {
        let DeValue::Table(table) = entry.get_ref() else {
            self.fault("wrong-type", entry.span(), "expected a test");
            self.hint("write [[test]] above its keys");
            return (None, None);
        };
        for key in table.keys().filter(|key| !TEST_KEYS.contains(&key.get_ref().as_ref())) {
            self.unknown(
                key.get_ref(),
                key.span(),
                &TEST_KEYS,
                &format!("a test has {}", TEST_KEYS.join(", ")),
            );
        }
        let name = self.text_of(table, "name", &entry.span()).unwrap_or_default();
        let tenant = self.text_of(table, "tenant", &entry.span()).and_then(|id| {
            let read = TenantId::parse(&id);
            if let Err(error) = &read {
                self.fault("bad-tenant", span_of(table, "tenant"), error.to_string());
                self.hint("write the name of a file in tenants/, without .toml");
            }
            read.ok()
        });
        let expect = self.expectation(table, &entry.span());
        let asked = tenant.as_ref().and_then(|tenant| self.request(table, tenant, &entry.span()));
        let (line, excerpt) = self.line(entry.span().start);
        let test = match (tenant.clone(), asked, expect) {
            (Some(tenant), Some(asked), Some(expect)) if self.found.is_empty() => {
                let at = asked.at.or_else(|| DEFAULT_AT.parse::<DateTime<Utc>>().ok()).unwrap_or_default();
                let file = self.path.to_owned();
                Some(PolicyTest { name, tenant, file, line, excerpt, asked, at, expect })
            }
            _ => None,
        };
        (tenant, test)
    }

    /// What the test asks, as `request` reads it; its faults are told where they stand in the file.
    fn request(&mut self, table: &DeTable<'_>, tenant: &TenantId, whole: &Range<usize>) -> Option<Asked> {
        let mut body = Map::new();
        for key in ["at", "variant", "facts", "context", "content"] {
            if let Some(value) = table.get(key) {
                body.insert(key.to_owned(), json(value.get_ref()));
            }
        }
        let context = body.entry("context").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(context) = context {
            // Said once, at the top of the test; a context pasted from a request may say it again.
            context.entry("tenantId").or_insert_with(|| tenant.as_str().into());
            context.entry("prospectId").or_insert_with(|| "test".into());
        }
        match parse_value(Value::Object(body), Purpose::Explain) {
            Ok(asked) if &asked.request.tenant != tenant => {
                let told = format!("the test is for {tenant}, its context for {}", asked.request.tenant);
                self.fault("tenant-differs", locate(table, "/context/tenantId", whole), told);
                self.hint("take tenantId out of the context: the test says whose it is");
                None
            }
            Ok(asked) => Some(asked),
            Err(RequestError::Syntax(told)) => {
                self.fault("bad-request", whole.clone(), told);
                self.hint(FORM);
                None
            }
            Err(RequestError::Faults(faults)) => {
                for fault in faults {
                    let told = format!(
                        "{}: {}",
                        fault.pointer.trim_start_matches('/').replace('/', "."),
                        fault.detail
                    );
                    let span = locate(table, &fault.pointer, whole);
                    let mut fault_here =
                        Diagnostic::error("bad-request", self.path, told).span(self.text, span);
                    let as_sent = "write it as a request to POST /v1/messages has it";
                    fault_here.hint = fault.hint.or_else(|| Some(as_sent.to_owned()));
                    self.found.push(fault_here);
                }
                None
            }
        }
    }

    fn expectation(&mut self, table: &DeTable<'_>, whole: &Range<usize>) -> Option<Expectation> {
        let given = table.get("expect");
        let expect = match given.map(Spanned::get_ref) {
            Some(DeValue::Table(expect)) if !expect.is_empty() => expect,
            None | Some(DeValue::Table(_)) => {
                let span = given.map_or_else(|| whole.clone(), Spanned::span);
                self.fault("no-expectation", span, "the test expects nothing, so it could never fail");
                self.hint("add a line such as expect = { channel = \"sms\" }");
                return None;
            }
            Some(_) => {
                self.fault("wrong-type", span_of(table, "expect"), "expect is a table");
                self.hint("write expect = { channel = \"sms\" }");
                return None;
            }
        };
        for key in expect.keys().filter(|key| !EXPECT_KEYS.contains(&key.get_ref().as_ref())) {
            let all = format!("expect has {}", EXPECT_KEYS.join(", "));
            self.unknown(key.get_ref(), key.span(), &EXPECT_KEYS, &all);
        }
        let channel = expect.get("channel").and_then(|value| match value.get_ref().as_str() {
            Some("none") => Some(None),
            _ => self.channel(value).map(Some),
        });
        Some(Expectation {
            channel,
            alternatives: expect.get("alternatives").map(|value| self.channels(value)),
            excluded: expect.get("excluded").map(|value| self.channels(value)).unwrap_or_default(),
            held: expect.get("held").map(|value| self.held(value)).unwrap_or_default(),
            confidence: expect.get("confidence").and_then(|value| self.share(value)),
            reasons: expect.get("reasons").map(|value| self.texts(value)).unwrap_or_default(),
        })
    }

    fn channel(&mut self, value: &Node<'_>) -> Option<Channel> {
        let name = value.get_ref().as_str();
        let channel = name.and_then(Channel::parse);
        if channel.is_none() {
            let names = Channel::ALL.map(Channel::as_str);
            let shown =
                name.map_or_else(|| value.get_ref().type_str().to_owned(), |name| format!("{name:?}"));
            self.fault("bad-channel", value.span(), format!("{shown} is no channel"));
            match name.and_then(|name| nearest(name, names)) {
                Some(meant) => self.hint(format!("did you mean {meant:?}?")),
                None => self.hint(format!("one of {}, or \"none\" for the channel", names.join(", "))),
            }
        }
        channel
    }

    fn channels(&mut self, value: &Node<'_>) -> Vec<Channel> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.channel(item)).collect(),
            _ => self.channel(value).into_iter().collect(),
        }
    }

    /// `true`, `"08:00"` or an instant, of the chosen channel; `{ sms = "08:00" }` of one that is named.
    fn held(&mut self, value: &Node<'_>) -> Vec<(Option<Channel>, Held)> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.hold(value).map(|held| (None, held)).into_iter().collect();
        };
        let mut all = Vec::new();
        for (key, value) in table {
            match Channel::parse(key.get_ref()) {
                Some(channel) => all.extend(self.hold(value).map(|held| (Some(channel), held))),
                None => {
                    let names = Channel::ALL.map(Channel::as_str);
                    self.unknown(key.get_ref(), key.span(), &names, "expected a channel");
                }
            }
        }
        all
    }

    fn hold(&mut self, value: &Node<'_>) -> Option<Held> {
        let held = match value.get_ref() {
            DeValue::Boolean(held) => Some(Held::Is(*held)),
            other => {
                let text = match other {
                    DeValue::String(text) => text.to_string(),
                    DeValue::Datetime(at) => at.to_string(),
                    _ => String::new(),
                };
                let instant = text.parse::<DateTime<chrono::FixedOffset>>().ok();
                instant
                    .map(|at| Held::Until(at.with_timezone(&Utc)))
                    .or_else(|| parse_time_of_day(text.get(..5).unwrap_or("")).map(Held::UntilTime))
            }
        };
        if held.is_none() {
            self.fault("bad-hold", value.span(), "expected true, false, a time of day or an instant");
            self.hint("such as held = true, held = \"08:00\" or held = { sms = \"08:00\" }");
        }
        held
    }

    /// A number from 0 to 1.
    fn share(&mut self, value: &Node<'_>) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
            _ => None,
        };
        let share = number.filter(|number| (0.0..=1.0).contains(number));
        if share.is_none() {
            self.fault("bad-confidence", value.span(), "expected a confidence from 0 to 1");
            self.hint("such as confidence = 0.9");
        }
        share
    }

    fn texts(&mut self, value: &Node<'_>) -> Vec<String> {
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref().as_str().filter(|text| !text.trim().is_empty()) {
                Some(text) => texts.push(text.to_owned()),
                None => {
                    self.fault("bad-reason", item.span(), "expected a part of a reason, as text");
                    self.hint("such as reasons = [\"Quiet hours\"]");
                }
            }
        }
        texts
    }

    /// A text that must be there.
    fn text_of(&mut self, table: &DeTable<'_>, key: &str, whole: &Range<usize>) -> Option<String> {
        let Some(value) = table.get(key) else {
            self.fault("missing-key", whole.clone(), format!("the test has no {key}"));
            self.hint(format!("add a line {key} = \"...\" under [[test]]"));
            return None;
        };
        match value.get_ref().as_str().filter(|text| !text.trim().is_empty()) {
            Some(text) => Some(text.to_owned()),
            None => {
                self.fault("wrong-type", value.span(), format!("{key} is a text that is not empty"));
                self.hint(format!("write {key} = \"...\", between straight quotes"));
                None
            }
        }
    }

    fn unknown(&mut self, key: &str, span: Range<usize>, known: &[&str], all: &str) {
        self.fault("unknown-key", span, format!("unknown key {key:?}"));
        match nearest(key, known.iter().copied()) {
            Some(meant) => self.hint(format!("did you mean {meant:?}?")),
            None => self.hint(all),
        }
    }

    fn fault(&mut self, code: &str, span: Range<usize>, message: impl Into<String>) {
        self.found.push(Diagnostic::error(code, self.path, message).span(self.text, span));
    }

    /// How to mend the fault told last.
    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.found.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    /// The line (from 1) that a byte is on, and its text.
    fn line(&self, at: usize) -> (usize, String) {
        let line = self.text[..at.min(self.text.len())].matches('\n').count() + 1;
        (line, self.text.lines().nth(line - 1).unwrap_or_default().to_owned())
    }
}

fn span_of(table: &DeTable<'_>, key: &str) -> Range<usize> {
    table.get(key).map_or(0..0, Spanned::span)
}

/// Where a JSON pointer leads in the test's table: the deepest part of it that is there.
fn locate<'t, 'i>(table: &'t DeTable<'i>, pointer: &str, whole: &Range<usize>) -> Range<usize> {
    let mut place: Option<&'t DeValue<'i>> = None;
    let mut span = whole.clone();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let here = match place {
            None => Some(table),
            Some(DeValue::Table(inner)) => Some(inner),
            Some(_) => None,
        };
        let next = match (here, place) {
            (Some(table), _) => table.get_key_value(part.as_str()).map(|(key, value)| (key.span(), value)),
            (None, Some(DeValue::Array(items))) => {
                part.parse::<usize>().ok().and_then(|at| items.get(at)).map(|value| (value.span(), value))
            }
            _ => None,
        };
        let Some((found, value)) = next else { break };
        (place, span) = (Some(value.get_ref()), found);
    }
    span
}
