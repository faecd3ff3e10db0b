-- Of each event by whom and what it tells, and its place in the feed: an ordinal that the writer draws when the event is whole.
ALTER TABLE event ADD COLUMN merchant BLOB;
ALTER TABLE event ADD COLUMN connection BLOB;
ALTER TABLE event ADD COLUMN kind TEXT;
ALTER TABLE event ADD COLUMN number INTEGER;
UPDATE event SET (merchant, connection) = (SELECT j.merchant, j.connection FROM inbox j WHERE j.ordinal = event.entry),
    kind = doc ->> 'kind', number = CASE WHEN NOT pending THEN ordinal END;
CREATE INDEX event_kind ON event (connection, kind);
CREATE INDEX event_number ON event (number, merchant, kind) WHERE number IS NOT NULL;

CREATE INDEX command_connection ON command (connection);
CREATE INDEX command_dead ON command (entry) WHERE state = 3;

-- Opt-outs of people who were erased: a keyed hash of the phone is all that is left of them.
CREATE TABLE opted_out (merchant BLOB, hash BLOB, at INTEGER NOT NULL, PRIMARY KEY (merchant, hash)) WITHOUT ROWID;
