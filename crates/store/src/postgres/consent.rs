//! What people said about messages.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;
use uzel_model::{Id, Timestamp};

use super::{Core, doc, failed, get, journal::text, lanes::Fault, uuid};
use crate::{Command, Consent, Contact, OptOut, PhoneHash, StoreError, consent::weigh};

/// A contact from five columns, the first of them at this place.
fn contact(row: &Row, first: usize) -> Result<(Contact, Timestamp), StoreError> {
    let bits = |column| Ok::<_, StoreError>(get::<i16>(row, column)? as u8);
    let contact = Contact {
        opted_out: get(row, first)?,
        consented: get(row, first + 1)?,
        refused: bits(first + 2)?,
        agreed: bits(first + 3)?,
    };
    Ok((contact, get(row, first + 4)?))
}

pub(super) async fn contact_of(
    client: &impl GenericClient,
    merchant: Id,
    address: &str,
) -> Result<Option<(Contact, Timestamp)>, StoreError> {
    let statement = client
        .prepare_cached("SELECT opted_out, consented, refused, agreed, at FROM contact WHERE merchant = $1 AND phone = $2")
        .await
        .map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(merchant), &address]).await.map_err(failed)?;
    row.map(|row| contact(&row, 0)).transpose()
}

/// Whether somebody with this address opted out whose row was erased, and when.
pub(super) async fn erased_at(
    client: &impl GenericClient,
    merchant: Id,
    hash: &[u8; 32],
) -> Result<Option<Timestamp>, StoreError> {
    let statement = client.prepare_cached("SELECT at FROM opted_out WHERE merchant = $1 AND hash = $2").await.map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(merchant), &hash.as_slice()]).await.map_err(failed)?;
    row.map(|row| get(&row, 0)).transpose()
}

/// Writes a word down, and what follows from it. Whether anything does: not from one that is known, nor where a later one stands.
pub(super) async fn put(work: &Transaction<'_>, word: &Consent, phones: Option<&PhoneHash>) -> Result<bool, Fault> {
    let json = serde_json::to_string(word).expect("texts and times are JSON");
    let (merchant, address) = (uuid(word.merchant), text(&word.address));
    let keep = work
        .prepare_cached(
            "INSERT INTO consent (key, merchant, address, at, doc) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .await?;
    if work.execute(&keep, &[&Uuid::from_bytes(word.key), &merchant, &address, &word.at, &text(&json)]).await? == 0 {
        return Ok(false);
    }
    // There is a row to be locked: words about one person go one after another.
    let first = work
        .prepare_cached("INSERT INTO contact (merchant, phone, at) VALUES ($1, $2, to_timestamp(0)) ON CONFLICT DO NOTHING")
        .await?;
    work.execute(&first, &[&merchant, &address]).await?;
    let before = work
        .prepare_cached(
            "SELECT opted_out, consented, refused, agreed, at FROM contact WHERE merchant = $1 AND phone = $2 FOR UPDATE",
        )
        .await?;
    let before = work.query_opt(&before, &[&merchant, &address]).await?.map(|row| contact(&row, 0)).transpose()?;
    let hash = phones.map(|hash| hash(word.merchant, &word.address));
    let erased_at = match &hash {
        Some(hash) => erased_at(work, word.merchant, hash).await?,
        None => None,
    };
    let weighed = weigh(before, erased_at, word);
    // The row of the contact says from now on what the hash said.
    let erased_row = erased_at.map(|at| (Contact { opted_out: true, ..Contact::default() }, at));
    let Some((contact, at)) = weighed.or(erased_row) else { return Ok(false) };
    if let Some(hash) = hash {
        let forget = work.prepare_cached("DELETE FROM opted_out WHERE merchant = $1 AND hash = $2").await?;
        work.execute(&forget, &[&merchant, &hash.as_slice()]).await?;
    }
    let stand = work
        .prepare_cached(
            "UPDATE contact SET opted_out = $3, consented = $4, proof = $5, at = $6, refused = $7, agreed = $8
             WHERE merchant = $1 AND phone = $2",
        )
        .await?;
    let (refused, agreed) = (i16::from(contact.refused), i16::from(contact.agreed));
    let values: [&(dyn ToSql + Sync); 8] =
        [&merchant, &address, &contact.opted_out, &contact.consented, &text(&word.text), &at, &refused, &agreed];
    work.execute(&stand, &values).await?;
    Ok(weighed.is_some())
}

/// Newest first.
pub(super) async fn list(
    client: &impl GenericClient,
    merchant: Id,
    address: &str,
    limit: usize,
) -> Result<Vec<Consent>, StoreError> {
    let statement = client
        .prepare_cached("SELECT doc, key FROM consent WHERE merchant = $1 AND address = $2 ORDER BY at DESC, key LIMIT $3")
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(merchant), &address, &(limit as i64)]).await.map_err(failed)?;
    let read = |row| {
        let (key, address) = (*get::<Uuid>(row, 1)?.as_bytes(), address.to_owned());
        Ok(Consent { key, merchant, address, ..doc(row, 0)? })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn opt_outs(
    client: &impl GenericClient,
    merchant: Id,
    after: &str,
    limit: usize,
) -> Result<Vec<OptOut>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT phone, opted_out, consented, refused, agreed, at FROM contact
             WHERE merchant = $1 AND phone COLLATE \"C\" > $2 AND (opted_out OR refused <> 0) ORDER BY phone COLLATE \"C\" LIMIT $3",
        )
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(merchant), &after, &(limit as i64)]).await.map_err(failed)?;
    let read = |row| {
        let (contact, since) = contact(row, 1)?;
        let channels = (!contact.opted_out).then(|| contact.refused_channels());
        Ok(OptOut { address: get(row, 0)?, channels, since })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn forget(work: &Transaction<'_>, merchant: Id, address: &str) -> Result<(), Fault> {
    let statement = work.prepare_cached("DELETE FROM consent WHERE merchant = $1 AND address = $2").await?;
    work.execute(&statement, &[&uuid(merchant), &address]).await?;
    Ok(())
}

/// All in one transaction.
pub(super) async fn put_all(core: &Core, words: &[Consent]) -> Result<Vec<bool>, Fault> {
    let mut client = core.writer().await?;
    let work = client.build_transaction().start().await?;
    let mut done = Vec::with_capacity(words.len());
    for word in words {
        done.push(put(&work, word, core.phones.get()).await?);
    }
    work.commit().await?;
    Ok(done)
}

/// Tells commands that go to people what those people said. Gives the places of those of whom nothing is known.
pub(super) async fn look(client: &impl GenericClient, commands: &mut [Command]) -> Result<Vec<usize>, StoreError> {
    let to = |(place, command): (usize, &Command)| Some((place, uuid(command.merchant), command.job.address()?.key()));
    let to: Vec<(usize, Uuid, String)> = commands.iter().enumerate().filter_map(to).collect();
    if to.is_empty() {
        return Ok(Vec::new());
    }
    let merchants: Vec<Uuid> = to.iter().map(|(_, merchant, _)| *merchant).collect();
    let addresses: Vec<&str> = to.iter().map(|(.., address)| address.as_str()).collect();
    let statement = client
        .prepare_cached(
            "SELECT a.nth, p.opted_out, p.consented, p.refused, p.agreed, p.at
             FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS a (merchant, address, nth)
             CROSS JOIN LATERAL (SELECT * FROM contact p WHERE p.merchant = a.merchant AND p.phone = a.address LIMIT 1) AS p",
        )
        .await
        .map_err(failed)?;
    let mut unknown: Vec<usize> = to.iter().map(|(place, ..)| *place).collect();
    for row in client.query(&statement, &[&merchants, &addresses]).await.map_err(failed)? {
        let place = to[get::<i64>(&row, 0)? as usize - 1].0;
        commands[place].contact = contact(&row, 1)?.0;
        unknown.retain(|known| *known != place);
    }
    Ok(unknown)
}
