-- What comes back: receipts, engagement, refusals. (store/receipts, store/engagement, store/contacts, store/suppressions)

-- What the receipts of an attempt come to: `accepted`, `sent`, `delivered`, `read` or `undelivered`; null without any.
ALTER TABLE attempts ADD COLUMN receipt TEXT;
-- Its receipts contradict each other: it was told to be delivered, and told not to be.
ALTER TABLE attempts ADD COLUMN receipt_conflict BIGINT NOT NULL DEFAULT 0;
-- A receipt finds its attempt by our token or by the provider's name for it.
CREATE UNIQUE INDEX attempts_by_id ON attempts (id);
CREATE INDEX attempts_by_reference ON attempts (provider_message_id) WHERE provider_message_id IS NOT NULL;
-- These providers name each message once (F39). A mail relay's queue ids come again, Telegram counts in each chat.
CREATE UNIQUE INDEX attempts_reference_once ON attempts (credential, provider_message_id)
    WHERE provider_message_id IS NOT NULL AND channel IN ('sms', 'whatsapp') AND credential <> '';
-- Whom a refusal is about: every sender that wrote to an address through a driver.
CREATE INDEX attempts_by_address ON attempts (address, channel);

-- A person opened it, followed a link of it or answered it.
ALTER TABLE messages ADD COLUMN engaged BIGINT NOT NULL DEFAULT 0;
-- A receipt moved it up from an end: `failed` or `unresolved`, and yet it arrived.
ALTER TABLE messages ADD COLUMN corrected BIGINT NOT NULL DEFAULT 0;

-- The receipts of each attempt, a set: the same told twice is one row. A time that was not told is 0.
CREATE TABLE receipts (
    message_id TEXT /*postgres COLLATE "C"*/ NOT NULL,
    attempt TEXT NOT NULL,
    kind TEXT NOT NULL,
    provider_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    credential TEXT NOT NULL,
    reference TEXT,
    error TEXT,
    cost BIGINT,
    PRIMARY KEY (message_id, attempt, kind, provider_at)
) /*sqlite WITHOUT ROWID*/;

-- Receipts that came before their attempt had a name, or for none of ours: kept seven days and matched again.
CREATE TABLE orphan_receipts (
    reference TEXT NOT NULL,
    credential TEXT NOT NULL,
    kind TEXT NOT NULL,
    provider_at BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    -- The attempt that the receipt itself names by our token; empty without.
    attempt TEXT NOT NULL,
    -- The drivers that use the credential, by name, with a space between.
    drivers TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    error TEXT,
    cost BIGINT,
    -- An attempt of ours is known to be meant: looked at again until it is applied.
    ready BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (reference, credential, kind, provider_at, tenant, attempt)
) /*sqlite WITHOUT ROWID*/;

CREATE INDEX orphan_receipts_by_age ON orphan_receipts (received_at);
CREATE INDEX orphan_receipts_ready ON orphan_receipts (received_at) WHERE ready = 1;

-- What was done with a message. Without an id of its own (`dedup`) the same again only raises `times`; `link` is -1
-- where it is about no link.
CREATE TABLE engagement (
    message_id TEXT /*postgres COLLATE "C"*/ NOT NULL,
    name TEXT NOT NULL,
    machine BIGINT NOT NULL,
    link BIGINT NOT NULL,
    dedup TEXT NOT NULL,
    tenant TEXT NOT NULL,
    recipient TEXT NOT NULL,
    channel TEXT,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL DEFAULT 1,
    PRIMARY KEY (message_id, name, machine, link, dedup)
) /*sqlite WITHOUT ROWID*/;

-- How a tenant's recipients answer on a channel, by month of the tenant's sending (YYYY-MM, UTC): messages handed off,
-- and those of them that a person engaged with. It is the average that one person's history is held against.
CREATE TABLE engagement_rates (
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    month TEXT NOT NULL,
    received BIGINT NOT NULL,
    engaged BIGINT NOT NULL,
    PRIMARY KEY (tenant, channel, month)
) /*sqlite WITHOUT ROWID*/;

-- Messages that people wrote to us, once each, without their text: a replay of years ago is known for one.
CREATE TABLE inbound (
    credential TEXT NOT NULL,
    reference TEXT NOT NULL,
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    sender TEXT NOT NULL,
    address TEXT NOT NULL,
    meaning TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (credential, reference)
) /*sqlite WITHOUT ROWID*/;

CREATE INDEX inbound_by_address ON inbound (address, channel);

-- When a person last wrote to one of our senders (WhatsApp's window for free text), and whether the tenant has an
-- opt-in of them on record. An empty sender stands for every one.
CREATE TABLE contacts (
    address TEXT NOT NULL,
    channel TEXT NOT NULL,
    sender TEXT NOT NULL,
    tenant TEXT NOT NULL,
    last_inbound_at BIGINT,
    opted_in_at BIGINT,
    opted_in_source TEXT,
    PRIMARY KEY (address, channel, sender, tenant)
) /*sqlite WITHOUT ROWID*/;

-- Which tenant's and which driver's callback told of a refusal, where one did; `review` asks a person to look at its
-- wording. After an erasure the address is `#` and a keyed hash.
ALTER TABLE suppressions ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE suppressions ADD COLUMN noted_by TEXT NOT NULL DEFAULT '';
ALTER TABLE suppressions ADD COLUMN noted_driver TEXT NOT NULL DEFAULT '';
ALTER TABLE suppressions ADD COLUMN review BIGINT NOT NULL DEFAULT 0;
CREATE INDEX suppressions_by_tenant ON suppressions (tenant, address, channel, sender);
CREATE INDEX suppressions_by_noter ON suppressions (noted_by, address, channel, sender);

-- The proof of every refusal and of every return: what was said, when, where, through what. Only ever added to.
CREATE TABLE consent_log (
    address TEXT NOT NULL,
    channel TEXT NOT NULL,
    sender TEXT NOT NULL,
    tenant TEXT NOT NULL,
    -- When it was said, by the provider's clock where it told; and when we heard of it.
    at BIGINT NOT NULL,
    noted_at BIGINT NOT NULL,
    act TEXT NOT NULL,
    source TEXT NOT NULL,
    noted_by TEXT NOT NULL,
    proof TEXT,
    reference TEXT,
    PRIMARY KEY (address, channel, sender, tenant, at, act)
) /*sqlite WITHOUT ROWID*/;
