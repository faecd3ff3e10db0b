//! Short links, reviews and their counts.

use rusqlite::{Connection, OptionalExtension, Result, ToSql, params};
use uzel_model::{Id, Timestamp, id::Kind};

use super::{doc, maybe_id, ms};
use crate::{
    LeftReview, LinkNews, LinkPurpose, Review, ReviewCount, ReviewFilter, ReviewReply, ShortLink,
    review::{NO_OUTLET, Shift, channel},
};

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("ids, texts and times are JSON")
}

/// Keeps a link whose command is there.
pub(super) fn add(db: &Connection, link: &ShortLink) -> Result<()> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO short_link (code, merchant, address, expires_at, doc)
         SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM command WHERE ordinal = ?6)",
    )?
    .execute(params![link.code, link.merchant.as_bytes(), link.to.key(), ms(link.expires_at), json(link), link.command.ordinal()])
    .map(drop)
}

pub(super) fn link(db: &Connection, code: [u8; 16]) -> Result<Option<ShortLink>> {
    db.prepare_cached("SELECT doc FROM short_link WHERE code = ?1")?
        .query_row([code], |row| Ok(ShortLink { code, ..doc(0, row)? }))
        .optional()
}

pub(super) fn review(db: &Connection, id: Id) -> Result<Option<Review>> {
    db.prepare_cached("SELECT doc FROM review WHERE id = ?1")?.query_row([id.as_bytes()], |row| doc(0, row)).optional()
}

fn put_link(db: &Connection, link: &ShortLink) -> Result<()> {
    db.prepare_cached("UPDATE short_link SET doc = ?2, address = ?3 WHERE code = ?1")?
        .execute(params![link.code, json(link), link.to.key()])
        .map(drop)
}

fn put_review(db: &Connection, review: &Review) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO review (id, merchant, outlet, source, stars, answered, address, left_at, doc) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)
         ON CONFLICT DO UPDATE SET stars = excluded.stars, answered = excluded.answered, address = excluded.address,
             doc = excluded.doc",
    )?
    .execute(params![
        review.id.as_bytes(),
        review.merchant.as_bytes(),
        review.outlet.map(|outlet| *outlet.as_bytes()),
        review.source.as_bytes(),
        review.stars,
        review.answer.is_some(),
        review.to.as_ref().map(uzel_model::Address::key).unwrap_or_default(),
        ms(review.left_at),
        json(review),
    ])
    .map(drop)
}

fn count(db: &Connection, link: &ShortLink, shifts: &[Shift]) -> Result<()> {
    for shift in shifts {
        db.prepare_cached(
            "INSERT INTO review_count (merchant, outlet, source, channel, day, what, count) VALUES (?1,?2,?3,?4,?5,?6,?7)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )?
        .execute(params![
            link.merchant.as_bytes(),
            link.outlet.map_or(NO_OUTLET, |outlet| *outlet.as_bytes()),
            link.source.as_bytes(),
            shift.channel.name(),
            link.day,
            shift.what,
            shift.by
        ])?;
    }
    Ok(())
}

/// Whether the link is there.
pub(super) fn hear(db: &Connection, code: [u8; 16], news: &LinkNews) -> Result<bool> {
    let Some(mut link) = link(db, code)? else { return Ok(false) };
    let before = link.clone();
    let shifts = link.hear(news);
    if link != before {
        put_link(db, &link)?;
        count(db, &link, &shifts)?;
    }
    Ok(true)
}

/// Whether the review stood as it was seen. Nothing is written else.
pub(super) fn leave(db: &Connection, left: &LeftReview) -> Result<bool> {
    let Some(mut link) = link(db, left.code)?.filter(|link| link.purpose == LinkPurpose::Review) else { return Ok(false) };
    let before = link.review.map(|id| review(db, id)).transpose()?.flatten();
    let Some((review, shifts)) = link.review(before, left) else { return Ok(false) };
    put_review(db, &review)?;
    put_link(db, &link)?;
    count(db, &link, &shifts)?;
    Ok(true)
}

/// Whether the review had no answer. Nothing is written else.
pub(super) fn reply(db: &Connection, reply: &ReviewReply) -> Result<bool> {
    let Some(mut review) = review(db, reply.review)?.filter(|review| review.answer.is_none()) else { return Ok(false) };
    review.answer = Some(reply.answer.clone());
    put_review(db, &review).map(|()| true)
}

pub(super) fn list(db: &Connection, filter: &ReviewFilter) -> Result<Vec<Review>> {
    let mut sql = "SELECT doc FROM review WHERE true".to_owned();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut with = |condition: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ?{}", values.len()));
        }
    };
    let bytes = |id: Option<Id>| id.map(|id| Box::new(*id.as_bytes()) as Box<dyn ToSql>);
    with("merchant =", bytes(filter.merchant));
    with("outlet =", bytes(filter.outlet));
    with("source =", bytes(filter.source));
    with("stars =", filter.stars.map(|stars| Box::new(stars) as Box<dyn ToSql>));
    with("answered =", filter.answered.map(|answered| Box::new(answered) as Box<dyn ToSql>));
    with("id <", bytes(filter.before));
    sql.push_str(&format!(" ORDER BY id DESC LIMIT {}", filter.limit));
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    db.prepare_cached(&sql)?.query_map(&values[..], |row| doc(0, row))?.collect()
}

pub(super) fn counts(db: &Connection, merchant: Id, from: i32, to: i32) -> Result<Vec<ReviewCount>> {
    db.prepare_cached(
        "SELECT outlet, source, channel, what, sum(count) FROM review_count WHERE merchant = ?1 AND day BETWEEN ?2 AND ?3
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
    )?
    .query_map(params![merchant.as_bytes(), from, to], |row| {
        Ok(ReviewCount {
            outlet: maybe_id(Kind::Outlet, 0, row)?.filter(|outlet| *outlet.as_bytes() != NO_OUTLET),
            source: super::id(Kind::Connection, 1, row)?,
            channel: channel(row.get_ref(2)?.as_str()?),
            what: row.get(3)?,
            count: row.get(4)?,
        })
    })?
    .collect()
}

/// Forgets who left reviews and what they wrote, with the links to them, and what was noted of their comments.
pub(super) fn forget(db: &Connection, merchant: Id, address: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM short_link WHERE merchant = ?1 AND address = ?2")?
        .execute(params![merchant.as_bytes(), address])?;
    let reviews: Vec<Review> = db
        .prepare_cached("SELECT doc FROM review WHERE merchant = ?1 AND address = ?2")?
        .query_map(params![merchant.as_bytes(), address], |row| doc(0, row))?
        .collect::<Result<_>>()?;
    for mut review in reviews {
        review.forget();
        put_review(db, &review)?;
        db.prepare_cached("DELETE FROM notice WHERE merchant = ?1 AND kind = ?2")?
            .execute(params![merchant.as_bytes(), format!("comment/{}", review.id)])?;
    }
    Ok(())
}

/// Retention: links that ended, and reviews that were left, before a moment. Their counts stay.
pub(super) fn purge(db: &Connection, merchant: Option<Id>, before: Timestamp) -> Result<()> {
    let of = merchant.map(|merchant| *merchant.as_bytes());
    for sql in [
        "DELETE FROM short_link WHERE expires_at < ?1 AND (?2 IS NULL OR merchant = ?2)",
        "DELETE FROM review WHERE left_at < ?1 AND (?2 IS NULL OR merchant = ?2)",
    ] {
        db.prepare_cached(sql)?.execute(params![ms(before), of])?;
    }
    Ok(())
}
