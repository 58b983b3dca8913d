//! Layers over each other: built in < default.toml < environment < the tenant's file, key by key, with the origin
//! of every value, and the version that follows from all of them.

use std::collections::BTreeMap;

use channel_orchestrator::{
    domain::{
        channel::{Channel, ChannelSet},
        ids::TenantId,
        message::Priority,
        money::MicroEuros,
    },
    policy::{
        assemble::{Assembled, Assembler, BundleSources, PolicyEnvironment},
        bundle::Bundle,
        settings::TenantPolicy,
    },
};

use super::{assembled, file, shipped_file, sources, told};

fn policy(own: &str) -> TenantPolicy {
    assembled(own).bundle.policy().clone()
}

#[track_caller]
fn with(sources: &BundleSources, environment: &[(&str, &str)]) -> Assembled {
    let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = PolicyEnvironment(pairs.collect());
    Assembler::default().assemble(sources, &environment).unwrap_or_else(|faults| panic!("{}", told(&faults)))
}

fn origins(bundle: &Bundle) -> BTreeMap<String, String> {
    bundle.origins().map(|(key, origin)| (key.to_owned(), origin.to_string())).collect()
}

/// One override of each kind of key, and what it must look like in the policy.
type Override = (&'static str, fn(&mut TenantPolicy));

const OVERRIDES: &[Override] = &[
    ("timezone = \"Indian/Reunion\"", |p| p.time_zone = chrono_tz::Indian::Reunion),
    ("default_priority = \"high\"", |p| p.default_priority = Priority::High),
    ("scoring.base = 40", |p| p.scoring.base = 40.0),
    ("[weights]\ncost = 21", |p| *p.weights.get_mut("cost").unwrap() = 21.0),
    ("quiet_hours.channels = []", |p| p.quiet_hours.channels = ChannelSet::default()),
    ("quiet_hours.legal = \"fr\"", |p| p.quiet_hours.french_legal_window = true),
    ("channels.sms.enabled = false", |p| p.channels[Channel::Sms].enabled = false),
    ("channels.sms.from = \"+33612345678\"", |p| p.channels[Channel::Sms].from = Some("+33612345678".into())),
    ("channels.email.max_length = 9000", |p| p.channels[Channel::Email].max_length = Some(9000)),
    ("channels.email.delivery_seconds = { urgent = 20 }", |p| {
        p.channels[Channel::Email].delivery_seconds.insert(Priority::Urgent, 20);
    }),
    ("channels.email.delivery_seconds = 20", |p| {
        p.channels[Channel::Email].delivery_seconds.values_mut().for_each(|seconds| *seconds = 20);
    }),
    ("fallback.max_fallbacks = 0", |p| p.fallback.max_fallbacks = 0),
    ("[retry.sms]\nmax_retries = 5", |p| p.retry[Channel::Sms].delays_seconds = vec![60, 300, 900, 900, 900]),
    ("[retry.sms]\nfallback_after_retries = \"none\"", |p| {
        p.retry[Channel::Sms].fallback_after_retries = None
    }),
    ("[retry]\nmax_retries = 1", |p| {
        for channel in Channel::ALL {
            p.retry[channel].delays_seconds = vec![60];
        }
    }),
    ("deadline.marketing_hours = 12", |p| p.deadline.marketing_hours = 12),
    ("[budget]\nmax_cost_per_message = { urgent = \"none\" }", |p| {
        p.budget.max_cost_per_message.remove(Priority::Urgent);
    }),
    ("[budget]\nmax_cost_per_message = 0.05", |p| {
        p.budget.max_cost_per_message.values_mut().for_each(|limit| *limit = MicroEuros(50_000));
    }),
    ("budget.daily = 12.5", |p| p.budget.daily = Some(MicroEuros(12_500_000))),
    ("budget.channels.sms = 3", |p| p.budget.channels_daily[Channel::Sms] = Some(MicroEuros(3_000_000))),
    ("consent.opt_in = \"recorded\"", |p| p.consent.opt_in_recorded = true),
    ("retention.content_days = 30", |p| p.retention.content_days = 30),
    ("learning.explore = 0.02", |p| p.learning.explore = 0.02),
    ("inherit_strategies = false", |p| p.strategies = std::sync::Arc::new([])),
];

#[test]
fn a_tenant_with_an_empty_file_has_the_defaults() {
    let empty = policy("");
    assert_eq!(empty, policy("# only a remark\n[weights]\n[channels.sms]\n"));
    // And the same values written out again: nothing in the merge depends on who says them.
    let default = String::from_utf8(shipped_file("default.toml").bytes.clone()).unwrap();
    assert_eq!(empty, policy(&default));
}

#[test]
fn an_override_changes_its_key_and_nothing_else() {
    for (text, change) in OVERRIDES {
        let mut expected = policy("");
        change(&mut expected);
        let found = policy(text);
        assert_ne!(found, policy(""), "{text} changes nothing");
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_key_that_default_toml_lacks_falls_back_to_the_built_in_copy() {
    let mut bare = sources("");
    bare.default = file("default.toml", "");
    let built_in = with(&bare, &[]);
    assert_eq!(*built_in.bundle.policy(), policy(""));
    assert_eq!(built_in.bundle.origin("quiet_hours.start").unwrap().to_string(), "built in");
    // A weight that only the built-in copy has is no fault where the folder has no such script.
    bare.criteria = bare.criteria.iter().filter(|s| s.path != "criteria/history.rhai").cloned().collect();
    assert!(!with(&bare, &[]).bundle.policy().weights.contains_key("history"));
}

#[test]
fn the_environment_lies_between_default_toml_and_the_tenant() {
    let variables = [
        ("ORCHESTRATOR_DEFAULT_PRIORITY", "low"),
        ("ORCHESTRATOR_QUIET_HOURS_START", "21:00"),
        ("ORCHESTRATOR_QUIET_HOURS_END", "07:00"),
        ("ORCHESTRATOR_ENABLE_FALLBACK", "false"),
        ("ORCHESTRATOR_MAX_FALLBACK_ATTEMPTS", "1"),
        ("ORCHESTRATOR_MAX_COST_PER_MESSAGE", "0.07"),
        ("ORCHESTRATOR_BUDGET_ALERT_THRESHOLD", "0.5"),
        ("ORCHESTRATOR_ENABLE_ANALYTICS", "false"),
        ("ORCHESTRATOR_TRACK_ENGAGEMENT", "false"),
        ("ORCHESTRATOR_SOCKET", "/run/x.sock"),
    ];
    let bundle = with(&sources("[quiet_hours]\nend = \"09:00\"\n"), &variables).bundle;
    let p = bundle.policy();
    assert_eq!(p.default_priority, Priority::Low);
    assert_eq!(p.quiet_hours.hours.start.to_string(), "21:00:00");
    assert_eq!(p.quiet_hours.hours.end.to_string(), "09:00:00", "the tenant's file wins");
    assert!(!p.fallback.enabled && p.fallback.max_fallbacks == 1);
    assert_eq!(
        p.budget.max_cost_per_message.get(Priority::Urgent),
        Some(&MicroEuros(70_000)),
        "one limit for all"
    );
    assert_eq!(p.budget.alert_threshold, 0.5);
    assert!(!p.learning.analytics && !p.learning.track_engagement);

    let origin = |key: &str| bundle.origin(key).unwrap().to_string();
    assert_eq!(origin("quiet_hours.start"), "ORCHESTRATOR_QUIET_HOURS_START");
    assert_eq!(origin("quiet_hours.end"), "tenants/acme.toml:2");
    assert_eq!(origin("budget.max_cost_per_message"), "ORCHESTRATOR_MAX_COST_PER_MESSAGE");
}

#[test]
fn only_the_variables_that_policies_know_are_taken() {
    let all = [("PATH", "/bin"), ("ORCHESTRATOR_SOCKET", "x"), ("ORCHESTRATOR_ENABLE_FALLBACK", "true")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let empty = ("ORCHESTRATOR_DEFAULT_PRIORITY".to_owned(), " ".to_owned());
    let taken = PolicyEnvironment::from_variables(all.into_iter().chain([empty]));
    assert_eq!(taken.0, [("ORCHESTRATOR_ENABLE_FALLBACK".to_owned(), "true".to_owned())]);
}

#[test]
fn every_value_can_say_where_it_came_from() {
    let inherited = origins(&assembled("").bundle);
    let default = String::from_utf8(shipped_file("default.toml").bytes.clone()).unwrap();
    for (key, origin) in &inherited {
        let line = origin.strip_prefix("default.toml:").unwrap_or_else(|| panic!("{key}: {origin}"));
        let text = default.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
        let written = key.split('.').any(|part| text.contains(part));
        assert!(written, "{key} is not on line {line}: {text}");
    }
    let own =
        assembled("[channels.sms]\nenabled = true\ncost = 0.04\n[budget]\ntargets = { low = 0 }\n").bundle;
    let mut changed = inherited.clone();
    changed.insert("channels.sms.enabled".into(), "tenants/acme.toml:2".into());
    changed.insert("channels.sms.cost".into(), "tenants/acme.toml:3".into());
    changed.insert("budget.targets.low".into(), "tenants/acme.toml:5".into());
    assert_eq!(origins(&own), changed);
    assert_eq!(own.origin("budget.targets"), None, "its values have two origins");
    assert_eq!(own.origin("channels.sms.rich_medium"), None);
}

#[test]
fn a_tenants_strategies_come_first_and_replace_those_of_the_same_name() {
    let names = |own: &str| -> Vec<String> {
        policy(own).strategies.iter().map(|strategy| strategy.name.clone()).collect()
    };
    let shipped = names("");
    assert_eq!(shipped.len(), 10);
    let own = "[[strategies]]\nname = \"newsletter\"\nwhen = \"message.quiet\"\n\
               [[strategies]]\nname = \"vip\"\nwhen = 'contains(message.tags, \"vip\")'\n";
    let mut expected = vec!["newsletter".to_owned(), "vip".to_owned()];
    expected.extend(shipped.iter().filter(|name| *name != "newsletter").cloned());
    assert_eq!(names(own), expected);
    assert_eq!(policy(own).strategies[0].when, "message.quiet");
    assert_eq!(names(&format!("inherit_strategies = false\n{own}")), ["newsletter", "vip"]);
    let off = "[[strategies]]\nname = \"newsletter\"\nenabled = false\nwhen = \"false\"\n";
    assert_eq!(names(off), expected[2..], "an inherited strategy is switched off by its name");
}

#[test]
fn the_version_changes_with_every_byte_that_counts_and_with_nothing_else() {
    let version = |sources: &BundleSources, environment: &[(&str, &str)]| {
        with(sources, environment).bundle.version().as_str().to_owned()
    };
    let base = version(&sources(""), &[]);
    assert_eq!(base.len(), 64);
    assert_eq!(base, version(&sources(""), &[]), "the same texts, the same version");
    let mut shuffled = sources("");
    shuffled.criteria = shuffled.criteria.iter().rev().cloned().collect();
    assert_eq!(base, version(&shuffled, &[]), "the order of listing does not count");

    let mut seen = vec![base];
    let mut differs = |what: &str, sources: &BundleSources, environment: &[(&str, &str)]| {
        let found = version(sources, environment);
        assert!(!seen.contains(&found), "{what} gives a version that was seen before");
        seen.push(found);
    };
    differs("a remark in the tenant's file", &sources("# x\n"), &[]);
    let mut changed = sources("");
    changed.tests = changed.tests.iter().cloned().chain([file("tests/a.toml", "x")]).collect();
    differs("a test", &changed, &[]);
    changed.tests =
        [file("tests/ax.toml", "")].into_iter().chain(changed.tests.iter().skip(1).cloned()).collect();
    differs("a byte moved from a file's text to its name", &changed, &[]);
    let mut changed = sources("");
    let default = shipped_file("default.toml");
    changed.default = file("default.toml", [default.bytes.as_slice(), b"\n"].concat());
    differs("default.toml", &changed, &[]);
    let mut changed = sources("");
    let other = file(&changed.criteria[0].path, "fn score(message, channel) { neutral() }");
    changed.criteria = [other].into_iter().chain(changed.criteria.iter().skip(1).cloned()).collect();
    differs("a script", &changed, &[]);
    let mut changed = sources("");
    changed.tenant = TenantId::parse("other").unwrap();
    differs("the tenant", &changed, &[]);
    differs("the environment", &sources(""), &[("ORCHESTRATOR_ENABLE_FALLBACK", "true")]);
}

#[test]
fn tenants_share_compiled_scripts_and_let_them_go() {
    let assembler = Assembler::default();
    let assemble =
        |sources: &BundleSources| assembler.assemble(sources, &PolicyEnvironment::default()).unwrap().bundle;
    let first = assemble(&sources("locale = \"en\"\n"));
    let second = assemble(&sources(""));
    for (a, b) in first.criteria().iter().zip(second.criteria()) {
        assert!(std::sync::Arc::ptr_eq(a, b), "{} is compiled twice", a.name());
    }
    assert_eq!(assembler.scripts_in_use(), 9);
    let mut own = sources("");
    let mut criteria = own.criteria.to_vec();
    criteria[0] = file("tenants/acme/criteria/preferences.rhai", criteria[0].bytes.clone());
    own.criteria = criteria.into();
    let third = assemble(&own);
    assert_eq!(assembler.scripts_in_use(), 10, "a script of a tenant's own keeps its own name in messages");
    assert_eq!(third.criteria()[0].file(), "tenants/acme/criteria/preferences.rhai");
    drop((first, second, third));
    assert_eq!(assembler.scripts_in_use(), 0);
}
