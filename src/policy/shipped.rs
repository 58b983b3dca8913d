//! The policies that the program ships with, built into the binary: default.toml, the nine criteria and the
//! templates.
//!
//! They stand in for a policies folder that has none, and are what a first start writes to a folder of its own.
//! The same files are in the repository's `policies/`.

use std::sync::Arc;

use super::{assemble::SourceFile, settings::RetentionPolicy};
use crate::domain::address::Region;

macro_rules! criteria {
    ($($name:literal),+ $(,)?) => {
        [$((
            concat!("criteria/", $name, ".rhai"),
            include_str!(concat!("../../policies/criteria/", $name, ".rhai")),
        )),+]
    };
}

const CRITERIA: [(&str, &str); 9] = criteria![
    "preferences",
    "urgency",
    "content",
    "length",
    "cost",
    "quiet_hours",
    "message_type",
    "history",
    "availability",
];

const DEFAULT: &str = include_str!("../../policies/default.toml");

/// `default.toml`, with every key set.
pub fn default() -> Arc<SourceFile> {
    file("default.toml", DEFAULT)
}

/// The nine criteria, in criterion order.
pub fn criteria() -> Vec<Arc<SourceFile>> {
    CRITERIA.iter().map(|(path, text)| file(path, text)).collect()
}

macro_rules! templates {
    ($($id:literal),+ $(,)?) => {
        [$((
            concat!("templates/", $id, ".toml"),
            include_str!(concat!("../../policies/templates/", $id, ".toml")),
        )),+]
    };
}

const TEMPLATES: &[(&str, &str)] = &templates![
    "APPOINTMENT_CANCELLED",
    "APPOINTMENT_CONFIRMATION",
    "APPOINTMENT_REMINDER",
    "APPOINTMENT_REMINDER_24H",
    "APPOINTMENT_REMINDER_2H",
    "APPOINTMENT_REMINDER_30MIN",
    "APPOINTMENT_RESCHEDULED",
    "CONTRACT",
    "DOCUMENT",
    "NEWSLETTER",
    "NEW_PROPERTY_ALERT",
    "NPS_SURVEY",
    "POST_APPOINTMENT_SURVEY",
    "PRICE_DROP_ALERT",
    "URGENT_PROPERTY_AVAILABLE",
    "WELCOME_EMAIL",
];

/// The templates, by id.
pub fn templates() -> Vec<Arc<SourceFile>> {
    TEMPLATES.iter().map(|(path, text)| file(path, text)).collect()
}

/// What `default.toml` keeps, for tenants of whom only messages are left.
pub fn retention() -> RetentionPolicy {
    let table: toml::Table = DEFAULT.parse().unwrap_or_default();
    let days = |key: &str| {
        let days = table.get("retention").and_then(|section| section.get(key)?.as_integer());
        days.and_then(|days| u32::try_from(days).ok()).unwrap_or(u32::MAX)
    };
    RetentionPolicy { content_days: days("content_days"), message_days: days("message_days") }
}

/// What `default.toml` reads national numbers with, for tenants of whom only messages are left.
pub fn region() -> Option<Region> {
    let table: toml::Table = DEFAULT.parse().unwrap_or_default();
    let code = table.get("region").and_then(toml::Value::as_str);
    code.and_then(Region::parse)
}

fn file(path: &str, text: &str) -> Arc<SourceFile> {
    Arc::new(SourceFile::new(path, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::CriterionName;

    #[test]
    fn the_shipped_retention_and_region_are_read_from_their_file() {
        assert_eq!(region(), Region::parse("FR"));
        assert_eq!(retention(), RetentionPolicy { content_days: 90, message_days: 400 });
    }

    #[test]
    fn every_shipped_criterion_is_in_the_binary() {
        let names: Vec<String> = CriterionName::SHIPPED.map(|name| format!("criteria/{name}.rhai")).to_vec();
        let paths: Vec<String> = criteria().iter().map(|file| file.path.clone()).collect();
        assert_eq!(paths, names);
    }
}
