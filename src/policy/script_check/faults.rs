//! What is wrong with a node, and how to mend it: fields that don't exist, calls of what isn't there, verdicts
//! that are lost. Comparisons have a file of their own. A fault is noted; nothing is corrected.

use rhai::{Expr, FnCallExpr, Position, Stmt};

use super::{
    ReasonSite,
    calls::{self, Parameter},
    kinds::{Family, Kind, Object},
    nearest, scan,
    walk::Walk,
};
use crate::policy::{
    diagnostic::{Diagnostic, Severity},
    engine::place,
    fields::FieldType,
};

impl Walk<'_> {
    fn report(&mut self, severity: Severity, code: &str, position: Position, message: String, hint: String) {
        let mut fault = Diagnostic::error(code, self.file, message);
        fault.severity = severity;
        if let Some((line, column)) = place(position) {
            let length =
                scan::at(self.lexemes, (line, column)).map_or(1, |at| self.lexemes[at].chars(self.source));
            fault = fault.at(self.source, line, column, length);
        }
        if !hint.is_empty() {
            fault = fault.hint(hint);
        }
        self.faults.push(fault);
    }

    pub fn error(&mut self, code: &str, position: Position, message: String, hint: impl Into<String>) {
        self.report(Severity::Error, code, position, message, hint.into());
    }

    pub fn warn(&mut self, code: &str, position: Position, message: String, hint: impl Into<String>) {
        self.report(Severity::Warning, code, position, message, hint.into());
    }

    /// A field is read.
    pub fn property(&mut self, base: Kind, name: &str, position: Position) -> Kind {
        let object = match base {
            Kind::Object(object) => object,
            Kind::Field(field) if field.kind == FieldType::History => Object::History,
            Kind::Field(field) => {
                let holds = base.family().map_or("", Family::noun);
                let message = format!("`{}` is {holds}; it has no field `{name}`", field.path());
                self.error("unknown-field", position, message, "");
                return Kind::Unknown;
            }
            _ => return Kind::Unknown,
        };
        if let Some(field) = object.field(name) {
            return match field.kind {
                FieldType::History => Kind::Object(Object::History),
                _ => Kind::Field(field),
            };
        }
        let names: Vec<&str> = object.fields().iter().map(|f| f.name).collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => match Object::elsewhere(object, name) {
                Some(other) => format!("did you mean `{}.{name}`?", other.path()),
                None => format!("there are: {}", names.join(", ")),
            },
        };
        let message = format!("{} has no field `{name}`", object.noun());
        self.error("unknown-field", position, message, hint);
        Kind::Unknown
    }

    /// An expression that decides between two ways.
    pub fn condition_of(&mut self, expression: &Expr) {
        let kind = self.expression(expression);
        self.check_condition(kind, expression.start_position());
    }

    pub fn check_condition(&mut self, kind: Kind, position: Position) {
        let Some(family) = kind.family().filter(|family| *family != Family::Bool) else { return };
        let hint = match (kind.field(), family) {
            (Some(field), Family::Text) => format!("compare it, as in `{} == \"...\"`", field.path()),
            (Some(field), Family::Number) => format!("compare it, as in `{} > 0`", field.path()),
            (Some(field), Family::List) => format!("ask it, as in `\"...\" in {}`", field.path()),
            _ => "compare it with something".to_owned(),
        };
        self.error(
            "not-a-condition",
            position,
            format!("this is {}, and a condition is true or false", family.noun()),
            hint,
        );
    }

    /// Only variables of the script's own can be set, as a whole: not a field, not `message` or `channel`, and no
    /// part of a list or map (Rhai counts no size there: `a[0] = a; a[1] = a;` doubles without a limit).
    pub fn check_writable(&mut self, target: &Expr) {
        let mut root = target;
        while let Expr::Dot(pair, ..) | Expr::Index(pair, ..) = root {
            root = &pair.lhs;
        }
        let name = match root {
            Expr::Variable(name, ..) => name.1.to_string(),
            _ => "this".to_owned(),
        };
        let kind = self.binding(&name).map_or(Kind::Unknown, |b| b.kind);
        if kind.family() == Some(Family::Object) {
            self.error(
                "read-only",
                target.start_position(),
                format!("`{name}` can't be changed: a script answers, it changes nothing"),
                "keep what you need in a variable of your own: `let x = ...;`",
            );
        } else if !matches!(target, Expr::Variable(..)) {
            self.error(
                "read-only",
                target.start_position(),
                format!("a part of `{name}` can't be changed: a list or a map stays as it was made"),
                "make a new one, or keep the part in a variable of its own",
            );
        }
    }

    /// A switch over a closed set has arms for its words only.
    pub fn check_switch(&mut self, subject: Kind, position: Position) {
        let Some(field) = subject.field() else { return };
        let Some(place) = place(position) else { return };
        for arm in scan::switch_texts(self.source, self.lexemes, place) {
            let at = Position::new(clamp(arm.line), clamp(arm.column));
            let quoted = arm.text(self.source);
            match subject.family() {
                Some(Family::Text) => self.check_word(subject, quoted.trim_matches('"'), at),
                Some(family) => self.error(
                    "wrong-type",
                    at,
                    format!("`{}` is {}; it never equals {quoted}", field.path(), family.noun()),
                    "",
                ),
                None => {}
            }
        }
    }

    /// What `score` gives.
    pub fn check_verdict(&mut self, kind: Kind, position: Position) {
        let Some(family) = kind.family() else { return };
        if !matches!(family, Family::Verdict | Family::Missing) {
            self.error(
                "no-verdict",
                position,
                format!("`score` gives {} here, and it must give a verdict", family.noun()),
                "end in award(share, reason), penalize(share, reason), veto(reason) or neutral()",
            );
        }
    }

    /// A name that is in no scope and still parses is a function's.
    pub fn function_as_value(&mut self, name: &str, position: Position) {
        self.error(
            "unknown-variable",
            position,
            format!("there is no variable `{name}`"),
            format!("`{name}` is a function: call it, as in `{name}(...)`"),
        );
    }

    /// A verdict that isn't the last word of its block, and isn't returned, is lost.
    pub fn check_nothing_lost(&mut self, statement: &Stmt) {
        let mut lost = Vec::new();
        calls::tail_verdicts(statement, &mut lost);
        for (name, position) in lost {
            self.error(
                "lost-verdict",
                position,
                format!("this verdict is lost: what follows it decides, as if `{name}` were not there"),
                format!("write `return {name}(...);`, or put what follows into an `else`"),
            );
        }
    }

    /// `name(arguments)`.
    pub fn function_call(&mut self, call: &FnCallExpr, kinds: &[Kind], position: Position) -> Kind {
        let (name, count) = (call.name.as_str(), call.args.len());
        if call.capture_parent_scope {
            let message = format!("`{name}!` is not available in a script");
            self.error("not-available", position, message, format!("write `{name}(...)`"));
            return Kind::Unknown;
        }
        if self.functions.iter().any(|f| f.name == name && f.parameters.len() == count) {
            self.note_given(name, kinds);
            return Kind::Unknown;
        }
        if !calls::natives().get(name).is_some_and(|counts| counts.contains(&count)) {
            self.no_such_call(name, count, position);
            return Kind::Unknown;
        }
        if name == "contains" {
            self.check_contains(call, kinds[0], kinds[1], position);
        }
        let arguments: Vec<&Expr> = call.args.iter().collect();
        self.check_arguments(name, &arguments, kinds, position)
    }

    /// `value.name(arguments)`: the value counts as the first argument.
    pub fn method_call(&mut self, call: &FnCallExpr, kinds: &[Kind], position: Position) -> Kind {
        let name = call.name.as_str();
        if calls::natives().get(name).is_some_and(|counts| counts.contains(&kinds.len())) {
            let arguments: Vec<&Expr> = call.args.iter().collect();
            return self.check_arguments(name, &arguments, kinds, position);
        }
        if self.functions.iter().any(|f| f.name == name) {
            self.error(
                "unknown-function",
                position,
                format!("`{name}` is a function of this script, and those are not called with a dot"),
                format!("write `{name}(...)` with the value as an argument"),
            );
        } else {
            self.no_such_call(name, kinds.len(), position);
        }
        Kind::Unknown
    }

    fn note_given(&mut self, name: &str, kinds: &[Kind]) {
        let key = (name.to_owned(), kinds.len());
        match self.given.get_mut(&key) {
            None => {
                self.given.insert(key, kinds.to_vec());
            }
            Some(known) => {
                for (known, new) in known.iter_mut().zip(kinds) {
                    *known = known.join(*new);
                }
            }
        }
    }

    fn no_such_call(&mut self, name: &str, count: usize, position: Position) {
        let own = self.functions.iter().filter(|f| f.name == name).map(|f| f.parameters.len());
        let counts: Vec<usize> =
            own.chain(calls::natives().get(name).into_iter().flatten().copied()).collect();
        if !counts.is_empty() {
            let hint = match calls::signature(name) {
                Some(signature) if counts == [2] && count == 3 => {
                    format!("write `{signature}`; a number has a point, never a comma: 0.5")
                }
                Some(signature) => format!("write `{signature}`"),
                None => String::new(),
            };
            let wanted: Vec<String> = counts.iter().map(ToString::to_string).collect();
            let message = format!("`{name}` takes {} arguments, not {count}", wanted.join(" or "));
            self.error("wrong-arity", position, message, hint);
            return;
        }
        let own: Vec<&str> = self.functions.iter().map(|f| f.name.as_str()).collect();
        let known = calls::natives().keys().map(String::as_str).chain(own);
        let hint = match nearest(name, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("a script can call {}, and functions of its own", calls::documented()),
        };
        self.error("unknown-function", position, format!("there is no function `{name}`"), hint);
    }

    /// Literal arguments of our own functions, and what a call gives. `arguments` are the written ones; `kinds`
    /// has the value before the dot, too.
    fn check_arguments(
        &mut self,
        name: &str,
        arguments: &[&Expr],
        kinds: &[Kind],
        position: Position,
    ) -> Kind {
        let Some(call) = calls::ours(name) else { return Kind::Unknown };
        let before_dot = kinds.len() - arguments.len();
        for (at, parameter) in call.parameters.iter().enumerate() {
            let Some(kind) = kinds.get(at) else { break };
            let argument = at.checked_sub(before_dot).and_then(|at| arguments.get(at)).copied();
            let here = argument.map_or(position, Expr::start_position);
            self.check_argument(name, *parameter, *kind, here);
            if *parameter == Parameter::Share
                && let Some(share) = argument.and_then(calls::constant)
                && !(0.0..=1.0).contains(&share)
            {
                self.error(
                    "share-out-of-range",
                    here,
                    format!("a share is from 0 to 1, and this is {share}"),
                    if share < 0.0 {
                        "use `penalize` to take points away"
                    } else {
                        "give the share of the weight, as in `15.0 / 20.0`"
                    },
                );
            }
            if *parameter == Parameter::Reason {
                self.note_reason(argument, position);
            }
        }
        call.gives
    }

    fn check_argument(&mut self, name: &str, parameter: Parameter, kind: Kind, position: Position) {
        let wanted = match parameter {
            Parameter::Share | Parameter::Rate => Family::Number,
            Parameter::Reason | Parameter::Part => Family::Text,
            Parameter::Anything => return,
        };
        // What may be missing is a question for the trial run.
        let Some(found) = kind.family().filter(|found| *found != wanted) else { return };
        let message = format!("{} belongs here, and this is {}", wanted.noun(), found.noun());
        let hint = calls::signature(name).map_or(String::new(), |signature| format!("write `{signature}`"));
        self.error("wrong-type", position, message, hint);
    }

    fn note_reason(&mut self, argument: Option<&Expr>, position: Position) {
        let Some((line, column)) = place(position) else { return };
        let text = argument.and_then(|a| self.text_of(a)).unwrap_or_else(|| "(computed)".to_owned());
        self.reasons.push(ReasonSite { line, column, text });
    }

    /// The text that an expression gives, as written: a literal's, a template's source, or that of the variable.
    pub fn text_of(&self, expression: &Expr) -> Option<String> {
        match expression {
            Expr::StringConstant(text, _) => Some(text.to_string()),
            Expr::Variable(name, ..) => {
                let own = self.binding(&name.1).and_then(|b| b.text.clone());
                Some(own.unwrap_or_else(|| name.1.to_string()))
            }
            other => {
                let written =
                    scan::expression_text(self.source, self.lexemes, place(other.start_position())?)?;
                Some(written.trim_matches('`').to_owned())
            }
        }
    }
}

impl Object {
    /// The other object that has a field of that name.
    fn elsewhere(self, name: &str) -> Option<Object> {
        [Object::Message, Object::Channel, Object::History]
            .into_iter()
            .find(|other| *other != self && other.field(name).is_some())
    }
}

fn clamp(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX).max(1)
}
