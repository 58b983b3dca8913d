//! Policy documents: layers, merging, every kind of fault with its place and mend, the schema, the version.

use std::{path::Path, sync::Arc};

use channel_orchestrator::{
    domain::ids::TenantId,
    policy::{
        assemble::{Assembled, Assembler, BundleSources, PolicyEnvironment, SourceFile},
        diagnostic::Diagnostic,
    },
};

mod faults;
mod layers;
mod shipped;

/// A file of the repository's policies folder.
fn shipped_file(path: &str) -> Arc<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let bytes = std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Arc::new(SourceFile::new(path, bytes))
}

fn file(path: &str, text: impl Into<Vec<u8>>) -> Arc<SourceFile> {
    Arc::new(SourceFile::new(path, text))
}

/// The shipped policy with this text as the tenant's file.
fn sources(own: impl Into<Vec<u8>>) -> BundleSources {
    let names = [
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
    BundleSources {
        templates: [].into(),
        tenant: TenantId::parse("acme").unwrap(),
        default: shipped_file("default.toml"),
        own: file("tenants/acme.toml", own),
        criteria: names.iter().map(|name| shipped_file(&format!("criteria/{name}.rhai"))).collect(),
        tests: [].into(),
    }
}

fn assemble(own: &str) -> Result<Assembled, Vec<Diagnostic>> {
    Assembler::default().assemble(&sources(own), &PolicyEnvironment::default())
}

/// The bundle of a text without faults.
#[track_caller]
fn assembled(own: &str) -> Assembled {
    assemble(own).unwrap_or_else(|faults| panic!("{}", told(&faults)))
}

fn told(faults: &[Diagnostic]) -> String {
    faults.iter().map(|fault| format!("\n{} {fault}", fault.code)).collect()
}
