//! One criterion: a script compiled once and called for each channel.

use std::sync::Arc;

use super::{
    bundle::Opinion,
    diagnostic::Diagnostic,
    view::{ChannelView, MessageView},
};
use crate::domain::ids::CriterionName;

/// A compiled script. Shared between the tenants whose source is the same.
#[derive(Debug)]
pub struct Criterion {
    name: CriterionName,
    /// Relative to the policies folder: `criteria/cost.rhai`.
    file: String,
}

impl Criterion {
    /// Compiles and checks a script, or says everything that is wrong with it.
    pub fn compile(name: CriterionName, file: &str, source: &str) -> Result<Self, Vec<Diagnostic>> {
        let _ = source;
        Ok(Self { name, file: file.to_owned() })
    }

    pub fn name(&self) -> &CriterionName {
        &self.name
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// Calls the script's `score(message, channel)`.
    pub fn evaluate(&self, message: &Arc<MessageView>, channel: &Arc<ChannelView>) -> Opinion {
        let _ = (message, channel);
        todo!("skeleton")
    }
}
