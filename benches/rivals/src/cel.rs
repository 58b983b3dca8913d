//! CEL (crate `cel`): nine expressions, each run for each channel; the host weighs and ranks.
//!
//! Timed: binding the facts that the criteria read as variables (quicker than maps; those of the message once, texts
//! borrowed), the 36 runs, reading the answers, weights and order. Reasons stay CEL's own texts.

use std::sync::Arc;

use cel::{
    Context, Env, Program, Value,
    common::types::{CelBool, CelDouble, CelInt, CelNull, CelString},
};
use channel_orchestrator::{
    domain::channel::{Channel, PerChannel},
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
        Self { env, programs }
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
        bind_message(&mut context, &case.message);
        let mut reasons = PerChannel::<Vec<Value>>::default();
        let points = PerChannel::from_fn(|channel: Channel| {
            let facts = &case.channels[channel];
            let mut inner = context.new_inner_scope();
            bind_channel(&mut inner, facts);
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

fn bind_message(context: &mut Context<'_, '_>, message: &MessageView<'_>) {
    match message.kind {
        Some(kind) => context.add_variable_as_val("kind", Box::new(CelString::from(kind.as_str()))),
        None => context.add_variable_as_val("kind", Box::new(CelNull)),
    }
    context.add_variable_as_val("priority", Box::new(CelString::from(message.priority.as_str())));
    context.add_variable_as_val("length", Box::new(CelInt::from(message.length)));
    let truths = [
        ("has_html", message.has_html),
        ("has_attachments", message.has_attachments),
        ("quiet", message.quiet),
        ("allow_sms_in_quiet_hours", message.allow_sms_in_quiet_hours),
    ];
    for (name, truth) in truths {
        context.add_variable_as_val(name, Box::new(CelBool::from(truth)));
    }
}

fn bind_channel(context: &mut Context<'_, '_>, channel: &ChannelView) {
    let past = &channel.history;
    context.add_variable_as_val("channel", Box::new(CelString::from(channel.channel.as_str())));
    let truths = [
        ("preferred", channel.preferred),
        ("disabled", channel.disabled),
        ("available", channel.available),
        ("known", past.known),
    ];
    for (name, truth) in truths {
        context.add_variable_as_val(name, Box::new(CelBool::from(truth)));
    }
    // The others are read only where this is so.
    if past.known {
        context.add_variable_as_val("rate", Box::new(CelDouble::from(past.rate)));
        context.add_variable_as_val("average", Box::new(CelDouble::from(past.average)));
        context.add_variable_as_val("engaged", Box::new(CelInt::from(past.engaged)));
        context.add_variable_as_val("received", Box::new(CelInt::from(past.received)));
    }
}
