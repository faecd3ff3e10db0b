//! What is counted for a digest: each connection's rows are found by its index, within a range of ordinals.

use rusqlite::{Connection, Result, params};
use uzel_model::{Id, id::Kind};

use super::ms;
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
