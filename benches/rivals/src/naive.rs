//! Rhai as a straightforward port would use it: `Engine::new()`, the context a map, one `call_fn` for each criterion
//! and channel, the answer a map. Nothing is specialised, cached or shared between calls but the syntax trees.
//!
//! Timed: building the maps (once for each channel, cloned for each call), the calls, reading the answers, weights
//! and order. The crate is built once for this program, with the daemon's features (`sync`, `only_i64` ...), which
//! make this port a little faster than the default ones would (design notes: 57.7 against 61.3 us).

use channel_orchestrator::{
    domain::channel::{Channel, PerChannel},
    policy::view::{ChannelView, MessageView},
};
use rhai::{AST, Dynamic, Engine as Rhai, Map, Scope};

use crate::{
    engine::Engine,
    outcome::{Outcome, Points, Ranking, Tally, WEIGHTS, rank, spell},
    stream::Case,
};

const SCRIPTS: [&str; 9] = [
    include_str!("../rules/rhai/preferences.rhai"),
    include_str!("../rules/rhai/urgency.rhai"),
    include_str!("../rules/rhai/content.rhai"),
    include_str!("../rules/rhai/length.rhai"),
    include_str!("../rules/rhai/cost.rhai"),
    include_str!("../rules/rhai/quiet_hours.rhai"),
    include_str!("../rules/rhai/message_type.rhai"),
    include_str!("../rules/rhai/history.rhai"),
    include_str!("../rules/rhai/availability.rhai"),
];

pub struct Naive {
    engine: Rhai,
    scripts: Vec<AST>,
}

pub struct Answers {
    reasons: PerChannel<Vec<String>>,
    points: PerChannel<Points>,
    ranking: Ranking,
}

impl Naive {
    pub fn new() -> Self {
        let engine = Rhai::new();
        let scripts = SCRIPTS.iter().map(|script| engine.compile(script).expect("a good script")).collect();
        Self { engine, scripts }
    }

    fn judge(&self, context: &Map, cost: f64, reasons: &mut Vec<String>) -> Points {
        let mut tally = Tally::default();
        for (script, weight) in self.scripts.iter().zip(WEIGHTS) {
            let answer =
                self.engine.call_fn::<Dynamic>(&mut Scope::new(), script, "score", (context.clone(),));
            let answer = answer.expect("the criteria do not fail");
            // `()`: it says nothing.
            let Some(answer) = answer.try_cast::<Map>() else { continue };
            if answer.contains_key("veto") {
                tally.close();
            } else {
                tally.add(answer["share"].as_float().expect("a share is a number"), weight);
            }
            reasons.push(answer["reason"].clone().into_string().expect("a reason is a text"));
        }
        tally.points(cost)
    }
}

impl Engine for Naive {
    type Said = Answers;

    fn score(&mut self, case: &Case) -> Answers {
        let message = message(&case.message);
        let mut reasons = PerChannel::<Vec<String>>::default();
        let points = PerChannel::from_fn(|c: Channel| {
            let facts = &case.channels[c];
            let mut context = Map::new();
            context.insert("message".into(), message.clone().into());
            context.insert("channel".into(), channel(facts).into());
            self.judge(&context, facts.cost, &mut reasons[c])
        });
        Answers { ranking: rank(&points), reasons, points }
    }

    fn spell(&self, _case: &Case, mut said: Answers) -> Outcome {
        let reasons = std::mem::take(&mut said.reasons);
        spell(&said.ranking, &said.points, |channel| reasons[channel].clone())
    }
}

fn map<const N: usize>(entries: [(&'static str, Dynamic); N]) -> Map {
    entries.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

/// The fields that the criteria read, and no others.
fn message(message: &MessageView<'_>) -> Map {
    map([
        ("type", message.kind.map_or(Dynamic::UNIT, |kind| kind.as_str().into())),
        ("priority", message.priority.as_str().into()),
        ("length", message.length.into()),
        ("has_html", message.has_html.into()),
        ("has_attachments", message.has_attachments.into()),
        ("quiet", message.quiet.into()),
        ("allow_sms_in_quiet_hours", message.allow_sms_in_quiet_hours.into()),
    ])
}

fn channel(channel: &ChannelView) -> Map {
    let past = &channel.history;
    let history = map([
        ("known", past.known.into()),
        ("rate", past.rate.into()),
        ("average", past.average.into()),
        ("engaged", past.engaged.into()),
        ("received", past.received.into()),
    ]);
    map([
        ("name", channel.channel.as_str().into()),
        ("preferred", channel.preferred.into()),
        ("disabled", channel.disabled.into()),
        ("available", channel.available.into()),
        ("history", history.into()),
    ])
}
