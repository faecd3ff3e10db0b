-- needs 6: a program that does not know it makes and checks no codes, and does no harm.

-- Codes by which people prove an address: only hashes, for a day. `to_hash` stands for whom it went to.
CREATE TABLE code (
    id uuid PRIMARY KEY, merchant uuid NOT NULL, to_hash uuid NOT NULL, hash bytea NOT NULL, made_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL, tries integer NOT NULL, used boolean NOT NULL
);
CREATE INDEX code_to ON code (merchant, to_hash, made_at);
CREATE INDEX code_made ON code (merchant, made_at);
