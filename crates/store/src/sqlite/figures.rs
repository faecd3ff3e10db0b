//! What is counted for a digest: each connection's rows are found by its index, within a range of ordinals.

use rusqlite::{Connection, Result, params};
use uzel_model::{Id, id::Kind};

use super::{maybe_id, ms};
use crate::{
    CostFigure, EventFigure, Figures, FiguresOf, MessageFigure, PointsFigure, PointsFigures, PointsOf,
    figures::{QUARTER_MS, quarter},
    loyalty::{book, move_kind},
    numbers::command_state,
};

pub(super) fn count(db: &Connection, of: &FiguresOf) -> Result<Figures> {
    let (floor, ceiling) = (Id::least(Kind::Event, of.from).ordinal(), Id::least(Kind::Event, of.to).ordinal());
    // The first 48 of an ordinal's 60 bits are milliseconds.
    let mut events = db.prepare_cached(
        "SELECT (ordinal >> 12) / ?1, count(*) FROM event INDEXED BY event_kind
         WHERE connection = ?2 AND kind = ?3 AND ordinal >= ?4 AND ordinal < ?5 GROUP BY 1",
    )?;
    let mut messages = db.prepare_cached(
        "SELECT state, CASE state WHEN 5 THEN ifnull(reason, '') ELSE '' END, flow IS NOT NULL, count(*)
         FROM command INDEXED BY command_connection
         WHERE connection = ?1 AND ordinal >= ?2 AND ordinal < ?3 AND job ->> 'job' = 'send' GROUP BY 1, 2, 3",
    )?;
    let mut costs = db.prepare_cached(
        "SELECT currency, sum(cost_micro), count(*) FROM sent INDEXED BY sent_cost
         WHERE connection = ?1 AND at >= ?2 AND at < ?3 AND cost_micro IS NOT NULL GROUP BY 1",
    )?;
    let mut figures = Figures::default();
    for connection in &of.connections {
        for kind in &of.kinds {
            let rows = events.query_map(params![QUARTER_MS, connection.as_bytes(), kind, floor, ceiling], |row| {
                Ok(EventFigure { kind: kind.clone(), at: quarter(row.get(0)?), count: row.get::<_, i64>(1)?.unsigned_abs() })
            })?;
            for row in rows {
                figures.events.push(row?);
            }
        }
        let rows = messages.query_map(params![connection.as_bytes(), floor, ceiling], |row| {
            Ok(MessageFigure {
                state: command_state(row.get(0)?),
                reason: row.get(1)?,
                of_flow: row.get(2)?,
                count: row.get::<_, i64>(3)?.unsigned_abs(),
            })
        })?;
        for row in rows {
            figures.messages.push(row?);
        }
        let rows = costs.query_map(params![connection.as_bytes(), ms(of.from), ms(of.to)], |row| {
            Ok(CostFigure { currency: row.get(0)?, micro: row.get(1)?, count: row.get::<_, i64>(2)?.unsigned_abs() })
        })?;
        for row in rows {
            figures.costs.push(row?);
        }
    }
    Ok(figures.sorted())
}

pub(super) fn points(db: &Connection, of: &PointsOf) -> Result<PointsFigures> {
    let (first, end) = of.movements();
    let mut sums = db.prepare_cached(
        "SELECT outlet, kind, from_book, to_book, sum(points), count(*) FROM ledger INDEXED BY ledger_merchant
         WHERE merchant = ?1 AND id >= ?2 AND id < ?3 AND at >= ?4 AND at < ?5 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
    )?;
    let within = params![of.merchant.as_bytes(), first.as_bytes(), end.as_bytes(), ms(of.from), ms(of.to)];
    let sums = sums.query_map(within, |row| {
        Ok(PointsFigure {
            outlet: row.get::<_, Option<[u8; 16]>>(0)?.map(|bytes| Id::from_bytes(Kind::Outlet, bytes)),
            kind: move_kind(row.get(1)?),
            from: book(row.get(2)?),
            to: book(row.get(3)?),
            points: row.get(4)?,
            count: row.get::<_, i64>(5)?.unsigned_abs(),
        })
    })?;
    let sums = sums.collect::<Result<_>>()?;
    let (first, end) = of.customers();
    let joined: i64 = db
        .prepare_cached("SELECT count(*) FROM wallet INDEXED BY wallet_merchant WHERE merchant = ?1 AND id >= ?2 AND id < ?3")?
        .query_row(params![of.merchant.as_bytes(), first.as_bytes(), end.as_bytes()], |row| row.get(0))?;
    Ok(PointsFigures { sums, joined: joined.unsigned_abs() })
}

/// Commands that wait, by their keys: the first of a key is found by its connection, those behind it by the key.
pub(super) fn waiting(db: &Connection, connections: &[Id], kind: &str, limit: usize) -> Result<u64> {
    let mut waiting = db.prepare_cached(
        "SELECT c.event FROM command d INDEXED BY command_due JOIN command c INDEXED BY command_order ON c.order_key = d.order_key
         WHERE d.state = 0 AND d.behind = 0 AND d.connection = ?1 AND c.state = 0 AND c.connection = ?1 AND c.event IS NOT NULL LIMIT ?2",
    )?;
    let mut of_kind = db.prepare_cached("SELECT 1 FROM event WHERE ordinal = ?1 AND substr(kind, 1, length(?2)) = ?2")?;
    let (mut seen, mut count) = (0, 0);
    for connection in connections {
        let mut rows = waiting.query(params![connection.as_bytes(), (limit - seen) as i64])?;
        while let Some(row) = rows.next()? {
            seen += 1;
            let event = maybe_id(Kind::Event, 0, row)?;
            count += event.map_or(Ok(false), |event| of_kind.exists(params![event.ordinal(), kind])).map(u64::from)?;
        }
    }
    Ok(count)
}
