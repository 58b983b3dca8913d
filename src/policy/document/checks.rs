//! What can only be judged once the layers are merged: names that must exist, shares that must add up.
//!
//! These are errors: they keep a bundle from going live. What is merely odd is in `remarks`.

use super::{
    layer::LayerKind,
    merge::Merged,
    values::{Share, Value, is_mailbox},
};
use crate::{
    domain::{channel::Channel, ids::CriterionName},
    policy::diagnostic::{Diagnostic, nearest},
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
    check_sender(merged, &mut faults);
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

/// An email whose sender is no mailbox is refused by every relay: better said now than with each message.
fn check_sender(merged: &Merged<'_>, faults: &mut Vec<Diagnostic>) {
    let Some((leaf, layer)) = merged.leaf("channels.email.from") else { return };
    let Value::Text(from) = &leaf.value else { return };
    if is_mailbox(from) {
        return;
    }
    let message = format!("channels.email.from: expected an email address, found the text {from:?}");
    faults.push(
        layer
            .fault_at("bad-mailbox", leaf.span.clone(), message)
            .hint("write it like \"contact@example.com\"; a name that people see goes into from_name"),
    );
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
