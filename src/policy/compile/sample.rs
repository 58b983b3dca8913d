//! Every compiled script is tried before it goes live: over a sample of messages, with values at and beside the
//! numbers that the script itself names, both ways must say the same.
//!
//! A difference is a bug of ours. The script then runs interpreted, and the alarm rings.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::Program;
use crate::{
    domain::{
        channel::{Channel, PerChannel},
        message::{MessageKind, Origin, Priority},
    },
    policy::{
        criterion::Criterion,
        engine::engine,
        script_check::{literals, smoke},
        view::{ChannelView, MessageView},
    },
};

/// Messages of a sample, beside those of the trial run.
const DRAWN: usize = 24;

static DIFFERENCES: AtomicU64 = AtomicU64::new(0);

/// Scripts whose compiled form was found to differ, since the process began.
pub fn differences() -> u64 {
    DIFFERENCES.load(Relaxed)
}

/// Tries a criterion both ways; in words what differs.
pub fn difference(criterion: &Arc<Criterion>, source: &str) -> Option<String> {
    let program = Program::link(vec![Arc::clone(criterion)]);
    let mut draw = Draw::new(source);
    let grid = smoke::messages().into_iter().map(|m| (*m).clone());
    let messages: Vec<MessageView<'static>> = grid.collect();
    let drawn = (0..DRAWN).map(|at| draw.message(&messages[at % messages.len()])).collect::<Vec<_>>();
    for message in messages.iter().chain(&drawn) {
        let channels = PerChannel::from_fn(|channel| draw.channel(channel));
        let (fast, slow) = (program.score(message, &channels), program.interpret(message, &channels));
        for channel in Channel::ALL {
            let (compiled, interpreted) = (program.said(&fast, 0, channel), program.said(&slow, 0, channel));
            if compiled != interpreted {
                DIFFERENCES.fetch_add(1, Relaxed);
                return Some(format!("on {channel} it said {compiled:?} instead of {interpreted:?}"));
            }
        }
    }
    None
}

/// Draws facts, always the same for the same script.
struct Draw {
    state: u64,
    integers: Vec<i64>,
    floats: Vec<f64>,
}

impl Draw {
    fn new(source: &str) -> Self {
        let (mut integers, mut floats) = (vec![0, 1, 80, 160, 161, 1_000], vec![0.0, 0.05, 0.5, 1.0]);
        for literal in literals(source) {
            let Ok(value) = engine().eval_expression::<rhai::Dynamic>(&literal) else { continue };
            if let Ok(number) = value.as_int() {
                integers.extend([number.saturating_sub(1), number, number.saturating_add(1)]);
                floats.push(number as f64);
            } else if let Ok(number) = value.as_float() {
                floats.extend([number - 0.01, number, number + 0.01]);
            }
        }
        Self { state: 0x5eed, integers, floats }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % bound
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn integer(&mut self) -> i64 {
        let at = self.below(self.integers.len());
        self.integers[at]
    }

    fn float(&mut self) -> f64 {
        let at = self.below(self.floats.len());
        self.floats[at]
    }

    fn message(&mut self, like: &MessageView<'static>) -> MessageView<'static> {
        let kind = self.below(MessageKind::ALL.len() + 1);
        MessageView {
            kind: MessageKind::ALL.get(kind).copied(),
            priority: Priority::ALL[self.below(4)],
            origin: Origin::ALL[self.below(4)],
            length: self.integer(),
            segments: self.integer(),
            has_html: self.flag(),
            has_attachments: self.flag(),
            attachment_bytes: self.integer(),
            quiet: self.flag(),
            local_hour: self.below(24) as i64,
            local_minute: self.below(60) as i64,
            weekday: 1 + self.below(7) as i64,
            minutes_to_event: self.flag().then(|| self.integer()),
            send_within: self.flag().then(|| self.integer()),
            allow_sms_in_quiet_hours: self.flag(),
            ..like.clone()
        }
    }

    fn channel(&mut self, channel: Channel) -> ChannelView {
        let mut view = *smoke::channels()[channel.index() * 4 + 3];
        view.preferred = self.flag();
        view.disabled = self.below(4) == 0;
        view.available = self.below(4) > 0;
        view.opted_in = self.flag();
        view.healthy = self.flag();
        view.cost = self.float();
        view.delivery_seconds = self.integer();
        view.open_rate = self.float();
        view.rich_media = self.flag();
        view.takes_attachments = self.flag();
        view.max_length = self.flag().then(|| self.integer());
        view.history.received = self.integer();
        view.history.engaged = self.integer();
        view.history.rate = self.float();
        view.history.average = self.float();
        view.history.known = self.flag();
        view
    }
}
