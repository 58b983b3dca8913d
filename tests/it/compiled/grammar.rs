//! Scripts as authors might write them, and as nobody would: generated from a grammar over every field, operator and
//! function that scripts have.

use channel_orchestrator::policy::fields::{CHANNEL, FieldType, HISTORY, MESSAGE};

use super::facts::{FLOATS, INTEGERS, Random, TAGS, TEMPLATES};

/// A whole script: perhaps with helper functions.
pub fn script(random: &mut Random<'_>) -> String {
    let mut writer = Writer { random, names: Vec::new(), helpers: 0 };
    let mut out = String::new();
    let helpers = if writer.random.chance(25) { 1 + writer.random.below(2) } else { 0 };
    for at in 0..helpers {
        writer.names.clear();
        let body = writer.number(2);
        out.push_str(&format!(
            "fn helper{at}(message, channel, n) {{\n    if n > 3 {{ return {body}; }}\n    n + 1\n}}\n"
        ));
    }
    writer.helpers = helpers;
    writer.names.clear();
    out.push_str("fn score(message, channel) {\n");
    out.push_str(&writer.body(3, 1));
    out.push_str("}\n");
    out
}

struct Writer<'r, 'b> {
    random: &'r mut Random<'b>,
    /// Numbers in scope.
    names: Vec<String>,
    helpers: usize,
}

impl Writer<'_, '_> {
    /// Statements that end in a verdict.
    fn body(&mut self, depth: usize, indent: usize) -> String {
        let (pad, known) = ("    ".repeat(indent), self.names.len());
        let mut out = String::new();
        for _ in 0..self.random.below(3) {
            let line = match self.random.below(6) {
                0 | 1 => {
                    let (name, value) = (format!("n{}", self.names.len()), self.number(2));
                    self.names.push(name.clone());
                    format!("{pad}let {name} = {value};\n")
                }
                2 if !self.names.is_empty() => {
                    let (value, operator) = (self.number(1), *self.random.one(&["=", "+=", "-=", "*="]));
                    let name = self.random.one(&self.names).clone();
                    format!("{pad}{name} {operator} {value};\n")
                }
                3 if !self.names.is_empty() => {
                    let (condition, value) = (self.condition(1), self.number(1));
                    let name = self.random.one(&self.names).clone();
                    format!("{pad}if {condition} {{ {name} = {value}; }}\n")
                }
                _ => {
                    let (condition, verdict) = (self.condition(2), self.verdict());
                    format!("{pad}if {condition} {{\n{pad}    return {verdict};\n{pad}}}\n")
                }
            };
            out.push_str(&line);
        }
        out.push_str(&self.end(depth, indent));
        self.names.truncate(known);
        out
    }

    fn end(&mut self, depth: usize, indent: usize) -> String {
        let pad = "    ".repeat(indent);
        if depth == 0 || self.random.chance(25) {
            return format!("{pad}{}\n", self.verdict());
        }
        match self.random.below(3) {
            0 => {
                let condition = self.condition(2);
                let (then, other) = (self.body(depth - 1, indent + 1), self.body(depth - 1, indent + 1));
                format!("{pad}if {condition} {{\n{then}{pad}}} else {{\n{other}{pad}}}\n")
            }
            1 => self.word_switch(depth, indent),
            _ => self.number_switch(indent),
        }
    }

    fn word_switch(&mut self, depth: usize, indent: usize) -> String {
        let pad = "    ".repeat(indent);
        let words: Vec<(String, &[&str])> = MESSAGE
            .iter()
            .filter_map(|f| Some((format!("message.{}", f.name), f.kind.words()?)))
            .chain([("channel.name".to_owned(), &["sms", "email", "whatsapp", "telegram"][..])])
            .collect();
        let (subject, words) = self.random.one(&words).clone();
        let mut out = format!("{pad}switch {subject} {{\n");
        for word in words.iter().filter(|_| true) {
            if self.random.chance(60) {
                let condition =
                    if self.random.chance(30) { format!(" if {}", self.condition(1)) } else { String::new() };
                let verdict = self.verdict();
                let or = if self.random.chance(20) { format!(" | \"{}\"", words[0]) } else { String::new() };
                out.push_str(&format!("{pad}    \"{word}\"{or}{condition} => {verdict},\n"));
            }
        }
        if self.random.chance(80) {
            let body = self.body(depth - 1, indent + 2);
            out.push_str(&format!("{pad}    _ => {{\n{body}{pad}    }}\n"));
        }
        out.push_str(&format!("{pad}}}\n"));
        out
    }

    fn number_switch(&mut self, indent: usize) -> String {
        let pad = "    ".repeat(indent);
        let subject = match self.random.below(3) {
            0 => "message.template".to_owned(),
            _ => self.field(FieldType::Integer),
        };
        let mut out = format!("{pad}switch {subject} {{\n");
        for _ in 0..self.random.below(4) {
            let case = match (subject == "message.template", self.random.below(3)) {
                (true, _) => format!("{:?}", self.random.one(&["WELCOME", "APPOINTMENT_REMINDER", "x"])),
                (false, 0) => format!("{}..={}", self.random.below(10), self.random.below(200)),
                (false, _) => format!("{}", self.random.below(24)),
            };
            let condition =
                if self.random.chance(30) { format!(" if {}", self.condition(1)) } else { String::new() };
            let verdict = self.verdict();
            out.push_str(&format!("{pad}    {case}{condition} => {verdict},\n"));
        }
        let verdict = self.verdict();
        out.push_str(&format!("{pad}    _ => {verdict}\n{pad}}}\n"));
        out
    }

    fn verdict(&mut self) -> String {
        let reason = self.reason();
        match self.random.below(8) {
            0 => "neutral()".to_owned(),
            1 => format!("veto({reason})"),
            2 | 3 => format!("penalize({}, {reason})", self.share()),
            _ => format!("award({}, {reason})", self.share()),
        }
    }

    fn share(&mut self) -> String {
        match self.random.below(6) {
            0 => "1".to_owned(),
            1 => "15.0 / 25.0".to_owned(),
            2 => self.number(2),
            3 => format!("min(1.0, max(0.0, {}))", self.number(1)),
            _ => format!("{:?}", self.random.below(11) as f64 / 10.0),
        }
    }

    fn reason(&mut self) -> String {
        match self.random.below(5) {
            0 => format!("`because ${{{}}} of ${{{}}}`", self.number(1), self.field(FieldType::Text)),
            1 => format!("\"a \" + {}", self.field(FieldType::Text)),
            2 => format!("`${{percent({})}} is it`", self.number(1)),
            _ => format!("\"reason {}\"", self.random.below(6)),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth > 0 && self.random.chance(40) {
            let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
            return match self.random.below(4) {
                0 => format!("!({a})"),
                1 => format!("{a} || {b}"),
                2 => format!("({a}) == ({b})"),
                _ => format!("{a} && {b}"),
            };
        }
        match self.random.below(9) {
            0 => self.field(FieldType::Bool),
            1 => {
                let optional =
                    ["message.template", "message.minutes_to_event", "message.send_within", "message.type"];
                let field = *self.random.one(&optional);
                format!("{field} {} ()", self.random.one(&["==", "!="]))
            }
            2 => format!("message.tags.contains({:?})", self.random.one(&TAGS)),
            3 => format!("{:?} in message.tags", self.random.one(&TAGS)),
            4 => format!(
                "message.template {} {:?}",
                self.random.one(&["==", "!="]),
                self.random.one(&TEMPLATES)
            ),
            5 => format!("message.{} == \"{}\"", "priority", self.random.one(&["urgent", "low", "normal"])),
            6 => format!("{} in {}..={}", self.number(1), self.random.below(50), self.random.below(200)),
            7 => format!("{} in [1, 2.5, \"fr\", 160]", self.number(0)),
            _ => {
                let operator = *self.random.one(&["<", "<=", ">", ">=", "==", "!="]);
                format!("{} {operator} {}", self.number(1), self.number(1))
            }
        }
    }

    fn number(&mut self, depth: usize) -> String {
        if depth > 0 && self.random.chance(45) {
            let (a, b) = (self.number(depth - 1), self.number(depth - 1));
            return match self.random.below(9) {
                0 => format!("max({a}, {b})"),
                1 => format!("abs({a})"),
                2 => format!("-({a})"),
                3 if self.helpers > 0 => {
                    format!("helper{}(message, channel, {a})", self.random.below(self.helpers))
                }
                _ => format!("({a} {} {b})", self.random.one(&["+", "-", "*", "/", "%"])),
            };
        }
        match self.random.below(8) {
            0 if !self.names.is_empty() => self.random.one(&self.names).clone(),
            1 => format!("{}", *self.random.one(&INTEGERS[..20])),
            2 => {
                let float = *self.random.one(&FLOATS[2..12]);
                format!("{float:?}")
            }
            3 => "len(message.locale)".to_owned(),
            4 => self.field(FieldType::Float),
            _ => self.field(FieldType::Integer),
        }
    }

    fn field(&mut self, kind: FieldType) -> String {
        let mut fields: Vec<String> = Vec::new();
        fields.extend(MESSAGE.iter().filter(|f| f.kind == kind).map(|f| format!("message.{}", f.name)));
        fields.extend(CHANNEL.iter().filter(|f| f.kind == kind).map(|f| format!("channel.{}", f.name)));
        fields
            .extend(HISTORY.iter().filter(|f| f.kind == kind).map(|f| format!("channel.history.{}", f.name)));
        self.random.one(&fields).clone()
    }
}
