//! Every key of a policy file, once: name, meaning, and what may stand behind it.
//!
//! Reading, suggestions, ranges, the JSON Schema and the tests all come from this list. It holds no default:
//! those are in default.toml.

/// One key with its meaning, in the words of the schema.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub about: &'static str,
    pub shape: Shape,
    pub presence: Presence,
}

/// Whether default.toml must have the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Has a value in default.toml, so that every policy has one.
    Always,
    /// May be missing everywhere.
    Optional,
    /// Must be written wherever its section is.
    Required,
}

/// What may stand behind a key.
#[derive(Debug)]
pub enum Shape {
    Bool,
    /// A whole number; with `none`, `"none"` stands for no limit.
    Whole {
        min: i64,
        max: i64,
        none: bool,
    },
    /// A finite number.
    Number {
        min: f64,
        max: f64,
    },
    /// Euros, 0 to 1,000,000,000.
    Money {
        none: bool,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text of a kind; with `none`, `"none"` stands for nothing set.
    Text {
        kind: TextKind,
        none: bool,
    },
    /// A list of channels without repetition.
    Channels {
        empty: bool,
    },
    /// A list of drivers' names.
    Drivers,
    /// A list of hosts' names.
    Hosts,
    /// A list of whole numbers of seconds.
    Delays,
    /// One value for all priorities, or a table by priority.
    ByPriority(&'static Shape),
    /// A table with these keys.
    Section(&'static [Key]),
    /// A table from names to values of one shape.
    Named(Names, &'static Shape),
    /// `[split]`: taken as a whole, not key by key.
    Split,
    /// `[[strategies]]`.
    Strategies,
}

/// The kinds of text that are checked beyond being text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// 1 to 254 characters without control characters.
    Plain,
    TimeOfDay,
    TimeZone,
    Region,
    Locale,
    Mailbox,
    /// The name of a variant.
    Variant,
    /// `"30m"`, `"6h"`, `"2d"`.
    Duration,
    /// `opened` and the like, or the caller's own event.
    Event,
    /// A Rhai expression.
    Condition,
}

/// What the names of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Channels,
    Origins,
    /// Scripts in force; which these are is checked once they are known.
    Criteria,
    Variants,
}

pub const CHANNELS: &[&str] = &["sms", "email", "whatsapp", "telegram"];
pub const CHANNELS_OR_NONE: &[&str] = &["sms", "email", "whatsapp", "telegram", "none"];
pub const PRIORITIES: &[&str] = &["low", "normal", "high", "urgent"];
pub const ORIGINS: &[&str] = &["api", "public", "campaign", "broadcast"];

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, about, shape, presence: Presence::Always }
}

const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, about, shape, presence: Presence::Optional }
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, about, shape, presence: Presence::Required }
}

const fn whole(min: i64, max: i64) -> Shape {
    Shape::Whole { min, max, none: false }
}

const fn text(kind: TextKind) -> Shape {
    Shape::Text { kind, none: false }
}

const fn text_or_none(kind: TextKind) -> Shape {
    Shape::Text { kind, none: true }
}

const SHARE: Shape = Shape::Number { min: 0.0, max: 1.0 };
const LIMIT: Shape = Shape::Money { none: true };
/// Points that a criterion may be worth.
pub const WEIGHT: Shape = Shape::Number { min: 0.0, max: 1000.0 };

/// A whole policy file.
pub const POLICY: &[Key] = &[
    key(
        "timezone",
        text(TextKind::TimeZone),
        "The zone of local hours where the request names none, such as \"Europe/Paris\".",
    ),
    key("region", text(TextKind::Region), "The country whose way of writing phone numbers is understood."),
    key("locale", text(TextKind::Locale), "The language of templates where the request names none."),
    key("default_priority", Shape::Word(PRIORITIES), "The priority of a message that names none."),
    key("variant", text_or_none(TextKind::Variant), "The variant that everybody gets; \"none\": no variant."),
    key("inherit_strategies", Shape::Bool, "Whether default.toml's strategies follow the tenant's own."),
    key("scoring", Shape::Section(SCORING), "How points become a confidence: (base + points) / scale."),
    key(
        "weights",
        Shape::Named(Names::Criteria, &WEIGHT),
        "How many points each criterion can give or take, 0 to 1000.",
    ),
    key("quiet_hours", Shape::Section(QUIET_HOURS), "Hours in which what rings waits."),
    key(
        "channels",
        Shape::Named(Names::Channels, &Shape::Section(CHANNEL)),
        "What each channel costs, carries and needs.",
    ),
    key("fallback", Shape::Section(FALLBACK), "Other channels, when one refuses."),
    key("retry", Shape::Section(RETRY), "Asking a provider again that cannot take the message now."),
    key("deadline", Shape::Section(DEADLINE), "How long a message may wait to be sent."),
    key(
        "on_unknown",
        Shape::Named(Names::Channels, &Shape::Word(&["resend_once", "hold"])),
        "What to do when a provider never said whether it took the message.",
    ),
    key("budget", Shape::Section(BUDGET), "Limits of money, in euros."),
    key("caps", Shape::Section(CAPS), "How many messages one person gets at most."),
    key("consent", Shape::Section(CONSENT), "Whose agreement is needed."),
    key("retention", Shape::Section(RETENTION), "When messages are forgotten."),
    key("learning", Shape::Section(LEARNING), "What is learned from what came back."),
    key("tracking", Shape::Section(TRACKING), "Whose links tell that they were followed."),
    key("strategies", Shape::Strategies, "Use cases; the first whose `when` holds counts."),
    key(
        "variants",
        Shape::Named(Names::Variants, &Shape::Section(VARIANT)),
        "Other weights, by the variant's name.",
    ),
    key(
        "split",
        Shape::Split,
        "Shares of the recipients by variant, in percent, adding up to 100; \"control\" is no variant.",
    ),
];

const SCORING: &[Key] = &[
    key("base", Shape::Number { min: -1000.0, max: 1000.0 }, "The points that a channel starts with."),
    key("scale", Shape::Number { min: 1.0, max: 10_000.0 }, "The points that make a confidence of 1."),
    key("ceiling", SHARE, "No confidence is above this, 0 to 1."),
];

const QUIET_HOURS: &[Key] = &[
    key("start", text(TextKind::TimeOfDay), "When they begin (included), such as \"22:00\"."),
    key("end", text(TextKind::TimeOfDay), "When they end (not included), such as \"08:00\"."),
    key(
        "action",
        Shape::Word(&["hold", "score", "skip"]),
        "What happens to a channel that rings and still wins: it waits, goes, or is left out.",
    ),
    key("channels", Shape::Channels { empty: true }, "The channels that ring."),
    key("legal", Shape::Word(&["none", "fr"]), "Legal hours that marketing SMS keep to besides."),
];

const CHANNEL: &[Key] = &[
    key("enabled", Shape::Bool, "false: the channel is never used."),
    key("drivers", Shape::Drivers, "Providers in order, by the operator's names; []: the operator's choice."),
    key("from", text_or_none(TextKind::Plain), "The sender's number, name or mailbox."),
    key("from_name", text_or_none(TextKind::Plain), "The sender's name as people see it."),
    key("reply_to", text_or_none(TextKind::Mailbox), "Where answers go."),
    key("cost", Shape::Money { none: false }, "Euros for one message; for SMS, for each segment."),
    key("open_rate", SHARE, "The share of messages that are usually opened, 0 to 1."),
    key("delivery_seconds", Shape::ByPriority(&whole(0, 604_800)), "Seconds until it is usually there."),
    key("max_length", Shape::Whole { min: 1, max: 10_000_000, none: true }, "Characters."),
    key("rich_media", Shape::Bool, "Formatted text and images."),
    key("attachments", Shape::Bool, "Whether files can go with the message."),
    key("attachment_bytes_max", whole(0, 1_000_000_000), "The most that the files weigh together, in bytes."),
    key("interactive", Shape::Bool, "Buttons and forms."),
    key("tracking", Shape::Bool, "Whether the channel tells what became of a message."),
    key("opt_in", Shape::Bool, "Whether the person must have agreed to this channel beforehand."),
];

const FALLBACK: &[Key] = &[
    key("enabled", Shape::Bool, "Whether another channel is tried when one refuses."),
    key("max_fallbacks", whole(0, 3), "How many further channels: 2 makes three in all."),
];

const MAX_RETRIES: &str = "How often a provider is asked again.";
const DELAYS: &str = "Seconds to wait before each time; if there are too few, the last repeats.";
const AFTER_RETRIES: &str = "The channel to try first once retries have not helped.";

const RETRY: &[Key] = &[
    key("max_retries", whole(0, 10), MAX_RETRIES),
    key("delays", Shape::Delays, DELAYS),
    key("fallback_after_retries", Shape::Word(CHANNELS_OR_NONE), AFTER_RETRIES),
    optional("sms", Shape::Section(RETRY_OF_CHANNEL), "The same for SMS alone."),
    optional("email", Shape::Section(RETRY_OF_CHANNEL), "The same for email alone."),
    optional("whatsapp", Shape::Section(RETRY_OF_CHANNEL), "The same for WhatsApp alone."),
    optional("telegram", Shape::Section(RETRY_OF_CHANNEL), "The same for Telegram alone."),
];

const RETRY_OF_CHANNEL: &[Key] = &[
    optional("max_retries", whole(0, 10), MAX_RETRIES),
    optional("delays", Shape::Delays, DELAYS),
    optional("fallback_after_retries", Shape::Word(CHANNELS_OR_NONE), AFTER_RETRIES),
];

const DEADLINE: &[Key] = &[
    key("transactional_hours", whole(1, 720), "Hours, for everything but marketing."),
    key("marketing_hours", whole(1, 720), "Hours, for marketing."),
];

const BUDGET: &[Key] = &[
    key(
        "max_cost_per_message",
        Shape::ByPriority(&LIMIT),
        "A channel that would cost more for one message is not used.",
    ),
    key("alert_threshold", SHARE, "The share of a budget at which you are told, 0 to 1."),
    key("on_limit", Shape::Word(&["skip", "hold", "cheapest"]), "What happens when a budget is used up."),
    key("daily", LIMIT, "Euros a day for everything."),
    key("monthly", LIMIT, "Euros a calendar month for everything."),
    key("targets", Shape::ByPriority(&LIMIT), "The cost to aim for."),
    key("enforce", Shape::Bool, "true: a channel above its target is not used."),
    key("channels", Shape::Named(Names::Channels, &LIMIT), "Euros a day for one channel."),
    key(
        "origins",
        Shape::Named(Names::Origins, &Shape::Section(ORIGIN)),
        "Budgets by what made the message.",
    ),
];

const ORIGIN: &[Key] = &[
    key("daily", LIMIT, "Euros a day for this origin."),
    key("monthly", LIMIT, "Euros a calendar month for this origin."),
];

const CAP_LIMIT: Shape = Shape::Whole { min: 1, max: 10_000, none: true };
const PER_DAY: &str = "Messages to one person within 24 hours.";
const PER_WEEK: &str = "Messages to one person within 7 days.";

const CAPS: &[Key] = &[
    key("per_day", CAP_LIMIT, PER_DAY),
    key("per_week", CAP_LIMIT, PER_WEEK),
    optional("appointment", Shape::Section(CAP_OF_TYPE), "The same for appointments alone."),
    optional("notification", Shape::Section(CAP_OF_TYPE), "The same for notifications alone."),
    optional("marketing", Shape::Section(CAP_OF_TYPE), "The same for marketing alone."),
    optional("survey", Shape::Section(CAP_OF_TYPE), "The same for surveys alone."),
    optional("document", Shape::Section(CAP_OF_TYPE), "The same for documents alone."),
    optional("general", Shape::Section(CAP_OF_TYPE), "The same for general messages alone."),
];

const CAP_OF_TYPE: &[Key] =
    &[optional("per_day", CAP_LIMIT, PER_DAY), optional("per_week", CAP_LIMIT, PER_WEEK)];

const CONSENT: &[Key] = &[
    key("marketing_required", Shape::Bool, "true: marketing goes only to people who agreed."),
    key(
        "opt_in",
        Shape::Word(&["asserted", "recorded"]),
        "Whether an address in the request is a sign of agreement, or it must be on record.",
    ),
];

const RETENTION: &[Key] = &[
    key("content_days", whole(1, 3650), "Days after which texts and addresses are forgotten."),
    key("message_days", whole(1, 3650), "Days after which the message is forgotten."),
];

const LEARNING: &[Key] = &[
    key("explore", SHARE, "The share of messages that take another good channel at random."),
    key("within", Shape::Number { min: 0.0, max: 1000.0 }, "How many points that channel may lie behind."),
    key("analytics", Shape::Bool, "Whether figures are kept."),
    key("track_engagement", Shape::Bool, "Whether opens, clicks and answers are recorded."),
];

const TRACKING: &[Key] = &[key(
    "hosts",
    Shape::Hosts,
    "The only hosts whose links in emails are led through the public listener; []: any.",
)];

/// One `[[strategies]]` entry.
pub const STRATEGY: &[Key] = &[
    required("name", text(TextKind::Plain), "Shown in explanations; a tenant's replaces default.toml's."),
    required("when", text(TextKind::Condition), "A Rhai expression over `message` that is true or false."),
    optional("enabled", Shape::Bool, "false switches the strategy off."),
    optional("channels", Shape::Channels { empty: false }, "The only channels that may be used."),
    optional("prefer", Shape::Channels { empty: true }, "These come first, in this order."),
    optional("priority", Shape::Word(PRIORITIES), "Changes the priority."),
    optional(
        "escalate",
        Shape::Section(ESCALATE),
        "Sends it again elsewhere, unless something happened meanwhile.",
    ),
];

const ESCALATE: &[Key] = &[
    required("to", Shape::Word(CHANNELS), "The channel to send it on then."),
    required("after", text(TextKind::Duration), "How long after it was sent: \"30m\", \"6h\", \"2d\"."),
    required("unless", text(TextKind::Event), "opened, delivered, clicked, replied, or your own event."),
];

const VARIANT: &[Key] =
    &[required("weights", Shape::Named(Names::Criteria, &WEIGHT), "The weights that the variant changes.")];

/// The dotted paths at which a key of this name stands (`start` -> `quiet_hours.start`), for suggestions.
pub fn places_of(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    search(POLICY, "", name, &mut found);
    for key in STRATEGY.iter().filter(|k| k.name == name) {
        found.push(format!("strategies.{}", key.name));
    }
    found
}

/// The names of all keys, for suggestions.
pub fn names() -> Vec<&'static str> {
    fn gather(keys: &'static [Key], found: &mut Vec<&'static str>) {
        for key in keys {
            found.push(key.name);
            if let Shape::Section(inner) | Shape::Named(_, Shape::Section(inner)) = &key.shape {
                gather(inner, found);
            }
        }
    }
    let mut found = Vec::new();
    gather(POLICY, &mut found);
    found
}

fn search(keys: &[Key], prefix: &str, name: &str, found: &mut Vec<String>) {
    for key in keys {
        let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        if key.name == name {
            found.push(path.clone());
        }
        match &key.shape {
            Shape::Section(inner) if key.presence != Presence::Optional => search(inner, &path, name, found),
            Shape::Named(names, Shape::Section(inner)) => {
                let label = if *names == Names::Channels { "sms" } else { "NAME" };
                search(inner, &format!("{path}.{label}"), name, found);
            }
            _ => {}
        }
    }
}
