//! The tables that are copied, and how each store keeps them. Whoever adds a table or a column to a store puts it here: a test
//! compares these lists with both schemas.

/// What an id belongs to, where SQLite keeps ordinals of such ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    Entry,
    Event,
    Command,
    Exchange,
    Audit,
}

/// What a column holds, and so its type in each store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The row's own id. SQLite: an ordinal, mostly with the id beside it.
    Own(Thing),
    /// Another row's id. SQLite: its ordinal.
    Of(Thing),
    /// Another row's id, which SQLite keeps whole.
    Whole(Thing),
    /// Sixteen bytes: another id, or a hash.
    Id,
    /// An event's document: it names the event's id and its entry's.
    Event,
    /// A place in the feed of events: each store counts in its own way, so it is carried over and not compared.
    Place,
    Text,
    Bytes,
    /// SQLite: milliseconds since 1970. PostgreSQL: `timestamptz`.
    Time,
    Flag,
    /// PostgreSQL: `smallint`.
    Small,
    /// PostgreSQL: `integer`.
    Int,
    /// PostgreSQL: `bigint`.
    Big,
}

/// A column, by the name that it has in both stores.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) holds: Holds,
    /// How it is read where it is no column of the table `t`.
    pub(crate) sqlite: Option<&'static str>,
    pub(crate) postgres: Option<&'static str>,
}

const fn column(name: &'static str, holds: Holds) -> Column {
    Column { name, holds, sqlite: None, postgres: None }
}

/// How one store keeps a table that it does not keep as it is described.
pub(crate) struct Way {
    /// Where it is read from, with conditions; the table is `t`.
    pub(crate) from: Option<&'static str>,
    /// The order in which it is read.
    pub(crate) order: Option<&'static str>,
    /// How it is written. SQLite: a statement with the columns as parameters; PostgreSQL: what follows `WITH r AS (…)`, which has
    /// the rows with all columns, and `nth`.
    pub(crate) write: Option<&'static str>,
    /// Columns of this store that the copy makes anew.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test that compares the lists with the schema"))]
    pub(crate) made: &'static [&'static str],
}

const PLAIN: Way = Way { from: None, order: None, write: None, made: &[] };

/// What is copied as one.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) sqlite: Way,
    pub(crate) postgres: Way,
}

const fn plain(name: &'static str, columns: &'static [Column]) -> Table {
    Table { name, columns, sqlite: PLAIN, postgres: PLAIN }
}

/// In the order in which they are copied: ids may get another ordinal on the way, so what they belong to comes before what
/// names them.
pub(crate) const TABLES: &[Table] = {
    use Holds::{Big, Bytes, Event, Flag, Id, Int, Of, Own, Place, Small, Text, Time, Whole};
    const BY_ID: Way = Way { order: Some("t.id"), ..PLAIN };
    const BY_ORDINAL: Way = Way { order: Some("t.ordinal"), made: &["ordinal"], ..PLAIN };
    &[
        plain(
            "setup",
            &[
                column("id", Id),
                column("kind", Text),
                column("merchant", Id),
                column("slug", Text),
                column("doc", Text),
                column("sealed", Bytes),
                column("version", Big),
            ],
        ),
        plain(
            "setup_version",
            &[
                column("id", Id),
                column("version", Big),
                column("at", Time),
                column("who", Text),
                column("slug", Text),
                column("doc", Text),
            ],
        ),
        plain("removed", &[column("id", Id), column("at", Time)]),
        plain(
            "access_key",
            &[
                column("hash", Bytes),
                column("id", Text),
                column("owner", Id),
                column("about", Text),
                column("webhook", Flag),
                column("label", Text),
                column("made_at", Time),
                column("expires_at", Time),
                column("last_used_at", Time),
            ],
        ),
        Table {
            sqlite: BY_ORDINAL,
            postgres: BY_ID,
            ..plain(
                "audit",
                &[
                    column("id", Own(Thing::Audit)),
                    column("at", Time),
                    column("merchant", Id),
                    column("who", Text),
                    column("action", Text),
                    column("object", Text),
                    column("detail", Text),
                ],
            )
        },
        plain(
            "answer",
            &[
                column("key", Id),
                column("body", Id),
                column("held_until", Time),
                column("until", Time),
                column("status", Int),
                column("answer", Bytes),
            ],
        ),
        plain("opted_out", &[column("merchant", Id), column("hash", Bytes), column("at", Time)]),
        // The mark of the copy itself is no part of it.
        Table {
            sqlite: Way { from: Some("claim t WHERE t.name <> 'copy'"), ..PLAIN },
            postgres: Way { from: Some("claim t WHERE t.name <> 'copy'"), ..PLAIN },
            ..plain("claim", &[column("name", Text), column("value", Bytes)])
        },
        plain(
            "envelope",
            &[column("id", Id), column("purpose", Text), column("merchant", Id), column("wrapped", Bytes)],
        ),
        plain("flag", &[column("name", Text)]),
        plain("session", &[column("connection", Id), column("sealed", Bytes)]),
        plain("cursor", &[column("connection", Id), column("value", Text)]),
        plain(
            "contact",
            &[
                column("merchant", Id),
                column("phone", Text),
                column("opted_out", Flag),
                column("consented", Flag),
                column("proof", Text),
                column("at", Time),
                column("refused", Small),
                column("agreed", Small),
            ],
        ),
        plain(
            "consent",
            &[column("key", Id), column("merchant", Id), column("address", Text), column("at", Time), column("doc", Text)],
        ),
        plain(
            "short_link",
            &[
                column("code", Id),
                column("merchant", Id),
                column("address", Text),
                column("expires_at", Time),
                column("doc", Text),
            ],
        ),
        plain(
            "review",
            &[
                column("id", Id),
                column("merchant", Id),
                column("outlet", Id),
                column("source", Id),
                column("stars", Small),
                column("answered", Flag),
                column("address", Text),
                column("left_at", Time),
                column("doc", Text),
            ],
        ),
        plain(
            "review_count",
            &[
                column("merchant", Id),
                column("outlet", Id),
                column("source", Id),
                column("channel", Text),
                column("day", Int),
                column("what", Text),
                column("count", Big),
            ],
        ),
        plain(
            "heard",
            &[column("merchant", Id), column("who", Text), column("connection", Id), column("at", Time)],
        ),
        plain(
            "notice",
            &[
                column("merchant", Id),
                column("connection", Id),
                column("kind", Text),
                column("day", Int),
                column("text", Text),
                column("told_at", Time),
            ],
        ),
        Table {
            sqlite: Way {
                order: Some("t.place, t.ordinal"),
                write: Some("INSERT INTO refusal SELECT ?1, ifnull(max(ordinal), 0) + 1, ?2 FROM refusal WHERE place = ?1"),
                made: &["ordinal"],
                ..PLAIN
            },
            postgres: Way { order: Some("t.place, t.number"), made: &["number"], ..PLAIN },
            ..plain("refusal", &[column("place", Text), column("doc", Text)])
        },
        plain("breaker", &[column("connection", Id), column("since", Time), column("reason", Text)]),
        plain(
            "rhythm",
            &[
                column("connection", Id),
                column("first_at", Time),
                column("last_at", Time),
                column("count", Big),
                column("gap_ms", Big),
                column("longest_ms", Big),
            ],
        ),
        Table {
            sqlite: BY_ORDINAL,
            // Entries keep the order in which they came: of one place, that of their ids.
            postgres: Way { made: &["arrival"], ..BY_ID },
            ..plain(
                "inbox",
                &[
                    column("id", Own(Thing::Entry)),
                    column("received_at", Time),
                    column("merchant", Id),
                    column("connection", Id),
                    column("provider", Text),
                    column("source", Small),
                    column("method", Text),
                    column("path", Text),
                    column("query", Text),
                    column("headers", Text),
                    column("body", Bytes),
                    column("answer", Text),
                    column("peer", Text),
                    column("proof", Text),
                    column("trace", Text),
                ],
            )
        },
        Table {
            postgres: Way {
                write: Some("INSERT INTO unread (entry, until) SELECT entry, '-infinity' FROM r"),
                made: &["until"],
                ..PLAIN
            },
            ..plain("unread", &[column("entry", Of(Thing::Entry))])
        },
        plain("outcome", &[column("entry", Of(Thing::Entry)), column("state", Small), column("notes", Text)]),
        plain("seen", &[column("key", Id)]),
        Table {
            // One transaction of a server gives all its events one place, and here each must have its own.
            sqlite: Way {
                write: Some(
                    "INSERT INTO event (ordinal, entry, pending, doc, merchant, connection, kind, number)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?8 IS NULL, NULL, ?1))",
                ),
                made: &["ordinal", "number"],
                ..BY_ORDINAL
            },
            // A cursor of the feed that was given by SQLite goes on: what comes next gets a place behind all that were carried over.
            postgres: BY_ID,
            ..plain(
                "event",
                &[
                    column("id", Own(Thing::Event)),
                    column("entry", Of(Thing::Entry)),
                    column("pending", Flag),
                    column("doc", Event),
                    column("merchant", Id),
                    column("connection", Id),
                    column("kind", Text),
                    Column { sqlite: Some("t.number"), ..column("place", Place) },
                ],
            )
        },
        Table {
            sqlite: BY_ORDINAL,
            postgres: Way {
                from: Some("command t LEFT JOIN waiting w ON w.command = t.id"),
                write: Some(
                    ", kept AS (
                         INSERT INTO command (id, merchant, connection, source, flow, event, entry, job, repeatable, state, due_at,
                             latest_at, order_key, subject_key, attempts, reason, provider_id, trace)
                         SELECT id, merchant, connection, source, flow, event, entry, job, repeatable, state, due_at, latest_at,
                             order_key, subject_key, attempts, reason, provider_id, trace FROM r ORDER BY nth),
                     listed AS (
                         INSERT INTO trouble (command, entry, subject_key, state)
                         SELECT id, entry, subject_key, state FROM r WHERE state >= 3)
                     INSERT INTO waiting (command, connection, order_key, subject_key, due_at, next_at, attempts, behind)
                     SELECT id, connection, order_key, subject_key, due_at, next_at, attempts, behind FROM r WHERE state = 0",
                ),
                ..BY_ID
            },
            ..plain(
                "command",
                &[
                    column("id", Own(Thing::Command)),
                    column("merchant", Id),
                    column("connection", Id),
                    column("source", Id),
                    column("flow", Id),
                    column("event", Whole(Thing::Event)),
                    column("entry", Of(Thing::Entry)),
                    column("job", Text),
                    column("repeatable", Flag),
                    column("state", Small),
                    column("due_at", Time),
                    column("latest_at", Time),
                    column("order_key", Big),
                    column("subject_key", Big),
                    column("attempts", Int),
                    column("reason", Text),
                    column("provider_id", Text),
                    column("trace", Text),
                    // Of a command that waits no more these mean nothing, and PostgreSQL keeps them no longer.
                    Column {
                        sqlite: Some("t.state = 0 AND t.behind"),
                        postgres: Some("coalesce(w.behind, false)"),
                        ..column("behind", Flag)
                    },
                    Column {
                        sqlite: Some("iif(t.state = 0, t.next_at, t.due_at)"),
                        postgres: Some("coalesce(w.next_at, t.due_at)"),
                        ..column("next_at", Time)
                    },
                ],
            )
        },
        // Whoever held these leases is dead: they are over.
        Table {
            sqlite: Way {
                write: Some("INSERT INTO sending (command, lease, until, called_off, told) VALUES (?1, ?1, 0, ?2, ?3)"),
                made: &["lease", "until"],
                ..PLAIN
            },
            postgres: Way {
                write: Some(
                    "INSERT INTO sending (command, lease, until, batch, called_off, told)
                     SELECT command, nextval('lease'), '-infinity', gen_random_uuid(), called_off, told FROM r",
                ),
                made: &["lease", "until", "batch"],
                ..PLAIN
            },
            ..plain("sending", &[column("command", Of(Thing::Command)), column("called_off", Text), column("told", Text)])
        },
        Table {
            sqlite: BY_ORDINAL,
            postgres: BY_ID,
            ..plain(
                "exchange",
                &[
                    column("id", Own(Thing::Exchange)),
                    column("command", Of(Thing::Command)),
                    column("at", Time),
                    column("merchant", Id),
                    column("connection", Id),
                    column("provider", Text),
                    column("endpoint", Text),
                    column("request", Text),
                    column("response", Text),
                    column("error", Text),
                    column("duration_ms", Big),
                    column("attempt", Int),
                    column("next_retry_at", Time),
                    column("trace", Text),
                ],
            )
        },
        // References of entries that retention has taken lead to nothing, and stay behind. SQLite has some of them twice.
        Table {
            sqlite: Way {
                from: Some(
                    "(SELECT key, entry FROM reference UNION SELECT key, entry FROM reference_new) t
                     WHERE EXISTS (SELECT 1 FROM inbox j WHERE j.ordinal = t.entry)",
                ),
                order: Some("t.entry, t.key"),
                write: Some("INSERT INTO reference_new (key, entry) VALUES (?1, ?2)"),
                made: &["part"],
            },
            postgres: Way {
                from: Some("reference t WHERE EXISTS (SELECT 1 FROM inbox j WHERE j.id = t.entry)"),
                order: Some("t.entry, t.key"),
                ..PLAIN
            },
            ..plain("reference", &[column("key", Big), column("entry", Of(Thing::Entry))])
        },
        plain("slot", &[column("key", Id), column("until", Time), column("command", Of(Thing::Command))]),
        plain(
            "sent",
            &[
                column("connection", Id),
                column("provider_id", Text),
                column("command", Of(Thing::Command)),
                column("at", Time),
                column("state", Small),
                column("code", Text),
                column("channel", Text),
                column("provider", Text),
                column("cost_micro", Big),
                column("currency", Text),
            ],
        ),
        plain("step", &[column("command", Of(Thing::Command)), column("after", Of(Thing::Command)), column("why", Text)]),
        plain(
            "early",
            &[column("connection", Id), column("provider_id", Text), column("entry", Of(Thing::Entry)), column("at", Time)],
        ),
        plain(
            "spent",
            &[
                column("merchant", Id),
                column("month", Text),
                column("flow", Text),
                column("channel", Text),
                column("provider", Text),
                column("currency", Text),
                column("micro", Big),
                column("messages", Big),
            ],
        ),
        plain(
            "once",
            &[column("key", Id), column("body", Id), column("command", Whole(Thing::Command)), column("until", Time)],
        ),
        Table {
            sqlite: Way { order: Some("t.number"), made: &["number"], ..PLAIN },
            postgres: Way { order: Some("t.number"), made: &["number"], ..PLAIN },
            ..plain("unpublished", &[column("event", Of(Thing::Event))])
        },
        plain(
            "wallet",
            &[
                column("id", Id),
                column("merchant", Id),
                column("version", Big),
                column("customer", Text),
                column("phone", Text),
                column("balance", Big),
                column("promised", Big),
                column("due_at", Time),
                column("doc", Text),
            ],
        ),
        plain(
            "wallet_hold",
            &[
                column("id", Id),
                column("merchant", Id),
                column("wallet", Id),
                column("order_id", Text),
                column("version", Big),
                column("state", Small),
                column("at", Time),
                column("doc", Text),
            ],
        ),
        plain(
            "order_receipt",
            &[
                column("id", Id),
                column("merchant", Id),
                column("order_id", Text),
                column("wallet", Id),
                column("version", Big),
                column("at", Time),
                column("doc", Text),
            ],
        ),
        plain(
            "ledger",
            &[
                column("id", Id),
                column("merchant", Id),
                column("wallet", Id),
                column("kind", Small),
                column("from_book", Small),
                column("to_book", Small),
                column("points", Big),
                column("balance", Big),
                column("at", Time),
                column("cause", Text),
                column("order_id", Text),
                column("outlet", Id),
                column("staff", Text),
                column("reason", Text),
                column("lots", Text),
            ],
        ),
        plain("kept_reply", &[column("key", Id), column("body", Id), column("answer", Text), column("until", Time)]),
        plain("spent_token", &[column("key", Id), column("hold", Id), column("until", Time)]),
        plain(
            "promo_use",
            &[
                column("merchant", Id),
                column("code", Text),
                column("order_id", Text),
                column("wallet", Id),
                column("at", Time),
            ],
        ),
        plain("promo_total", &[column("merchant", Id), column("code", Text), column("uses", Big)]),
    ]
};

/// Tables of SQLite that are made out of the others: counts, and references that are not in order yet.
#[cfg_attr(not(test), expect(dead_code, reason = "for the test that compares the lists with the schema"))]
pub(crate) const SQLITE_MADE: &[&str] = &["tally", "reference_new"];
/// What says nothing at another place: how far retention has gone, what SQLite keeps for itself, and codes, which end within
/// minutes.
#[cfg_attr(not(test), expect(dead_code, reason = "for the test that compares the lists with the schema"))]
pub(crate) const SQLITE_LEFT: &[&str] = &["purged", "sqlite_sequence", "code"];

/// Tables of PostgreSQL that are made out of the others.
pub(crate) const POSTGRES_MADE: &[&str] = &["waiting", "trouble", "tally"];
/// What says nothing at another place: how far retention has gone, who works on the database and in what turn, moments of late
/// calls, cancellations that matter only until what came before them has been read, and codes, which end within minutes.
pub(crate) const POSTGRES_LEFT: &[&str] = &["purged", "node", "turn", "moment", "called_off", "code"];
/// What the schema itself is kept in, and from where the server's places in the feed count.
#[cfg_attr(not(test), expect(dead_code, reason = "for the test that compares the lists with the schema"))]
pub(crate) const POSTGRES_OWN: &[&str] = &["migration", "feed_base"];
