//! Which events were told, and what became of them on one way out.

use std::collections::HashMap;

use deadpool_postgres::GenericClient;
use uuid::Uuid;
use uzel_model::{Event, Id};

use super::{doc, failed, get, uuid};
use crate::{CommandState, StoreError, numbers::command_state};

pub(super) async fn after(
    client: &impl GenericClient,
    merchant: Id,
    way_out: Id,
    after: Id,
    limit: usize,
) -> Result<Vec<(Event, Vec<CommandState>)>, StoreError> {
    let statement = client
        .prepare_cached("SELECT doc FROM event WHERE id > $1 AND doc::json ->> 'merchant' = $2 ORDER BY id LIMIT $3")
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(after), &merchant.to_string(), &(limit as i64)]).await.map_err(failed)?;
    let events = rows.iter().map(|row| doc::<Event>(row, 0)).collect::<Result<Vec<_>, _>>()?;
    let entries: Vec<Uuid> = events.iter().map(|event| uuid(event.entry)).collect();
    let statement = client
        .prepare_cached("SELECT event, state FROM command WHERE entry = ANY($1) AND connection = $2 AND event IS NOT NULL")
        .await
        .map_err(failed)?;
    let mut states: HashMap<Uuid, Vec<CommandState>> = HashMap::new();
    for row in client.query(&statement, &[&entries, &uuid(way_out)]).await.map_err(failed)? {
        states.entry(get(&row, 0)?).or_default().push(command_state(get::<i16>(&row, 1)? as u8));
    }
    Ok(events
        .into_iter()
        .map(|event| {
            let of_event = states.remove(&uuid(event.id)).unwrap_or_default();
            (event, of_event)
        })
        .collect())
}
