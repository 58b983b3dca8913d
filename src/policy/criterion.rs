//! One criterion: a script compiled once and called for each channel.
//!
//! Holds no state between calls: each call has a scope of its own, and the script sees nothing but its two
//! arguments.

use std::{fmt, sync::Arc};

use rhai::{AST, CallFnOptions, Dynamic, Scope};

use super::{
    bundle::Opinion,
    compile::{self, Followed, Learnt},
    diagnostic::Diagnostic,
    engine::{ChannelFacts, Message, engine},
    failure,
    script_check::{self, ReasonSite},
    verdict::Verdict,
    view::{ChannelView, MessageView},
};
use crate::domain::ids::CriterionName;

/// The function that every script defines.
pub const ENTRY_POINT: &str = "score";

/// A compiled script. Shared between the tenants whose source is the same.
pub struct Criterion {
    name: CriterionName,
    /// Relative to the policies folder: `criteria/cost.rhai`.
    file: String,
    ast: AST,
    reasons: Vec<ReasonSite>,
    warnings: Vec<Diagnostic>,
    followed: Followed,
    /// What the interpreter said where there is no table; none where the script does not tell what it reads.
    learnt: Option<Learnt>,
}

impl Criterion {
    /// Compiles and checks a script, or says everything that is wrong with it.
    pub fn compile(name: CriterionName, file: &str, source: &str) -> Result<Self, Vec<Diagnostic>> {
        let checked = script_check::check_script(file, source)?;
        let followed = Followed::new(source, &checked.functions);
        let learnt = Learnt::of(&checked.ast);
        let mut criterion = Self {
            name,
            file: file.to_owned(),
            ast: checked.ast,
            reasons: checked.reasons,
            warnings: checked.warnings,
            followed,
            learnt,
        };
        let found = script_check::smoke::run(&criterion, source);
        criterion.warnings.extend(found);
        Ok(criterion.tried(source))
    }

    pub fn name(&self) -> &CriterionName {
        &self.name
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the script can give a reason, in the order of the file.
    pub fn reasons(&self) -> &[ReasonSite] {
        &self.reasons
    }

    /// What is legal and yet looks like a mistake; the trial run's failures among it.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The same if its compiled form agrees with the interpreter over a sample; else interpreted, with an alarm.
    fn tried(self, source: &str) -> Self {
        let criterion = Arc::new(self);
        let differs = compile::difference(&criterion, source);
        let mut criterion = Arc::into_inner(criterion).expect("nobody else has it yet");
        if let Some(told) = differs {
            let words = format!(
                "the compiled form of this script differs from the interpreter ({told}): it runs interpreted"
            );
            tracing::error!(file = criterion.file, "{words}");
            let fault = Diagnostic::warning("compiled-differs", &criterion.file, words.clone());
            criterion
                .warnings
                .push(fault.hint("nothing is wrong with the script: please report this as a bug"));
            criterion.followed = Followed::interpreted(words);
            criterion.learnt = None;
        }
        criterion
    }

    pub(super) fn learnt(&self) -> Option<&Learnt> {
        self.learnt.as_ref()
    }

    /// What it says, as graphs to be linked into a `Program`.
    pub(super) fn followed(&self) -> &Followed {
        &self.followed
    }

    /// Calls the script's `score(message, channel)`. `()` counts as neutral; anything else that is no verdict
    /// is a failure, and so is every limit of `engine`.
    pub fn evaluate(&self, message: &Arc<MessageView<'static>>, channel: &Arc<ChannelView>) -> Opinion {
        let arguments = (Message(Arc::clone(message)), ChannelFacts(Arc::clone(channel)));
        let options = CallFnOptions::new().eval_ast(false);
        let result: Dynamic = engine()
            .call_fn_with_options(options, &mut Scope::new(), &self.ast, ENTRY_POINT, arguments)
            .map_err(|error| failure::explain(&self.file, &error))?;
        if result.is_unit() {
            return Ok(Verdict::neutral());
        }
        result.try_cast_result::<Verdict>().map_err(|other| {
            let words = format!(
                "`score` gave {}; it must end in award(share, reason), penalize(share, reason), veto(reason) \
                 or neutral()",
                failure::describe(&other)
            );
            failure::failure(&self.file, None, &words)
        })
    }
}

impl fmt::Debug for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Criterion")
            .field("name", &self.name)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
