//! One file (or the environment) as checked values by dotted key, with the faults found on the way.
//!
//! A layer knows nothing of the layers below it: what needs several of them is checked when they are merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::{self, Key, Names, Presence, Shape},
    source::{FAULTS_MAX, SourceText},
    strategies,
    values::{self, Misfit, Value},
};
use crate::{
    domain::ids::CriterionName,
    policy::{
        assemble::SourceFile,
        diagnostic::{Diagnostic, nearest},
    },
};

/// Which layer, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    BuiltIn,
    Default,
    Environment,
    Tenant,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    pub value: Value,
    /// Bytes of the value in its file.
    pub span: Range<usize>,
    /// Bytes of the key in its file.
    pub key: Range<usize>,
}

/// Values by dotted key: `quiet_hours.start`.
pub type Leaves = BTreeMap<String, Leaf>;

/// What one source says.
#[derive(Debug)]
pub struct Layer {
    pub kind: LayerKind,
    pub source: Arc<SourceText>,
    pub leaves: Leaves,
    pub faults: Vec<Diagnostic>,
}

impl Layer {
    /// Reads a policy file. A layer with faults must not become a policy.
    pub fn read(kind: LayerKind, file: &SourceFile) -> Self {
        match SourceText::read(file) {
            Ok(source) => Self::from_source(kind, source),
            Err(fault) => {
                let source = Arc::new(SourceText { file: file.path.clone(), text: String::new() });
                Self { kind, source, leaves: Leaves::new(), faults: vec![*fault] }
            }
        }
    }

    fn from_source(kind: LayerKind, source: Arc<SourceText>) -> Self {
        let (tree, faults) = source.parse();
        let mut reader = Reader { source: &source, faults, more: 0 };
        let mut leaves = Leaves::new();
        reader.walk(keys::POLICY, tree.get_ref(), "", &mut leaves);
        let mut faults = without_echoes(&source, reader.faults);
        if reader.more > 0 {
            let more = reader.more;
            faults.push(Diagnostic::error("more-faults", &source.file, format!("and {more} more faults")));
        }
        drop(tree);
        Self { kind, source, leaves, faults }
    }

    /// The name of the environment variable that set a leaf of the environment's layer.
    pub fn variable_of(&self, leaf: &Leaf) -> String {
        self.source.text.get(leaf.key.clone()).unwrap_or_default().to_owned()
    }

    /// A fault at a value of this layer.
    pub fn fault_at(&self, code: &str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.source.fault(code, span, message)
    }
}

/// The walk down one file's tree.
pub(super) struct Reader<'a> {
    pub source: &'a SourceText,
    pub faults: Vec<Diagnostic>,
    /// Faults found beyond those told.
    more: usize,
}

impl Reader<'_> {
    /// Adds a fault, made only while there is room for it.
    pub fn fault(&mut self, make: impl FnOnce(&SourceText) -> Diagnostic) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(make(self.source));
        } else {
            self.more += 1;
        }
    }

    /// Reads a table whose keys are listed.
    pub fn walk(&mut self, keys: &[Key], table: &DeTable<'_>, prefix: &str, out: &mut Leaves) {
        for (name, value) in table.iter() {
            match keys.iter().find(|key| key.name == name.get_ref()) {
                Some(key) => self.take(&key.shape, &join(prefix, key.name), name.span(), value, out),
                None => self.unknown_key(keys, prefix, name.get_ref(), name.span()),
            }
        }
    }

    /// The required keys that a table lacks, as one fault each.
    pub fn require(&mut self, keys: &[Key], table: &DeTable<'_>, what: &str, at: Range<usize>) -> bool {
        let mut complete = true;
        for key in keys.iter().filter(|k| k.presence == Presence::Required) {
            if !table.iter().any(|(name, _)| name.get_ref() == key.name) {
                complete = false;
                self.fault(|source| {
                    source
                        .fault("missing-key", at.clone(), format!("{what} has no {:?}", key.name))
                        .hint(format!("add {} = ... ({})", key.name, key.about.trim_end_matches('.')))
                });
            }
        }
        complete
    }

    fn take(
        &mut self,
        shape: &Shape,
        path: &str,
        key: Range<usize>,
        value: &Spanned<DeValue<'_>>,
        out: &mut Leaves,
    ) {
        match (shape, value.get_ref()) {
            (Shape::Section(keys), DeValue::Table(table)) => {
                self.walk(keys, table, path, out);
                self.require(keys, table, &format!("[{path}]"), value.span());
            }
            (Shape::Named(names, inner), DeValue::Table(table)) => {
                for (name, value) in table.iter() {
                    if self.known_name(*names, path, name.get_ref(), name.span()) {
                        self.take(inner, &join(path, name.get_ref()), name.span(), value, out);
                    }
                }
            }
            (Shape::ByPriority(inner), DeValue::Table(table)) => {
                for (name, value) in table.iter() {
                    if keys::PRIORITIES.contains(&name.get_ref().as_ref()) {
                        self.take(inner, &join(path, name.get_ref()), name.span(), value, out);
                    } else {
                        self.unknown_name("priority", keys::PRIORITIES, name.get_ref(), name.span());
                    }
                }
            }
            (Shape::ByPriority(inner), plain) => match values::read(inner, plain) {
                Ok(read) => {
                    for priority in values::priorities() {
                        let leaf = Leaf { value: read.clone(), span: value.span(), key: key.clone() };
                        out.insert(join(path, priority), leaf);
                    }
                }
                Err(misfit) => self.misfit(path, value, misfit),
            },
            (Shape::Split, DeValue::Table(table)) => {
                let shares = strategies::read_split(self, table);
                out.insert(path.to_owned(), Leaf { value: Value::Split(shares), span: value.span(), key });
            }
            (Shape::Strategies, DeValue::Array(entries)) => {
                let entries = strategies::read_entries(self, entries);
                out.insert(
                    path.to_owned(),
                    Leaf { value: Value::Strategies(entries), span: value.span(), key },
                );
            }
            (shape, plain) => match values::read(shape, plain) {
                Ok(read) => {
                    out.insert(path.to_owned(), Leaf { value: read, span: value.span(), key });
                }
                Err(misfit) => self.misfit(path, value, misfit),
            },
        }
    }

    /// A value that does not fit its key.
    pub fn misfit(&mut self, path: &str, value: &Spanned<DeValue<'_>>, misfit: Misfit) {
        self.fault(|source| {
            let found = values::describe(value.get_ref());
            let message = format!("{path}: expected {}, found {found}", misfit.expected);
            let fault = source.fault(misfit.code, value.span(), message);
            match misfit.hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            }
        });
    }

    /// Whether a name may stand in a table of names; tells if it may not.
    fn known_name(&mut self, names: Names, path: &str, name: &str, at: Range<usize>) -> bool {
        match names {
            Names::Channels if keys::CHANNELS.contains(&name) => true,
            Names::Channels => self.unknown_name("channel", keys::CHANNELS, name, at),
            Names::Origins if keys::ORIGINS.contains(&name) => true,
            Names::Origins => self.unknown_name("origin", keys::ORIGINS, name, at),
            Names::Criteria => match CriterionName::parse(name) {
                Ok(_) => true,
                Err(why) => {
                    self.fault(|source| source.fault("bad-name", at, format!("[{path}]: {why}")));
                    false
                }
            },
            Names::Variants if name == "control" => {
                self.fault(|source| {
                    source
                        .fault("reserved-name", at, "\"control\" is the weights as they stand, not a variant")
                        .hint("give the variant another name, or change [weights]")
                });
                false
            }
            Names::Variants if values::is_name(name) => true,
            Names::Variants => {
                let message =
                    format!("{name:?} is no name for a variant: a-z, 0-9, _ and -, from a letter on");
                self.fault(|source| source.fault("bad-name", at, message));
                false
            }
        }
    }

    fn unknown_name(&mut self, what: &str, names: &[&str], found: &str, at: Range<usize>) -> bool {
        self.fault(|source| {
            let message = format!("unknown {what} {found:?}; there are {}", names.join(", "));
            let fault = source.fault(&format!("unknown-{what}"), at, message);
            match nearest(found, names.iter().copied()) {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault,
            }
        });
        false
    }

    fn unknown_key(&mut self, keys: &[Key], prefix: &str, found: &str, at: Range<usize>) {
        self.fault(|source| {
            let place = match prefix {
                "" => "at the top of the file".to_owned(),
                "strategies" => "in [[strategies]]".to_owned(),
                section => format!("in [{section}]"),
            };
            let shown: String = found.chars().take(60).collect();
            let fault = source.fault("unknown-key", at, format!("unknown key {shown:?} {place}"));
            fault.hint(unknown_key_hint(keys, prefix, &shown))
        });
    }
}

/// Without the faults that only echo a syntax fault: on its line, and below a section's broken header.
fn without_echoes(source: &SourceText, mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let headers = |line: &str| line.trim_start().starts_with('[');
    let mut echoing: BTreeSet<usize> = BTreeSet::new();
    for fault in faults.iter().filter(|f| f.code == "syntax") {
        let Some(line) = fault.line else { continue };
        echoing.insert(line);
        if fault.excerpt.as_deref().is_some_and(headers) {
            let below = source.text.lines().skip(line).take_while(|line| !headers(line)).count();
            echoing.extend(line + 1..=line + below);
        }
    }
    faults.retain(|f| f.code == "syntax" || f.line.is_none_or(|line| !echoing.contains(&line)));
    faults
}

/// Where the key belongs, or what it was meant to be, or what there is.
fn unknown_key_hint(keys: &[Key], prefix: &str, found: &str) -> String {
    if prefix == found {
        return format!("leave out \"{found}.\": this is the section [{found}] already");
    }
    if found.chars().count() < 60 {
        if let Some(near) = nearest(found, keys.iter().map(|k| k.name))
            && near.to_lowercase() == found.to_lowercase()
        {
            return format!("write it in small letters: {near:?}");
        }
        let places = keys::places_of(found);
        if let Some(place) = places.first() {
            return match place.rsplit_once('.') {
                Some(("strategies", _)) => format!("{found:?} belongs in a [[strategies]] entry"),
                Some((section, _)) => format!("{found:?} belongs in [{section}]"),
                None => format!("{found:?} belongs at the top of the file, before the first [section]"),
            };
        }
        if let Some(near) = nearest(found, keys.iter().map(|k| k.name)) {
            return format!("did you mean {near:?}?");
        }
        let everywhere = keys::names();
        if let Some(near) = nearest(found, everywhere.iter().copied())
            && let Some((section, key)) = keys::places_of(near).first().and_then(|p| p.rsplit_once('.'))
        {
            return format!("did you mean {key:?} in [{section}]?");
        }
    }
    let names: Vec<&str> = keys.iter().map(|k| k.name).collect();
    format!("there are: {}", names.join(", "))
}

/// `prefix.name`, or `name` at the top.
pub(in crate::policy) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}
