//! CEL (crate `cel`): nine expressions, each run for each channel; the host weighs and ranks.
//!
//! Timed: building the two maps (flat, only the fields that the criteria read; keys and words made beforehand), the
//! 36 runs, reading the answers, weights and order. Reasons stay CEL's own texts.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, Env, Program, Value,
    objects::{Key, Map},
};
use channel_orchestrator::{
    domain::{
        channel::{Channel, PerChannel},
        message::{MessageKind, Priority},
    },
    policy::view::{ChannelView, MessageView},
};

use crate::{
    engine::Engine,
    outcome::{Outcome, Points, Ranking, Tally, WEIGHTS, rank, spell},
    stream::Case,
};

pub struct Cel {
    env: Arc<Env>,
    programs: Vec<Program>,
    words: Words,
}

/// Texts that are the same for every request.
struct Words {
    keys: HashMap<&'static str, Key>,
    kinds: Vec<Value>,
    priorities: Vec<Value>,
    channels: PerChannel<Value>,
}

pub struct Answers {
    reasons: PerChannel<Vec<Value>>,
    points: PerChannel<Points>,
    ranking: Ranking,
}

impl Cel {
    pub fn new() -> Self {
        let env = Arc::new(Env::stdlib());
        let expressions = include_str!("../rules/cel.txt").split("\n\n").skip(1);
        let programs: Vec<_> =
            expressions.map(|text| env.compile(text).expect("a good expression")).collect();
        assert_eq!(programs.len(), WEIGHTS.len());
        Self { env, programs, words: Words::new() }
    }

    fn judge(&self, context: &Context<'_, '_>, cost: f64, reasons: &mut Vec<Value>) -> Points {
        let mut tally = Tally::default();
        for (program, weight) in self.programs.iter().zip(WEIGHTS) {
            match program.execute(context).expect("the criteria do not fail") {
                Value::Null => {}
                Value::List(said) => {
                    let [Value::Float(share), reason] = &said[..] else { unreachable!("share and reason") };
                    tally.add(*share, weight);
                    reasons.push(reason.clone());
                }
                reason => {
                    tally.close();
                    reasons.push(reason);
                }
            }
        }
        tally.points(cost)
    }
}

impl Engine for Cel {
    type Said = Answers;

    fn score(&mut self, case: &Case) -> Answers {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.add_variable_from_value("message", self.words.message(&case.message));
        let mut reasons = PerChannel::<Vec<Value>>::default();
        let points = PerChannel::from_fn(|channel: Channel| {
            let facts = &case.channels[channel];
            let mut inner = context.new_inner_scope();
            inner.add_variable_from_value("channel", self.words.channel(facts));
            self.judge(&inner, facts.cost, &mut reasons[channel])
        });
        Answers { ranking: rank(&points), reasons, points }
    }

    fn spell(&self, _case: &Case, said: Answers) -> Outcome {
        let text = |reason: &Value| match reason {
            Value::String(text) => text.to_string(),
            other => panic!("a reason is a text: {other:?}"),
        };
        spell(&said.ranking, &said.points, |channel| said.reasons[channel].iter().map(text).collect())
    }
}

const KEYS: [&str; 16] = [
    "type",
    "priority",
    "length",
    "has_html",
    "has_attachments",
    "quiet",
    "allow_sms_in_quiet_hours",
    "name",
    "preferred",
    "disabled",
    "available",
    "known",
    "rate",
    "average",
    "engaged",
    "received",
];

impl Words {
    fn new() -> Self {
        Self {
            keys: KEYS.into_iter().map(|key| (key, Key::from(key))).collect(),
            kinds: MessageKind::ALL.iter().map(|kind| kind.as_str().into()).collect(),
            priorities: Priority::ALL.iter().map(|priority| priority.as_str().into()).collect(),
            channels: PerChannel::from_fn(|channel| channel.as_str().into()),
        }
    }

    fn map<const N: usize>(&self, entries: [(&'static str, Value); N]) -> Value {
        let map = entries.into_iter().map(|(name, value)| (self.keys[name].clone(), value)).collect();
        Value::Map(Map { map: Arc::new(map) })
    }

    fn message(&self, message: &MessageView<'_>) -> Value {
        self.map([
            ("type", message.kind.map_or(Value::Null, |kind| self.kinds[kind as usize].clone())),
            ("priority", self.priorities[message.priority as usize].clone()),
            ("length", Value::Int(message.length)),
            ("has_html", Value::Bool(message.has_html)),
            ("has_attachments", Value::Bool(message.has_attachments)),
            ("quiet", Value::Bool(message.quiet)),
            ("allow_sms_in_quiet_hours", Value::Bool(message.allow_sms_in_quiet_hours)),
        ])
    }

    fn channel(&self, channel: &ChannelView) -> Value {
        let past = &channel.history;
        self.map([
            ("name", self.channels[channel.channel].clone()),
            ("preferred", Value::Bool(channel.preferred)),
            ("disabled", Value::Bool(channel.disabled)),
            ("available", Value::Bool(channel.available)),
            ("known", Value::Bool(past.known)),
            ("rate", Value::Float(past.rate)),
            ("average", Value::Float(past.average)),
            ("engaged", Value::Int(past.engaged)),
            ("received", Value::Int(past.received)),
        ])
    }
}
