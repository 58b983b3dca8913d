-- Links that are followed. (store/tracking; the key of the public tokens is in `meta`)

-- Where the links of a message's html led, in order, as a JSON list of addresses: kept apart from the message's
-- text, so that a link still leads somewhere once the text is forgotten.
CREATE TABLE links (
    message_id TEXT /*postgres COLLATE "C"*/ NOT NULL PRIMARY KEY,
    urls TEXT NOT NULL
) /*sqlite WITHOUT ROWID*/;
