//! What is sealed, and the keys that seal it.

use deadpool_postgres::{GenericClient, Object};
use uuid::Uuid;
use uzel_model::{Id, id::Kind};

use super::{Core, failed, get, id, maybe_id, nodes, uuid};
use crate::{
    Envelope, Purpose, Rekeying, Resealed, Sealed, StoreError,
    sealed::{MASTER, MASTER_BEFORE},
};

pub(super) async fn envelopes(client: &impl GenericClient) -> Result<Vec<Envelope>, StoreError> {
    let rows = client.query("SELECT id, purpose, merchant, wrapped FROM envelope ORDER BY id", &[]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let word: String = get(row, 1)?;
            let purpose = Purpose::of(&word).ok_or_else(|| StoreError::Failed(format!("an envelope for `{word}`")))?;
            Ok(Envelope {
                id: id(Kind::Key, row, 0)?,
                purpose,
                merchant: maybe_id(Kind::Merchant, row, 2)?,
                wrapped: get(row, 3)?,
            })
        })
        .collect()
}

async fn claimed(client: &impl GenericClient, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let row = client.query_opt("SELECT value FROM claim WHERE name = $1", &[&name]).await.map_err(failed)?;
    row.map(|row| get(&row, 0)).transpose()
}

pub(super) async fn load(client: &mut Object) -> Result<Sealed, StoreError> {
    let work = super::snapshot(client).await?;
    let mut sealed =
        Sealed { check: claimed(&work, MASTER).await?, check_before: claimed(&work, MASTER_BEFORE).await?, sessions: Vec::new() };
    for row in work.query("SELECT connection, sealed FROM session", &[]).await.map_err(failed)? {
        sealed.sessions.push((id(Kind::Connection, &row, 0)?, get(&row, 1)?));
    }
    work.commit().await.map_err(failed)?;
    Ok(sealed)
}

/// What goes wrong on the way undoes all of it, conflicts too.
pub(super) async fn rekey(core: &Core, change: &Rekeying) -> Result<(), StoreError> {
    let mut client = core.writer().await?;
    let work = client.build_transaction().start().await.map_err(failed)?;
    let put = "INSERT INTO claim VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    let stands = match &change.was {
        // Whoever else changes the keys waits here for the end of this.
        Some(was) => {
            let held = "SELECT 1 FROM claim WHERE name = $1 AND value = $2 FOR UPDATE";
            work.query_opt(held, &[&MASTER, was]).await.map_err(failed)?.is_some()
        }
        None => work.execute(put, &[&MASTER, &change.check]).await.map_err(failed)? == 1,
    };
    let mut known = change.known.clone();
    known.sort_unstable();
    let there: Vec<Id> = envelopes(&work).await?.iter().map(|envelope| envelope.id).collect();
    if !stands || there != known {
        return Err(StoreError::Conflict);
    }
    for (write, rows) in [
        ("UPDATE setup SET sealed = $3 WHERE id = $1 AND sealed = $2", &change.settings),
        ("UPDATE session SET sealed = $3 WHERE connection = $1 AND sealed = $2", &change.sessions),
    ] {
        for Resealed { id, was, now } in rows {
            if work.execute(write, &[&uuid(*id), was, now]).await.map_err(failed)? != 1 {
                return Err(StoreError::Conflict);
            }
        }
    }
    let write = "INSERT INTO envelope (id, purpose, merchant, wrapped) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET wrapped = excluded.wrapped";
    for Envelope { id, purpose, merchant, wrapped } in &change.envelopes {
        work.execute(write, &[&uuid(*id), &purpose.word(), &merchant.map(uuid), wrapped]).await.map_err(failed)?;
    }
    let dropped: Vec<Uuid> = change.dropped.iter().copied().map(uuid).collect();
    work.execute("DELETE FROM envelope WHERE id = ANY($1)", &[&dropped]).await.map_err(failed)?;
    if let Some(was) = change.was.as_ref().filter(|was| **was != change.check) {
        let put = "INSERT INTO claim VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        work.execute(put, &[&MASTER_BEFORE, was]).await.map_err(failed)?;
        work.execute(put, &[&MASTER, &change.check]).await.map_err(failed)?;
    }
    // Within, as for the setup: a node that does not hear of it opens nothing any more.
    let word = nodes::setup_word(core);
    work.execute("SELECT pg_notify($1, $2)", &[&nodes::CHANNEL, &word]).await.map_err(failed)?;
    work.commit().await.map_err(failed)
}
