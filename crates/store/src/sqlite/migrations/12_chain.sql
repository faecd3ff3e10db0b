-- Chains of messages: which command goes where another reached nobody, and why.
CREATE TABLE step (command INTEGER PRIMARY KEY, after INTEGER NOT NULL, why TEXT NOT NULL);
CREATE UNIQUE INDEX step_after ON step (after);

-- By what a message went, and what it cost, in millionths of the currency's unit.
ALTER TABLE sent ADD COLUMN channel TEXT;
ALTER TABLE sent ADD COLUMN provider TEXT;
ALTER TABLE sent ADD COLUMN cost_micro INTEGER;
ALTER TABLE sent ADD COLUMN currency TEXT;

-- News of messages that were not known when they came: their entries are read again when they are.
CREATE TABLE early (
    connection BLOB, provider_id TEXT, entry INTEGER, at INTEGER NOT NULL, PRIMARY KEY (connection, provider_id, entry)
) WITHOUT ROWID;
CREATE INDEX early_at ON early (at);

-- What messages cost by month. Retention never touches this table.
CREATE TABLE spent (
    merchant BLOB, month TEXT, flow TEXT, channel TEXT, provider TEXT, currency TEXT, micro INTEGER NOT NULL,
    messages INTEGER NOT NULL, PRIMARY KEY (merchant, month, flow, channel, provider, currency)
) WITHOUT ROWID;
