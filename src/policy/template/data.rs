//! The data of one request against what its template declares: every missing name at once.
//!
//! Faults name fields and never show a value: data is personal. Data that the template does not know is no
//! fault: one set of data serves several templates.

use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use super::{FROM_CONTEXT, Template, language};
use crate::domain::{message::MessageRequest, suggest::nearest};

/// Items of a list, or fields of a table.
const ITEMS_MAX: usize = 1_000;
/// Levels of lists and tables.
const DEPTH_MAX: usize = 8;

/// A fault in what the caller gave, as an RFC 6901 pointer into the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFault {
    pub pointer: String,
    pub detail: String,
    pub hint: Option<String>,
}

/// The data of a request: the caller's, and what the context has of it.
pub struct Given {
    values: Map<String, Json>,
}

impl Given {
    /// What a template gets from a request.
    pub fn of(request: &MessageRequest) -> Self {
        let mut values = request.content.data.clone();
        for name in FROM_CONTEXT {
            let missing = values.get(name).is_none_or(Json::is_null);
            let value = match name {
                "prospectName" => request.recipient_name.clone(),
                _ => request.event_at.map(|at| at.to_rfc3339()),
            };
            if let Some(value) = value.filter(|_| missing) {
                values.insert(name.to_owned(), Json::String(value));
            }
        }
        Self { values }
    }

    /// A template's own example.
    pub fn example(template: &Template) -> Self {
        Self { values: template.example().clone() }
    }

    /// The declared variables that have a value.
    pub fn values<'g>(&'g self, template: &'g Template) -> impl Iterator<Item = (&'g str, Value)> {
        let declared = template.required().iter().chain(template.optional());
        declared.filter_map(|name| {
            let value = self.values.get(name).filter(|value| !value.is_null())?;
            Some((name.as_str(), language::value(value)))
        })
    }

    /// Everything that keeps the template from being rendered.
    pub fn faults(&self, template: &Template) -> Vec<DataFault> {
        let mut faults = Vec::new();
        for name in template.required() {
            if self.values.get(name).is_none_or(Json::is_null) {
                faults.push(self.missing(template, name));
            }
        }
        for name in template.required().iter().chain(template.optional()) {
            if let Some(why) = self.values.get(name).and_then(unfit) {
                faults.push(DataFault { pointer: pointer(name), detail: why.to_owned(), hint: None });
            }
        }
        faults
    }

    fn missing(&self, template: &Template, name: &str) -> DataFault {
        let declared = |key: &str| {
            template.required().iter().chain(template.optional()).any(|known| known.as_str() == key)
        };
        let unknown = self.values.keys().map(String::as_str).filter(|key| !declared(key));
        let detail = format!("required by the template {}, and missing", template.id());
        let hint = nearest(name, unknown).map(|near| format!("there is {near:?}: was {name:?} meant?"));
        DataFault { pointer: pointer(name), detail, hint }
    }
}

/// RFC 6901; a variable's name needs no escape.
fn pointer(name: &str) -> String {
    format!("/content/data/{name}")
}

/// Why a value cannot stand in a message, if it cannot (reliability.md T9).
pub fn unfit(value: &Json) -> Option<&'static str> {
    fn look(value: &Json, depth: usize) -> Option<&'static str> {
        match value {
            Json::String(text) if text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)) => {
                Some("holds a control character other than a line break or a tab")
            }
            Json::Array(_) | Json::Object(_) if depth == DEPTH_MAX => {
                Some("is nested too deeply: at most 8 levels of lists and tables")
            }
            Json::Array(items) if items.len() > ITEMS_MAX => Some("has more than 1000 items"),
            Json::Array(items) => items.iter().find_map(|item| look(item, depth + 1)),
            Json::Object(fields) if fields.len() > ITEMS_MAX => Some("has more than 1000 fields"),
            Json::Object(fields) => fields.values().find_map(|field| look(field, depth + 1)),
            _ => None,
        }
    }
    look(value, 0)
}
