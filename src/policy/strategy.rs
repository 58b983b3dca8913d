//! A strategy's condition: one Rhai expression over `message`, compiled once.
//!
//! It sees no channel: a strategy chooses between channels, so it can't depend on one.

use std::{fmt, sync::Arc};

use rhai::{AST, Dynamic, Scope, Stmt};

use super::{
    compile::{Conditions, Found},
    diagnostic::Diagnostic,
    engine::{Message, engine},
    failure, script_check,
    verdict::ScriptFailure,
    view::MessageView,
};

/// A compiled `when`.
pub struct Strategy {
    name: String,
    when: String,
    ast: AST,
}

impl Strategy {
    /// Compiles and checks `when`. Faults have no place in a file yet: `line`/`column` are within the
    /// expression, and the caller, who knows where it stands, moves them.
    pub fn compile(name: &str, when: &str) -> Result<Self, Vec<Diagnostic>> {
        let ast = script_check::check_condition(when)?;
        Ok(Self { name: name.to_owned(), when: when.to_owned(), ast })
    }

    /// The condition as written.
    pub fn when(&self) -> &str {
        &self.when
    }

    pub(super) fn statements(&self) -> &[Stmt] {
        self.ast.statements()
    }

    /// Whether it holds for this message. What is neither true nor false is a failure.
    pub fn matches(&self, message: &Arc<MessageView<'static>>) -> Result<bool, ScriptFailure> {
        let mut scope = Scope::new();
        scope.push_constant("message", Message(Arc::clone(message)));
        let result: Dynamic = engine()
            .eval_ast_with_scope(&mut scope, &self.ast)
            .map_err(|error| failure::explain(&self.file(), &error))?;
        result.as_bool().map_err(|_| {
            let words = format!("`when` gave {}; it must be true or false", failure::describe(&result));
            failure::failure(&self.file(), None, &words)
        })
    }

    fn file(&self) -> String {
        format!("strategy {:?}", self.name)
    }
}

/// The strategies of one policy, asked in their order.
#[derive(Debug)]
pub struct Strategies {
    list: Vec<Strategy>,
    compiled: Conditions,
}

/// The strategy that matched, and those that could not be asked.
#[derive(Debug, Default)]
pub struct StrategyChoice {
    /// Index into `policy().strategies`.
    pub matched: Option<usize>,
    /// `name: what went wrong` of each `when` that failed before a match.
    pub failures: Vec<String>,
}

impl Strategies {
    /// Compiles the conditions as a chain.
    pub fn new(list: Vec<Strategy>) -> Self {
        let compiled = Conditions::compile(&list);
        Self { list, compiled }
    }

    /// How the chain runs.
    pub fn compiled(&self) -> &Conditions {
        &self.compiled
    }

    /// The first whose `when` holds.
    pub fn choose(&self, message: &MessageView<'_>) -> StrategyChoice {
        match self.compiled.find(message) {
            Found::Strategy(at) => StrategyChoice { matched: Some(at), failures: Vec::new() },
            Found::None => StrategyChoice::default(),
            Found::Interpret => self.interpret(message),
        }
    }

    /// The same by the interpreter alone.
    pub fn interpret(&self, message: &MessageView<'_>) -> StrategyChoice {
        let mut choice = StrategyChoice::default();
        let message = Arc::new(message.clone().into_owned());
        for (at, strategy) in self.list.iter().enumerate() {
            match strategy.matches(&message) {
                Ok(true) => {
                    choice.matched = Some(at);
                    break;
                }
                Ok(false) => {}
                Err(failure) => choice.failures.push(format!("{}: {failure}", strategy.name)),
            }
        }
        choice
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strategy").field("name", &self.name).finish_non_exhaustive()
    }
}
