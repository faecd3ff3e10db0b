-- needs 10: a program that does not know it moves no points, and does no harm.

-- Customers of a merchant's programme: all that a decision about them reads, in one row. `balance` and `promised` are what the
-- movements come to; at `due_at` time has something to do.
CREATE TABLE wallet (
    id uuid PRIMARY KEY, merchant uuid NOT NULL, version bigint NOT NULL, customer text NOT NULL, phone text,
    balance bigint NOT NULL, promised bigint NOT NULL, due_at timestamptz, doc text NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE UNIQUE INDEX wallet_customer ON wallet (customer, merchant);
CREATE UNIQUE INDEX wallet_phone ON wallet (phone, merchant) WHERE phone IS NOT NULL;
CREATE INDEX wallet_merchant ON wallet (merchant, id);
CREATE INDEX wallet_due ON wallet (due_at) WHERE due_at IS NOT NULL;

-- What quotes hold; the ids follow the time.
CREATE TABLE wallet_hold (
    id uuid PRIMARY KEY, merchant uuid NOT NULL, wallet uuid NOT NULL, order_id text NOT NULL, version bigint NOT NULL,
    state smallint NOT NULL, at timestamptz NOT NULL, doc text NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
CREATE INDEX wallet_hold_wallet ON wallet_hold (wallet);
CREATE INDEX wallet_hold_merchant ON wallet_hold (merchant, id);

-- What was committed of orders. Retention never touches this table.
CREATE TABLE order_receipt (
    id uuid PRIMARY KEY, merchant uuid NOT NULL, order_id text NOT NULL, wallet uuid NOT NULL, version bigint NOT NULL,
    at timestamptz NOT NULL, doc text NOT NULL
);
CREATE UNIQUE INDEX order_receipt_order ON order_receipt (merchant, order_id);
CREATE INDEX order_receipt_wallet ON order_receipt (wallet, at);

-- Movements of points from one book to another. A row is never changed, and retention never touches this table.
CREATE TABLE ledger (
    id uuid PRIMARY KEY, merchant uuid NOT NULL, wallet uuid NOT NULL, kind smallint NOT NULL, from_book smallint NOT NULL,
    to_book smallint NOT NULL, points bigint NOT NULL, balance bigint NOT NULL, at timestamptz NOT NULL, cause text NOT NULL,
    order_id text, outlet uuid, staff text, reason text, lots text
);
CREATE INDEX ledger_wallet ON ledger (wallet, id);
CREATE INDEX ledger_merchant ON ledger (merchant, id);
CREATE INDEX ledger_outlet ON ledger (outlet, id) WHERE outlet IS NOT NULL;

-- Answers that a repeat gets again, by hashes of what names the request.
CREATE TABLE kept_reply (key uuid PRIMARY KEY, body uuid NOT NULL, answer text NOT NULL, until timestamptz NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
CREATE INDEX kept_reply_until ON kept_reply (until);

-- Customers' tokens that were used, by their hashes.
CREATE TABLE spent_token (key uuid PRIMARY KEY, hold uuid NOT NULL, until timestamptz NOT NULL);
CREATE INDEX spent_token_until ON spent_token (until);

-- Promo codes that were used, and how often each was.
CREATE TABLE promo_use (
    merchant uuid, code text, order_id text, wallet uuid NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (merchant, code, order_id)
);
CREATE INDEX promo_use_wallet ON promo_use (merchant, code, wallet, at);
CREATE TABLE promo_total (merchant uuid, code text, uses bigint NOT NULL, PRIMARY KEY (merchant, code));
