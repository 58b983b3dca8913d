//! Comparisons that can't hold: values of two types, words that a field never is, order by the alphabet.
//!
//! Says nothing where either side is unknown.

use rhai::{Expr, FnCallExpr, Position};

use super::{
    kinds::{Family, Kind},
    nearest, scan,
    walk::Walk,
};
use crate::policy::{engine::place, fields::FieldType};

impl Walk<'_> {
    /// A word that a field of a closed set is compared with.
    pub fn check_word(&mut self, kind: Kind, word: &str, position: Position) {
        let Some(field) = kind.field() else { return };
        let Some(words) = field.kind.words() else { return };
        if words.contains(&word) {
            return;
        }
        let hint = match nearest(word, words.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("it is one of: {}", words.join(", ")),
        };
        self.error("unknown-value", position, format!("`{}` is never \"{word}\"", field.path()), hint);
    }

    pub fn operator(&mut self, call: &FnCallExpr, kinds: &[Kind], position: Position) -> Kind {
        match (call.name.as_str(), kinds) {
            ("==" | "!=" | "<" | ">" | "<=" | ">=", [left, right]) => {
                self.check_comparison(call, *left, *right, position);
                Kind::Bool
            }
            ("contains", [list, item]) => {
                self.check_contains(call, *list, *item, position);
                Kind::Bool
            }
            ("!", [operand]) => {
                self.check_condition(*operand, call.args[0].start_position());
                Kind::Bool
            }
            ("/", [..]) if self.is_cut_division(call) => {
                self.warn(
                    "whole-division",
                    position,
                    "whole numbers divide into a whole number: the rest is cut off".to_owned(),
                    "write them with a point, as in `10.0 / 30.0`",
                );
                Kind::Number
            }
            ("+" | "-" | "*" | "/" | "%" | "**", _) => {
                let number = |kind: &Kind| kind.family() == Some(Family::Number);
                if kinds.iter().all(number) { Kind::Number } else { Kind::Unknown }
            }
            _ => Kind::Unknown,
        }
    }

    fn is_cut_division(&self, call: &FnCallExpr) -> bool {
        match (&call.args[0], call.args.get(1)) {
            (Expr::IntegerConstant(a, _), Some(Expr::IntegerConstant(b, _))) => *b != 0 && a % b != 0,
            _ => false,
        }
    }

    fn check_comparison(&mut self, call: &FnCallExpr, left: Kind, right: Kind, position: Position) {
        let (Some(a), Some(b)) = (left.family(), right.family()) else { return };
        let equality = matches!(call.name.as_str(), "==" | "!=");
        if a == Family::Missing || b == Family::Missing {
            let field = left.field().or(right.field());
            if let Some(field) = field.filter(|f| !f.may_be_missing) {
                let message = format!("`{}` is never missing", field.path());
                self.warn("never-missing", position, message, "this comparison has one answer only");
            }
            return;
        }
        if a != b {
            self.wrong_types(call, (left, a), (right, b), position);
            return;
        }
        for (kind, other) in [(left, &call.args[1]), (right, &call.args[0])] {
            let Some(words) = kind.field().and_then(|f| f.kind.words()) else { continue };
            if equality {
                if let Expr::StringConstant(word, at) = other {
                    self.check_word(kind, word, *at);
                }
            } else {
                let path = kind.field().map(|f| f.path()).unwrap_or_default();
                self.error(
                    "alphabetical-order",
                    position,
                    format!("`{}` compares texts by the alphabet, which says nothing of `{path}`", call.name),
                    format!("name the values, as in `{path} in [\"{}\"]`", words.join("\", \"")),
                );
            }
        }
    }

    fn wrong_types(&mut self, call: &FnCallExpr, left: (Kind, Family), right: (Kind, Family), at: Position) {
        let name = |(kind, family): (Kind, Family), expression: &Expr| match kind.field() {
            Some(field) => format!("`{}` is {}", field.path(), family.noun()),
            None => match self.literal_text(expression) {
                Some(text) => format!("{text} is {}", family.noun()),
                None => format!("the other side is {}", family.noun()),
            },
        };
        let sides = [name(left, &call.args[0]), name(right, &call.args[1])];
        // The field first, as people say it.
        let [first, second] = if right.0.field().is_some() && left.0.field().is_none() {
            let [a, b] = sides;
            [b, a]
        } else {
            sides
        };
        let hint = self.type_hint(left.0.field().or(right.0.field()).map(Kind::Field));
        self.error("wrong-type", at, format!("{first}, and {second}: the two never compare"), hint);
    }

    fn type_hint(&self, field: Option<Kind>) -> String {
        let Some(field) = field.and_then(Kind::field) else { return String::new() };
        match (field.kind.words(), Kind::Field(field).family()) {
            (Some(words), _) => format!("it is one of: {}", words.join(", ")),
            (None, Some(Family::Number)) => "write the number without quotation marks".to_owned(),
            (None, Some(Family::Bool)) => format!("`{0}` or `!{0}` says it all", field.path()),
            (None, Some(Family::Text)) => "write the text in quotation marks".to_owned(),
            (None, Some(Family::List)) => format!("ask it, as in `\"...\" in {}`", field.path()),
            _ => String::new(),
        }
    }

    /// The literal as written, if it is one.
    fn literal_text(&self, expression: &Expr) -> Option<String> {
        match expression {
            Expr::StringConstant(..)
            | Expr::IntegerConstant(..)
            | Expr::FloatConstant(..)
            | Expr::BoolConstant(..) => {
                let at = scan::at(self.lexemes, place(expression.position())?)?;
                Some(format!("`{}`", self.lexemes[at].text(self.source)))
            }
            _ => None,
        }
    }

    /// `item in list`, `list.contains(item)`, `text.contains(part)`.
    pub fn check_contains(&mut self, call: &FnCallExpr, list: Kind, item: Kind, position: Position) {
        if let Some(family @ (Family::Number | Family::Bool | Family::Object)) = list.family() {
            let what = list.field().map_or("this".to_owned(), |f| format!("`{}`", f.path()));
            let message = format!("{what} is {}; only a list or a text contains something", family.noun());
            self.error("wrong-type", position, message, "");
        }
        if let Some(field) = list.field().filter(|f| f.kind == FieldType::Texts)
            && let Some(family) = item.family().filter(|f| *f != Family::Text && *f != Family::Missing)
        {
            let message =
                format!("`{}` is a list of texts; it never contains {}", field.path(), family.noun());
            self.error("wrong-type", position, message, "write the text in quotation marks");
        }
        if let Some(Expr::Array(items, _)) = call.args.first() {
            for literal in items {
                match literal {
                    Expr::StringConstant(word, at) => self.check_word(item, word, *at),
                    _ => self.check_item(item, literal),
                }
            }
        }
    }

    /// An item of a literal list that a field is looked for in.
    fn check_item(&mut self, item: Kind, literal: &Expr) {
        let kind = match literal {
            Expr::IntegerConstant(..) | Expr::FloatConstant(..) => Kind::Number,
            Expr::BoolConstant(..) => Kind::Bool,
            _ => return,
        };
        let (Some(field), Some(wanted), Some(found)) = (item.field(), item.family(), kind.family()) else {
            return;
        };
        if wanted != found {
            let message =
                format!("`{}` is {}; it never equals {}", field.path(), wanted.noun(), found.noun());
            let hint = self.type_hint(Some(item));
            self.error("wrong-type", literal.position(), message, hint);
        }
    }
}
