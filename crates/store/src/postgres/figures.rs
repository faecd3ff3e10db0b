//! What is counted for a digest: each connection's rows are found by its index, within a range of ids.

use deadpool_postgres::Object;
use uuid::Uuid;
use uzel_model::{Id, id::Kind};

use super::{failed, get, uuid};
use crate::{
    CostFigure, EventFigure, Figures, FiguresOf, MessageFigure, PointsFigure, PointsFigures, PointsOf, StoreError,
    figures::{QUARTER_MS, quarter},
    loyalty::{book, move_kind},
    numbers::command_state,
};

pub(super) async fn count(client: &mut Object, of: &FiguresOf) -> Result<Figures, StoreError> {
    let (floor, ceiling) = (uuid(Id::least(Kind::Event, of.from)), uuid(Id::least(Kind::Event, of.to)));
    let connections: Vec<Uuid> = of.connections.iter().copied().map(uuid).collect();
    let work = super::snapshot(client).await?;
    // The first 48 bits of an id are milliseconds.
    let events = work
        .prepare_cached(
            "SELECT kind, ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / $1 AS quarter, count(*) FROM event
             WHERE connection = ANY($2) AND kind = ANY($3) AND id >= $4 AND id < $5 GROUP BY 1, 2",
        )
        .await
        .map_err(failed)?;
    let messages = work
        .prepare_cached(
            "SELECT state, CASE state WHEN 5 THEN coalesce(reason, '') ELSE '' END, flow IS NOT NULL, count(*) FROM command
             WHERE connection = ANY($1) AND id >= $2 AND id < $3 AND job::json ->> 'job' = 'send' GROUP BY 1, 2, 3",
        )
        .await
        .map_err(failed)?;
    let costs = work
        .prepare_cached(
            "SELECT currency, sum(cost_micro)::bigint, count(*) FROM sent
             WHERE connection = ANY($1) AND at >= $2 AND at < $3 AND cost_micro IS NOT NULL GROUP BY 1",
        )
        .await
        .map_err(failed)?;
    let mut figures = Figures::default();
    for row in work.query(&events, &[&QUARTER_MS, &connections, &of.kinds, &floor, &ceiling]).await.map_err(failed)? {
        let count: i64 = get(&row, 2)?;
        figures.events.push(EventFigure { kind: get(&row, 0)?, at: quarter(get(&row, 1)?), count: count.unsigned_abs() });
    }
    for row in work.query(&messages, &[&connections, &floor, &ceiling]).await.map_err(failed)? {
        let (state, count): (i16, i64) = (get(&row, 0)?, get(&row, 3)?);
        let state = command_state(u8::try_from(state).unwrap_or_default());
        figures.messages.push(MessageFigure {
            state,
            reason: get(&row, 1)?,
            of_flow: get(&row, 2)?,
            count: count.unsigned_abs(),
        });
    }
    for row in work.query(&costs, &[&connections, &of.from, &of.to]).await.map_err(failed)? {
        let count: i64 = get(&row, 2)?;
        figures.costs.push(CostFigure { currency: get(&row, 0)?, micro: get(&row, 1)?, count: count.unsigned_abs() });
    }
    work.commit().await.map_err(failed)?;
    Ok(figures.sorted())
}

pub(super) const POINTS: &str = "SELECT outlet, kind, from_book, to_book, sum(points)::bigint, count(*) FROM ledger
    WHERE merchant = $1 AND id >= $2 AND id < $3 AND at >= $4 AND at < $5 GROUP BY 1, 2, 3, 4 ORDER BY 1 NULLS FIRST, 2, 3, 4";
pub(super) const JOINED: &str = "SELECT count(*) FROM wallet WHERE merchant = $1 AND id >= $2 AND id < $3";

pub(super) async fn points(client: &mut Object, of: &PointsOf) -> Result<PointsFigures, StoreError> {
    let work = super::snapshot(client).await?;
    let (sums, joined) = (work.prepare_cached(POINTS).await.map_err(failed)?, work.prepare_cached(JOINED).await.map_err(failed)?);
    let merchant = uuid(of.merchant);
    let (first, end) = of.movements();
    let rows = work.query(&sums, &[&merchant, &uuid(first), &uuid(end), &of.from, &of.to]).await.map_err(failed)?;
    let number = |row: &_, column| get::<i16>(row, column).map(|number| u8::try_from(number).unwrap_or_default());
    let sums = rows.iter().map(|row| {
        let count: i64 = get(row, 5)?;
        Ok(PointsFigure {
            outlet: get::<Option<Uuid>>(row, 0)?.map(|outlet| Id::from_bytes(Kind::Outlet, *outlet.as_bytes())),
            kind: move_kind(number(row, 1)?),
            from: book(number(row, 2)?),
            to: book(number(row, 3)?),
            points: get(row, 4)?,
            count: count.unsigned_abs(),
        })
    });
    let sums = sums.collect::<Result<_, StoreError>>()?;
    let (first, end) = of.customers();
    let row = work.query_one(&joined, &[&merchant, &uuid(first), &uuid(end)]).await.map_err(failed)?;
    let joined: i64 = get(&row, 0)?;
    work.commit().await.map_err(failed)?;
    Ok(PointsFigures { sums, joined: joined.unsigned_abs() })
}

/// Commands that wait, by their keys: the first of a key is found by its connection, those behind it by the key.
pub(crate) const WAITING: &str = "SELECT count(*) FILTER (WHERE starts_with(e.kind, $2)) FROM (
        SELECT c.event FROM waiting d
            CROSS JOIN LATERAL (SELECT command FROM waiting WHERE order_key = d.order_key AND connection = d.connection OFFSET 0) AS w
            CROSS JOIN LATERAL (SELECT event FROM command WHERE id = w.command OFFSET 0) AS c
        WHERE d.connection = ANY($1) AND NOT d.behind AND c.event IS NOT NULL LIMIT $3) AS w
    CROSS JOIN LATERAL (SELECT kind FROM event WHERE id = w.event OFFSET 0) AS e";

pub(super) async fn waiting(client: &Object, connections: &[Id], kind: &str, limit: usize) -> Result<u64, StoreError> {
    let connections: Vec<Uuid> = connections.iter().copied().map(uuid).collect();
    let statement = client.prepare_cached(WAITING).await.map_err(failed)?;
    let count: i64 = get(&client.query_one(&statement, &[&connections, &kind, &(limit as i64)]).await.map_err(failed)?, 0)?;
    Ok(count.unsigned_abs())
}
