//! Templates: files with faults, the shipped set word for word, and requests that name them.

mod broken;
mod hostile;
mod requests;
mod shipped;

use channel_orchestrator::{
    policy::{
        assemble::SourceFile,
        bundle::Bundle,
        diagnostic::Diagnostic,
        template::{DataFault, Need, Template, Words},
    },
    request::{self, Purpose},
};
use serde_json::Value;

fn compile(id: &str, text: &str) -> Result<Template, Vec<Diagnostic>> {
    let file = SourceFile::new(format!("templates/{id}.toml"), text);
    Template::compile(id, &file)
}

/// A tenant whose only template is this text, as `T`.
fn with_template(text: &str) -> Bundle {
    let template = compile("T", text).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let templates = [("T".to_owned(), std::sync::Arc::new(template))];
    crate::support::bundle("").with_templates(std::sync::Arc::new(templates.into()))
}

/// The words of a request, given as its context and content.
fn words(bundle: &Bundle, context: Value, content: Value, need: Need) -> Result<Words, Vec<DataFault>> {
    let mut request = serde_json::json!({ "context": context, "content": content });
    request["context"]["tenantId"] = "acme".into();
    request["context"]["prospectId"] = "p".into();
    let asked = request::parse_value(request, Purpose::Explain).unwrap();
    Words::of(bundle, &asked.request, need)
}
