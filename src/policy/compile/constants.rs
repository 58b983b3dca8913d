//! What does not depend on the message is computed at load, by the engine itself: so a constant can only be what the
//! interpreter would have made of it.

use std::{cell::RefCell, collections::HashMap, fmt::Write as _};

use rhai::{AST, Dynamic, Expr, Scope, Stmt};

use crate::policy::{engine::engine, script_check::literals};

thread_local! {
    /// Compiled once for each shape: `a < b`, `round(a)`.
    static SHAPES: RefCell<HashMap<String, Option<AST>>> = RefCell::new(HashMap::new());
}

/// `a op b`; none where the engine fails.
pub fn binary(operator: &str, a: Dynamic, b: Dynamic) -> Option<Dynamic> {
    evaluate(&format!("a {operator} b"), [a, b].into())
}

/// `op a`.
pub fn unary(operator: &str, a: Dynamic) -> Option<Dynamic> {
    evaluate(&format!("{operator}a"), [a].into())
}

/// `name(a, b, ...)`.
pub fn call(name: &str, arguments: Vec<Dynamic>) -> Option<Dynamic> {
    let names = &["a", "b", "c"].get(..arguments.len())?.join(", ");
    evaluate(&format!("{name}({names})"), arguments)
}

/// What `${a}` shows.
pub fn shown(a: Dynamic) -> Option<Dynamic> {
    evaluate("`${a}`", [a].into())
}

fn evaluate(shape: &str, arguments: Vec<Dynamic>) -> Option<Dynamic> {
    SHAPES.with_borrow_mut(|shapes| {
        let compiled = shapes.entry(shape.to_owned()).or_insert_with(|| {
            let mut scope = Scope::new();
            for name in ["a", "b", "c"] {
                scope.push_constant(name, ());
            }
            engine().compile_with_scope(&scope, shape).ok()
        });
        let ast = compiled.as_ref()?;
        let mut scope = Scope::new();
        let mut arguments = arguments.into_iter();
        for name in ["a", "b", "c"] {
            scope.push_constant_dynamic(name, arguments.next().unwrap_or(Dynamic::UNIT));
        }
        engine().eval_ast_with_scope(&mut scope, ast).ok()
    })
}

/// The values that cases of a script's `switch`es can stand for, by the hash under which the tree keeps them.
#[derive(Debug, Default)]
pub struct Cases(HashMap<u64, Dynamic>);

impl Cases {
    /// Of every literal in the script, and of the words that fields can be.
    pub fn of(source: &str, words: impl IntoIterator<Item = &'static str>) -> Self {
        let mut values: Vec<(String, Dynamic)> = Vec::new();
        let mut add = |text: String, value: Dynamic| {
            if value.as_float().is_err() && !values.iter().any(|(_, known)| same(known, &value)) {
                values.push((text, value));
            }
        };
        add("()".into(), Dynamic::UNIT);
        add("true".into(), true.into());
        add("false".into(), false.into());
        for word in words {
            add(format!("\"{word}\""), word.into());
        }
        for text in literals(source) {
            if let Ok(value) = engine().eval_expression::<Dynamic>(&text) {
                add(text, value);
            }
        }
        Self(hashes(values).unwrap_or_default())
    }

    /// The value of a case.
    pub fn value(&self, hash: u64) -> Option<&Dynamic> {
        self.0.get(&hash)
    }

    /// The hash of a known value; none where no case of this script can be it.
    pub fn hash(&self, value: &Dynamic) -> Option<u64> {
        self.0.iter().find(|(_, known)| same(known, value)).map(|(hash, _)| *hash)
    }
}

/// The keys that Rhai gives these literals in a `switch`: read from a tree that has each of them once.
fn hashes(values: Vec<(String, Dynamic)>) -> Option<HashMap<u64, Dynamic>> {
    let mut text = String::from("switch a {");
    for (literal, _) in &values {
        let _ = write!(text, " {literal} => (),");
    }
    text.push_str(" _ => () }");
    let mut scope = Scope::new();
    scope.push_constant("a", ());
    let ast = engine().compile_with_scope(&scope, &text).ok()?;
    let [statement] = ast.statements() else { return None };
    let switch = match statement {
        Stmt::Switch(switch, _) => switch,
        Stmt::Expr(expression) => match &**expression {
            Expr::Stmt(block) => match block.statements() {
                [Stmt::Switch(switch, _)] => switch,
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    let mut hashes = HashMap::new();
    // Arms are kept in the order in which they are written.
    for (hash, case) in switch.1.cases.iter() {
        let [arm] = case.blocks[..] else { return None };
        hashes.insert(*hash, values.get(arm)?.1.clone());
    }
    (hashes.len() == values.len()).then_some(hashes)
}

/// Of one type and equal.
fn same(a: &Dynamic, b: &Dynamic) -> bool {
    a.type_id() == b.type_id()
        && match (a.as_int(), a.as_bool(), a.as_char(), a.as_immutable_string_ref()) {
            (Ok(number), ..) => b.as_int() == Ok(number),
            (_, Ok(truth), ..) => b.as_bool() == Ok(truth),
            (_, _, Ok(c), _) => b.as_char() == Ok(c),
            (_, _, _, Ok(text)) => b.as_immutable_string_ref().is_ok_and(|other| *other == *text),
            _ => a.is_unit(),
        }
}
