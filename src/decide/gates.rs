//! What no score can overrule: address, driver, consent, content, money, time (spec.md section 3).
//!
//! Each gate that closes says so in words for the caller. Scripts have no part in it, but for `veto`, which
//! `ranking` adds.

use chrono::SecondsFormat;

use super::{DecisionInput, Situation, timing, views};
use crate::{
    domain::{
        address::Contact,
        channel::{Channel, PerChannel},
        decision::{Gate, GateReason},
        message::{MessageClass, Origin},
        money::MicroEuros,
        time::Hold,
    },
    policy::settings::{OnLimit, QuietAction, TenantPolicy},
};

/// What was found of one channel before scoring.
#[derive(Debug, Default)]
pub struct Gated {
    /// In the order of `Gate`.
    pub gates: Vec<GateReason>,
    /// What makes it wait, where it may be used.
    pub hold: Option<Hold>,
    pub notes: Vec<String>,
}

impl Gated {
    fn close(&mut self, gate: Gate, reason: impl Into<String>) {
        self.gates.push(GateReason { gate, reason: reason.into() });
    }
}

/// Checks every gate of every channel.
pub fn check(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
) -> PerChannel<Gated> {
    let mut all = PerChannel::from_fn(|channel| {
        let mut gated = Gated::default();
        person(policy, input, channel, &mut gated);
        content(policy, input, channel, &mut gated);
        money(policy, input, situation, channel, &mut gated);
        time(policy, input, situation, channel, &mut gated);
        strategy(situation, channel, &mut gated);
        gated
    });
    leave_the_cheapest(policy, input, &mut all);
    for channel in Channel::ALL {
        all[channel].gates.sort_by_key(|g| g.gate);
    }
    all
}

/// Address, driver, and whether the person may be written to.
fn person(policy: &TenantPolicy, input: &DecisionInput<'_>, channel: Channel, gated: &mut Gated) {
    match &input.contacts[channel] {
        Contact::Known(_) => {}
        Contact::Missing => gated.close(Gate::Address, "Contact info not available"),
        Contact::Unreadable(why) => gated.close(Gate::Address, why),
    }
    let driver = &input.facts.drivers[channel];
    if !(driver.configured && driver.healthy) {
        let why = driver.detail.clone().unwrap_or_else(|| match driver.configured {
            false => format!("no driver is configured for {channel}"),
            true => format!("the driver of {channel} is down"),
        });
        gated.close(Gate::Driver, why);
    }
    if !policy.channels[channel].enabled {
        gated.close(Gate::Disabled, format!("the tenant has {channel} switched off"));
    } else if input.request.preferences.disabled.contains(&channel) {
        gated.close(Gate::Disabled, "Channel disabled by the recipient");
    }
    if let Some(why) = &input.facts.suppressed[channel] {
        gated.close(Gate::Suppressed, why);
    }
    if input.request.class() == MessageClass::Marketing {
        match input.request.consent {
            Some(true) => {}
            Some(false) => gated.close(Gate::Consent, "the person did not agree to marketing"),
            None if policy.consent.marketing_required => {
                gated.close(
                    Gate::Consent,
                    "marketing needs consent, and context.consent does not say that it was given",
                );
            }
            None => {}
        }
    }
    if let Some(why) = policy.caps.reached(input.request.kind, &input.facts.sent_lately) {
        gated.close(Gate::Caps, why);
    }
    if !views::opted_in(policy, input, channel) {
        gated.close(Gate::OptIn, format!("{channel} needs an opt-in, and none is on record"));
    }
}

/// What the channel can carry.
fn content(policy: &TenantPolicy, input: &DecisionInput<'_>, channel: Channel, gated: &mut Gated) {
    let (terms, profile) = (&policy.channels[channel], input.words.channels[channel]);
    if let Some(rendering) = &input.words.rendering
        && rendering.forms[channel].is_none()
    {
        let (template, locale) = (&rendering.template, &rendering.locale);
        let reason = format!("the template {template} has no {channel} form in {locale}");
        return gated.close(Gate::Content, reason);
    }
    gated.notes.extend(input.words.note.clone());
    if profile.attachments > 0 && !terms.attachments {
        gated.close(Gate::Content, format!("{channel} carries no attachments"));
    } else if profile.attachment_bytes > terms.attachment_bytes_max {
        let (bytes, most) = (profile.attachment_bytes, terms.attachment_bytes_max);
        gated.close(Gate::Content, format!("attachments of {bytes} bytes, at most {most} on {channel}"));
    }
    if channel == Channel::Sms {
        // An SMS has no length limit, only segments: their price is the limit.
        if profile.characters == 0 {
            gated.close(Gate::Content, "there is no text for an SMS");
        }
    } else if let Some(most) = terms.max_length.filter(|most| profile.characters > *most) {
        let length = profile.characters;
        gated.close(Gate::Content, format!("{length} characters, at most {most} on {channel}"));
    }
}

/// The price of this message, and the budgets.
fn money(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
    gated: &mut Gated,
) {
    let (budget, priority) = (&policy.budget, situation.priority);
    let cost = views::cost(policy, input, channel);
    let price = match (channel, input.words.channels.sms.segments) {
        (Channel::Sms, segments @ 2..) => format!("{segments} segments, {cost} EUR"),
        _ => format!("{cost} EUR"),
    };
    if let Some(limit) = budget.max_cost_per_message.get(&priority).filter(|limit| cost > **limit) {
        gated.close(Gate::Cost, format!("{price}, limit {limit}"));
    }
    if let Some(target) = budget.targets.get(&priority).filter(|target| cost > **target) {
        let words = format!("{price}, above the target of {target} for {priority} messages");
        if budget.enforce_targets {
            gated.close(Gate::Cost, words);
        } else {
            gated.notes.push(words);
        }
    }
    let cap = budget.channels_daily[channel];
    let today = input.facts.spend.channels_today[channel];
    if let Some(words) = over("daily cap of the channel", cap, today, cost) {
        gated.close(Gate::Budget, words);
    }
    if let (Some(words), OnLimit::Skip) = (over_budget(policy, input, cost), budget.on_limit) {
        gated.close(Gate::Budget, words);
    }
}

/// The first of the tenant's and the origin's budgets that `cost` would pass, in words.
fn over_budget(policy: &TenantPolicy, input: &DecisionInput<'_>, cost: MicroEuros) -> Option<String> {
    let (budget, spend) = (&policy.budget, &input.facts.spend);
    let origin: Origin = input.request.origin;
    let own = budget.origins.get(&origin).copied().unwrap_or_default();
    over("daily budget", budget.daily, spend.today, cost)
        .or_else(|| over("monthly budget", budget.monthly, spend.this_month, cost))
        .or_else(|| over(&format!("daily budget of {origin}"), own.daily, spend.origin_today, cost))
        .or_else(|| over(&format!("monthly budget of {origin}"), own.monthly, spend.origin_this_month, cost))
}

fn over(name: &str, limit: Option<MicroEuros>, spent: MicroEuros, cost: MicroEuros) -> Option<String> {
    limit
        .filter(|limit| spent + cost > *limit)
        .map(|limit| format!("{name} used up: {spent} of {limit} EUR spent, this message costs {cost}"))
}

/// Deadline, quiet hours, legal windows, and a budget that is waited for.
fn time(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
    gated: &mut Gated,
) {
    let (timing, priority) = (&situation.timing, situation.priority);
    let at = |instant: chrono::DateTime<chrono::Utc>| {
        instant.with_timezone(&timing.zone).to_rfc3339_opts(SecondsFormat::Secs, true)
    };
    if timing.goes_at > timing.deadline {
        gated.close(Gate::Deadline, format!("the deadline passed at {}", at(timing.deadline)));
        return;
    }
    let rings = timing::rings(policy, input.request, priority, channel);
    if policy.quiet_hours.action == QuietAction::Skip && timing.quiet && rings {
        gated.close(Gate::QuietHours, format!("quiet hours, and {channel} rings"));
    }
    let quiet = timing.hold(policy, input.request, priority, channel);
    let budget = budget_hold(policy, input, situation, channel);
    let hold = [quiet, budget].into_iter().flatten().max_by_key(|hold| hold.until);
    match hold {
        Some(hold) if hold.until > timing.deadline => {
            gated.close(
                Gate::Deadline,
                format!("{}, after the deadline at {}", hold.reason, at(timing.deadline)),
            );
        }
        hold => gated.hold = hold,
    }
}

/// Where a used-up budget is waited for: until the tenant's next day, or its next month.
fn budget_hold(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
) -> Option<Hold> {
    if policy.budget.on_limit != OnLimit::Hold {
        return None;
    }
    let words = over_budget(policy, input, views::cost(policy, input, channel))?;
    let zone = policy.time_zone;
    let until =
        crate::domain::time::next_period(situation.timing.goes_at, zone, words.starts_with("monthly"));
    Some(Hold { until, reason: words })
}

/// `on_limit = "cheapest"`: once a budget is used up, only the cheapest channel that may be used is left.
fn leave_the_cheapest(policy: &TenantPolicy, input: &DecisionInput<'_>, all: &mut PerChannel<Gated>) {
    if policy.budget.on_limit != OnLimit::Cheapest {
        return;
    }
    let cost = |channel| views::cost(policy, input, channel);
    let open = |all: &PerChannel<Gated>, channel: Channel| all[channel].gates.is_empty();
    let cheapest = Channel::ALL.into_iter().filter(|c| open(all, *c)).min_by_key(|c| cost(*c));
    for channel in Channel::ALL.into_iter().filter(|c| Some(*c) != cheapest) {
        if let Some(words) = over_budget(policy, input, cost(channel)) {
            all[channel].close(Gate::Budget, format!("{words}; only the cheapest channel is left"));
        }
    }
}

fn strategy(situation: &Situation<'_>, channel: Channel, gated: &mut Gated) {
    if let Some(strategy) = situation.strategy
        && let Some(channels) = &strategy.channels
        && !channels.contains(&channel)
    {
        let names: Vec<&str> = channels.iter().map(|c| c.as_str()).collect();
        gated.close(
            Gate::Strategy,
            format!("strategy \"{}\" allows {} only", strategy.name, names.join(", ")),
        );
    }
}
