//! What can only be judged once the layers are merged: names that must exist, shares that must add up, and
//! settings that are legal and yet are surely not what was meant.
//!
//! Errors keep a bundle from going live; warnings are told and change nothing.

use std::collections::BTreeMap;

use super::{
    layer::{Layer, LayerKind, Leaf},
    merge::Merged,
    values::{Share, Value},
};
use crate::{
    domain::{channel::Channel, ids::CriterionName, message::Priority, money::MicroEuros},
    policy::{
        diagnostic::{Diagnostic, Severity, nearest},
        settings::TenantPolicy,
    },
};

/// Faults between the layers. `criteria` are the names of the scripts in force.
pub fn errors(merged: &Merged<'_>, criteria: &[CriterionName]) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    weights_without_script(merged, criteria, &mut faults);
    let variants = variant_names(merged);
    check_split(merged, &variants, &mut faults);
    if let Some((leaf, layer)) = merged.leaf("variant")
        && let Value::Text(name) = &leaf.value
        && name != "control"
        && !variants.contains(&name.as_str())
    {
        let message = format!("variant: there is no variant {name:?}");
        faults.push(with_variants(
            layer.fault_at("unknown-variant", leaf.span.clone(), message),
            name,
            &variants,
        ));
    }
    check_retention(merged, &mut faults);
    check_retries(merged, &mut faults);
    faults
}

/// Every weight, of the tenant or of a variant, whose script is not there.
fn weights_without_script(merged: &Merged<'_>, criteria: &[CriterionName], faults: &mut Vec<Diagnostic>) {
    let paths = merged.paths_under("weights").into_iter().chain(merged.paths_under("variants"));
    for path in paths {
        let Some((leaf, layer)) = merged.leaf(path) else { continue };
        let name = path.rsplit('.').next().unwrap_or(path);
        if layer.kind == LayerKind::BuiltIn || criteria.iter().any(|c| c.as_str() == name) {
            continue;
        }
        let message = format!("{path}: there is no script criteria/{name}.rhai for this weight");
        let fault = layer.fault_at("weight-without-script", leaf.key.clone(), message);
        faults.push(match nearest(name, criteria.iter().map(CriterionName::as_str)) {
            Some(near) => fault.hint(format!("did you mean {near:?}?")),
            None => {
                let names: Vec<&str> = criteria.iter().map(CriterionName::as_str).collect();
                fault.hint(format!("there are scripts for: {}", names.join(", ")))
            }
        });
    }
}

fn variant_names<'a>(merged: &Merged<'a>) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        merged.paths_under("variants").into_iter().filter_map(|path| path.split('.').nth(1)).collect();
    names.dedup();
    names
}

fn with_variants(fault: Diagnostic, found: &str, variants: &[&str]) -> Diagnostic {
    match nearest(found, variants.iter().copied().chain(["control"])) {
        Some(near) => fault.hint(format!("did you mean {near:?}?")),
        None if variants.is_empty() => {
            fault.hint(format!("add [variants.{found}.weights] with the weights that it changes"))
        }
        None => fault.hint(format!("there are: control, {}", variants.join(", "))),
    }
}

fn check_split(merged: &Merged<'_>, variants: &[&str], faults: &mut Vec<Diagnostic>) {
    let Some((leaf, layer)) = merged.leaf("split") else { return };
    let Value::Split(shares) = &leaf.value else { return };
    for Share { name, at, .. } in shares {
        if name != "control" && !variants.contains(&name.as_str()) {
            let message = format!("split: there is no variant {name:?}");
            faults.push(with_variants(
                layer.fault_at("unknown-variant", at.clone(), message),
                name,
                variants,
            ));
        }
    }
    let sum: f64 = shares.iter().map(|share| share.percent).sum();
    if !shares.is_empty() && (sum - 100.0).abs() > 1e-6 {
        let message = format!("split: the shares add up to {sum}, expected 100");
        let fault = layer.fault_at("split-sum", leaf.key.clone(), message);
        faults.push(fault.hint("\"control\" is the share that keeps the weights as they stand"));
    }
}

fn check_retention(merged: &Merged<'_>, faults: &mut Vec<Diagnostic>) {
    let (Some((content, content_layer)), Some((message, message_layer))) =
        (merged.leaf("retention.content_days"), merged.leaf("retention.message_days"))
    else {
        return;
    };
    if let (Value::Whole(content_days), Value::Whole(message_days)) = (&content.value, &message.value)
        && content_days > message_days
    {
        let (leaf, layer) = if content_layer.kind > message_layer.kind {
            (content, content_layer)
        } else {
            (message, message_layer)
        };
        let words =
            format!("retention: content_days ({content_days}) is more than message_days ({message_days})");
        let fault = layer.fault_at("retention-order", leaf.span.clone(), words);
        faults.push(fault.hint("a message cannot be forgotten before its content"));
    }
}

fn check_retries(merged: &Merged<'_>, faults: &mut Vec<Diagnostic>) {
    let sections = ["retry".to_owned()].into_iter().chain(Channel::ALL.map(|c| format!("retry.{c}")));
    for section in sections {
        let own = |key: &str| merged.leaf(&format!("{section}.{key}"));
        let inherited = |key: &str| own(key).or_else(|| merged.leaf(&format!("retry.{key}")));
        let Some((delays, layer)) = own("delays") else { continue };
        let retries = inherited("max_retries").map(|(leaf, _)| &leaf.value);
        if delays.value == Value::Wholes(Vec::new()) && retries != Some(&Value::Whole(0)) {
            let message = format!("{section}.delays: expected at least one delay, found none");
            let fault = layer.fault_at("empty-list", delays.span.clone(), message);
            faults.push(fault.hint(format!("to never ask again write {section}.max_retries = 0")));
        }
    }
}

/// Remarks on a policy that is valid.
pub fn warnings(merged: &Merged<'_>, policy: &TenantPolicy, criteria: &[CriterionName]) -> Vec<Diagnostic> {
    let mut remarks = Remarks { merged, found: Vec::new() };
    remarks.weights(policy, criteria);
    remarks.quiet_hours(policy);
    remarks.disabled_channels(policy);
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
            self.found.push(remark(layer, leaf, code, message, hint));
        }
    }

    fn weights(&mut self, policy: &TenantPolicy, criteria: &[CriterionName]) {
        if policy.weights.values().all(|weight| *weight == 0.0) {
            let path = self.merged.paths_under("weights").into_iter().next().unwrap_or("weights");
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
        if policy.quiet_hours.channels.contains(&Channel::Email) {
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
            let Some((leaf, _)) = self.merged.leaf(&path) else { continue };
            if let Value::Text(name) = &leaf.value
                && Channel::parse(name).is_some_and(off)
            {
                let message = format!("{path}: {name} is disabled, so it is never fallen back to");
                self.at(&path, "disabled-channel", message, "enable the channel, or name another");
            }
        }
        for (entry, layer) in self.merged.strategies() {
            let all_off = entry.rule.channels.as_ref().is_some_and(|list| list.iter().copied().all(off));
            let escalates_off = entry.rule.escalate.as_ref().is_some_and(|e| off(e.to));
            if all_off || escalates_off {
                let what =
                    if all_off { "allows only disabled channels" } else { "escalates to a disabled channel" };
                let message = format!("the strategy {:?} {what}", entry.rule.name);
                let fault = layer.fault_at("disabled-channel", entry.name_at.clone(), message);
                self.found.push(softened(fault).hint("enable the channel, or change the strategy"));
            }
        }
    }

    /// A strategy that has the same condition as one before it is never reached; so is any after `true`.
    fn strategies(&mut self) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (entry, layer) in self.merged.strategies() {
            let condition = entry.rule.when.split_whitespace().collect::<Vec<_>>().join(" ");
            let earlier = seen.get("true").or_else(|| seen.get(&condition)).copied();
            if let Some(earlier) = earlier {
                let name = &entry.rule.name;
                let message =
                    format!("the strategy {name:?} is never reached: {earlier:?} comes before and matches");
                let fault = layer.fault_at("unreachable-strategy", entry.when_at.clone(), message);
                self.found.push(softened(fault).hint("change its condition, or its place"));
            } else {
                seen.insert(condition, &entry.rule.name);
            }
        }
    }

    fn money(&mut self, policy: &TenantPolicy) {
        let sms = policy.channels.sms.cost;
        for priority in Priority::ALL {
            let limit = policy.budget.max_cost_per_message.get(priority);
            if limit.is_some_and(|limit| *limit < sms) && policy.channels.sms.enabled {
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

fn remark(layer: &Layer, leaf: &Leaf, code: &str, message: String, hint: &str) -> Diagnostic {
    softened(layer.fault_at(code, leaf.span.clone(), message)).hint(hint)
}

fn softened(fault: Diagnostic) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, ..fault }
}
