//! What is set up: merchants, outlets, connections, flows, keys; and what is known of people and logins.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Object, Transaction};
use serde_json::Value;
use tokio_postgres::{error::SqlState, types::ToSql};
use uuid::Uuid;
use uzel_model::{Id, Timestamp, id::Kind};

use super::{
    Core, audit, doc, failed, get, id,
    journal::text,
    lanes::{self, Fault},
    maybe_id, nodes, removal, uuid,
};
use crate::{
    Audit, KeyRow, Notice, Setup, SetupRow, StoreError,
    numbers::{kind_of, kind_word},
};

/// The class of the locks of what one node at a time does, and the one of who changes the setup.
const LOCK: (i32, i32) = (2_054_841_707, 3);

pub(super) async fn load(client: &mut Object) -> Result<Setup, StoreError> {
    let work = super::snapshot(client).await?;
    let mut setup = Setup::default();
    let rows = "SELECT kind, id, merchant, slug, doc, sealed, version FROM setup ORDER BY id";
    for row in work.query(rows, &[]).await.map_err(failed)? {
        setup.rows.push(SetupRow {
            id: id(kind_of(&get::<String>(&row, 0)?), &row, 1)?,
            merchant: maybe_id(Kind::Merchant, &row, 2)?,
            slug: get(&row, 3)?,
            doc: doc(&row, 4)?,
            sealed: get(&row, 5)?,
            version: get(&row, 6)?,
        });
    }
    let keys = "SELECT hash, id, owner, about, webhook, label, made_at, expires_at, last_used_at FROM access_key";
    for row in work.query(keys, &[]).await.map_err(failed)? {
        let webhook: bool = get(&row, 4)?;
        setup.keys.push(KeyRow {
            hash: get(&row, 0)?,
            id: get(&row, 1)?,
            of: maybe_id(if webhook { Kind::Connection } else { Kind::Merchant }, &row, 2)?,
            about: get(&row, 3)?,
            webhook,
            label: get(&row, 5)?,
            made_at: get(&row, 6)?,
            expires_at: get(&row, 7)?,
            last_used_at: get(&row, 8)?,
        });
    }
    setup.envelopes = super::sealed::envelopes(&work).await?;
    work.commit().await.map_err(failed)?;
    Ok(setup)
}

/// Puts rows and keys and takes out what goes, and tells the other nodes, in one transaction.
pub(super) async fn put(core: &Core, setup: &Setup) -> Result<(), StoreError> {
    let mut tries = 0;
    let ended = loop {
        let ended = put_once(core, setup).await;
        if !lanes::again(&ended, &mut tries) {
            break ended;
        }
    };
    match ended {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::Conflict),
        // An older program, which takes no lock, was there first: only slugs can meet.
        Err(fault) if fault.code() == Some(&SqlState::UNIQUE_VIOLATION) => Err(StoreError::Conflict),
        Err(fault) => Err(fault.into()),
    }
}

/// Whether it was put; else it is a conflict, and nothing was written.
async fn put_once(core: &Core, setup: &Setup) -> Result<bool, Fault> {
    let mut client = core.writer().await?;
    let work = client.build_transaction().start().await?;
    // One setup after another: what is looked at stands until it is written.
    work.execute("SELECT pg_advisory_xact_lock($1, $2)", &[&LOCK.0, &LOCK.1]).await?;
    if !holds(&work, setup).await? {
        work.rollback().await?;
        return Ok(false);
    }
    removal::remove(&work, &setup.removes).await?;
    work.execute("DELETE FROM access_key WHERE id = ANY($1)", &[&setup.removes_keys]).await?;
    put_rows(&work, &setup.rows, &setup.audit).await?;
    put_keys(&work, &setup.keys).await?;
    let (logins, cursors) = (uuids(&setup.ends_logins), uuids(&setup.ends_cursors));
    work.execute("DELETE FROM session WHERE connection = ANY($1)", &[&logins]).await?;
    work.execute("DELETE FROM cursor WHERE connection = ANY($1)", &[&cursors]).await?;
    audit::put(&work, &setup.audit).await?;
    // Within: a node that ends here cannot leave the others with an old setup. It is seldom enough for that.
    let word = nodes::setup_word(core);
    work.execute("SELECT pg_notify($1, $2)", &[&nodes::CHANNEL, &word]).await?;
    work.commit().await?;
    Ok(true)
}

fn uuids(ids: &[Id]) -> Vec<Uuid> {
    ids.iter().copied().map(uuid).collect()
}

/// Whether rows have the versions that are expected, and no other row has a slug that is wanted.
async fn holds(work: &Transaction<'_>, setup: &Setup) -> Result<bool, Fault> {
    let (rows, versions): (Vec<Uuid>, Vec<i64>) = setup.expects.iter().map(|(row, version)| (uuid(*row), *version)).unzip();
    let other = work
        .query_one(
            "SELECT count(*) FROM unnest($1::uuid[], $2::bigint[]) AS e (id, version) LEFT JOIN setup s ON s.id = e.id
             WHERE coalesce(s.version, 0) <> e.version",
            &[&rows, &versions],
        )
        .await?;
    if get::<i64>(&other, 0)? > 0 {
        return Ok(false);
    }
    let kinds: Vec<&str> = setup.rows.iter().map(|row| kind_word(row.id.kind())).collect();
    let merchants: Vec<Option<Uuid>> = setup.rows.iter().map(|row| row.merchant.map(uuid)).collect();
    let slugs: Vec<_> = setup.rows.iter().map(|row| text(&row.slug)).collect();
    let moving: Vec<Uuid> = setup.rows.iter().map(|row| row.id).chain(setup.removes.iter().copied()).map(uuid).collect();
    let taken = work
        .query_one(
            "SELECT count(*) FROM unnest($1::text[], $2::uuid[], $3::text[]) AS w (kind, merchant, slug)
             JOIN setup s ON s.kind = w.kind AND s.slug = w.slug AND s.merchant IS NOT DISTINCT FROM w.merchant
             WHERE s.id <> ALL($4)",
            &[&kinds, &merchants, &slugs, &moving],
        )
        .await?;
    Ok(get::<i64>(&taken, 0)? == 0)
}

/// What stands of a row.
struct Stored {
    version: i64,
    slug: String,
    sealed: Option<Vec<u8>>,
    doc: Value,
}

async fn put_rows(work: &Transaction<'_>, rows: &[SetupRow], audit: &[Audit]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = rows.iter().map(|row| uuid(row.id)).collect();
    let mut stored: HashMap<Uuid, Stored> = HashMap::new();
    for row in work.query("SELECT id, version, slug, sealed, doc FROM setup WHERE id = ANY($1)", &[&ids]).await? {
        let before = Stored { version: get(&row, 1)?, slug: get(&row, 2)?, sealed: get(&row, 3)?, doc: doc(&row, 4)? };
        stored.insert(get(&row, 0)?, before);
    }
    // Of rows that have been there before.
    let mut known: HashMap<Uuid, i64> = HashMap::new();
    for row in work.query("SELECT id, max(version) FROM setup_version WHERE id = ANY($1) GROUP BY id", &[&ids]).await? {
        known.insert(get(&row, 0)?, get(&row, 1)?);
    }
    let put = work
        .prepare_cached(
            "INSERT INTO setup (id, kind, merchant, slug, doc, sealed, version) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, doc = excluded.doc, sealed = excluded.sealed,
                 version = excluded.version",
        )
        .await?;
    let mut changed = Vec::new();
    for row in rows {
        let (id, before) = (uuid(row.id), stored.get(&uuid(row.id)));
        if before.is_some_and(|before| before.slug == row.slug && before.sealed == row.sealed && before.doc == row.doc) {
            continue;
        }
        let version = before.map(|before| before.version).or_else(|| known.get(&id).copied()).unwrap_or_default() + 1;
        let (kind, merchant, doc) = (kind_word(row.id.kind()), row.merchant.map(uuid), row.doc.to_string());
        work.execute(&put, &[&id, &kind, &merchant, &text(&row.slug), &doc, &row.sealed, &version]).await?;
        changed.push((row, version));
    }
    work.execute("DELETE FROM removed WHERE id = ANY($1)", &[&ids]).await?;
    audit::put_versions(work, &changed, audit).await
}

async fn put_keys(work: &Transaction<'_>, keys: &[KeyRow]) -> Result<(), Fault> {
    let put = work
        .prepare_cached(
            "INSERT INTO access_key (hash, id, owner, about, webhook, label, made_at, expires_at, last_used_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (hash) DO UPDATE
             SET id = excluded.id, owner = excluded.owner, about = excluded.about, webhook = excluded.webhook,
                 label = excluded.label, made_at = excluded.made_at, expires_at = excluded.expires_at,
                 last_used_at = greatest(access_key.last_used_at, excluded.last_used_at)",
        )
        .await?;
    for key in keys {
        let (of, label) = (key.of.map(uuid), text(&key.label));
        let values: [&(dyn ToSql + Sync); 9] = [
            &key.hash,
            &text(&key.id),
            &of,
            &text(&key.about),
            &key.webhook,
            &label,
            &key.made_at,
            &key.expires_at,
            &key.last_used_at,
        ];
        work.execute(&put, &values).await?;
    }
    Ok(())
}

/// Rows are locked in one order, so that two nodes do not wait for each other.
pub(super) async fn touch_keys(client: &impl GenericClient, used: &[(String, Timestamp)]) -> Result<(), StoreError> {
    let (keys, at): (Vec<&str>, Vec<Timestamp>) = used.iter().map(|(key, at)| (key.as_str(), *at)).unzip();
    let statement = client
        .prepare_cached(
            "WITH used AS (SELECT id, max(at) AS at FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at) GROUP BY id),
                 held AS (SELECT hash, id FROM access_key WHERE id = ANY($1) ORDER BY hash FOR UPDATE)
             UPDATE access_key k SET last_used_at = greatest(k.last_used_at, used.at)
             FROM held JOIN used ON used.id = held.id WHERE k.hash = held.hash",
        )
        .await
        .map_err(failed)?;
    client.execute(&statement, &[&keys, &at]).await.map_err(failed).map(drop)
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

/// Which of these hashed phones are of people who were erased and wanted no messages.
pub(super) async fn opted_out(client: &impl GenericClient, hashes: &[&[u8]]) -> Result<Vec<Vec<u8>>, StoreError> {
    let statement = client.prepare_cached("SELECT hash FROM opted_out WHERE hash = ANY($1)").await.map_err(failed)?;
    client.query(&statement, &[&hashes]).await.map_err(failed)?.iter().map(|row| get(row, 0)).collect()
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
