//! Templates: one message in each channel's form, in several languages (`templates/<ID>.toml`), read, checked
//! and rendered.
//!
//! A template that exists is valid: its forms rendered with its own example. It sees the data that it declares
//! and nothing else: no file, no environment, no other template, no function. It sends nothing, and decides
//! nothing but which language fits. The only place that knows minijinja.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::domain::{channel::PerChannel, suggest::nearest};

mod check;
mod data;
mod document;
mod filters;
mod html;
mod language;
mod scan;
pub mod schema;
mod words;

pub use data::DataFault;
pub use filters::reference_markdown;
pub use words::{Need, Rendering, Words};

/// Variables that the request's context fills in where `data` does not: declared like any other.
pub const FROM_CONTEXT: [&str; 2] = ["prospectName", "eventAt"];

/// One `templates/<ID>.toml`, compiled.
#[derive(Debug)]
pub struct Template {
    id: String,
    file: String,
    required: Vec<String>,
    optional: Vec<String>,
    /// A value for every variable: what it was checked with, and what stands in where a decision is asked
    /// for without data.
    example: Map<String, Json>,
    /// By locale, in small letters: `fr`, `en-gb`.
    locales: BTreeMap<String, PerChannel<Option<Form>>>,
    engine: language::Engine,
    warnings: Vec<super::diagnostic::Diagnostic>,
}

/// What one channel gets in one language; the texts are in the engine, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Form {
    subject: bool,
    html: bool,
    approved: Option<Approved>,
}

/// The provider's approved template that stands for this form outside the 24 h window.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Approved {
    name: String,
    language: String,
    parameters: usize,
}

impl Template {
    /// What requests call it: the file's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Relative to the policies folder.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Variables that the data must have, in the order of the file.
    pub fn required(&self) -> &[String] {
        &self.required
    }

    /// Variables that the data may have.
    pub fn optional(&self) -> &[String] {
        &self.optional
    }

    /// The values that it was checked with.
    pub fn example(&self) -> &Map<String, Json> {
        &self.example
    }

    /// Its languages, sorted.
    pub fn locales(&self) -> impl Iterator<Item = &str> {
        self.locales.keys().map(String::as_str)
    }

    /// What deserves a remark.
    pub fn warnings(&self) -> &[super::diagnostic::Diagnostic] {
        &self.warnings
    }

    /// The language for a reader: the first of `wanted` that is there, region and all or by its language
    /// alone, else the first of all.
    fn locale(&self, wanted: &[&str]) -> &str {
        let lower = |locale: &&str| locale.to_lowercase().replace('_', "-");
        let there = |locale: &str| self.locales.get_key_value(locale).map(|(known, _)| known.as_str());
        let of = |locale: String| {
            let language = locale.split('-').next().unwrap_or_default();
            // fr-CA is French: a template that has only another French is closer than another language.
            let sibling = || self.locales().find(|known| known.split('-').next() == Some(language));
            there(&locale).or_else(|| there(language)).or_else(sibling)
        };
        let found = wanted.iter().map(lower).find_map(of);
        found.or_else(|| self.locales().next()).unwrap_or_default()
    }
}

/// The template that a request names: as it is written, else in other letters (`contract` is `CONTRACT`).
pub fn find<'t>(
    templates: &'t BTreeMap<String, std::sync::Arc<Template>>,
    id: &str,
) -> Result<&'t Template, Unknown> {
    if let Some(template) = templates.get(id) {
        return Ok(template);
    }
    if let Some((_, template)) = templates.iter().find(|(known, _)| known.eq_ignore_ascii_case(id)) {
        return Ok(template);
    }
    let near = nearest(id, templates.keys().map(String::as_str)).map(str::to_owned);
    Err(Unknown { id: id.to_owned(), near })
}

/// No template has the name; the nearest that is there, if any is near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub id: String,
    pub near: Option<String>,
}

/// The name of a text in the engine: `fr.email.subject`.
fn part(locale: &str, channel: crate::domain::channel::Channel, what: &str) -> String {
    format!("{locale}.{channel}.{what}")
}
