//! What is taken out of the setup, and what belonged to it.

use std::collections::HashSet;

use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;
use uzel_model::Id;

use super::{
    Core, get,
    lanes::{self, Fault},
    outbox::{self, Ended},
    uuid,
    work::{self, Gathered},
};
use crate::{CommandState, Setup, StoreError, numbers::command_number};

/// Ordering keys that one portion looks at, and commands that it holds. Of each key one may be being sent.
const KEYS: i64 = 200;
const COMMANDS: i64 = 1_000;

/// What is kept for connections that are gone; also what was brought for them since.
pub(super) const SWEEP: &str = "DELETE FROM session WHERE connection IN (SELECT id FROM removed);
    DELETE FROM cursor WHERE connection IN (SELECT id FROM removed);
    DELETE FROM breaker WHERE connection IN (SELECT id FROM removed);
    DELETE FROM rhythm WHERE connection IN (SELECT id FROM removed)";

/// Ordering keys under which something waits for a connection that is gone, and is not being sent.
pub(crate) const KEYS_LEFT: &str = "SELECT DISTINCT w.order_key FROM removed r
    CROSS JOIN LATERAL (SELECT order_key FROM waiting w WHERE w.connection = r.id AND NOT w.behind) w
    WHERE EXISTS (SELECT 1 FROM waiting x WHERE x.order_key = w.order_key AND x.connection = r.id
        AND NOT EXISTS (SELECT 1 FROM sending s WHERE s.command = x.command)) LIMIT $1";

/// What waits under these keys for connections that are gone, locked.
pub(crate) const LEFT: &str = "SELECT c.id, c.order_key, c.subject_key, c.event, c.entry FROM waiting w
    JOIN removed r ON r.id = w.connection CROSS JOIN LATERAL (SELECT * FROM command c WHERE c.id = w.command LIMIT 1) AS c
    WHERE w.order_key = ANY($1) ORDER BY w.command LIMIT $2 FOR UPDATE OF w";

/// Takes rows out, and what belongs to them but for their commands: see [`hold`].
pub(super) async fn remove(work: &Transaction<'_>, rows: &[Id]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = rows.iter().copied().map(uuid).collect();
    let gone = work
        .prepare_cached(
            "WITH gone AS (DELETE FROM setup WHERE id = ANY($1) RETURNING id)
             INSERT INTO removed SELECT id, clock_timestamp() FROM gone ON CONFLICT (id) DO UPDATE SET at = excluded.at",
        )
        .await?;
    work.execute(&gone, &[&ids]).await?;
    let keys = work.prepare_cached("DELETE FROM access_key WHERE owner = ANY($1)").await?;
    work.execute(&keys, &[&ids]).await?;
    let places: Vec<String> = rows.iter().map(Id::to_string).collect();
    let refusals = work.prepare_cached("DELETE FROM refusal WHERE place = ANY($1)").await?;
    work.execute(&refusals, &[&places]).await?;
    Ok(work.batch_execute(SWEEP).await?)
}

/// Holds a portion of what waits for connections that are gone, but for what is being sent. Gives how many were held: while
/// there are some, there may be more. A command whose key is led by one of another connection has to wait until it leads.
pub(super) async fn hold(core: &Core) -> Result<usize, StoreError> {
    let mut tries = 0;
    loop {
        let held = hold_some(core).await;
        if !lanes::again(&held, &mut tries) {
            return held.map_err(StoreError::from);
        }
    }
}

/// Holds all of it. If that fails, the next look at what is late goes on with it.
pub(super) async fn hold_all(core: &Core) {
    loop {
        match hold(core).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("what waits for a removed connection cannot be held yet: {error}");
                return;
            }
        }
    }
}

async fn hold_some(core: &Core) -> Result<usize, Fault> {
    let mut client = core.writer().await?;
    let keys = client.prepare_cached(KEYS_LEFT).await?;
    let rows = client.query(&keys, &[&KEYS]).await?;
    let keys = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
    if keys.is_empty() {
        return Ok(0);
    }
    let work = client.build_transaction().start().await?;
    work::lock_keys(&work, keys.iter().copied()).await?;
    // Locked before it is looked at whether they are being sent: whoever leases them locks them too.
    let waiting = work.prepare_cached(LEFT).await?;
    let rows = work.query(&waiting, &[&keys, &COMMANDS]).await?;
    let all = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    let sending = work.prepare_cached("SELECT command FROM sending WHERE command = ANY($1)").await?;
    let sending = work.query(&sending, &[&all]).await?;
    let sending = sending.iter().map(|row| get(row, 0)).collect::<Result<HashSet<Uuid>, _>>()?;
    let (mut ended, mut events) = (Vec::new(), Vec::new());
    for row in rows {
        let command: Uuid = get(&row, 0)?;
        if sending.contains(&command) {
            continue;
        }
        let (order_key, subject_key, entry) = (get(&row, 1)?, get(&row, 2)?, get(&row, 4)?);
        let reason = Some(Setup::REMOVED.to_owned());
        ended.push(Ended { command, entry, order_key, subject_key, state: CommandState::Held, reason });
        events.extend(get::<Option<Uuid>>(&row, 3)?);
    }
    let mut gathered = Gathered::default();
    // An event that waits for a look-up waits no more: it is told as it is.
    let close = work.prepare_cached("UPDATE event SET pending = false WHERE id = ANY($1) AND pending RETURNING id").await?;
    for row in work.query(&close, &[&events]).await? {
        gathered.publish(get(&row, 0)?);
    }
    let held: Vec<Uuid> = ended.iter().map(|ended| ended.command).collect();
    let write = work.prepare_cached("UPDATE command SET state = $2, reason = $3 WHERE id = ANY($1)").await?;
    work.execute(&write, &[&held, &i16::from(command_number(CommandState::Held)), &Setup::REMOVED]).await?;
    let slots = work.prepare_cached("DELETE FROM slot WHERE command = ANY($1)").await?;
    work.execute(&slots, &[&held]).await?;
    outbox::leave(&work, &ended, &mut gathered).await?;
    work::write_gathered(&work, gathered, lanes::shard(core, lanes::LEASES)).await?;
    work.commit().await?;
    Ok(held.len())
}
