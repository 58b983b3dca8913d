//! What no score can overrule: address, driver, consent, content, money, time (spec.md section 3).
//!
//! Each gate that closes can say so in words for the caller. The words are made only for who wants them: the same
//! checks serve a decision that is explained (`Told`) and one that only has to be right (`Closed`). Scripts have
//! no part in it, but for `veto`, which `ranking` adds.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{DecisionInput, Situation, timing, views};
use crate::{
    domain::{
        address::Reach,
        channel::{Channel, PerChannel},
        decision::{Gate, GateReason},
        message::{MessageClass, Origin},
        money::MicroEuros,
        time::Hold,
    },
    policy::settings::{OnLimit, QuietAction, TenantPolicy},
};

/// What is kept of the findings on one channel.
pub trait Findings: Default {
    /// A gate closes if `so`, for the reason that `words` gives. Where nobody wants the words nothing branches: what
    /// differs from message to message cannot be foreseen, and a branch that was taken wrongly costs more than the check.
    fn close_if<W: Into<String>>(&mut self, so: bool, gate: Gate, words: impl FnOnce() -> W);
    /// A gate closes.
    fn close<W: Into<String>>(&mut self, gate: Gate, words: impl FnOnce() -> W) {
        self.close_if(true, gate, words);
    }
    /// A remark that changes nothing.
    fn note(&mut self, words: impl FnOnce() -> String);
    /// Something makes it wait, where it may be used.
    fn hold(&mut self, until: DateTime<Utc>, words: impl FnOnce() -> String);
    /// No gate is closed so far.
    fn is_open(&self) -> bool;
    /// When it may go, if not at once.
    fn held_until(&self) -> Option<DateTime<Utc>>;
}

/// The findings in words.
#[derive(Debug, Default)]
pub struct Told {
    /// In the order of `Gate`.
    pub gates: Vec<GateReason>,
    pub hold: Option<Hold>,
    pub notes: Vec<String>,
}

impl Findings for Told {
    fn close_if<W: Into<String>>(&mut self, so: bool, gate: Gate, words: impl FnOnce() -> W) {
        if so {
            self.gates.push(GateReason { gate, reason: words().into() });
        }
    }
    fn note(&mut self, words: impl FnOnce() -> String) {
        self.notes.push(words());
    }
    fn hold(&mut self, until: DateTime<Utc>, words: impl FnOnce() -> String) {
        self.hold = Some(Hold { until, reason: words() });
    }
    fn is_open(&self) -> bool {
        self.gates.is_empty()
    }
    fn held_until(&self) -> Option<DateTime<Utc>> {
        self.hold.as_ref().map(|hold| hold.until)
    }
}

/// Whether a channel is closed, and until when it waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed {
    closed: bool,
    hold: Option<DateTime<Utc>>,
}

impl Findings for Closed {
    #[inline]
    fn close_if<W: Into<String>>(&mut self, so: bool, _: Gate, _: impl FnOnce() -> W) {
        self.closed |= so;
    }
    fn note(&mut self, _: impl FnOnce() -> String) {}
    fn hold(&mut self, until: DateTime<Utc>, _: impl FnOnce() -> String) {
        self.hold = Some(until);
    }
    fn is_open(&self) -> bool {
        !self.closed
    }
    fn held_until(&self) -> Option<DateTime<Utc>> {
        self.hold
    }
}

/// Checks every gate of every channel.
pub fn check<F: Findings>(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
) -> PerChannel<F> {
    let mut all = PerChannel::from_fn(|_| F::default());
    let capped = policy.caps.reached(input.question.kind, &input.facts.sent_lately);
    let refused = without_consent(policy, input);
    // Each in its place: to make them one by one and put them together costs more than most checks.
    for channel in Channel::ALL {
        let gated = &mut all[channel];
        person(policy, input, situation, channel, gated);
        gated.close_if(refused.is_some(), Gate::Consent, || refused.unwrap_or_default());
        gated.close_if(capped.is_some(), Gate::Caps, || capped.as_deref().unwrap_or_default());
        content(policy, input, channel, gated);
        service_window(input, channel, gated);
        money(policy, input, situation, channel, gated);
        time(policy, input, situation, channel, gated);
        strategy(situation, channel, gated);
    }
    leave_the_cheapest(policy, input, &mut all);
    all
}

/// The same in words, in the order of `Gate`.
pub fn told(policy: &TenantPolicy, input: &DecisionInput<'_>, situation: &Situation<'_>) -> PerChannel<Told> {
    let mut all: PerChannel<Told> = check(policy, input, situation);
    for channel in Channel::ALL {
        all[channel].gates.sort_by_key(|g| g.gate);
    }
    all
}

/// Address, driver, and whether the person may be written to.
fn person<F: Findings>(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
    found: &mut F,
) {
    let reach = input.reach[channel];
    found.close_if(!matches!(reach, Reach::Known), Gate::Address, || match reach {
        Reach::Unreadable(why) => why,
        _ => "Contact info not available",
    });
    let driver = &input.facts.drivers[channel];
    found.close_if(!(driver.configured & driver.healthy), Gate::Driver, || {
        driver.detail.clone().unwrap_or_else(|| match driver.configured {
            false => format!("no driver is configured for {channel}"),
            true => format!("the driver of {channel} is down"),
        })
    });
    let enabled = policy.channels[channel].enabled;
    found.close_if(!enabled, Gate::Disabled, || format!("the tenant has {channel} switched off"));
    let disabled = situation.channels[channel].disabled;
    found.close_if(enabled & disabled, Gate::Disabled, || "Channel disabled by the recipient");
    let suppressed = &input.facts.suppressed[channel];
    found.close_if(suppressed.is_some(), Gate::Suppressed, || suppressed.as_deref().unwrap_or_default());
    found.close_if(!views::opted_in(policy, input, channel), Gate::OptIn, || {
        format!("{channel} needs an opt-in, and none is on record")
    });
}

/// Why marketing may not go to this person, whatever the channel.
fn without_consent(policy: &TenantPolicy, input: &DecisionInput<'_>) -> Option<&'static str> {
    if input.question.class() != MessageClass::Marketing {
        return None;
    }
    match input.question.consent {
        Some(true) => None,
        Some(false) => Some("the person did not agree to marketing"),
        None => policy
            .consent
            .marketing_required
            .then_some("marketing needs consent, and context.consent does not say that it was given"),
    }
}

/// Free text that comes too late after the person's last message.
fn service_window<F: Findings>(input: &DecisionInput<'_>, channel: Channel, found: &mut F) {
    if input.facts.in_service_window[channel] != Some(false) {
        return;
    }
    let form = input.words.rendering.as_ref().and_then(|rendering| rendering.forms[channel].as_ref());
    if form.is_none_or(|form| form.approved_template.is_none()) {
        found.close(Gate::ServiceWindow, || {
            format!(
                "the person has not written to this sender within 24 hours, and {channel} then takes approved \
                 templates only: send a template whose {channel} form has `approved`, or wait until they write"
            )
        });
    } else if input.words.channels[channel].attachments > 0 {
        found.close(Gate::ServiceWindow, || {
            format!(
                "the person has not written to this sender within 24 hours, and an approved template carries no \
                 attachment on {channel}: send a link to the file, or wait until they write"
            )
        });
    }
}

/// What the channel can carry.
fn content<F: Findings>(policy: &TenantPolicy, input: &DecisionInput<'_>, channel: Channel, found: &mut F) {
    let (terms, profile) = (&policy.channels[channel], input.words.channels[channel]);
    if let Some(rendering) = &input.words.rendering
        && rendering.forms[channel].is_none()
    {
        let (template, locale) = (&rendering.template, &rendering.locale);
        return found
            .close(Gate::Content, || format!("the template {template} has no {channel} form in {locale}"));
    }
    if let Some(note) = &input.words.note {
        found.note(|| note.clone());
    }
    if profile.attachments > 0 && !terms.attachments {
        found.close(Gate::Content, || format!("{channel} carries no attachments"));
    } else if profile.attachment_bytes > terms.attachment_bytes_max {
        let (bytes, most) = (profile.attachment_bytes, terms.attachment_bytes_max);
        found.close(Gate::Content, || format!("attachments of {bytes} bytes, at most {most} on {channel}"));
    }
    if channel == Channel::Sms {
        // An SMS has no length limit, only segments: their price is the limit.
        if profile.characters == 0 {
            found.close(Gate::Content, || "there is no text for an SMS");
        }
    } else if let Some(most) = terms.max_length.filter(|most| profile.characters > *most) {
        let length = profile.characters;
        found.close(Gate::Content, || format!("{length} characters, at most {most} on {channel}"));
    }
}

/// The price of this message, and the budgets.
fn money<F: Findings>(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
    found: &mut F,
) {
    let (budget, priority) = (&policy.budget, situation.priority);
    let cost = views::cost(policy, input, channel);
    let price = || match (channel, input.words.channels[Channel::Sms].segments) {
        (Channel::Sms, segments @ 2..) => format!("{segments} segments, {cost} EUR"),
        _ => format!("{cost} EUR"),
    };
    if let Some(limit) = budget.max_cost_per_message.get(priority).filter(|limit| cost > **limit) {
        found.close(Gate::Cost, || format!("{}, limit {limit}", price()));
    }
    if let Some(target) = budget.targets.get(priority).filter(|target| cost > **target) {
        let words = || format!("{}, above the target of {target} for {priority} messages", price());
        if budget.enforce_targets {
            found.close(Gate::Cost, words);
        } else {
            found.note(words);
        }
    }
    let today = input.facts.spend.channels_today[channel];
    if let Some(over) = over("daily cap of the channel", budget.channels_daily[channel], today, cost) {
        found.close(Gate::Budget, || over.to_string());
    }
    if budget.on_limit == OnLimit::Skip
        && let Some(over) = over_budget(policy, input, cost)
    {
        found.close(Gate::Budget, || over.to_string());
    }
}

/// A budget that a message would pass.
#[derive(Clone, Copy, Debug)]
struct Over {
    budget: &'static str,
    origin: Option<Origin>,
    monthly: bool,
    spent: MicroEuros,
    limit: MicroEuros,
    cost: MicroEuros,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Over { budget, spent, limit, cost, .. } = self;
        f.write_str(budget)?;
        if let Some(origin) = self.origin {
            write!(f, " of {origin}")?;
        }
        write!(f, " used up: {spent} of {limit} EUR spent, this message costs {cost}")
    }
}

/// The first of the tenant's and the origin's budgets that `cost` would pass.
fn over_budget(policy: &TenantPolicy, input: &DecisionInput<'_>, cost: MicroEuros) -> Option<Over> {
    let (budget, spend) = (&policy.budget, &input.facts.spend);
    let origin = input.question.origin;
    let own = budget.origins.get(origin).copied().unwrap_or_default();
    let of_origin = |over: Over| Over { origin: Some(origin), ..over };
    let monthly = |over: Over| Over { monthly: true, ..over };
    over("daily budget", budget.daily, spend.today, cost)
        .or_else(|| over("monthly budget", budget.monthly, spend.this_month, cost).map(monthly))
        .or_else(|| over("daily budget", own.daily, spend.origin_today, cost).map(of_origin))
        .or_else(|| {
            over("monthly budget", own.monthly, spend.origin_this_month, cost).map(of_origin).map(monthly)
        })
}

fn over(
    budget: &'static str,
    limit: Option<MicroEuros>,
    spent: MicroEuros,
    cost: MicroEuros,
) -> Option<Over> {
    let limit = limit.filter(|limit| spent + cost > *limit)?;
    Some(Over { budget, origin: None, monthly: false, spent, limit, cost })
}

/// Deadline, quiet hours, legal windows, and a budget that is waited for.
fn time<F: Findings>(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
    found: &mut F,
) {
    let (timing, priority) = (&situation.timing, situation.priority);
    let at = |instant: DateTime<Utc>| {
        instant.with_timezone(&timing.zone).to_rfc3339_opts(SecondsFormat::Secs, true)
    };
    if timing.goes_at > timing.deadline {
        found.close(Gate::Deadline, || format!("the deadline passed at {}", at(timing.deadline)));
        return;
    }
    if policy.quiet_hours.action == QuietAction::Skip
        && timing.quiet
        && timing::rings(policy, &input.question, priority, channel)
    {
        found.close(Gate::QuietHours, || format!("quiet hours, and {channel} rings"));
    }
    let clock = timing.wait(policy, &input.question, priority, channel);
    let mut wait = |until: DateTime<Utc>, reason: &dyn Fn() -> String| {
        if until > timing.deadline {
            found.close(Gate::Deadline, || {
                format!("{}, after the deadline at {}", reason(), at(timing.deadline))
            });
        } else {
            found.hold(until, reason);
        }
    };
    // The later of the two; most messages wait for neither, and nothing is made for them.
    if policy.budget.on_limit == OnLimit::Hold
        && let Some((until, over)) = budget_wait(policy, input, situation, channel)
        && clock.is_none_or(|clock| clock.until <= until)
    {
        wait(until, &|| over.to_string());
    } else if let Some(clock) = clock {
        wait(clock.until, &|| clock.in_words(timing.goes_at, timing.zone));
    }
}

/// Where a used-up budget is waited for: until the tenant's next day, or its next month.
fn budget_wait(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
) -> Option<(DateTime<Utc>, Over)> {
    let over = over_budget(policy, input, views::cost(policy, input, channel))?;
    let goes_at = situation.timing.goes_at;
    let until = crate::domain::time::next_period(goes_at, policy.time_zone, over.monthly);
    Some((until, over))
}

/// `on_limit = "cheapest"`: once a budget is used up, only the cheapest channel that may be used is left.
fn leave_the_cheapest<F: Findings>(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    all: &mut PerChannel<F>,
) {
    if policy.budget.on_limit != OnLimit::Cheapest {
        return;
    }
    let cost = |channel| views::cost(policy, input, channel);
    let cheapest = Channel::ALL.into_iter().filter(|c| all[*c].is_open()).min_by_key(|c| cost(*c));
    for channel in Channel::ALL.into_iter().filter(|c| Some(*c) != cheapest) {
        if let Some(over) = over_budget(policy, input, cost(channel)) {
            all[channel].close(Gate::Budget, || format!("{over}; only the cheapest channel is left"));
        }
    }
}

fn strategy<F: Findings>(situation: &Situation<'_>, channel: Channel, found: &mut F) {
    if let Some(strategy) = situation.strategy
        && let Some(channels) = &strategy.channels
        && !channels.contains(&channel)
    {
        found.close(Gate::Strategy, || {
            let names: Vec<&str> = channels.iter().map(|c| c.as_str()).collect();
            format!("strategy \"{}\" allows {} only", strategy.name, names.join(", "))
        });
    }
}
