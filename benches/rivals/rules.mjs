// The nine criteria of policies/criteria/ in JavaScript, as a service that keeps its rules in its own code would have
// them: one function a criterion, a table of weights, facts as plain objects. No dependency, and nothing of ours.
//
//   decide(request)          {context, content} as in the brief -> {channel, reason, confidence, alternativeChannels}
//   score(message, channels) the facts of a message and of its four channels -> the four, scored and ranked
//
// node.mjs times `score`; a server times `decide`. Not here: budgets, opt-outs, holds and the other refusals, which
// are no rules of scoring. Whatever policies/ ships, this file says too: node.mjs asserts it before it times anything.

const CHANNELS = ["sms", "email", "whatsapp", "telegram"];
const COST = { sms: 0.05, email: 0.0006, whatsapp: 0.01, telegram: 0 };
const SCORING = { base: 50, scale: 100, ceiling: 0.95 };
const LONG = 160;
const ALTERNATIVES = 2;

// A criterion says nothing (null), gives or takes a share of its weight, or rules the channel out.
const award = (share, reason) => ({ share, veto: false, reason });
const penalize = (share, reason) => ({ share: -share, veto: false, reason });
const veto = (reason) => ({ share: 0, veto: true, reason });

function preferences(message, channel) {
  if (channel.disabled) return veto("Channel disabled by the recipient");
  return channel.preferred ? award(1, "Preferred channel") : null;
}

function urgency(message, channel) {
  switch (message.priority) {
    case "urgent":
      switch (channel.name) {
        case "sms": return award(1, "SMS best for urgent messages (98% open rate)");
        case "whatsapp": return award(20 / 25, "WhatsApp good for urgent messages");
        case "email": return award(5 / 25, "Email slower for urgent messages");
        default: return null;
      }
    case "high":
      switch (channel.name) {
        case "sms": return award(15 / 25, "SMS fast for important messages");
        case "whatsapp": return award(10 / 25, "WhatsApp fast for important messages");
        case "email": return award(5 / 25, "Email fine for important messages");
        default: return null;
      }
    case "low":
      return channel.name === "email" ? award(1, "Email best for low priority (cost-effective)") : null;
    default:
      return null;
  }
}

function content(message, channel) {
  if (!message.has_html && !message.has_attachments) return null;
  switch (channel.name) {
    case "email": return award(1, "Email supports rich content and attachments");
    case "whatsapp": return award(15 / 25, "WhatsApp supports rich media");
    case "sms": return penalize(20 / 25, "SMS limited for rich content");
    default: return null;
  }
}

function length(message, channel) {
  if (message.length <= LONG) return null;
  switch (channel.name) {
    case "email": return award(1, "Email better for long messages");
    case "sms": return penalize(10 / 20, "SMS expensive for long messages");
    default: return null;
  }
}

function cost(message, channel) {
  switch (channel.name) {
    case "telegram": return award(1, "Telegram free");
    case "email": return award(15 / 20, "Email very cost-effective");
    case "whatsapp": return award(10 / 20, "WhatsApp affordable");
    default: return message.priority === "low" ? penalize(10 / 20, "SMS costly for low priority") : null;
  }
}

function quietHours(message, channel) {
  if (!message.quiet) return null;
  switch (channel.name) {
    case "sms": {
      const spared = message.priority === "urgent" || message.allow_sms_in_quiet_hours;
      return spared ? null : penalize(1, "Quiet hours - SMS intrusive");
    }
    case "email": return award(10 / 30, "Email respectful during quiet hours");
    default: return null;
  }
}

function messageType(message, channel) {
  switch (message.type) {
    case "appointment":
      return channel.name === "sms" ? award(15 / 20, "SMS excellent for appointments") : null;
    case "marketing":
      switch (channel.name) {
        case "email": return award(1, "Email ideal for marketing");
        case "sms": return penalize(15 / 20, "SMS intrusive for marketing");
        default: return null;
      }
    case "notification":
      return channel.name === "sms" || channel.name === "whatsapp"
        ? award(15 / 20, "Instant channel good for notifications")
        : null;
    case "survey":
      return channel.name === "email" ? award(15 / 20, "Email good for surveys") : null;
    default:
      return null;
  }
}

const DID = { sms: "answered", email: "opened", whatsapp: "read", telegram: "answered" };
const WHAT = { sms: "SMS", email: "emails", whatsapp: "WhatsApp messages", telegram: "Telegram messages" };

// Scripts compare numbers up to their last bit, so that 23.8 / 34 is no more than 0.7.
const alike = (a, b) => Math.abs(a - b) <= Number.EPSILON * Math.max(a, b);

function history(message, channel) {
  const { known, rate, average, engaged, received } = channel.history;
  if (!known || alike(rate, average)) return null;
  const usual = `${Math.round(average * 100)}%`;
  const reason = `${DID[channel.name]} ${engaged} of ${received} ${WHAT[channel.name]} (average ${usual})`;
  return rate < average
    ? penalize((average - rate) / average, reason)
    : award((rate - average) / (1 - average), reason);
}

function availability(message, channel) {
  return channel.available ? null : veto("Contact info not available");
}

const CRITERIA = [
  { weight: 30, says: preferences },
  { weight: 25, says: urgency },
  { weight: 25, says: content },
  { weight: 20, says: length },
  { weight: 20, says: cost },
  { weight: 30, says: quietHours },
  { weight: 20, says: messageType },
  { weight: 20, says: history },
  { weight: 0, says: availability },
];

// To a millionth, and never minus zero.
const rounded = (value) => Math.round(value * 1e6) / 1e6 + 0;

function scoreChannel(message, channel) {
  let sum = 0;
  let open = true;
  const reasons = [];
  for (const { weight, says } of CRITERIA) {
    const verdict = says(message, channel);
    if (verdict === null) continue;
    if (verdict.veto) open = false;
    sum += verdict.share * weight;
    reasons.push(verdict.reason);
  }
  return { channel: channel.name, index: CHANNELS.indexOf(channel.name), cost: channel.cost, open, score: open ? rounded(sum) : 0, reasons };
}

// Channels that are open first, then by points; the cheaper of two equals.
const byRank = (a, b) => b.open - a.open || b.score - a.score || a.cost - b.cost || a.index - b.index;

export function score(message, channels) {
  const ranked = channels.map((channel) => scoreChannel(message, channel)).sort(byRank);
  const open = ranked.filter((one) => one.open);
  return { ranked, chosen: open[0] ?? null, alternatives: open.slice(1, 1 + ALTERNATIVES) };
}

const confidence = ({ score }) => Math.min(SCORING.ceiling, Math.max(0, (SCORING.base + score) / SCORING.scale));
const told = (one) => ({ channel: one.channel, reason: one.reasons.join("; "), confidence: confidence(one) });

export function decide({ context, content = {}, at }) {
  const { message, channels } = factsOf(context, content, at === undefined ? Date.now() : Date.parse(at));
  const { ranked, chosen, alternatives } = score(message, channels);
  if (chosen === null) {
    return { channel: null, reason: ranked[0].reasons.join("; "), confidence: 0, alternativeChannels: [] };
  }
  return { ...told(chosen), alternativeChannels: alternatives.map(told) };
}

// --- from a request to its facts ---------------------------------------------------------------------------------

const NO_PREFERENCES = {};
const NONE = [];
const NO_HISTORY = { known: false, rate: 0, average: 0, engaged: 0, received: 0 };

function factsOf(context, content, at) {
  const { preferences = NO_PREFERENCES } = context;
  const {
    preferredChannels = NONE, disabledChannels = NONE, allowSMSDuringQuietHours = false,
    quietHoursStart = "22:00", quietHoursEnd = "08:00",
  } = preferences;
  const message = {
    type: context.messageType ?? null,
    priority: context.priority?.level ?? "normal",
    length: characters(content.body ?? ""),
    has_html: content.html !== undefined,
    has_attachments: (content.attachments ?? NONE).length > 0,
    quiet: isQuiet(localTime(at, context.timezone ?? "Europe/Paris"), quietHoursStart, quietHoursEnd),
    allow_sms_in_quiet_hours: allowSMSDuringQuietHours,
  };
  const addresses = {
    sms: context.prospectPhone,
    email: context.prospectEmail,
    whatsapp: context.prospectWhatsApp,
    telegram: context.prospectTelegram,
  };
  const channels = CHANNELS.map((name) => ({
    name,
    preferred: preferredChannels.includes(name),
    disabled: disabledChannels.includes(name),
    available: Boolean(addresses[name]),
    cost: COST[name],
    history: NO_HISTORY,
  }));
  return { message, channels };
}

// Characters, not UTF-16 units: a pair of surrogates is one.
function characters(text) {
  let count = text.length;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit >= 0xd800 && unit < 0xdc00) count--;
  }
  return count;
}

// "HH:MM" compares as text; over midnight the night is what is not day.
function isQuiet(time, start, end) {
  return start <= end ? start <= time && time < end : time >= start || time < end;
}

// Intl is slow to make and not quick to ask, so each zone keeps its formatter, and its answer for the minute.
const zones = new Map();

function localTime(at, zone) {
  let known = zones.get(zone);
  if (known === undefined) {
    const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    known = { format, minute: NaN, time: "" };
    zones.set(zone, known);
  }
  const minute = Math.floor(at / 60_000);
  if (known.minute !== minute) {
    known.minute = minute;
    known.time = known.format.format(at);
  }
  return known.time;
}
