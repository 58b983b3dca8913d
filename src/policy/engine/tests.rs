//! What is within a script's reach: the whole list, and that the list of fields is what the engine serves.

use std::{collections::BTreeSet, fs, path::Path};

use rhai::Scope;

use super::*;
use crate::{
    domain::{
        channel::Channel,
        ids::CriterionName,
        message::{Origin, Priority},
    },
    policy::strategy::Strategy,
};

/// Every name that the engine answers to. A name that appears here is one that somebody judged: bounded in time
/// and memory, without effect, the same answer for the same arguments.
const WITHIN_REACH: &str = "
    ! != % * ** + - / < <= == > >=
    E PI abs acos acosh asin asinh atan atanh ceiling cos cosh exp floor fraction hypot int is_even is_finite
    is_infinite is_nan is_odd is_zero ln log max min parse_float parse_int round sign sin sinh sqrt tan tanh
    to_degrees to_float to_int to_radians
    award contains len neutral penalize percent starts_with to_string veto
";

fn registered() -> BTreeSet<String> {
    let every = engine().collect_fn_metadata(None, |info| Some(info.metadata.name.to_string()), true);
    every.into_iter().collect()
}

fn message() -> Arc<MessageView<'static>> {
    Arc::new(MessageView {
        kind: None,
        priority: Priority::Urgent,
        template: Some("NEW".into()),
        tags: vec!["vip".to_owned()].into(),
        origin: Origin::Api,
        locale: "fr".into(),
        length: 1,
        segments: 2,
        has_html: true,
        has_attachments: false,
        attachment_bytes: 3,
        quiet: true,
        local_hour: 4,
        local_minute: 5,
        weekday: 6,
        minutes_to_event: None,
        send_within: Some(7),
        allow_sms_in_quiet_hours: false,
    })
}

fn channel(channel: Channel) -> Arc<ChannelView> {
    Arc::new(ChannelView {
        channel,
        preferred: true,
        disabled: false,
        available: true,
        opted_in: true,
        healthy: true,
        cost: 0.05,
        delivery_seconds: 10,
        open_rate: 0.9,
        rich_media: false,
        takes_attachments: false,
        max_length: None,
        history: HistoryView { received: 6, engaged: 0, rate: 0.108, average: 0.27, known: true },
    })
}

#[test]
fn nothing_is_within_reach_but_the_list() {
    let listed: BTreeSet<String> = WITHIN_REACH.split_whitespace().map(str::to_owned).collect();
    let found: BTreeSet<String> = registered().into_iter().filter(|name| !name.starts_with("get$")).collect();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    let absent: Vec<_> = listed.difference(&found).collect();
    assert!(unlisted.is_empty(), "within reach, and on no list: {unlisted:?}");
    assert!(absent.is_empty(), "listed, and not there: {absent:?}");
}

#[test]
fn nothing_can_be_set() {
    let setters: Vec<_> = registered().into_iter().filter(|name| name.starts_with("set$")).collect();
    assert!(setters.is_empty(), "{setters:?}");
}

#[test]
fn getters_are_those_of_the_list_of_fields() {
    let of_numbers = ["ceiling", "floor", "fraction", "int", "is_even", "is_finite", "is_infinite", "is_nan"];
    let more = ["is_odd", "is_zero", "round"];
    let mut expected: BTreeSet<String> = of_numbers.into_iter().chain(more).map(str::to_owned).collect();
    expected.extend(fields::MESSAGE.iter().map(|f| f.name.to_owned()));
    expected.extend(fields::CHANNEL.iter().map(|f| f.name.to_owned()));
    expected.extend(fields::HISTORY.iter().map(|f| f.name.to_owned()));
    let found: BTreeSet<String> =
        registered().iter().filter_map(|name| name.strip_prefix("get$").map(str::to_owned)).collect();
    assert_eq!(found, expected);
}

/// Reads one field through a script.
fn read(expression: &str) -> Dynamic {
    let mut scope = Scope::new();
    scope.push("message", Message(message()));
    scope.push("channel", ChannelFacts(channel(Channel::Sms)));
    engine().eval_expression_with_scope(&mut scope, expression).unwrap()
}

#[track_caller]
fn assert_kind<V>(object: &str, field: &Field<V>) {
    use fields::FieldType;
    let value = read(&format!("{object}.{}", field.name));
    if value.is_unit() {
        assert!(field.may_be_missing, "{object}.{} is missing", field.name);
        return;
    }
    let as_listed = match field.kind {
        FieldType::Word(words) => words.contains(&value.as_immutable_string_ref().unwrap().as_str()),
        FieldType::Text => value.is_string(),
        FieldType::Integer => value.is_int(),
        FieldType::Float => value.is_float(),
        FieldType::Bool => value.is_bool(),
        FieldType::Texts => value.is_array(),
        FieldType::History => value.is::<History>(),
    };
    assert!(as_listed, "{object}.{} gives {value:?}", field.name);
}

#[test]
fn every_field_gives_what_the_list_says() {
    fields::MESSAGE.iter().for_each(|field| assert_kind("message", field));
    fields::CHANNEL.iter().for_each(|field| assert_kind("channel", field));
    fields::HISTORY.iter().for_each(|field| assert_kind("channel.history", field));
}

/// dependencies.md T2: an optimizer once dropped statements. What runs is not optimized; should it ever be, the
/// shipped scripts must say the same.
#[test]
fn the_shipped_scripts_say_the_same_at_every_optimization_level() {
    let mut optimizing = build();
    optimizing.set_optimization_level(OptimizationLevel::Simple);
    for name in CriterionName::SHIPPED {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("policies/criteria/{name}.rhai"));
        let source = fs::read_to_string(path).unwrap();
        let plain = engine().compile(&source).unwrap();
        let optimized = optimizing.compile(&source).unwrap();
        for at in Channel::ALL {
            let said = [(engine(), &plain), (&optimizing, &optimized)].map(|(engine, ast)| {
                let arguments = (Message(message()), ChannelFacts(channel(at)));
                engine.call_fn::<Verdict>(&mut Scope::new(), ast, "score", arguments).unwrap()
            });
            assert_eq!(said[0], said[1], "{name} on {at}");
        }
    }
}

#[test]
fn conditions_answer_and_what_is_missing_lies_in_no_range() {
    let holds = |when: &str| Strategy::compile("tried", when).unwrap().matches(&message());
    assert_eq!(holds("message.minutes_to_event in 0..=30"), Ok(false));
    assert_eq!(holds("message.send_within in 0..=30"), Ok(true));
    assert_eq!(holds("message.send_within in 0..7"), Ok(false));
    assert_eq!(holds("message.template == \"NEW\" && \"vip\" in message.tags"), Ok(true));
    assert_eq!(holds("message.template.starts_with(\"N\") || message.type == ()"), Ok(true));
    let failure = holds("message.minutes_to_event + 1 > 3").unwrap_err();
    assert!(failure.message.starts_with("strategy \"tried\":1:26: there is no function"), "{failure}");
}

#[test]
fn rates_are_shown_in_whole_percent() {
    for (rate, shown) in [("0.27", "27%"), ("0.265", "27%"), ("1", "100%"), ("0.0", "0%"), ("0.004", "0%")] {
        assert_eq!(read(&format!("percent({rate})")).to_string(), shown);
    }
}
