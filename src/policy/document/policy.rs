//! From merged values to a `TenantPolicy`.
//!
//! Everything was checked when its layer was read; a key that no layer has is told here, never replaced by
//! a number made up on the spot.

use std::collections::BTreeMap;

use chrono::NaiveTime;
use chrono_tz::Tz;

use super::{layer::LayerKind, merge::Merged, values::Value};
use crate::{
    domain::{
        address::Region,
        by_word::ByWord,
        channel::{Channel, ChannelSet, PerChannel},
        delivery::OnUnknown,
        ids::CriterionName,
        message::{MessageKind, Origin, Priority},
        money::MicroEuros,
        time::{self, QuietHours},
    },
    policy::{
        diagnostic::Diagnostic,
        settings::{
            BudgetPolicy, Cap, CapsPolicy, ChannelTerms, ConsentPolicy, DeadlinePolicy, FallbackPolicy,
            LearningPolicy, OnLimit, OriginBudget, QuietAction, QuietHoursPolicy, RetentionPolicy,
            RetryPolicy, Scoring, TenantPolicy,
        },
    },
};

/// Makes the policy, or says which keys have no value. `criteria` are the names of the scripts in force.
pub fn build(merged: &Merged<'_>, criteria: &[CriterionName]) -> Result<TenantPolicy, Vec<Diagnostic>> {
    let mut pick = Pick { merged, missing: Vec::new() };
    let policy = pick.policy(criteria);
    match policy {
        Some(policy) if pick.missing.is_empty() => Ok(policy),
        _ => Err(pick.missing),
    }
}

/// Reads values by dotted key, and remembers the ones that are not there.
struct Pick<'a> {
    merged: &'a Merged<'a>,
    missing: Vec<Diagnostic>,
}

impl<'a> Pick<'a> {
    fn value(&self, path: &str) -> Option<&'a Value> {
        self.merged.leaf(path).map(|(leaf, _)| &leaf.value)
    }

    /// A value that `read` understands.
    fn get<T>(&mut self, path: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let found = self.value(path).and_then(read);
        if found.is_none() {
            let message = format!("{path} has no value in default.toml, nor in the tenant's file");
            self.missing.push(Diagnostic::error("missing-key", "default.toml", message));
        }
        found
    }

    fn bool(&mut self, path: &str) -> Option<bool> {
        self.get(path, |v| if let Value::Bool(yes) = v { Some(*yes) } else { None })
    }

    fn number(&mut self, path: &str) -> Option<f64> {
        self.get(path, |v| if let Value::Number(n) = v { Some(*n) } else { None })
    }

    fn whole<T: TryFrom<i64>>(&mut self, path: &str) -> Option<T> {
        self.get(path, |v| if let Value::Whole(n) = v { T::try_from(*n).ok() } else { None })
    }

    fn word<T>(&mut self, path: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.get(path, |v| if let Value::Text(text) = v { read(text) } else { None })
    }

    /// A text, or `Some(None)` where it is `"none"`.
    fn text_or_none(&mut self, path: &str) -> Option<Option<String>> {
        self.get(path, |v| match v {
            Value::Text(text) => Some(Some(text.clone())),
            Value::Nothing => Some(None),
            _ => None,
        })
    }

    fn money(&mut self, path: &str) -> Option<Option<MicroEuros>> {
        self.get(path, |v| match v {
            Value::Number(euros) => MicroEuros::from_euros(*euros).map(Some),
            Value::Nothing => Some(None),
            _ => None,
        })
    }

    /// The priorities that have a limit.
    fn money_by_priority(&mut self, path: &str) -> Option<ByWord<Priority, MicroEuros>> {
        let mut found = ByWord::default();
        for priority in Priority::ALL {
            if let Some(limit) = self.money(&format!("{path}.{priority}"))? {
                found.insert(*priority, limit);
            }
        }
        Some(found)
    }

    fn channels(&mut self, path: &str) -> Option<Vec<Channel>> {
        self.get(path, |v| match v {
            Value::Texts(names) => Some(names.iter().filter_map(|n| Channel::parse(n)).collect()),
            _ => None,
        })
    }

    fn per_channel<T>(
        &mut self,
        mut make: impl FnMut(&mut Self, Channel) -> Option<T>,
    ) -> Option<PerChannel<T>> {
        // Each is made, so that every missing key is told.
        let [sms, email, whatsapp, telegram] = Channel::ALL.map(|channel| make(self, channel));
        Some(PerChannel::new([sms?, email?, whatsapp?, telegram?]))
    }

    fn policy(&mut self, criteria: &[CriterionName]) -> Option<TenantPolicy> {
        let time_zone: Option<Tz> = self.word("timezone", time::parse_time_zone);
        let region = self.word("region", Region::parse);
        let locale = self.word("locale", |text| Some(text.to_owned()));
        let default_priority = self.word("default_priority", Priority::parse);
        let scoring = self.scoring();
        let weights = self.weights("weights", criteria);
        let quiet_hours = self.quiet_hours();
        let channels = self.per_channel(Self::channel);
        let fallback = self.fallback();
        let retry = self.per_channel(Self::retry);
        let deadline = self.deadline();
        let on_unknown = self.per_channel(|pick, channel| {
            pick.word(&format!("on_unknown.{channel}"), |word| match word {
                "resend_once" => Some(OnUnknown::ResendOnce),
                "hold" => Some(OnUnknown::Hold),
                _ => None,
            })
        });
        let budget = self.budget();
        let caps = self.caps();
        let consent = self.consent();
        let retention = self.retention();
        let learning = self.learning();
        let tracking_hosts = self.tracking_hosts();
        let variant = self.text_or_none("variant");
        Some(TenantPolicy {
            time_zone: time_zone?,
            region: region?,
            locale: locale?,
            default_priority: default_priority?,
            scoring: scoring?,
            weights,
            quiet_hours: quiet_hours?,
            channels: channels?,
            fallback: fallback?,
            retry: retry?,
            deadline: deadline?,
            on_unknown: on_unknown?,
            budget: budget?,
            caps: caps?,
            consent: consent?,
            retention: retention?,
            learning: learning?,
            tracking_hosts: tracking_hosts?,
            strategies: self.merged.strategies().iter().map(|(entry, _)| entry.rule.clone()).collect(),
            variants: self.variants(criteria),
            split: match self.value("split") {
                Some(Value::Split(shares)) => shares.iter().map(|s| (s.name.clone(), s.percent)).collect(),
                _ => Vec::new(),
            },
            variant: variant?,
        })
    }

    fn scoring(&mut self) -> Option<Scoring> {
        let base = self.number("scoring.base");
        let scale = self.number("scoring.scale");
        let ceiling = self.number("scoring.ceiling");
        Some(Scoring { base: base?, scale: scale?, ceiling: ceiling? })
    }

    /// The weights under a path. One that only the built-in copy has counts for nothing where its script is
    /// not in the folder.
    fn weights(&self, path: &str, criteria: &[CriterionName]) -> BTreeMap<CriterionName, f64> {
        let mut found = BTreeMap::new();
        for key in self.merged.paths_under(path) {
            let Some((leaf, layer)) = self.merged.leaf(key) else { continue };
            let name = key.rsplit('.').next().and_then(|name| CriterionName::parse(name).ok());
            if let (Some(name), Value::Number(weight)) = (name, &leaf.value)
                && (layer.kind != LayerKind::BuiltIn || criteria.contains(&name))
            {
                found.insert(name, *weight);
            }
        }
        found
    }

    fn variants(&self, criteria: &[CriterionName]) -> BTreeMap<String, BTreeMap<CriterionName, f64>> {
        let names = self.merged.paths_under("variants");
        let names = names.iter().filter_map(|path| path.split('.').nth(1));
        names.map(|n| (n.to_owned(), self.weights(&format!("variants.{n}.weights"), criteria))).collect()
    }

    fn quiet_hours(&mut self) -> Option<QuietHoursPolicy> {
        let start: Option<NaiveTime> = self.word("quiet_hours.start", time::parse_time_of_day);
        let end = self.word("quiet_hours.end", time::parse_time_of_day);
        let action = self.word("quiet_hours.action", |word| match word {
            "hold" => Some(QuietAction::Hold),
            "score" => Some(QuietAction::Score),
            "skip" => Some(QuietAction::Skip),
            _ => None,
        });
        let channels = self.channels("quiet_hours.channels");
        let french_legal_window = self.word("quiet_hours.legal", |word| Some(word == "fr"));
        Some(QuietHoursPolicy {
            hours: QuietHours { start: start?, end: end? },
            action: action?,
            channels: ChannelSet::of(&channels?),
            french_legal_window: french_legal_window?,
        })
    }

    fn channel(&mut self, channel: Channel) -> Option<ChannelTerms> {
        let at = |key: &str| format!("channels.{channel}.{key}");
        let enabled = self.bool(&at("enabled"));
        let drivers = self.get(&at("drivers"), |v| match v {
            Value::Texts(names) => Some(names.clone()),
            _ => None,
        });
        let from = self.text_or_none(&at("from"));
        let from_name = self.text_or_none(&at("from_name"));
        let reply_to = self.text_or_none(&at("reply_to"));
        let cost = self.money(&at("cost"));
        let open_rate = self.number(&at("open_rate"));
        let mut delivery_seconds = ByWord::default();
        for priority in Priority::ALL {
            if let Some(seconds) = self.whole(&at(&format!("delivery_seconds.{priority}"))) {
                delivery_seconds.insert(*priority, seconds);
            }
        }
        let max_length = self.limit(&at("max_length"));
        let rich_media = self.bool(&at("rich_media"));
        let attachments = self.bool(&at("attachments"));
        let attachment_bytes_max = self.whole(&at("attachment_bytes_max"));
        let interactive = self.bool(&at("interactive"));
        let tracking = self.bool(&at("tracking"));
        let opt_in = self.bool(&at("opt_in"));
        Some(ChannelTerms {
            enabled: enabled?,
            drivers: drivers?,
            from: from?,
            from_name: from_name?,
            reply_to: reply_to?,
            cost: cost??,
            open_rate: open_rate?,
            delivery_seconds,
            max_length: max_length?,
            rich_media: rich_media?,
            attachments: attachments?,
            attachment_bytes_max: attachment_bytes_max?,
            interactive: interactive?,
            tracking: tracking?,
            opt_in: opt_in?,
        })
    }

    fn fallback(&mut self) -> Option<FallbackPolicy> {
        let enabled = self.bool("fallback.enabled");
        let max_fallbacks = self.whole("fallback.max_fallbacks");
        Some(FallbackPolicy { enabled: enabled?, max_fallbacks: max_fallbacks? })
    }

    /// `[retry]`, with what `[retry.CHANNEL]` changes.
    fn retry(&mut self, channel: Channel) -> Option<RetryPolicy> {
        let path = |pick: &Self, key: &str| {
            let own = format!("retry.{channel}.{key}");
            if pick.value(&own).is_some() { own } else { format!("retry.{key}") }
        };
        let max_path = path(self, "max_retries");
        let delays_path = path(self, "delays");
        let after_path = path(self, "fallback_after_retries");
        let max: Option<usize> = self.whole(&max_path);
        let delays: Option<Vec<u32>> = self.get(&delays_path, |v| match v {
            Value::Wholes(list) => list.iter().map(|s| u32::try_from(*s).ok()).collect(),
            _ => None,
        });
        let after = self.word(&after_path, |word| Some(Channel::parse(word)));
        let (max, mut delays) = (max?, delays?);
        if let Some(last) = delays.last().copied() {
            delays.resize(max, last);
        }
        Some(RetryPolicy { delays_seconds: delays, fallback_after_retries: after? })
    }

    fn deadline(&mut self) -> Option<DeadlinePolicy> {
        let transactional_hours = self.whole("deadline.transactional_hours");
        let marketing_hours = self.whole("deadline.marketing_hours");
        Some(DeadlinePolicy { transactional_hours: transactional_hours?, marketing_hours: marketing_hours? })
    }

    fn budget(&mut self) -> Option<BudgetPolicy> {
        let max_cost_per_message = self.money_by_priority("budget.max_cost_per_message");
        let alert_threshold = self.number("budget.alert_threshold");
        let on_limit = self.word("budget.on_limit", |word| match word {
            "skip" => Some(OnLimit::Skip),
            "hold" => Some(OnLimit::Hold),
            "cheapest" => Some(OnLimit::Cheapest),
            _ => None,
        });
        let daily = self.money("budget.daily");
        let monthly = self.money("budget.monthly");
        let channels_daily =
            self.per_channel(|pick, channel| pick.money(&format!("budget.channels.{channel}")));
        let targets = self.money_by_priority("budget.targets");
        let enforce_targets = self.bool("budget.enforce");
        let mut origins = ByWord::default();
        for origin in Origin::ALL {
            let daily = self.money(&format!("budget.origins.{origin}.daily"));
            let monthly = self.money(&format!("budget.origins.{origin}.monthly"));
            let limits = OriginBudget { daily: daily?, monthly: monthly? };
            if limits != OriginBudget::default() {
                origins.insert(*origin, limits);
            }
        }
        Some(BudgetPolicy {
            max_cost_per_message: max_cost_per_message?,
            alert_threshold: alert_threshold?,
            on_limit: on_limit?,
            daily: daily?,
            monthly: monthly?,
            channels_daily: channels_daily?,
            targets: targets?,
            enforce_targets: enforce_targets?,
            origins,
        })
    }

    /// `[caps]`, and the limits of `[caps.TYPE]`.
    fn caps(&mut self) -> Option<CapsPolicy> {
        let per_day = self.limit("caps.per_day");
        let per_week = self.limit("caps.per_week");
        let mut of_type = BTreeMap::new();
        for kind in MessageKind::ALL {
            let own = |key: &str| match self.value(&format!("caps.{kind}.{key}")) {
                Some(Value::Whole(n)) => u32::try_from(*n).ok(),
                _ => None,
            };
            let cap = Cap { per_day: own("per_day"), per_week: own("per_week") };
            if cap != Cap::default() {
                of_type.insert(*kind, cap);
            }
        }
        Some(CapsPolicy { all: Cap { per_day: per_day?, per_week: per_week? }, of_type })
    }

    /// A whole number, or `Some(None)` where it is `"none"`.
    fn limit(&mut self, path: &str) -> Option<Option<u32>> {
        self.get(path, |v| match v {
            Value::Whole(n) => u32::try_from(*n).ok().map(Some),
            Value::Nothing => Some(None),
            _ => None,
        })
    }

    fn consent(&mut self) -> Option<ConsentPolicy> {
        let marketing_required = self.bool("consent.marketing_required");
        let opt_in_recorded = self.word("consent.opt_in", |word| Some(word == "recorded"));
        Some(ConsentPolicy { marketing_required: marketing_required?, opt_in_recorded: opt_in_recorded? })
    }

    fn retention(&mut self) -> Option<RetentionPolicy> {
        let content_days = self.whole("retention.content_days");
        let message_days = self.whole("retention.message_days");
        Some(RetentionPolicy { content_days: content_days?, message_days: message_days? })
    }

    fn tracking_hosts(&mut self) -> Option<Vec<String>> {
        self.get("tracking.hosts", |v| if let Value::Texts(hosts) = v { Some(hosts.clone()) } else { None })
    }

    fn learning(&mut self) -> Option<LearningPolicy> {
        let explore = self.number("learning.explore");
        let within = self.number("learning.within");
        let analytics = self.bool("learning.analytics");
        let track_engagement = self.bool("learning.track_engagement");
        Some(LearningPolicy {
            explore: explore?,
            within: within?,
            analytics: analytics?,
            track_engagement: track_engagement?,
        })
    }
}
