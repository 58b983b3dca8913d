-- A claim may leave out the channels whose places are all taken: what is due on the others is found at once, however much waits
-- behind a provider that hangs. (store/queue, delivery/lanes)
CREATE INDEX messages_due_by_lane ON messages (chosen, due_at) WHERE due_at IS NOT NULL;
