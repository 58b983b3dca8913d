//! `orchestrator.toml`, read by hand over its spans, so that every fault has its line and the key that was meant.
//!
//! It checks shapes, not worlds: whether a folder exists or a relay answers is not asked here. A credential that
//! stands in the file itself is refused.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::Limits;
use crate::policy::diagnostic::{Diagnostic, nearest};

const KEYS: &[&str] = &[
    "state_dir",
    "policies",
    "socket",
    "listen",
    "allowed_hosts",
    "public_listen",
    "public_url",
    "trusted_proxies",
    "database",
    "allow_recipients",
    "log",
    "limits",
    "drivers",
    "webhooks",
];
const LIMITS: &[&str] = &["concurrency", "connections", "drain_seconds", "ballast_mib"];

/// Keys of a driver that are credentials: `env:NAME` or `file:PATH`, never the secret itself.
const SECRETS: &[&str] = &[
    "password",
    "token",
    "secret",
    "auth_token",
    "secondary_auth_token",
    "api_key",
    "api_secret",
    "access_token",
    "signature_secret",
    "signature_secret_previous",
    "secret_previous",
    "app_secret",
    "app_secret_previous",
    "verify_token",
    "webhook_secret",
    "webhook_secret_previous",
];

/// What the file said; `None` where it said nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct FileSettings {
    pub state_dir: Option<PathBuf>,
    pub policies: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub listen: Option<String>,
    pub allowed_hosts: Vec<String>,
    pub public_listen: Option<String>,
    pub public_url: Option<String>,
    pub trusted_proxies: Vec<String>,
    pub database: Option<String>,
    pub allow_recipients: Vec<String>,
    pub log: Option<String>,
    pub limits: Limits,
    pub drivers: Vec<DriverSection>,
    pub webhooks: Vec<DriverSection>,
}

/// One `[drivers.NAME]` or `[webhooks.TENANT]` table, as its own settings will read it.
#[derive(Clone, Debug)]
pub struct DriverSection {
    pub name: String,
    pub table: toml::Table,
    file: String,
    source: String,
    span: std::ops::Range<usize>,
    keys: Vec<(String, std::ops::Range<usize>)>,
}

impl DriverSection {
    /// A fault at one of the table's keys, or at its head where the key is not written.
    pub fn fault(&self, key: Option<&str>, code: &str, message: impl Into<String>) -> Diagnostic {
        let at = key.and_then(|key| self.keys.iter().find(|(name, _)| name == key));
        let span = at.map_or(&self.span, |(_, span)| span).clone();
        Diagnostic::error(code, &self.file, message).span(&self.source, span)
    }

    /// Every string in the table that names a variable.
    fn referenced_variables(&self) -> impl Iterator<Item = String> {
        let mut found = Vec::new();
        variables_in(&self.table, &mut found);
        found.into_iter()
    }
}

fn variables_in(table: &toml::Table, found: &mut Vec<String>) {
    for value in table.values() {
        match value {
            toml::Value::String(text) => found.extend(text.strip_prefix("env:").map(str::to_owned)),
            toml::Value::Table(inner) => variables_in(inner, found),
            _ => {}
        }
    }
}

impl FileSettings {
    pub fn referenced_variables(&self) -> Vec<String> {
        self.drivers.iter().chain(&self.webhooks).flat_map(DriverSection::referenced_variables).collect()
    }
}

/// Reads the file, or says why it cannot be read.
pub(super) fn read(path: &Path, faults: &mut Vec<Diagnostic>) -> FileSettings {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(source) => {
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            parse(&name, &base, &source, faults)
        }
        Err(error) => {
            faults.push(Diagnostic::error("unreadable", &name, format!("cannot be read: {error}")));
            FileSettings::default()
        }
    }
}

/// Reads the text. Relative paths are relative to the file's own folder, `base`.
pub(super) fn parse(file: &str, base: &Path, source: &str, faults: &mut Vec<Diagnostic>) -> FileSettings {
    let (root, errors) = DeTable::parse_recoverable(source);
    for error in &errors {
        let fault = Diagnostic::error("toml-syntax", file, error.message());
        faults.push(match error.span() {
            Some(span) => fault.span(source, span),
            None => fault,
        });
    }
    let mut reader = Reader { file, source, faults };
    let root = root.get_ref();
    reader.only(root, "a key of orchestrator.toml", KEYS);
    let path = |text: String| base.join(text);
    let mut settings = FileSettings {
        state_dir: reader.string(root, "state_dir").map(path),
        policies: reader.string(root, "policies").map(path),
        socket: reader.string(root, "socket").map(path),
        listen: reader.string(root, "listen"),
        allowed_hosts: reader.strings(root, "allowed_hosts"),
        public_listen: reader.string(root, "public_listen"),
        public_url: reader.string(root, "public_url"),
        trusted_proxies: reader.strings(root, "trusted_proxies"),
        database: reader.string(root, "database"),
        allow_recipients: reader.strings(root, "allow_recipients"),
        log: reader.string(root, "log"),
        ..FileSettings::default()
    };
    if let Some(limits) = reader.table(root, "limits") {
        reader.only(limits, "a key of [limits]", LIMITS);
        let limit = &mut settings.limits;
        reader.integer(limits, "concurrency", 1..=10_000, &mut limit.concurrency);
        reader.integer(limits, "connections", 1..=100_000, &mut limit.connections);
        reader.integer(limits, "drain_seconds", 0..=25, &mut limit.drain_seconds);
        reader.integer(limits, "ballast_mib", 0..=65_536, &mut limit.ballast_mib);
    }
    if let Some(drivers) = reader.table(root, "drivers") {
        settings.drivers = reader.sections(drivers, "drivers");
    }
    if let Some(webhooks) = reader.table(root, "webhooks") {
        settings.webhooks = reader.sections(webhooks, "webhooks");
    }
    settings
}

struct Reader<'s> {
    file: &'s str,
    source: &'s str,
    faults: &'s mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn fault(&mut self, code: &str, span: std::ops::Range<usize>, message: String, hint: Option<String>) {
        let mut fault = Diagnostic::error(code, self.file, message).span(self.source, span);
        fault.hint = hint;
        self.faults.push(fault);
    }

    fn only(&mut self, table: &DeTable<'_>, what: &str, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let hint = match nearest(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.fault("unknown-key", key.span(), format!("`{name}` is not {what}"), Some(hint));
            }
        }
    }

    fn expected(&mut self, value: &Spanned<DeValue<'_>>, key: &str, expected: &str) {
        let found = value.get_ref().type_str();
        let message = format!("`{key}` is {found}: expected {expected}");
        self.fault("wrong-type", value.span(), message, None);
    }

    fn string(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let value = find(table, key)?;
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Some(text.as_ref().to_owned()),
            _ => {
                self.expected(value, key, "a text that is not empty");
                None
            }
        }
    }

    fn strings(&mut self, table: &DeTable<'_>, key: &str) -> Vec<String> {
        let Some(value) = find(table, key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.expected(value, key, "a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(text.as_ref().to_owned()),
                _ => self.expected(item, key, "a list of texts"),
            }
        }
        texts
    }

    fn integer(&mut self, table: &DeTable<'_>, key: &str, range: RangeInclusive<u32>, into: &mut u32) {
        let Some(value) = find(table, key) else { return };
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => *into = number,
            None => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.expected(value, key, &expected);
            }
        }
    }

    fn table<'t, 'i>(&mut self, table: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
        let value = find(table, key)?;
        match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => {
                self.expected(value, key, "a table");
                None
            }
        }
    }

    fn sections(&mut self, tables: &DeTable<'_>, of: &str) -> Vec<DriverSection> {
        // A second, plain reading: their own settings take plain tables.
        let plain = self.source.parse::<toml::Table>().unwrap_or_default();
        let plain = plain.get(of).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let mut sections = Vec::new();
        for (name, value) in tables {
            let DeValue::Table(table) = value.get_ref() else {
                self.expected(value, name.get_ref(), &format!("a table, [{of}.NAME]"));
                continue;
            };
            for (key, value) in table {
                self.refuse_literal_secret(key.get_ref(), value);
            }
            let key = name.get_ref().as_ref().to_owned();
            sections.push(DriverSection {
                table: plain.get(&key).and_then(toml::Value::as_table).cloned().unwrap_or_default(),
                name: key,
                file: self.file.to_owned(),
                source: self.source.to_owned(),
                span: name.span(),
                keys: table.keys().map(|key| (key.get_ref().as_ref().to_owned(), key.span())).collect(),
            });
        }
        sections
    }

    /// reliability.md T37: credentials are references. The message repeats nothing of the value.
    fn refuse_literal_secret(&mut self, key: &str, value: &Spanned<DeValue<'_>>) {
        let DeValue::String(text) = value.get_ref() else { return };
        if SECRETS.contains(&key) && !text.starts_with("env:") && !text.starts_with("file:") {
            let fault = Diagnostic::error(
                "literal-secret",
                self.file,
                format!("`{key}` holds a secret in plain text"),
            );
            let mut fault = fault.span(self.source, value.span());
            fault.excerpt = None;
            let hint = "name where it is kept: `env:VARIABLE` or `file:/path/to/secret`";
            self.faults.push(fault.hint(hint));
        }
    }
}

fn find<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
}
