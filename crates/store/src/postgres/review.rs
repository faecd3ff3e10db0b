//! Short links, reviews and their counts.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use uzel_model::{Address, Id, Timestamp, id::Kind};

use super::{doc, failed, get, id, journal::text, lanes::Fault, uuid};
use crate::{
    LeftReview, LinkNews, LinkPurpose, Review, ReviewCount, ReviewFilter, ReviewReply, ShortLink, StoreError,
    review::{NO_OUTLET, Shift, channel},
};

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("ids, texts and times are JSON")
}

/// Keeps a link whose command is there.
pub(super) async fn add(work: &Transaction<'_>, link: &ShortLink) -> Result<(), Fault> {
    let statement = work
        .prepare_cached(
            "INSERT INTO short_link (code, merchant, address, expires_at, doc) SELECT $1, $2, $3, $4, $5
             WHERE EXISTS (SELECT 1 FROM command WHERE id = $6) ON CONFLICT DO NOTHING",
        )
        .await?;
    let (address, doc) = (link.to.key(), json(link));
    let values: [&(dyn ToSql + Sync); 6] =
        [&Uuid::from_bytes(link.code), &uuid(link.merchant), &text(&address), &link.expires_at, &text(&doc), &uuid(link.command)];
    work.execute(&statement, &values).await?;
    Ok(())
}

fn link_of(row: &tokio_postgres::Row, code: [u8; 16]) -> Result<ShortLink, StoreError> {
    Ok(ShortLink { code, ..doc(row, 0)? })
}

pub(super) async fn link(client: &impl GenericClient, code: [u8; 16]) -> Result<Option<ShortLink>, StoreError> {
    let statement = client.prepare_cached("SELECT doc FROM short_link WHERE code = $1").await.map_err(failed)?;
    let row = client.query_opt(&statement, &[&Uuid::from_bytes(code)]).await.map_err(failed)?;
    row.map(|row| link_of(&row, code)).transpose()
}

pub(super) async fn review(client: &impl GenericClient, id: Id) -> Result<Option<Review>, StoreError> {
    let statement = client.prepare_cached("SELECT doc FROM review WHERE id = $1").await.map_err(failed)?;
    client.query_opt(&statement, &[&uuid(id)]).await.map_err(failed)?.map(|row| doc(&row, 0)).transpose()
}

/// Whoever changes a link, or the review by it, locks its row first.
async fn locked_link(work: &Transaction<'_>, code: [u8; 16]) -> Result<Option<ShortLink>, Fault> {
    let statement = work.prepare_cached("SELECT doc FROM short_link WHERE code = $1 FOR UPDATE").await?;
    let row = work.query_opt(&statement, &[&Uuid::from_bytes(code)]).await?;
    Ok(row.map(|row| link_of(&row, code)).transpose()?)
}

async fn locked_review(work: &Transaction<'_>, id: Id) -> Result<Option<Review>, Fault> {
    let statement = work.prepare_cached("SELECT doc FROM review WHERE id = $1 FOR UPDATE").await?;
    Ok(work.query_opt(&statement, &[&uuid(id)]).await?.map(|row| doc(&row, 0)).transpose()?)
}

async fn put_link(work: &Transaction<'_>, link: &ShortLink) -> Result<(), Fault> {
    let statement = work.prepare_cached("UPDATE short_link SET doc = $2, address = $3 WHERE code = $1").await?;
    let (doc, address) = (json(link), link.to.key());
    work.execute(&statement, &[&Uuid::from_bytes(link.code), &text(&doc), &text(&address)]).await?;
    Ok(())
}

async fn put_review(work: &Transaction<'_>, review: &Review) -> Result<(), Fault> {
    let statement = work
        .prepare_cached(
            "INSERT INTO review (id, merchant, outlet, source, stars, answered, address, left_at, doc)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE
             SET stars = excluded.stars, answered = excluded.answered, address = excluded.address, doc = excluded.doc",
        )
        .await?;
    let (address, doc) = (review.to.as_ref().map(Address::key).unwrap_or_default(), json(review));
    let values: [&(dyn ToSql + Sync); 9] = [
        &uuid(review.id),
        &uuid(review.merchant),
        &review.outlet.map(uuid),
        &uuid(review.source),
        &i16::from(review.stars),
        &review.answer.is_some(),
        &text(&address),
        &review.left_at,
        &text(&doc),
    ];
    work.execute(&statement, &values).await?;
    Ok(())
}

async fn count(work: &Transaction<'_>, link: &ShortLink, shifts: &[Shift]) -> Result<(), Fault> {
    for shift in shifts {
        let statement = work
            .prepare_cached(
                "INSERT INTO review_count (merchant, outlet, source, channel, day, what, count) VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (merchant, day, outlet, source, channel, what)
                 DO UPDATE SET count = review_count.count + excluded.count",
            )
            .await?;
        let outlet = Uuid::from_bytes(link.outlet.map_or(NO_OUTLET, |outlet| *outlet.as_bytes()));
        let values: [&(dyn ToSql + Sync); 7] =
            [&uuid(link.merchant), &outlet, &uuid(link.source), &shift.channel.name(), &link.day, &shift.what, &shift.by];
        work.execute(&statement, &values).await?;
    }
    Ok(())
}

/// Whether the link is there.
pub(super) async fn hear(work: &Transaction<'_>, code: [u8; 16], news: &LinkNews) -> Result<bool, Fault> {
    let Some(mut link) = locked_link(work, code).await? else { return Ok(false) };
    let before = link.clone();
    let shifts = link.hear(news);
    if link != before {
        put_link(work, &link).await?;
        count(work, &link, &shifts).await?;
    }
    Ok(true)
}

/// Whether the review stood as it was seen. Nothing is written else.
pub(super) async fn leave(work: &Transaction<'_>, left: &LeftReview) -> Result<bool, Fault> {
    let link = locked_link(work, left.code).await?.filter(|link| link.purpose == LinkPurpose::Review);
    let Some(mut link) = link else { return Ok(false) };
    let before = match link.review {
        Some(id) => locked_review(work, id).await?,
        None => None,
    };
    let Some((review, shifts)) = link.review(before, left) else { return Ok(false) };
    put_review(work, &review).await?;
    put_link(work, &link).await?;
    count(work, &link, &shifts).await?;
    Ok(true)
}

/// Whether the review had no answer. Nothing is written else.
pub(super) async fn reply(work: &Transaction<'_>, reply: &ReviewReply) -> Result<bool, Fault> {
    let review = locked_review(work, reply.review).await?.filter(|review| review.answer.is_none());
    let Some(mut review) = review else { return Ok(false) };
    review.answer = Some(reply.answer.clone());
    put_review(work, &review).await?;
    Ok(true)
}

pub(super) async fn list(client: &impl GenericClient, filter: &ReviewFilter) -> Result<Vec<Review>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT doc FROM review WHERE ($1::uuid IS NULL OR merchant = $1) AND ($2::uuid IS NULL OR outlet = $2)
                 AND ($3::uuid IS NULL OR source = $3) AND ($4::smallint IS NULL OR stars = $4)
                 AND ($5::boolean IS NULL OR answered = $5) AND ($6::uuid IS NULL OR id < $6) ORDER BY id DESC LIMIT $7",
        )
        .await
        .map_err(failed)?;
    let ids = [filter.merchant, filter.outlet, filter.source, filter.before].map(|id| id.map(uuid));
    let values: [&(dyn ToSql + Sync); 7] =
        [&ids[0], &ids[1], &ids[2], &filter.stars.map(i16::from), &filter.answered, &ids[3], &(filter.limit as i64)];
    client.query(&statement, &values).await.map_err(failed)?.iter().map(|row| doc(row, 0)).collect()
}

pub(super) async fn counts(
    client: &impl GenericClient,
    merchant: Id,
    from: i32,
    to: i32,
) -> Result<Vec<ReviewCount>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT outlet, source, channel, what, sum(count)::bigint FROM review_count
             WHERE merchant = $1 AND day BETWEEN $2 AND $3 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
        )
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(merchant), &from, &to]).await.map_err(failed)?;
    let read = |row| {
        Ok(ReviewCount {
            outlet: Some(id(Kind::Outlet, row, 0)?).filter(|outlet| *outlet.as_bytes() != NO_OUTLET),
            source: id(Kind::Connection, row, 1)?,
            channel: channel(&get::<String>(row, 2)?),
            what: get(row, 3)?,
            count: get(row, 4)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Forgets who left reviews and what they wrote, with the links to them, and what was noted of their comments.
pub(super) async fn forget(work: &Transaction<'_>, merchant: Id, address: &str) -> Result<(), Fault> {
    let links = work.prepare_cached("DELETE FROM short_link WHERE merchant = $1 AND address = $2").await?;
    work.execute(&links, &[&uuid(merchant), &address]).await?;
    let reviews = work.prepare_cached("SELECT doc FROM review WHERE merchant = $1 AND address = $2 FOR UPDATE").await?;
    for row in work.query(&reviews, &[&uuid(merchant), &address]).await? {
        let mut review: Review = doc(&row, 0)?;
        review.forget();
        put_review(work, &review).await?;
        let notice = work.prepare_cached("DELETE FROM notice WHERE merchant = $1 AND kind = $2").await?;
        work.execute(&notice, &[&uuid(merchant), &format!("comment/{}", review.id)]).await?;
    }
    Ok(())
}

/// Retention: links that ended, and reviews that were left, before a moment. Their counts stay.
pub(super) async fn purge(work: &Transaction<'_>, merchant: Option<Id>, before: Timestamp) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM short_link WHERE expires_at < $1 AND ($2::uuid IS NULL OR merchant = $2)",
        "DELETE FROM review WHERE left_at < $1 AND ($2::uuid IS NULL OR merchant = $2)",
    ] {
        work.execute(sql, &[&before, &merchant.map(uuid)]).await.map_err(failed)?;
    }
    Ok(())
}
