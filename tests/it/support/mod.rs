//! What the suites share: the shipped policies as a bundle, and requests made short.

pub mod daemon;
pub mod http_provider;
pub mod ledger;
pub mod namespace;
pub mod provider;

use std::{fs, path::PathBuf, sync::Arc};

use channel_orchestrator::{
    domain::ids::TenantId,
    policy::{
        assemble::{Assembler, BundleSources, PolicyEnvironment, SourceFile},
        bundle::Bundle,
    },
};

/// The repository's own policies folder.
pub fn policies() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies")
}

/// The shipped policies for a tenant whose file reads as given, or the faults that it has.
pub fn bundle(tenant_toml: &str) -> Bundle {
    let read = |path: &str| {
        let bytes = fs::read(policies().join(path)).unwrap();
        Arc::new(SourceFile::new(path, bytes))
    };
    let mut names: Vec<String> = fs::read_dir(policies().join("criteria"))
        .unwrap()
        .map(|entry| format!("criteria/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.sort();
    let own = SourceFile::new("tenants/acme.toml", tenant_toml);
    let sources = BundleSources {
        templates: channel_orchestrator::policy::shipped::templates().into(),
        tenant: TenantId::parse("acme").unwrap(),
        default: read("default.toml"),
        own: Arc::new(own),
        criteria: names.iter().map(|name| read(name)).collect(),
        tests: [].into(),
    };
    match Assembler::default().assemble(&sources, &PolicyEnvironment::default()) {
        Ok(assembled) => assembled.bundle,
        Err(faults) => panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}
