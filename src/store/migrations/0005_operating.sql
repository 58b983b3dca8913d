-- Operating: what was forgotten and how far, what an operator paused and did. (store/life, store/pauses)

-- When its words and addresses were forgotten; null while they are there.
ALTER TABLE messages ADD COLUMN forgotten_at BIGINT;

-- How far each tenant's messages have been looked at: everything older is forgotten, or gone.
CREATE TABLE retention (
    tenant TEXT NOT NULL PRIMARY KEY,
    words_up_to TEXT NOT NULL DEFAULT '',
    messages_up_to TEXT NOT NULL DEFAULT ''
) /*sqlite WITHOUT ROWID*/;

-- People who asked to be forgotten while a message to them was on its way: looked at again until none is.
CREATE TABLE erasures (
    tenant TEXT NOT NULL,
    recipient TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, recipient)
) /*sqlite WITHOUT ROWID*/;

-- Whom messages were from, and who wrote lately without an opt-in on record: forgotten by age.
CREATE INDEX inbound_by_age ON inbound (tenant, at) WHERE address <> '';
CREATE INDEX contacts_by_age ON contacts (tenant, last_inbound_at) WHERE opted_in_at IS NULL;

-- Tenants and drivers that an operator paused: `kind` is `tenant` or `driver`.
CREATE TABLE pauses (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    since BIGINT NOT NULL,
    who TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) /*sqlite WITHOUT ROWID*/;

-- What operators did, who and why. Only ever added to.
CREATE TABLE acts (
    id TEXT /*postgres COLLATE "C"*/ NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    act TEXT NOT NULL,
    target TEXT NOT NULL,
    -- Empty: a driver, which is no tenant's alone.
    tenant TEXT NOT NULL,
    who TEXT NOT NULL,
    reason TEXT NOT NULL
) /*sqlite WITHOUT ROWID*/;
