-- Customers of a merchant's programme: all that a decision about them reads, in one row. `balance` and `promised` are what the
-- movements come to; at `due_at` time has something to do.
CREATE TABLE wallet (
    id BLOB PRIMARY KEY, merchant BLOB NOT NULL, version INTEGER NOT NULL, customer TEXT NOT NULL, phone TEXT,
    balance INTEGER NOT NULL, promised INTEGER NOT NULL, due_at INTEGER, doc TEXT NOT NULL
);
CREATE UNIQUE INDEX wallet_customer ON wallet (customer, merchant);
CREATE UNIQUE INDEX wallet_phone ON wallet (phone, merchant) WHERE phone IS NOT NULL;
CREATE INDEX wallet_merchant ON wallet (merchant, id);
CREATE INDEX wallet_due ON wallet (due_at) WHERE due_at IS NOT NULL;

-- What quotes hold; the ids follow the time.
CREATE TABLE wallet_hold (
    id BLOB PRIMARY KEY, merchant BLOB NOT NULL, wallet BLOB NOT NULL, order_id TEXT NOT NULL, version INTEGER NOT NULL,
    state INTEGER NOT NULL, at INTEGER NOT NULL, doc TEXT NOT NULL
);
CREATE INDEX wallet_hold_wallet ON wallet_hold (wallet);

-- What was committed of orders. Retention never touches this table.
CREATE TABLE order_receipt (
    id BLOB PRIMARY KEY, merchant BLOB NOT NULL, order_id TEXT NOT NULL, wallet BLOB NOT NULL, version INTEGER NOT NULL,
    at INTEGER NOT NULL, doc TEXT NOT NULL
);
CREATE UNIQUE INDEX order_receipt_order ON order_receipt (merchant, order_id);
CREATE INDEX order_receipt_wallet ON order_receipt (wallet, at);

-- Movements of points from one book to another. A row is never changed, and retention never touches this table. An index ends
-- with the id.
CREATE TABLE ledger (
    id BLOB PRIMARY KEY, merchant BLOB NOT NULL, wallet BLOB NOT NULL, kind INTEGER NOT NULL, from_book INTEGER NOT NULL,
    to_book INTEGER NOT NULL, points INTEGER NOT NULL, balance INTEGER NOT NULL, at INTEGER NOT NULL, cause TEXT NOT NULL,
    order_id TEXT, outlet BLOB, staff TEXT, reason TEXT, lots TEXT
) WITHOUT ROWID;
CREATE INDEX ledger_wallet ON ledger (wallet);
CREATE INDEX ledger_merchant ON ledger (merchant);
CREATE INDEX ledger_outlet ON ledger (outlet) WHERE outlet IS NOT NULL;

-- Answers that a repeat gets again, by hashes of what names the request.
CREATE TABLE kept_reply (key BLOB PRIMARY KEY, body BLOB NOT NULL, answer TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX kept_reply_until ON kept_reply (until);

-- Customers' tokens that were used, by their hashes.
CREATE TABLE spent_token (key BLOB PRIMARY KEY, hold BLOB NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX spent_token_until ON spent_token (until);

-- Promo codes that were used, and how often each was.
CREATE TABLE promo_use (
    merchant BLOB, code TEXT, order_id TEXT, wallet BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (merchant, code, order_id)
) WITHOUT ROWID;
CREATE INDEX promo_use_wallet ON promo_use (merchant, code, wallet, at);
CREATE TABLE promo_total (merchant BLOB, code TEXT, uses INTEGER NOT NULL, PRIMARY KEY (merchant, code)) WITHOUT ROWID;
