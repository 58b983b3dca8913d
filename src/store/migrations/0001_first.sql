-- The first schema. One text for SQLite and PostgreSQL: a comment that begins with the name of one of them holds
-- what is for it alone (schema.rs). Instants are milliseconds since 1970 in UTC, money is in millionths of
-- a euro, truth is 0 or 1, days are YYYY-MM-DD in the tenant's zone.

-- What changes while a message is on its way, and what it is found by: a small row, rewritten often.
CREATE TABLE messages (
    id TEXT /*postgres COLLATE "C"*/ NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    recipient TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    class TEXT NOT NULL,
    origin TEXT NOT NULL,
    accepted_at BIGINT NOT NULL,
    -- When something is to be done; null while it is leased and at an end.
    due_at BIGINT,
    deadline BIGINT,
    hop BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    hop_attempts BIGINT NOT NULL DEFAULT 0,
    resend_used BIGINT NOT NULL DEFAULT 0,
    possible_duplicate BIGINT NOT NULL DEFAULT 0,
    fence BIGINT NOT NULL DEFAULT 0,
    lease_owner TEXT,
    lease_until BIGINT,
    -- The attempt whose intent is recorded and whose outcome is not.
    open_attempt TEXT,
    crashes BIGINT NOT NULL DEFAULT 0,
    sent_via TEXT,
    ordering_key TEXT
) /*sqlite WITHOUT ROWID*/;

CREATE INDEX messages_due ON messages (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX messages_leased ON messages (lease_until) WHERE lease_until IS NOT NULL;
-- Messages that saw a crash: few, and asked for at every claim.
CREATE INDEX messages_suspect ON messages (due_at) WHERE crashes > 0;
CREATE INDEX messages_by_recipient ON messages (tenant, recipient, id);
CREATE INDEX messages_in_order ON messages (tenant, ordering_key, id) WHERE ordering_key IS NOT NULL;

-- What never changes after acceptance: written once, so that a status costs a small row.
CREATE TABLE bodies (
    message_id TEXT /*postgres COLLATE "C"*/ NOT NULL PRIMARY KEY,
    request TEXT NOT NULL,
    decision TEXT NOT NULL,
    plan TEXT
);

CREATE TABLE attempts (
    message_id TEXT /*postgres COLLATE "C"*/ NOT NULL,
    number BIGINT NOT NULL,
    id TEXT NOT NULL,
    hop BIGINT NOT NULL,
    channel TEXT NOT NULL,
    driver TEXT NOT NULL,
    sender TEXT NOT NULL,
    address TEXT NOT NULL,
    fence BIGINT NOT NULL,
    status TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    provider_message_id TEXT,
    error TEXT,
    -- What the intent put on the tenant's account on `day`, and what it is now known to cost.
    estimate BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    day TEXT NOT NULL,
    PRIMARY KEY (message_id, number)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    message_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, key)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE events (
    message_id TEXT /*postgres COLLATE "C"*/ NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    detail TEXT,
    PRIMARY KEY (message_id, seq)
) /*sqlite WITHOUT ROWID*/;

-- Who must not be written to. An empty tenant or sender stands for every one.
CREATE TABLE suppressions (
    address TEXT NOT NULL,
    channel TEXT NOT NULL,
    sender TEXT NOT NULL,
    tenant TEXT NOT NULL,
    reason TEXT NOT NULL,
    proof TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (address, channel, sender, tenant)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE spend (
    tenant TEXT NOT NULL,
    day TEXT NOT NULL,
    channel TEXT NOT NULL,
    origin TEXT NOT NULL,
    micro_euros BIGINT NOT NULL,
    PRIMARY KEY (tenant, day, channel, origin)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE api_keys (
    prefix TEXT NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL,
    tenant TEXT NOT NULL,
    scopes TEXT NOT NULL,
    label TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE policy_versions (
    tenant TEXT NOT NULL,
    version TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, version)
) /*sqlite WITHOUT ROWID*/;
