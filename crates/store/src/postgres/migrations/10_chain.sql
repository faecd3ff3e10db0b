-- needs 10: a program that does not know chains sends a message by the next channel though the first has brought it.

-- Chains of messages: which command goes where another reached nobody, and why.
CREATE TABLE step (command uuid PRIMARY KEY, after uuid NOT NULL UNIQUE, why text NOT NULL);

-- By what a message went, and what it cost, in millionths of the currency's unit.
ALTER TABLE sent ADD COLUMN channel text, ADD COLUMN provider text, ADD COLUMN cost_micro bigint, ADD COLUMN currency text;

-- News of messages that were not known when they came: their entries are read again when they are.
CREATE TABLE early (
    connection uuid, provider_id text, entry uuid, at timestamptz NOT NULL, PRIMARY KEY (connection, provider_id, entry)
);
CREATE INDEX early_at ON early (at);

-- What messages cost by month. Retention never touches this table.
CREATE TABLE spent (
    merchant uuid, month text, flow text, channel text, provider text, currency text, micro bigint NOT NULL,
    messages bigint NOT NULL, PRIMARY KEY (merchant, month, flow, channel, provider, currency)
);
