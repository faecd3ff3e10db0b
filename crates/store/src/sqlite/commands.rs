//! Commands for people: pages of them, newest first, and how one is called off.

use rusqlite::{Connection, OptionalExtension, Result, ToSql, params};
use uzel_model::{Id, id::Kind};

use super::{events, maybe_id, outbox, tally::Tally, timeline};
use crate::{
    Cancelled, CommandFilter, CommandState, TimelineCommand,
    feed::PAGE_MAX,
    numbers::{command_number, command_state},
};

/// Where commands of a state stand together, they are looked through; else each connection's newest are found by its index.
pub(super) fn page(db: &Connection, filter: &CommandFilter) -> Result<Vec<(Id, TimelineCommand)>> {
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let (floor, ceiling) = events::bounds(filter.from, filter.to, filter.before);
    let mut conditions = String::new();
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(floor), Box::new(ceiling)];
    let mut add = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        conditions.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(merchant) = filter.merchant {
        add("c.merchant = ?", Box::new(*merchant.as_bytes()));
    }
    if let Some(connection) = filter.connection {
        add("c.connection = ?", Box::new(*connection.as_bytes()));
    }
    if let Some(event) = filter.event {
        add("c.entry = (SELECT entry FROM event WHERE ordinal = ?)", Box::new(event.ordinal()));
        add("c.event = ?", Box::new(*event.as_bytes()));
    }
    let sending = "c.ordinal IN (SELECT command FROM sending)";
    let (state, together) = match filter.state {
        None => (String::new(), false),
        Some(CommandState::Sending) => (format!(" AND {sending}"), true),
        Some(CommandState::Waiting) => (format!(" AND c.state = 0 AND NOT {sending}"), true),
        Some(CommandState::Done) => (" AND c.state = 2".to_owned(), false),
        // With the index's own condition, so that it can be used.
        Some(state) => (format!(" AND c.state >= 3 AND c.state = {}", command_number(state)), true),
    };
    let found_by = match filter.state {
        _ if filter.event.is_some() => "INDEXED BY command_entry",
        Some(CommandState::Waiting) => "INDEXED BY command_order",
        Some(CommandState::Dead | CommandState::Unknown | CommandState::Held) => "INDEXED BY command_trouble",
        _ => "",
    };
    let mut ordinals: Vec<i64> = Vec::new();
    let one_scope = filter.event.is_some() || together || (filter.merchant.is_none() && filter.connection.is_none());
    let scopes = if one_scope {
        vec![None]
    } else {
        events::connections(db, filter.merchant, filter.connection)?.into_iter().map(Some).collect()
    };
    for scope in scopes {
        let (index, of) = match &scope {
            Some(_) => ("INDEXED BY command_connection", format!(" AND c.connection = ?{}", values.len() + 1)),
            None => (found_by, String::new()),
        };
        let sql = format!(
            "SELECT c.ordinal FROM command c {index} WHERE c.ordinal > ?1 AND c.ordinal < ?2{conditions}{state}{of}
             ORDER BY c.ordinal DESC LIMIT {limit}"
        );
        let bound: Vec<&dyn ToSql> =
            values.iter().map(AsRef::as_ref).chain(scope.as_ref().map(|scope| scope as &dyn ToSql)).collect();
        let rows = db.prepare_cached(&sql)?.query_map(&bound[..], |row| row.get(0))?.collect::<Result<Vec<i64>>>()?;
        ordinals.extend(rows);
        ordinals.sort_unstable_by_key(|ordinal| std::cmp::Reverse(*ordinal));
        ordinals.truncate(limit);
        if let Some(last) = ordinals.get(limit - 1) {
            // Only what is newer than the last of a full page can still come into it.
            values[0] = Box::new(*last);
        }
    }
    timeline::commands(db, &ordinals)
}

/// Holds a command back that waits; the next of its key steps forward, and its slot is free again.
pub(super) fn cancel(db: &Connection, command: Id, reason: &str, tally: &mut Tally) -> Result<Cancelled> {
    let found: Option<(u8, bool)> = db
        .prepare_cached(
            "SELECT state, EXISTS (SELECT 1 FROM sending WHERE command = ordinal) FROM command WHERE ordinal = ?1 AND id = ?2",
        )?
        .query_row(params![command.ordinal(), command.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        None => Ok(Cancelled::Unknown),
        Some((_, true)) => Ok(Cancelled::Sending),
        Some((state, false)) if command_state(state) != CommandState::Waiting => Ok(Cancelled::Ended(command_state(state))),
        Some(_) => {
            hold(db, command.ordinal(), reason, tally)?;
            Ok(Cancelled::Held)
        }
    }
}

/// Holds back a command that waits and is not being sent. The event of a look-up is told as it is.
pub(super) fn hold(db: &Connection, command: i64, reason: &str, tally: &mut Tally) -> Result<()> {
    let (order_key, event): (i64, Option<Id>) = db
        .prepare_cached("SELECT order_key, event FROM command WHERE ordinal = ?1")?
        .query_row([command], |row| Ok((row.get(0)?, maybe_id(Kind::Event, 1, row)?)))?;
    if let Some(event) = event {
        let looks_up = db.prepare_cached("SELECT 1 FROM command WHERE ordinal = ?1 AND repeatable")?.exists([command])?;
        if looks_up {
            events::close(db, event)?;
        }
    }
    db.prepare_cached("UPDATE command SET state = ?2, reason = ?3 WHERE ordinal = ?1")?.execute(params![
        command,
        command_number(CommandState::Held),
        reason
    ])?;
    db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
    outbox::left(db, order_key, CommandState::Held, Some(reason), tally)
}
