//! What is set up: merchants, outlets, connections, flows, keys; and what is known of people and logins.

use deadpool_postgres::{GenericClient, Object};
use uuid::Uuid;
use uzel_model::{Id, Timestamp, id::Kind};

use super::{doc, failed, get, id, journal::text, maybe_id, uuid};
use crate::{
    KeyRow, Notice, Setup, SetupRow, StoreError,
    numbers::{kind_of, kind_word},
};

pub(super) async fn load(client: &mut Object) -> Result<Setup, StoreError> {
    let work = super::snapshot(client).await?;
    let mut setup = Setup::default();
    for row in work.query("SELECT kind, id, merchant, slug, doc, sealed FROM setup ORDER BY id", &[]).await.map_err(failed)? {
        setup.rows.push(SetupRow {
            id: id(kind_of(&get::<String>(&row, 0)?), &row, 1)?,
            merchant: maybe_id(Kind::Merchant, &row, 2)?,
            slug: get(&row, 3)?,
            doc: doc(&row, 4)?,
            sealed: get(&row, 5)?,
        });
    }
    for row in work.query("SELECT hash, id, owner, about, webhook FROM access_key", &[]).await.map_err(failed)? {
        let webhook: bool = get(&row, 4)?;
        let of = maybe_id(if webhook { Kind::Connection } else { Kind::Merchant }, &row, 2)?;
        setup.keys.push(KeyRow { hash: get(&row, 0)?, id: get(&row, 1)?, of, about: get(&row, 3)?, webhook });
    }
    work.commit().await.map_err(failed)?;
    Ok(setup)
}

/// Puts rows and keys; what is not named stays as it was.
pub(super) async fn put(client: &mut Object, setup: &Setup) -> Result<(), StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    let put_row = work
        .prepare_cached(
            "INSERT INTO setup (id, kind, merchant, slug, doc, sealed) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, doc = excluded.doc, sealed = excluded.sealed",
        )
        .await
        .map_err(failed)?;
    // In one order, so that two setups at once do not wait for each other.
    let mut rows: Vec<&SetupRow> = setup.rows.iter().collect();
    rows.sort_by_key(|row| row.id);
    for row in rows {
        let (kind, merchant) = (kind_word(row.id.kind()), row.merchant.map(uuid));
        let doc = row.doc.to_string();
        work.execute(&put_row, &[&uuid(row.id), &kind, &merchant, &row.slug, &doc, &row.sealed]).await.map_err(failed)?;
    }
    let put_key = work
        .prepare_cached(
            "INSERT INTO access_key (hash, id, owner, about, webhook) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash) DO UPDATE
             SET id = excluded.id, owner = excluded.owner, about = excluded.about, webhook = excluded.webhook",
        )
        .await
        .map_err(failed)?;
    for key in &setup.keys {
        let of = key.of.map(uuid);
        work.execute(&put_key, &[&key.hash, &key.id, &of, &key.about, &key.webhook]).await.map_err(failed)?;
    }
    let (logins, cursors): (Vec<Uuid>, Vec<Uuid>) =
        (setup.ends_logins.iter().copied().map(uuid).collect(), setup.ends_cursors.iter().copied().map(uuid).collect());
    work.execute("DELETE FROM session WHERE connection = ANY($1)", &[&logins]).await.map_err(failed)?;
    work.execute("DELETE FROM cursor WHERE connection = ANY($1)", &[&cursors]).await.map_err(failed)?;
    work.commit().await.map_err(failed)
}

pub(super) async fn session(client: &impl GenericClient, connection: Id) -> Result<Option<Vec<u8>>, StoreError> {
    let statement = client.prepare_cached("SELECT sealed FROM session WHERE connection = $1").await.map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(connection)]).await.map_err(failed)?;
    row.map(|row| get(&row, 0)).transpose()
}

pub(super) async fn put_session(client: &impl GenericClient, connection: Id, sealed: &[u8]) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached("INSERT INTO session VALUES ($1, $2) ON CONFLICT (connection) DO UPDATE SET sealed = excluded.sealed")
        .await
        .map_err(failed)?;
    client.execute(&statement, &[&uuid(connection), &sealed]).await.map_err(failed).map(drop)
}

pub(super) async fn cursor(client: &impl GenericClient, connection: Id) -> Result<Option<String>, StoreError> {
    let statement = client.prepare_cached("SELECT value FROM cursor WHERE connection = $1").await.map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(connection)]).await.map_err(failed)?;
    row.map(|row| get(&row, 0)).transpose()
}

/// Records a consent, or its withdrawal. People may come back, so a consent ends an earlier opt-out; against a later one it
/// counts for nothing, whenever it is recorded.
pub(super) async fn put_consent(
    client: &impl GenericClient,
    merchant: Id,
    phone: &str,
    granted: bool,
    proof: &str,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO contact (merchant, phone, opted_out, consented, proof, at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (merchant, phone) DO UPDATE SET opted_out = excluded.opted_out, consented = excluded.consented,
                 proof = excluded.proof, at = greatest(contact.at, excluded.at)
             WHERE excluded.opted_out OR excluded.at >= contact.at",
        )
        .await
        .map_err(failed)?;
    let recorded = client
        .execute(&statement, &[&uuid(merchant), &text(phone), &!granted, &granted, &text(proof), &at])
        .await
        .map_err(failed)?;
    Ok(recorded > 0)
}

/// The newest notices. The limit counts those of the merchant, or a neighbour with many would hide them.
pub(super) async fn notices(client: &impl GenericClient, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT merchant, connection, kind, text, (SELECT s.kind FROM setup s WHERE s.id = connection) FROM notice WHERE $1::uuid IS NULL OR merchant = $1 ORDER BY day DESC LIMIT $2",
        )
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&merchant.map(uuid), &(limit as i64)]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(Notice {
                merchant: id(Kind::Merchant, row, 0)?,
                connection: id(get::<Option<String>>(row, 4)?.map_or(Kind::Connection, |word| kind_of(&word)), row, 1)?,
                kind: get(row, 2)?,
                text: get(row, 3)?,
            })
        })
        .collect()
}
