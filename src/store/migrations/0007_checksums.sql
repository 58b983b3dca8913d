-- Sums of rows, so that damage on the disk is noticed before it is believed (reliability.md F14). (store/checksums)

-- Of a message and of an attempt the database itself computes them with every write: whatever changes their status,
-- their times or their counts behind its back no longer adds up. SQLite cannot add such a column to a table, so that
-- the table is made anew.
/*postgres
ALTER TABLE messages ADD COLUMN checksum BIGINT GENERATED ALWAYS AS (
    CASE status WHEN 'queued' THEN 1 WHEN 'held' THEN 2 WHEN 'retrying' THEN 3 WHEN 'sending' THEN 4
        WHEN 'sent' THEN 5 WHEN 'delivered' THEN 6 WHEN 'unknown' THEN 7 WHEN 'failed' THEN 8 WHEN 'expired' THEN 9
        WHEN 'skipped' THEN 10 WHEN 'cancelled' THEN 11 WHEN 'unresolved' THEN 12 WHEN 'quarantined' THEN 13
        ELSE 0 END * 1000003
    + CASE sent_via WHEN 'sms' THEN 1 WHEN 'email' THEN 2 WHEN 'whatsapp' THEN 3 WHEN 'telegram' THEN 4
        ELSE 0 END * 100003
    + CASE escalated_from WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 ELSE 0 END * 10007
    + CASE class WHEN 'marketing' THEN 1 ELSE 0 END * 20011
    + CASE WHEN open_attempt IS NULL THEN 0 ELSE 30011 END
    + accepted_at * 3 + COALESCE(due_at, -1) * 5 + COALESCE(deadline, -1) * 7
    + COALESCE(lease_until, -1) * 11 + hop * 13 + attempts * 17 + hop_attempts * 19 + waived * 23
    + resend_used * 29 + resent_by_hand * 31 + possible_duplicate * 37 + fence * 41 + crashes * 43
    + polls * 47 + engaged * 53 + corrected * 59
) STORED;
ALTER TABLE attempts ADD COLUMN checksum BIGINT GENERATED ALWAYS AS (
    CASE status WHEN 'intent' THEN 1 WHEN 'accepted' THEN 2 WHEN 'refused_permanent' THEN 3
        WHEN 'refused_temporary' THEN 4 WHEN 'not_sent' THEN 5 WHEN 'unknown' THEN 6 ELSE 0 END * 1000003
    + CASE channel WHEN 'sms' THEN 1 WHEN 'email' THEN 2 WHEN 'whatsapp' THEN 3 WHEN 'telegram' THEN 4
        ELSE 0 END * 100003
    + CASE receipt WHEN 'accepted' THEN 1 WHEN 'sent' THEN 2 WHEN 'delivered' THEN 3 WHEN 'read' THEN 4
        WHEN 'undelivered' THEN 5 ELSE 0 END * 10007
    + COALESCE(LENGTH(provider_message_id), -1) * 20011
    + started_at * 3 + COALESCE(finished_at, -1) * 5 + number * 7 + hop * 11 + fence * 13 + estimate * 17
    + cost * 19 + waived * 23 + receipt_conflict * 29
) STORED;
*/
/*sqlite
ALTER TABLE messages RENAME TO messages_before;
ALTER TABLE attempts RENAME TO attempts_before;
CREATE TABLE messages (
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    recipient TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    class TEXT NOT NULL,
    origin TEXT NOT NULL,
    accepted_at BIGINT NOT NULL,
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
    open_attempt TEXT,
    crashes BIGINT NOT NULL DEFAULT 0,
    sent_via TEXT,
    ordering_key TEXT,
    polls BIGINT NOT NULL DEFAULT 0,
    waived BIGINT NOT NULL DEFAULT 0,
    escalated_from TEXT,
    resent_by_hand BIGINT NOT NULL DEFAULT 0,
    engaged BIGINT NOT NULL DEFAULT 0,
    corrected BIGINT NOT NULL DEFAULT 0,
    day TEXT NOT NULL DEFAULT '',
    kind TEXT NOT NULL DEFAULT '',
    template TEXT NOT NULL DEFAULT '',
    variant TEXT NOT NULL DEFAULT '',
    campaign TEXT NOT NULL DEFAULT '',
    campaign_row BIGINT NOT NULL DEFAULT 0,
    chosen TEXT NOT NULL DEFAULT '',
    segments BIGINT NOT NULL DEFAULT 0,
    always_sms BIGINT NOT NULL DEFAULT 0,
    counted BIGINT NOT NULL DEFAULT 0,
    forgotten_at BIGINT,
    checksum BIGINT GENERATED ALWAYS AS (
    CASE status WHEN 'queued' THEN 1 WHEN 'held' THEN 2 WHEN 'retrying' THEN 3 WHEN 'sending' THEN 4
        WHEN 'sent' THEN 5 WHEN 'delivered' THEN 6 WHEN 'unknown' THEN 7 WHEN 'failed' THEN 8 WHEN 'expired' THEN 9
        WHEN 'skipped' THEN 10 WHEN 'cancelled' THEN 11 WHEN 'unresolved' THEN 12 WHEN 'quarantined' THEN 13
        ELSE 0 END * 1000003
    + CASE sent_via WHEN 'sms' THEN 1 WHEN 'email' THEN 2 WHEN 'whatsapp' THEN 3 WHEN 'telegram' THEN 4
        ELSE 0 END * 100003
    + CASE escalated_from WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 ELSE 0 END * 10007
    + CASE class WHEN 'marketing' THEN 1 ELSE 0 END * 20011
    + CASE WHEN open_attempt IS NULL THEN 0 ELSE 30011 END
    + accepted_at * 3 + COALESCE(due_at, -1) * 5 + COALESCE(deadline, -1) * 7
    + COALESCE(lease_until, -1) * 11 + hop * 13 + attempts * 17 + hop_attempts * 19 + waived * 23
    + resend_used * 29 + resent_by_hand * 31 + possible_duplicate * 37 + fence * 41 + crashes * 43
    + polls * 47 + engaged * 53 + corrected * 59
    ) STORED
) WITHOUT ROWID;
CREATE TABLE attempts (
    message_id TEXT NOT NULL,
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
    estimate BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    day TEXT NOT NULL,
    credential TEXT NOT NULL DEFAULT '',
    waived BIGINT NOT NULL DEFAULT 0,
    receipt TEXT,
    receipt_conflict BIGINT NOT NULL DEFAULT 0,
    checksum BIGINT GENERATED ALWAYS AS (
    CASE status WHEN 'intent' THEN 1 WHEN 'accepted' THEN 2 WHEN 'refused_permanent' THEN 3
        WHEN 'refused_temporary' THEN 4 WHEN 'not_sent' THEN 5 WHEN 'unknown' THEN 6 ELSE 0 END * 1000003
    + CASE channel WHEN 'sms' THEN 1 WHEN 'email' THEN 2 WHEN 'whatsapp' THEN 3 WHEN 'telegram' THEN 4
        ELSE 0 END * 100003
    + CASE receipt WHEN 'accepted' THEN 1 WHEN 'sent' THEN 2 WHEN 'delivered' THEN 3 WHEN 'read' THEN 4
        WHEN 'undelivered' THEN 5 ELSE 0 END * 10007
    + COALESCE(LENGTH(provider_message_id), -1) * 20011
    + started_at * 3 + COALESCE(finished_at, -1) * 5 + number * 7 + hop * 11 + fence * 13 + estimate * 17
    + cost * 19 + waived * 23 + receipt_conflict * 29
    ) STORED,
    PRIMARY KEY (message_id, number)
) WITHOUT ROWID;
INSERT INTO messages (
    id, tenant, recipient, status, status_reason, class, origin, accepted_at, due_at, deadline, hop, attempts,
    hop_attempts, resend_used, possible_duplicate, fence, lease_owner, lease_until, open_attempt, crashes,
    sent_via, ordering_key, polls, waived, escalated_from, resent_by_hand, engaged, corrected, day, kind,
    template, variant, campaign, campaign_row, chosen, segments, always_sms, counted, forgotten_at
) SELECT
    id, tenant, recipient, status, status_reason, class, origin, accepted_at, due_at, deadline, hop, attempts,
    hop_attempts, resend_used, possible_duplicate, fence, lease_owner, lease_until, open_attempt, crashes,
    sent_via, ordering_key, polls, waived, escalated_from, resent_by_hand, engaged, corrected, day, kind,
    template, variant, campaign, campaign_row, chosen, segments, always_sms, counted, forgotten_at
FROM messages_before;
INSERT INTO attempts (
    message_id, number, id, hop, channel, driver, sender, address, fence, status, started_at, finished_at,
    provider_message_id, error, estimate, cost, day, credential, waived, receipt, receipt_conflict
) SELECT
    message_id, number, id, hop, channel, driver, sender, address, fence, status, started_at, finished_at,
    provider_message_id, error, estimate, cost, day, credential, waived, receipt, receipt_conflict
FROM attempts_before;
DROP TABLE messages_before;
DROP TABLE attempts_before;
CREATE INDEX messages_due ON messages (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX messages_leased ON messages (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX messages_suspect ON messages (due_at) WHERE crashes > 0;
CREATE INDEX messages_by_recipient ON messages (tenant, recipient, id);
CREATE INDEX messages_in_order ON messages (tenant, ordering_key, id) WHERE ordering_key IS NOT NULL;
CREATE INDEX messages_of_campaign ON messages (campaign, campaign_row) WHERE campaign <> '';
CREATE UNIQUE INDEX attempts_by_id ON attempts (id);
CREATE INDEX attempts_by_reference ON attempts (provider_message_id) WHERE provider_message_id IS NOT NULL;
CREATE UNIQUE INDEX attempts_reference_once ON attempts (credential, provider_message_id)
    WHERE provider_message_id IS NOT NULL AND channel IN ('sms', 'whatsapp') AND credential <> '';
CREATE INDEX attempts_by_address ON attempts (address, channel);
*/

-- Of a body its writer computes them: of what is sent, and of the decision. 0: written before there were any.
ALTER TABLE bodies ADD COLUMN checksum BIGINT NOT NULL DEFAULT 0;
ALTER TABLE bodies ADD COLUMN decision_checksum BIGINT NOT NULL DEFAULT 0;
