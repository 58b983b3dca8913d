//! The shipped templates, word for word: a golden file each. `UPDATE_EXPECT=1` accepts what is.

use std::{fmt::Write as _, path::Path};

use channel_orchestrator::{
    domain::{
        channel::Channel,
        segments::{Encoding, segments},
    },
    policy::{shipped, template::Need},
};
use serde_json::{Map, Value, json};

use super::{compile, words};
use crate::support::bundle;

fn ids() -> Vec<String> {
    let paths = shipped::templates().into_iter().map(|file| file.path.clone());
    paths.map(|path| path["templates/".len()..].trim_end_matches(".toml").to_owned()).collect()
}

#[test]
fn every_form_in_every_language() {
    let bundle = bundle("");
    for id in ids() {
        let mut shown = String::new();
        for locale in ["fr", "en"] {
            let context = json!({ "locale": locale });
            let words = words(&bundle, context, json!({ "templateId": id }), Need::Measure).unwrap();
            let rendering = words.rendering.unwrap();
            assert_eq!(rendering.locale, locale, "{id}");
            for channel in Channel::ALL {
                let Some(form) = &rendering.forms[channel] else { continue };
                let _ = writeln!(shown, "=== {locale} {channel}");
                if channel == Channel::Sms {
                    let (encoding, count) = segments(&form.body);
                    let characters = form.body.chars().count();
                    let _ = writeln!(shown, "({count} segment, {characters} characters, {encoding:?})");
                    assert_eq!((encoding, count), (Encoding::Gsm7, 1), "{id} {locale}: {}", form.body);
                }
                if let Some(subject) = &form.subject {
                    let _ = writeln!(shown, "Subject: {subject}\n");
                }
                let _ = writeln!(shown, "{}", form.body);
                if let Some(html) = &form.html {
                    let _ = writeln!(shown, "--- html\n{html}");
                }
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/golden/templates/{id}.txt"));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &shown).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(shown, kept, "{id} (UPDATE_EXPECT=1 accepts it)");
    }
}

/// Without what is optional, every text still reads: no gap, no doubled space, no lone sign.
#[test]
fn the_least_data_leaves_no_gap() {
    let bundle = bundle("");
    for id in ids() {
        let template = &bundle.templates()[&id];
        let least: Map<String, Value> =
            template.required().iter().map(|name| (name.clone(), template.example()[name].clone())).collect();
        for locale in ["fr", "en"] {
            let content = json!({ "templateId": id, "data": least });
            let words = words(&bundle, json!({ "locale": locale }), content, Need::Send).unwrap();
            for (channel, form) in words.rendering.unwrap().forms.iter() {
                let Some(form) = form else { continue };
                for text in form.subject.iter().chain([&form.body]) {
                    for gap in ["  ", " ,", " .", "..", "\n\n\n", "none", "{{", "{%"] {
                        assert!(!text.contains(gap), "{id} {locale} {channel}: {gap:?} in {text}");
                    }
                }
                let html = form.html.as_deref().unwrap_or_default();
                assert!(!html.contains("href=\"\"") && !html.contains("<p></p>"), "{id} {locale}: {html}");
            }
        }
    }
}

#[test]
fn the_shipped_templates_have_no_remark_and_every_language() {
    for file in shipped::templates() {
        let text = std::str::from_utf8(&file.bytes).unwrap();
        let template = compile("T", text).unwrap_or_else(|faults| panic!("{}: {faults:#?}", file.path));
        assert_eq!(template.warnings(), [], "{}", file.path);
        assert_eq!(template.locales().collect::<Vec<_>>(), ["en", "fr"], "{}", file.path);
    }
}

/// The strategies of default.toml name templates that are there, and the folder holds what is built in.
#[test]
fn what_strategies_name_is_there() {
    let default = String::from_utf8(shipped::default().bytes.clone()).unwrap();
    let bundle = bundle("");
    let named: Vec<&str> =
        default.split("message.template == \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(named.len() >= 6, "{named:?}");
    for id in named {
        assert!(channel_orchestrator::policy::template::find(bundle.templates(), id).is_ok(), "{id}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/templates");
    let mut there: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".toml").to_owned())
        .collect();
    there.sort_unstable();
    assert_eq!(there, ids());
}

#[test]
fn the_schema_file_beside_the_policies_is_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schema/template.schema.json");
    let schema = format!("{:#}\n", channel_orchestrator::policy::template::schema::json_schema());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(kept, schema, "run: orchestrator schema --templates > {}", path.display());
}
