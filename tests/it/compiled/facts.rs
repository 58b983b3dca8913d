//! Random messages and channels, edge values among them: what a script may be asked about.

use std::borrow::Cow;

use channel_orchestrator::{
    domain::{
        channel::{Channel, PerChannel},
        message::{MessageKind, Origin, Priority},
    },
    policy::view::{ChannelView, HistoryView, MessageView},
};

/// Where choices come from: given bytes as long as there are any, so that a fuzzer can change one choice and leave the
/// others; then a small generator (SplitMix64) with the same numbers on every machine.
pub struct Random<'b> {
    state: u64,
    bytes: &'b [u8],
}

impl<'b> Random<'b> {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, bytes: &[] }
    }

    /// The same bytes are the same choices.
    #[allow(dead_code, reason = "for fuzz/")]
    pub fn from_bytes(bytes: &'b [u8]) -> Self {
        let state = bytes.iter().fold(0, |state: u64, byte| state.wrapping_mul(31) ^ u64::from(*byte));
        Self { state, bytes }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        match self.bytes {
            [one, rest @ ..] if bound <= 256 => {
                self.bytes = rest;
                usize::from(*one) % bound
            }
            [one, two, rest @ ..] => {
                self.bytes = rest;
                usize::from(u16::from_le_bytes([*one, *two])) % bound
            }
            _ => (self.next() % bound as u64) as usize,
        }
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

pub const TEMPLATES: [&str; 5] = ["WELCOME", "APPOINTMENT_REMINDER", "été", "", "a\"b\\c"];
pub const TAGS: [&str; 6] = ["vip", "newsletter", "contract", "", "VIP", "très important"];
pub const INTEGERS: [i64; 24] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    22,
    23,
    30,
    59,
    60,
    69,
    70,
    71,
    159,
    160,
    161,
    180,
    1500,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    i64::MIN + 1,
];
pub const FLOATS: [f64; 17] = [
    0.0,
    -0.0,
    0.05,
    0.1,
    0.27,
    0.3,
    0.5,
    1.0,
    1.0 - f64::EPSILON,
    1.0 + f64::EPSILON,
    2.5,
    -0.3,
    1e308,
    5e-324,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

fn integer(random: &mut Random<'_>) -> i64 {
    if random.chance(50) { *random.one(&INTEGERS) } else { random.below(400) as i64 - 50 }
}

fn float(random: &mut Random<'_>) -> f64 {
    if random.chance(40) { *random.one(&FLOATS) } else { random.below(1_000) as f64 / 1_000.0 }
}

fn optional(random: &mut Random<'_>) -> Option<i64> {
    let number = integer(random);
    random.chance(60).then_some(number)
}

/// Tags; of fifty messages one has more of them, and one longer ones, than the interpreter may take.
fn tags(random: &mut Random<'_>) -> Vec<String> {
    match random.below(50) {
        0 => (0..random.below(400)).map(|_| (*random.one(&TAGS)).to_owned()).collect(),
        1 => (0..random.below(6)).map(|_| "y".repeat(random.below(6_000))).collect(),
        _ => (0..random.below(4)).map(|_| (*random.one(&TAGS)).to_owned()).collect(),
    }
}

/// A message; one in fifty has a text that the interpreter's limits may concern.
pub fn message(random: &mut Random<'_>) -> MessageView<'static> {
    let long = random.chance(2);
    let template = if long { "x".repeat(300) } else { (*random.one(&TEMPLATES)).to_owned() };
    let tags = tags(random);
    MessageView {
        kind: random.chance(80).then(|| *random.one(MessageKind::ALL)),
        priority: *random.one(Priority::ALL),
        template: random.chance(50).then_some(Cow::Owned(template)),
        tags: Cow::Owned(tags),
        origin: *random.one(Origin::ALL),
        locale: Cow::Borrowed(*random.one(&["fr", "en", "fr-BE", ""])),
        length: integer(random),
        segments: integer(random),
        has_html: random.chance(50),
        has_attachments: random.chance(50),
        attachment_bytes: integer(random),
        quiet: random.chance(50),
        local_hour: random.below(24) as i64,
        local_minute: random.below(60) as i64,
        weekday: 1 + random.below(7) as i64,
        minutes_to_event: optional(random),
        send_within: optional(random),
        allow_sms_in_quiet_hours: random.chance(50),
    }
}

fn channel(random: &mut Random, channel: Channel) -> ChannelView {
    ChannelView {
        channel,
        preferred: random.chance(40),
        disabled: random.chance(20),
        available: random.chance(70),
        opted_in: random.chance(80),
        healthy: random.chance(80),
        cost: float(random),
        delivery_seconds: integer(random),
        open_rate: float(random),
        rich_media: random.chance(50),
        takes_attachments: random.chance(50),
        max_length: optional(random),
        history: HistoryView {
            received: integer(random),
            engaged: integer(random),
            rate: float(random),
            average: float(random),
            known: random.chance(60),
        },
    }
}

pub fn channels(random: &mut Random<'_>) -> PerChannel<ChannelView> {
    PerChannel::from_fn(|of| channel(random, of))
}
