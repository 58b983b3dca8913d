-- The nine criteria of policies/criteria/ in Lua: one function a criterion, a table of weights, ranked here.
-- `decide(message, channels)` gives the places (1 to 4 in `channels`, 0: none) of the chosen channel and of two
-- alternatives, and the ranked list with scores and reasons.

local function preferences(message, channel)
  if channel.disabled then return nil, "Channel disabled by the recipient" end
  if channel.preferred then return 1.0, "Preferred channel" end
end

local function urgency(message, channel)
  local priority, name = message.priority, channel.name
  if priority == "urgent" then
    if name == "sms" then return 1.0, "SMS best for urgent messages (98% open rate)"
    elseif name == "whatsapp" then return 20 / 25, "WhatsApp good for urgent messages"
    elseif name == "email" then return 5 / 25, "Email slower for urgent messages" end
  elseif priority == "high" then
    if name == "sms" then return 15 / 25, "SMS fast for important messages"
    elseif name == "whatsapp" then return 10 / 25, "WhatsApp fast for important messages"
    elseif name == "email" then return 5 / 25, "Email fine for important messages" end
  elseif priority == "low" then
    if name == "email" then return 1.0, "Email best for low priority (cost-effective)" end
  end
end

local function content(message, channel)
  if not message.has_html and not message.has_attachments then return end
  local name = channel.name
  if name == "email" then return 1.0, "Email supports rich content and attachments"
  elseif name == "whatsapp" then return 15 / 25, "WhatsApp supports rich media"
  elseif name == "sms" then return -20 / 25, "SMS limited for rich content" end
end

local function length(message, channel)
  if message.length <= 160 then return end
  local name = channel.name
  if name == "email" then return 1.0, "Email better for long messages"
  elseif name == "sms" then return -10 / 20, "SMS expensive for long messages" end
end

local function cost(message, channel)
  local name = channel.name
  if name == "telegram" then return 1.0, "Telegram free"
  elseif name == "email" then return 15 / 20, "Email very cost-effective"
  elseif name == "whatsapp" then return 10 / 20, "WhatsApp affordable"
  elseif message.priority == "low" then return -10 / 20, "SMS costly for low priority" end
end

local function quiet_hours(message, channel)
  if not message.quiet then return end
  local name = channel.name
  if name == "sms" then
    if message.priority ~= "urgent" and not message.allow_sms_in_quiet_hours then
      return -1.0, "Quiet hours - SMS intrusive"
    end
  elseif name == "email" then
    return 10 / 30, "Email respectful during quiet hours"
  end
end

local function message_type(message, channel)
  local kind, name = message.type, channel.name
  if kind == "appointment" then
    if name == "sms" then return 15 / 20, "SMS excellent for appointments" end
  elseif kind == "marketing" then
    if name == "email" then return 1.0, "Email ideal for marketing"
    elseif name == "sms" then return -15 / 20, "SMS intrusive for marketing" end
  elseif kind == "notification" then
    if name == "sms" or name == "whatsapp" then return 15 / 20, "Instant channel good for notifications" end
  elseif kind == "survey" then
    if name == "email" then return 15 / 20, "Email good for surveys" end
  end
end

local DID = { sms = "answered", email = "opened", whatsapp = "read", telegram = "answered" }
local WHAT = { sms = "SMS", email = "emails", whatsapp = "WhatsApp messages", telegram = "Telegram messages" }

local abs, max, floor = math.abs, math.max, math.floor

-- Scripts compare numbers up to their last bit, so that 23.8 / 34 is no more than 0.7.
local EPSILON = 2 ^ -52
local function alike(a, b) return abs(a - b) <= EPSILON * max(a, b) end

local function history(message, channel)
  if not channel.known then return end
  local rate, average, name = channel.rate, channel.average, channel.name
  if alike(rate, average) then return end
  local usual = floor(average * 100 + 0.5) .. "%"
  local reason = DID[name] .. " " .. channel.engaged .. " of " .. channel.received .. " " .. WHAT[name]
    .. " (average " .. usual .. ")"
  if rate < average then return -((average - rate) / average), reason end
  return (rate - average) / (1.0 - average), reason
end

local function availability(message, channel)
  if not channel.available then return nil, "Contact info not available" end
end

local CRITERIA = {
  preferences, urgency, content, length, cost, quiet_hours, message_type, history, availability,
}
local WEIGHTS = { 30, 25, 25, 20, 20, 30, 20, 20, 0 }

-- To a millionth, halves away from zero.
local function rounded(value)
  if value < 0 then return -floor(-value * 1e6 + 0.5) / 1e6 + 0 end
  return floor(value * 1e6 + 0.5) / 1e6
end

local function score(message, channel, place)
  local sum, open, reasons, count = 0.0, true, {}, 0
  for at = 1, #CRITERIA do
    local share, reason = CRITERIA[at](message, channel)
    if reason then
      count = count + 1
      reasons[count] = reason
      if share then sum = sum + share * WEIGHTS[at] else open = false end
    end
  end
  return {
    place = place, open = open, score = open and rounded(sum) or 0, cost = channel.cost, reasons = reasons,
  }
end

-- Channels that are open first, then by points; the cheaper of two equals.
local function before(a, b)
  if a.open ~= b.open then return a.open end
  if a.score ~= b.score then return a.score > b.score end
  if a.cost ~= b.cost then return a.cost < b.cost end
  return a.place < b.place
end

-- Four of them: an insertion sort is quicker than table.sort, which the compiler does not compile.
local function sort(list)
  for at = 2, #list do
    local one, to = list[at], at
    while to > 1 and before(one, list[to - 1]) do
      list[to] = list[to - 1]
      to = to - 1
    end
    list[to] = one
  end
end

return function(message, channels)
  local ranked = {}
  for place = 1, #channels do ranked[place] = score(message, channels[place], place) end
  sort(ranked)
  local function open(at) return ranked[at].open and ranked[at].place or 0 end
  return open(1), open(2), open(3), ranked
end
