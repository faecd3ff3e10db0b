-- Codes by which people prove an address: only hashes, for a day. `to_hash` stands for whom it went to.
CREATE TABLE code (
    id BLOB PRIMARY KEY, merchant BLOB NOT NULL, to_hash BLOB NOT NULL, hash BLOB NOT NULL, made_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL, tries INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX code_to ON code (merchant, to_hash, made_at);
CREATE INDEX code_made ON code (merchant, made_at);
