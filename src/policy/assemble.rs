//! From one tenant's texts to its bundle, or every fault in them at once.

use std::sync::Arc;

use super::{bundle::Bundle, diagnostic::Diagnostic};
use crate::domain::ids::TenantId;

/// One file as it was read: its path relative to the policies folder, with `/`, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    pub path: String,
    pub bytes: Vec<u8>,
}

/// All the texts that one tenant's bundle is made of.
#[derive(Clone, Debug)]
pub struct BundleSources {
    pub tenant: TenantId,
    /// `default.toml`.
    pub default: Arc<SourceFile>,
    /// `tenants/<id>.toml`.
    pub own: Arc<SourceFile>,
    /// The scripts in force: `criteria/*.rhai`, each replaced by the tenant's own of the same name.
    pub criteria: Vec<Arc<SourceFile>>,
    /// `tests/*.toml` files that hold at least one test naming this tenant (they count in the version).
    pub tests: Vec<Arc<SourceFile>>,
}

/// `ORCHESTRATOR_*` values that lie between default.toml and the tenant's file; they count in the version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyEnvironment(pub Vec<(String, String)>);

/// A bundle and what deserves a remark.
#[derive(Debug)]
pub struct Assembled {
    pub bundle: Bundle,
    pub warnings: Vec<Diagnostic>,
}

/// Parses, merges, compiles and checks; shares compiled scripts of equal source between tenants.
#[derive(Debug, Default)]
pub struct Assembler {}

impl Assembler {
    pub fn assemble(
        &self,
        sources: &BundleSources,
        environment: &PolicyEnvironment,
    ) -> Result<Assembled, Vec<Diagnostic>> {
        let _ = (sources, environment);
        todo!("skeleton")
    }
}
