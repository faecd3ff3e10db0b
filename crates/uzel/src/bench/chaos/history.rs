//! What happened to each command, step by step, as the database saw it: triggers of ours write it down within the hub's own
//! transactions, so that it holds what was committed and nothing else, and survives the server's crashes as the rows do.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write},
};

use tokio_postgres::Client;

use super::{
    orders::Order,
    provider::{Answer, Provider},
};

/// Numbers are taken where the hub holds the rows (or the key) that it changes: of one key they follow the commits.
const TRIGGERS: &str = "
    CREATE SCHEMA chaos;
    CREATE SEQUENCE chaos.step;
    CREATE TABLE chaos.history (
        step bigint NOT NULL DEFAULT nextval('chaos.step'), began timestamptz NOT NULL DEFAULT now(),
        at timestamptz NOT NULL DEFAULT clock_timestamp(), node text DEFAULT current_setting('chaos.node', true), what text NOT NULL,
        command uuid, attempts integer, behind boolean, lease bigint, event uuid);
    CREATE FUNCTION chaos.waiting() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE w waiting := coalesce(NEW, OLD); BEGIN
        INSERT INTO chaos.history (what, command, attempts, behind) VALUES (TG_ARGV[0], w.command, w.attempts, w.behind);
        RETURN NULL; END $$;
    CREATE FUNCTION chaos.sending() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE s sending := coalesce(NEW, OLD); BEGIN
        INSERT INTO chaos.history (what, command, lease) VALUES (TG_ARGV[0], s.command, s.lease);
        RETURN NULL; END $$;
    CREATE FUNCTION chaos.told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO chaos.history (what, event) VALUES ('told', NEW.event);
        RETURN NULL; END $$;
    CREATE TRIGGER chaos_in AFTER INSERT ON waiting FOR EACH ROW EXECUTE FUNCTION chaos.waiting('queued');
    CREATE TRIGGER chaos_on AFTER UPDATE ON waiting FOR EACH ROW EXECUTE FUNCTION chaos.waiting('changed');
    CREATE TRIGGER chaos_out AFTER DELETE ON waiting FOR EACH ROW EXECUTE FUNCTION chaos.waiting('left');
    CREATE TRIGGER chaos_in AFTER INSERT ON sending FOR EACH ROW EXECUTE FUNCTION chaos.sending('leased');
    CREATE TRIGGER chaos_out AFTER DELETE ON sending FOR EACH ROW EXECUTE FUNCTION chaos.sending('ended');
    CREATE TRIGGER chaos_in AFTER INSERT ON unpublished FOR EACH ROW EXECUTE FUNCTION chaos.told();";

pub(crate) async fn record(client: &Client) -> anyhow::Result<()> {
    Ok(client.batch_execute(TRIGGERS).await?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It waits.
    Queued,
    /// It was put off, or another one stands before it, or it stepped forward.
    Changed,
    /// It waits no more.
    Left,
    Leased,
    /// Its lease is over: settled, lost or given back.
    Ended,
}

/// A step of one command.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) number: i64,
    pub(crate) what: What,
    pub(crate) command: String,
    pub(crate) attempts: i32,
    pub(crate) behind: bool,
    pub(crate) lease: i64,
    /// When its transaction began, and when it was taken: microseconds by the server's clock.
    pub(crate) began_us: i64,
    pub(crate) at_us: i64,
    pub(crate) node: String,
}

/// A command, as it ended.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) order: Order,
    pub(crate) due_us: i64,
    pub(crate) state: i16,
}

/// All that happened under one ordering key.
#[derive(Debug, Default)]
pub(crate) struct Key {
    pub(crate) texts: HashMap<String, Text>,
    pub(crate) steps: Vec<Step>,
    /// As the provider got them.
    pub(crate) arrivals: Vec<(Order, Answer)>,
}

/// The history of every ordering key, by its guest.
pub(crate) async fn read(client: &Client, provider: &Provider) -> anyhow::Result<BTreeMap<u64, Key>> {
    let us = |column: &str| format!("(extract(epoch from {column}) * 1000000)::bigint");
    let sql = format!(
        "SELECT h.step, h.what, h.command::text, coalesce(h.attempts, 0), coalesce(h.behind, false), coalesce(h.lease, 0), {}, {},
             coalesce(h.node, ''), {}, c.state, (convert_from(j.body, 'UTF8')::json -> 'order' ->> 'id')::bigint
         FROM chaos.history h JOIN command c ON c.id = h.command JOIN inbox j ON j.id = c.entry ORDER BY h.step",
        us("h.began"),
        us("h.at"),
        us("c.due_at"),
    );
    let mut keys: BTreeMap<u64, Key> = BTreeMap::new();
    for row in client.query(&sql, &[]).await? {
        let what = match row.try_get(1)? {
            "queued" => What::Queued,
            "changed" => What::Changed,
            "left" => What::Left,
            "leased" => What::Leased,
            _ => What::Ended,
        };
        let order = Order(row.try_get::<_, i64>(11)?.unsigned_abs());
        let command: String = row.try_get(2)?;
        let key = keys.entry(order.guest()).or_default();
        key.texts.insert(command.clone(), Text { order, due_us: row.try_get(9)?, state: row.try_get(10)? });
        key.steps.push(Step {
            number: row.try_get(0)?,
            what,
            command,
            attempts: row.try_get(3)?,
            behind: row.try_get(4)?,
            lease: row.try_get(5)?,
            began_us: row.try_get(6)?,
            at_us: row.try_get(7)?,
            node: row.try_get(8)?,
        });
    }
    for (order, answer) in provider.arrivals() {
        keys.entry(order.guest()).or_default().arrivals.push((order, answer));
    }
    Ok(keys)
}

impl fmt::Display for Key {
    /// A line for each step, and what the provider got.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first_us = self.steps.first().map_or(0, |step| step.at_us);
        for step in &self.steps {
            let text = self.texts.get(&step.command);
            let mut more = String::new();
            match step.what {
                What::Leased | What::Ended => write!(more, "lease {}", step.lease)?,
                _ => write!(more, "attempts {}, {}", step.attempts, if step.behind { "behind" } else { "first" })?,
            }
            let seconds = (step.at_us - first_us) as f64 / 1e6;
            let (order, due_s) = text.map_or((0, 0.0), |text| (text.order.0, (text.due_us - first_us) as f64 / 1e6));
            let (number, what, node) = (step.number, format!("{:?}", step.what).to_lowercase(), &step.node);
            writeln!(
                f,
                "  {number:>8} {seconds:>10.6} s  node {node:<2} {what:<8} order {order:<7} due {due_s:>10.6} s  {}  {more}",
                step.command
            )?;
        }
        let came: Vec<String> = self.arrivals.iter().map(|(order, answer)| format!("{} {answer:?}", order.0)).collect();
        writeln!(f, "  the provider got: {}", came.join(", "))
    }
}
