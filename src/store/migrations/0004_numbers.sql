-- Figures, kept in the transactions of what they count; broadcasts; alerts of budgets; caps by person.

-- What a message is counted under: the tenant's local day of acceptance (empty: figures are not kept), its type,
-- template, variant, and the broadcast or campaign that it is of, with its row there.
ALTER TABLE messages ADD COLUMN day TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN template TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN variant TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN campaign TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN campaign_row BIGINT NOT NULL DEFAULT 0;
-- The channel that was chosen when it was accepted; empty: none.
ALTER TABLE messages ADD COLUMN chosen TEXT NOT NULL DEFAULT '';
-- SMS segments of its text, and what it would have cost by SMS.
ALTER TABLE messages ADD COLUMN segments BIGINT NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN always_sms BIGINT NOT NULL DEFAULT 0;
-- One bit for everything that is counted once for a message on a channel (counters.rs).
ALTER TABLE messages ADD COLUMN counted BIGINT NOT NULL DEFAULT 0;

CREATE INDEX messages_of_campaign ON messages (campaign, campaign_row) WHERE campaign <> '';

CREATE TABLE counters (
    tenant TEXT NOT NULL,
    day TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    template TEXT NOT NULL,
    campaign TEXT NOT NULL,
    variant TEXT NOT NULL,
    counter TEXT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (tenant, day, channel, kind, template, campaign, variant, counter)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE broadcasts (
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    -- The caller's Idempotency-Key and the hash of what came with it; null without a key.
    key TEXT,
    body_hash TEXT NOT NULL,
    rows BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When every row had been looked at; null while they are, and after a crash until it is asked for again.
    accepted_at BIGINT,
    cancelled_at BIGINT
) /*sqlite WITHOUT ROWID*/;

CREATE UNIQUE INDEX broadcasts_by_key ON broadcasts (tenant, key) WHERE key IS NOT NULL;

-- What the messages do not say of a broadcast's rows: why a row was refused, and which message it repeated.
CREATE TABLE broadcast_rows (
    broadcast TEXT NOT NULL,
    row BIGINT NOT NULL,
    message TEXT,
    problem TEXT,
    PRIMARY KEY (broadcast, row)
) /*sqlite WITHOUT ROWID*/;

-- A budget came to its alert threshold: told once for each period.
CREATE TABLE alerts (
    tenant TEXT NOT NULL,
    scope TEXT NOT NULL,
    period TEXT NOT NULL,
    spent BIGINT NOT NULL,
    budget BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant, scope, period)
) /*sqlite WITHOUT ROWID*/;
