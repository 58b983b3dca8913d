//! The walk over the syntax tree: which names are in scope, what they hold, and what each node is.
//!
//! Follows what a name holds (`let h = channel.history;`, parameters of functions that are given a message) and
//! says nothing about what it doesn't know. What is wrong with a node is `faults`' affair. It runs no code.

use std::collections::BTreeMap;

use rhai::{AST, ASTFlags, ASTNode, BinaryExpr, Expr, FnCallExpr, Position, Stmt, StmtBlock};

use super::{
    ReasonSite,
    kinds::{Kind, Object},
    scan::Lexeme,
};
use crate::policy::diagnostic::Diagnostic;

/// A function of the script.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Function {
    pub name: String,
    pub parameters: Vec<String>,
    pub start: Position,
    pub body: Vec<Stmt>,
}

/// The functions of a script, in the order of the file.
pub(super) fn functions(ast: &AST) -> Vec<Function> {
    let mut found: Vec<(Function, Position)> = ast
        .iter_fn_def()
        .map(|definition| {
            let function = Function {
                name: definition.name.to_string(),
                parameters: definition.params.iter().map(ToString::to_string).collect(),
                start: definition.body.start_position(),
                body: Vec::new(),
            };
            (function, definition.body.end_position())
        })
        .collect();
    found.sort_by_key(|(function, _)| function.start);
    // Rhai hands out bodies through its own walk alone: each outermost statement belongs to the function whose
    // braces are around it.
    let mut outside = ast.statements().len();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let [ASTNode::Stmt(statement)] = path {
            if outside > 0 {
                outside -= 1;
            } else {
                let at = statement.position();
                let around = found.iter_mut().find(|(f, end)| (f.start..=*end).contains(&at));
                if let Some((function, _)) = around {
                    function.body.push((*statement).clone());
                }
            }
        }
        true
    });
    found.into_iter().map(|(function, _)| function).collect()
}

/// A name in scope.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    name: String,
    pub kind: Kind,
    /// The source of the text that it was set to: a reason may be given by name.
    pub text: Option<String>,
}

/// One walk over one script.
pub(super) struct Walk<'a> {
    pub file: &'a str,
    pub source: &'a str,
    pub lexemes: &'a [Lexeme],
    pub functions: &'a [Function],
    /// What each function is given, joined over all its calls.
    pub given: BTreeMap<(String, usize), Vec<Kind>>,
    scope: Vec<Binding>,
    /// Within the function that must give a verdict.
    in_entry: bool,
    pub faults: Vec<Diagnostic>,
    pub reasons: Vec<ReasonSite>,
}

impl<'a> Walk<'a> {
    pub fn new(file: &'a str, source: &'a str, lexemes: &'a [Lexeme], functions: &'a [Function]) -> Self {
        Self {
            file,
            source,
            lexemes,
            functions,
            given: BTreeMap::new(),
            scope: Vec::new(),
            in_entry: false,
            faults: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// Walks every function until it is known what each is given; the faults are those of the last round.
    pub fn script(&mut self, entry: &str) {
        let arguments = vec![Kind::Object(Object::Message), Kind::Object(Object::Channel)];
        self.given.insert((entry.to_owned(), 2), arguments);
        // What is given only ever gets less certain, twice for each parameter at most; then it is still.
        let functions = self.functions;
        let rounds = 2 + 2 * functions.iter().map(|f| f.parameters.len()).sum::<usize>();
        for _ in 0..rounds {
            let before = self.given.clone();
            self.faults.clear();
            self.reasons.clear();
            for function in functions {
                self.in_entry = function.name == entry && function.parameters.len() == 2;
                self.function(function);
            }
            self.in_entry = false;
            if self.given == before {
                break;
            }
        }
    }

    /// Walks an expression that sees `message` alone; what it gives.
    pub fn condition(&mut self, ast: &AST) -> Kind {
        self.declare("message", Kind::Object(Object::Message), None);
        self.statements(ast.statements())
    }

    fn function(&mut self, function: &Function) {
        let key = (function.name.clone(), function.parameters.len());
        let given = self.given.get(&key).cloned().unwrap_or_default();
        for (at, parameter) in function.parameters.iter().enumerate() {
            self.declare(parameter, given.get(at).copied().unwrap_or(Kind::Unknown), None);
        }
        let kind = self.statements(&function.body);
        if let (true, Some(last)) = (self.in_entry, function.body.last()) {
            self.check_verdict(kind, last.position());
        }
        self.scope.clear();
    }

    fn declare(&mut self, name: &str, kind: Kind, text: Option<String>) {
        self.scope.push(Binding { name: name.to_owned(), kind, text });
    }

    pub fn binding(&self, name: &str) -> Option<&Binding> {
        self.scope.iter().rev().find(|b| b.name == name)
    }

    fn block(&mut self, block: &StmtBlock) -> Kind {
        self.statements(block.statements())
    }

    /// The kind of the last statement.
    fn statements(&mut self, statements: &[Stmt]) -> Kind {
        let outer = self.scope.len();
        let mut last = Kind::Missing;
        for (at, statement) in statements.iter().enumerate() {
            last = self.statement(statement);
            if at + 1 < statements.len() {
                self.check_nothing_lost(statement);
            }
        }
        self.scope.truncate(outer);
        last
    }

    fn statement(&mut self, statement: &Stmt) -> Kind {
        match statement {
            Stmt::If(flow, _) => {
                self.condition_of(&flow.expr);
                let then = self.block(&flow.body);
                let otherwise = self.block(&flow.branch);
                then.join(otherwise)
            }
            Stmt::Switch(switch, position) => {
                let (subject, cases) = &**switch;
                let kind = self.expression(subject);
                self.check_switch(kind, *position);
                for case in &cases.expressions {
                    if !matches!(case.lhs, Expr::BoolConstant(true, _)) {
                        self.condition_of(&case.lhs);
                    }
                    self.expression(&case.rhs);
                }
                Kind::Unknown
            }
            Stmt::Var(declared, _, _) => {
                let (name, value, _) = &**declared;
                let kind = self.expression(value);
                let text = self.text_of(value);
                self.declare(&name.name, kind, text);
                Kind::Missing
            }
            Stmt::Assignment(assignment) => {
                let (operator, sides) = &**assignment;
                let kind = self.expression(&sides.rhs);
                self.assign(&sides.lhs, kind, operator.is_op_assignment());
                Kind::Missing
            }
            Stmt::FnCall(call, position) => self.call(call, *position),
            Stmt::Block(block) => self.block(block),
            Stmt::Expr(expression) => self.expression(expression),
            Stmt::TryCatch(flow, _) => {
                self.block(&flow.body);
                if let Expr::Variable(name, ..) = &flow.expr {
                    self.declare(&name.1, Kind::Unknown, None);
                    self.block(&flow.branch);
                    self.scope.pop();
                } else {
                    self.block(&flow.branch);
                }
                Kind::Unknown
            }
            Stmt::Return(Some(value), flags, _) => {
                let kind = self.expression(value);
                // With the flag it is a `throw`.
                if self.in_entry && !flags.contains(ASTFlags::BREAK) {
                    self.check_verdict(kind, value.start_position());
                }
                Kind::Unknown
            }
            // Loops don't parse.
            _ => Kind::Unknown,
        }
    }

    fn assign(&mut self, target: &Expr, kind: Kind, with_operator: bool) {
        self.check_writable(target);
        let Expr::Variable(name, ..) = target else {
            self.expression(target);
            return;
        };
        if let Some(binding) = self.scope.iter_mut().rev().find(|b| *b.name == *name.1) {
            binding.text = None;
            binding.kind = if with_operator { Kind::Unknown } else { binding.kind.join(kind) };
        }
    }

    /// What an expression is; everything wrong with it and within it is noted.
    pub fn expression(&mut self, expression: &Expr) -> Kind {
        match expression {
            Expr::BoolConstant(..) => Kind::Bool,
            Expr::IntegerConstant(..) | Expr::FloatConstant(..) => Kind::Number,
            Expr::StringConstant(..) => Kind::Text,
            Expr::InterpolatedString(parts, _) => {
                for part in parts {
                    self.expression(part);
                }
                Kind::Text
            }
            Expr::Array(items, _) => {
                for item in items {
                    self.expression(item);
                }
                Kind::List
            }
            Expr::Map(entries, _) => {
                for (_, value) in &entries.0 {
                    self.expression(value);
                }
                Kind::Unknown
            }
            Expr::Unit(_) => Kind::Missing,
            Expr::Variable(name, _, position) => match self.binding(&name.1) {
                Some(binding) => binding.kind,
                None => {
                    self.function_as_value(&name.1, *position);
                    Kind::Unknown
                }
            },
            Expr::Stmt(block) => self.block(block),
            Expr::FnCall(call, position) => self.call(call, *position),
            Expr::Dot(pair, ..) => {
                let base = self.expression(&pair.lhs);
                self.member(base, &pair.rhs)
            }
            Expr::Index(pair, flags, _) => {
                let base = self.expression(&pair.lhs);
                self.index(base, pair, *flags)
            }
            Expr::And(parts, _) | Expr::Or(parts, _) => {
                for part in parts.iter() {
                    self.condition_of(part);
                }
                Kind::Bool
            }
            Expr::Coalesce(parts, _) => {
                let kinds: Vec<Kind> = parts.iter().map(|part| self.expression(part)).collect();
                kinds.first().copied().unwrap_or(Kind::Unknown)
            }
            _ => Kind::Unknown,
        }
    }

    /// What follows a dot.
    fn member(&mut self, base: Kind, member: &Expr) -> Kind {
        match member {
            Expr::Property(property, position) => self.property(base, &property.2, *position),
            Expr::MethodCall(call, position) => self.method(base, call, *position),
            Expr::Dot(pair, ..) => {
                let inner = self.member(base, &pair.lhs);
                self.member(inner, &pair.rhs)
            }
            Expr::Index(pair, flags, _) => {
                let inner = self.member(base, &pair.lhs);
                self.index(inner, pair, *flags)
            }
            other => self.expression(other),
        }
    }

    /// `base[...]`, and what follows it in the chain.
    fn index(&mut self, base: Kind, pair: &BinaryExpr, flags: ASTFlags) -> Kind {
        let item = if base.family() == Some(super::kinds::Family::List) { Kind::Text } else { Kind::Unknown };
        match &pair.rhs {
            Expr::Dot(chain, ..) if !flags.contains(ASTFlags::BREAK) => {
                self.expression(&chain.lhs);
                self.member(item, &chain.rhs)
            }
            Expr::Index(chain, inner, _) if !flags.contains(ASTFlags::BREAK) => {
                self.expression(&chain.lhs);
                self.index(Kind::Unknown, chain, *inner)
            }
            at => {
                self.expression(at);
                item
            }
        }
    }

    fn call(&mut self, call: &FnCallExpr, position: Position) -> Kind {
        let kinds: Vec<Kind> = call.args.iter().map(|argument| self.expression(argument)).collect();
        if call.op_token.is_some() {
            self.operator(call, &kinds, position)
        } else {
            self.function_call(call, &kinds, position)
        }
    }

    fn method(&mut self, base: Kind, call: &FnCallExpr, position: Position) -> Kind {
        let mut kinds = vec![base];
        kinds.extend(call.args.iter().map(|argument| self.expression(argument)));
        self.method_call(call, &kinds, position)
    }
}
