-- Delivery: reconciliation, escalation, provider failover, and the gates of the intent. (delivery, store/queue,
-- store/attempts, store/evidence, store/limits, store/acts)

-- How often the provider was asked what became of the attempt whose outcome is unknown.
ALTER TABLE messages ADD COLUMN polls BIGINT NOT NULL DEFAULT 0;
-- Of its attempts, those that do not count: the provider asked for patience, or our credential was refused.
ALTER TABLE messages ADD COLUMN waived BIGINT NOT NULL DEFAULT 0;
-- Set once it is sent again elsewhere because nobody answered: where it stood before, `sent` or `delivered`.
ALTER TABLE messages ADD COLUMN escalated_from TEXT;
-- How often a person had it sent once more although it may have arrived.
ALTER TABLE messages ADD COLUMN resent_by_hand BIGINT NOT NULL DEFAULT 0;

-- The credential that the attempt was made with; empty where it is not known.
ALTER TABLE attempts ADD COLUMN credential TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN waived BIGINT NOT NULL DEFAULT 0;
