//! Settings that are legal and yet surely not what was meant: told as warnings, each with a stable code.
//!
//! A remark changes nothing. It points at what the author can mend: things that a tenant only inherits are
//! gathered into one remark instead of one each.

use std::collections::BTreeMap;

use super::{
    layer::{Layer, LayerKind},
    merge::Merged,
    values::Value,
};
use crate::{
    domain::{channel::Channel, ids::CriterionName, message::Priority, money::MicroEuros},
    policy::{
        diagnostic::{Diagnostic, Severity, nearest},
        settings::TenantPolicy,
    },
};

/// Remarks on a policy that is valid. `drivers` are the operator's; none: they are not known here.
pub fn warnings(
    merged: &Merged<'_>,
    policy: &TenantPolicy,
    criteria: &[CriterionName],
    drivers: Option<&[String]>,
) -> Vec<Diagnostic> {
    let mut remarks = Remarks { merged, found: Vec::new() };
    remarks.weights(policy, criteria);
    remarks.quiet_hours(policy);
    remarks.disabled_channels(policy);
    if let Some(known) = drivers {
        remarks.drivers(policy, known);
    }
    remarks.strategies();
    remarks.money(policy);
    remarks.variants(policy);
    remarks.found
}

struct Remarks<'a> {
    merged: &'a Merged<'a>,
    found: Vec<Diagnostic>,
}

impl Remarks<'_> {
    /// A warning at the value of a dotted key.
    fn at(&mut self, path: &str, code: &str, message: String, hint: &str) {
        if let Some((leaf, layer)) = self.merged.leaf(path) {
            self.found.push(remark(layer, &leaf.span, code, message, hint));
        }
    }

    fn weights(&mut self, policy: &TenantPolicy, criteria: &[CriterionName]) {
        if policy.weights.values().all(|weight| *weight == 0.0) {
            let paths = self.merged.paths_under("weights");
            let layer_of = |path: &&str| self.merged.leaf(path).map(|(_, layer)| layer.kind);
            let path = paths.into_iter().max_by_key(layer_of).unwrap_or("weights");
            self.at(
                path,
                "all-weights-zero",
                "weights: every weight is 0, so every channel scores the same".to_owned(),
                "the cheapest channel would always win; give some criterion a weight",
            );
        }
        for name in criteria {
            let known = policy.weights.contains_key(name)
                || policy.variants.values().any(|weights| weights.contains_key(name));
            if !known {
                let file = self.merged.tenant().source.file.clone();
                let message = format!("the script criteria/{name}.rhai gives no points: it has no weight");
                let hint = format!("add {name} = 10 under [weights], or {name} = 0 if that is meant");
                self.found.push(Diagnostic::warning("criterion-without-weight", &file, message).hint(hint));
            }
        }
    }

    fn quiet_hours(&mut self, policy: &TenantPolicy) {
        if policy.quiet_hours.channels.contains(Channel::Email) {
            self.at(
                "quiet_hours.channels",
                "quiet-email",
                "quiet_hours.channels: email does not ring; listed here, it waits at night too".to_owned(),
                "leave email out unless that is meant",
            );
        }
    }

    fn disabled_channels(&mut self, policy: &TenantPolicy) {
        let off = |channel: Channel| !policy.channels[channel].enabled;
        if Channel::ALL.into_iter().all(off) {
            self.at(
                "channels.sms.enabled",
                "every-channel-disabled",
                "channels: every channel is disabled, so no message can be sent".to_owned(),
                "enable at least one channel",
            );
            return;
        }
        for section in ["retry".to_owned()].into_iter().chain(Channel::ALL.map(|c| format!("retry.{c}"))) {
            let path = format!("{section}.fallback_after_retries");
            let Some((leaf, layer)) = self.merged.leaf(&path) else { continue };
            if let Value::Text(name) = &leaf.value
                && layer.kind == LayerKind::Tenant
                && Channel::parse(name).is_some_and(off)
            {
                let message = format!("{path}: {name} is disabled, so it is never fallen back to");
                self.at(&path, "disabled-channel", message, "enable the channel, or name another");
            }
        }
        self.strategies_without_channel(off);
    }

    /// Names in `drivers = [...]` that no driver has.
    fn drivers(&mut self, policy: &TenantPolicy, known: &[String]) {
        for channel in Channel::ALL {
            let path = format!("channels.{channel}.drivers");
            for name in policy.channels[channel].drivers.iter().filter(|name| !known.contains(name)) {
                let message =
                    format!("{path}: orchestrator.toml has no driver {name:?}, so it is passed over");
                let hint = match nearest(name, known.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => {
                        format!("it has: {}; a driver is added there as [drivers.{name}]", known.join(", "))
                    }
                };
                self.at(&path, "unknown-driver", message, &hint);
            }
        }
    }

    /// Strategies that disabled channels leave without any, and escalations that can never happen.
    fn strategies_without_channel(&mut self, off: impl Fn(Channel) -> bool) {
        let mut inherited: BTreeMap<Channel, Vec<&str>> = BTreeMap::new();
        for (entry, layer) in self.merged.strategies() {
            let rule = &entry.rule;
            let all_off = rule.channels.as_ref().filter(|list| list.iter().copied().all(&off));
            let lost = all_off.and_then(|list| list.first().copied());
            let escalates = rule.escalate.as_ref().map(|e| e.to).filter(|to| off(*to));
            if layer.kind != LayerKind::Tenant {
                if let Some(channel) = lost.or(escalates) {
                    inherited.entry(channel).or_default().push(&rule.name);
                }
                continue;
            }
            let what = match (lost, escalates) {
                (Some(_), _) => "allows only disabled channels",
                (None, Some(_)) => "escalates to a disabled channel",
                (None, None) => continue,
            };
            let message = format!("the strategy {:?} {what}", rule.name);
            let hint = "enable the channel, or change the strategy";
            self.found.push(remark(layer, &entry.name_at, "disabled-channel", message, hint));
        }
        for (channel, names) in inherited {
            let path = format!("channels.{channel}.enabled");
            let message =
                format!("{path}: strategies need {channel}, which is disabled: {}", names.join(", "));
            let hint = "write these strategies anew under the same name, or enable the channel";
            self.at(&path, "disabled-channel", message, hint);
        }
    }

    /// A strategy whose condition one of the same file before it has, and those that come after `true`.
    fn strategies(&mut self) {
        let all = self.merged.strategies();
        let mut seen: BTreeMap<(LayerKind, String), &str> = BTreeMap::new();
        for (at, (entry, layer)) in all.iter().enumerate() {
            let condition = entry.rule.when.split_whitespace().collect::<Vec<_>>().join(" ");
            let later: Vec<&str> = all[at + 1..].iter().map(|(later, _)| later.rule.name.as_str()).collect();
            if condition == "true" && !later.is_empty() {
                let name = &entry.rule.name;
                let message = format!(
                    "the strategy {name:?} always matches: those after it are never reached: {}",
                    later.join(", ")
                );
                let hint = "put it last; inherit_strategies = false leaves default.toml's out";
                self.found.push(remark(layer, &entry.when_at, "unreachable-strategy", message, hint));
                return;
            }
            if let Some(earlier) = seen.insert((layer.kind, condition), &entry.rule.name) {
                let name = &entry.rule.name;
                let message =
                    format!("the strategy {name:?} is never reached: {earlier:?} has the same condition");
                let hint = "change its condition, or remove it";
                self.found.push(remark(layer, &entry.when_at, "unreachable-strategy", message, hint));
            }
        }
    }

    fn money(&mut self, policy: &TenantPolicy) {
        let sms = policy.channels[Channel::Sms].cost;
        for priority in Priority::ALL {
            let limit = policy.budget.max_cost_per_message.get(*priority);
            if limit.is_some_and(|limit| *limit < sms) && policy.channels[Channel::Sms].enabled {
                let path = format!("budget.max_cost_per_message.{priority}");
                let limit = limit.copied().unwrap_or(MicroEuros::ZERO);
                let message =
                    format!("{path}: {limit} EUR is less than one SMS ({sms} EUR): no SMS can be sent");
                self.at(
                    &path,
                    "limit-below-price",
                    message,
                    "raise the limit, or disable sms if that is meant",
                );
                break;
            }
        }
        if let (Some(daily), Some(monthly)) = (policy.budget.daily, policy.budget.monthly)
            && daily > monthly
        {
            let message = format!("budget.daily: {daily} EUR a day is more than {monthly} EUR a month");
            self.at("budget.daily", "daily-above-monthly", message, "the month's budget will end first");
        }
    }

    fn variants(&mut self, policy: &TenantPolicy) {
        if let Some(variant) = &policy.variant
            && !policy.split.is_empty()
        {
            let message =
                format!("variant = {variant:?} has no effect: [split] decides who gets which variant");
            self.at("variant", "variant-and-split", message, "remove one of the two");
        }
    }
}

fn remark(layer: &Layer, at: &std::ops::Range<usize>, code: &str, message: String, hint: &str) -> Diagnostic {
    let fault = layer.fault_at(code, at.clone(), message);
    Diagnostic { severity: Severity::Warning, ..fault }.hint(hint)
}
