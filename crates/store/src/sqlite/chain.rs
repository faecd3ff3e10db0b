//! Chains of messages: what follows a settlement, what news of a message change, and what messages cost.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Id, Job, Price, Refusal, Timestamp, connector::StatusNews, id::Kind, port::Delivery};

use super::{bounce, consent, doc, id, journal, maybe_id, ms, outbox, tally::Tally};
use crate::{
    CommandState, Early, EntryState, Follow, Message, NewCommand, PhoneHash, Spent, Step,
    chain::{DELIVERED, EARLY_FOR_MS, OPT_OUT, Purse, becomes, delivery, delivery_number, month, shift},
    consent::refused,
    numbers::{command_state, entry_tally},
};

/// Notes which command follows a settled one. `held`: the settled one was called off meanwhile.
pub(super) fn follow(db: &Connection, settled: Id, ends: CommandState, step: &Step, held: Option<&str>) -> Result<()> {
    let Some(next) = &step.next else { return Ok(()) };
    db.prepare_cached("INSERT INTO step (command, after, why) VALUES (?1, ?2, ?3)")?.execute(params![
        next.command.ordinal(),
        settled.ordinal(),
        next.why
    ])?;
    if ends == CommandState::Dead && held.is_none() {
        move_slot(db, settled.ordinal(), next.command.ordinal())?;
    }
    Ok(())
}

/// Notes what follows a message that is unknown; whether it is so still, and nothing else follows.
pub(super) fn go_on(db: &Connection, follow: &Follow) -> Result<bool> {
    let put = db
        .prepare_cached(
            "INSERT OR IGNORE INTO step (command, after, why) SELECT ?1, ordinal, ?3 FROM command WHERE ordinal = ?2 AND state = 4",
        )?
        .execute(params![follow.next.command.ordinal(), follow.after.ordinal(), follow.next.why])?;
    Ok(put == 1)
}

/// The place that a chain holds goes over to its next step.
fn move_slot(db: &Connection, from: i64, to: i64) -> Result<()> {
    db.prepare_cached("UPDATE slot SET command = ?2 WHERE command = ?1")?.execute([from, to]).map(drop)
}

/// A command of a change as it is queued: held back where it follows one that was called off.
pub(super) fn queued<'a>(new: &'a NewCommand, step: Option<&Step>, held: Option<&str>) -> std::borrow::Cow<'a, NewCommand> {
    let follows = step.and_then(|step| step.next.as_ref()).is_some_and(|next| next.command == new.command.id);
    match held {
        Some(reason) if follows => {
            std::borrow::Cow::Owned(NewCommand { held: Some(reason.to_owned()), slot: None, ..new.clone() })
        }
        _ => std::borrow::Cow::Borrowed(new),
    }
}

/// A message that a provider took. News that came before are read again.
pub(super) fn sent(
    db: &Connection,
    (connection, provider): (Id, &str),
    provider_id: &str,
    command: i64,
    at: Timestamp,
    step: Option<&Step>,
    tally: &mut Tally,
) -> Result<u32> {
    let channel = step.map(|step| step.channel.name());
    let put = db
        .prepare_cached(
            "INSERT OR IGNORE INTO sent (connection, provider_id, command, at, state, channel, provider) VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)",
        )?
        .execute(params![connection.as_bytes(), provider_id, command, ms(at), channel, channel.map(|_| provider)])?;
    if put == 0 {
        return Ok(0);
    }
    if let Some(price) = step.and_then(|step| step.price.as_ref()) {
        spend(db, connection, provider_id, price)?;
    }
    let entries: Vec<i64> = db
        .prepare_cached("DELETE FROM early WHERE connection = ?1 AND provider_id = ?2 RETURNING entry")?
        .query_map(params![connection.as_bytes(), provider_id], |row| row.get(0))?
        .collect::<Result<_>>()?;
    entries.into_iter().try_fold(0, |count, entry| Ok(count + u32::from(read_again(db, entry, tally)?)))
}

/// Keeps where news stand of messages that are not known. Where one has become known meanwhile, they are read again.
pub(super) fn keep_early(db: &Connection, early: &[Early], now: i64, tally: &mut Tally) -> Result<u32> {
    let mut again = 0;
    for Early { connection, provider_id, entry } in early {
        db.prepare_cached("DELETE FROM early WHERE at < ?1")?.execute([now - EARLY_FOR_MS])?;
        let known = db
            .prepare_cached("SELECT 1 FROM sent s CROSS JOIN command c ON c.ordinal = s.command WHERE s.connection = ?1 AND s.provider_id = ?2")?
            .exists(params![connection.as_bytes(), provider_id])?;
        if known {
            again += u32::from(read_again(db, entry.ordinal(), tally)?);
        } else {
            db.prepare_cached("INSERT OR IGNORE INTO early VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                connection.as_bytes(),
                provider_id,
                entry.ordinal(),
                now
            ])?;
        }
    }
    Ok(again)
}

/// An entry is unread again; what it told before stays told.
fn read_again(db: &Connection, entry: i64, tally: &mut Tally) -> Result<bool> {
    if !db.prepare_cached("SELECT 1 FROM inbox WHERE ordinal = ?1")?.exists([entry])? {
        return Ok(false);
    }
    let before = journal::state_of(db, entry)?;
    if before == EntryState::Unread {
        return Ok(false);
    }
    db.prepare_cached("DELETE FROM outcome WHERE entry = ?1")?.execute([entry])?;
    db.prepare_cached("INSERT INTO unread VALUES (?1)")?.execute([entry])?;
    tally.shift(entry_tally(before), entry_tally(EntryState::Unread));
    Ok(true)
}

/// What became of a message, and of what was to follow it.
pub(super) fn news(
    db: &Connection,
    connection: Id,
    news: &StatusNews,
    now: i64,
    phones: Option<&PhoneHash>,
    tally: &mut Tally,
) -> Result<()> {
    let found: Option<(i64, i64)> = db
        .prepare_cached("SELECT command, state FROM sent WHERE connection = ?1 AND provider_id = ?2")?
        .query_row(params![connection.as_bytes(), news.provider_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((command, state)) = found else { return Ok(()) };
    if let Some(price) = news.cost.as_ref().and_then(Price::read) {
        spend(db, connection, &news.provider_id, &price)?;
    }
    let Some(state) = becomes(delivery(state), news.state) else { return Ok(()) };
    db.prepare_cached("UPDATE sent SET state = ?3, code = ?4 WHERE connection = ?1 AND provider_id = ?2")?.execute(params![
        connection.as_bytes(),
        news.provider_id,
        delivery_number(state),
        news.code
    ])?;
    let wants_none = news.refusal == Some(Refusal::OptOut);
    if wants_none && let Some((merchant, to)) = receiver(db, command)? {
        let at = Timestamp::from_millisecond(now).unwrap_or_default();
        consent::put(db, &refused(merchant, &to, at), phones)?;
    }
    if news.bounced
        && state == Delivery::Failed
        && let Some((merchant, to)) = receiver(db, command)?
    {
        bounce::count(db, merchant, &to, &news.code, now, phones)?;
    }
    let next: Option<(i64, u8, i64, bool)> = db
        .prepare_cached(
            "SELECT c.ordinal, c.state, c.order_key, EXISTS (SELECT 1 FROM sending WHERE command = c.ordinal)
             FROM step s CROSS JOIN command c ON c.ordinal = s.command WHERE s.after = ?1",
        )?
        .query_row([command], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let has_failed = state == Delivery::Failed;
    let Some((next, next_state, order_key, being_sent)) = next else {
        // A message that reached nobody has asked nobody.
        if has_failed {
            db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
        }
        return Ok(());
    };
    let next_state = command_state(next_state);
    if has_failed && !wants_none {
        let may_reach = !matches!(next_state, CommandState::Dead | CommandState::Held);
        if may_reach {
            move_slot(db, command, next)?;
        } else {
            db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
        }
        if next_state == CommandState::Waiting && !being_sent {
            db.prepare_cached("UPDATE command SET due_at = min(due_at, ?2), next_at = min(next_at, ?2) WHERE ordinal = ?1")?
                .execute([next, now])?;
            let why = format!("; it failed with {}", news.code);
            db.prepare_cached("UPDATE step SET why = why || ?2 WHERE command = ?1")?.execute(params![next, why])?;
        }
        return Ok(());
    }
    let reason = if wants_none { OPT_OUT } else { DELIVERED };
    match (next_state, being_sent) {
        (CommandState::Waiting, true) => {
            db.prepare_cached("UPDATE sending SET called_off = ?2 WHERE command = ?1")?.execute(params![next, reason]).map(drop)
        }
        (CommandState::Waiting, false) => outbox::hold_back(db, next, order_key, CommandState::Waiting, reason, tally),
        _ => Ok(()),
    }
}

/// Which merchant's guest a message went to, by the key of their address.
fn receiver(db: &Connection, command: i64) -> Result<Option<(Id, String)>> {
    let (merchant, job): (Id, Job) = db
        .prepare_cached("SELECT merchant, job FROM command WHERE ordinal = ?1")?
        .query_row([command], |row| Ok((id(Kind::Merchant, 0, row)?, doc(1, row)?)))?;
    Ok(job.address().map(|to| (merchant, to.key())))
}

/// What a message cost; what was told last counts.
fn spend(db: &Connection, connection: Id, provider_id: &str, price: &Price) -> Result<()> {
    let found = db
        .prepare_cached(
            "SELECT s.cost_micro, s.currency, s.at, s.channel, s.provider, c.merchant, c.flow FROM sent s
             CROSS JOIN command c ON c.ordinal = s.command WHERE s.connection = ?1 AND s.provider_id = ?2",
        )?
        .query_row(params![connection.as_bytes(), provider_id], |row| {
            let before: (Option<i64>, Option<String>) = (row.get(0)?, row.get(1)?);
            let flow = maybe_id(Kind::Flow, 6, row)?;
            let purse = Purse {
                merchant: id(Kind::Merchant, 5, row)?,
                month: month(super::time(2, row)?),
                flow: flow.map(|flow| flow.to_string()).unwrap_or_default(),
                channel: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                provider: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
            };
            Ok((before, purse))
        })
        .optional()?;
    let Some((before, purse)) = found else { return Ok(()) };
    let before = before.0.zip(before.1).map(|(micro, currency)| Price { micro, currency });
    for (currency, micro, messages) in shift(before.as_ref(), price) {
        db.prepare_cached(
            "INSERT INTO spent VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET micro = micro + excluded.micro, messages = messages + excluded.messages",
        )?
        .execute(params![
            purse.merchant.as_bytes(),
            purse.month,
            purse.flow,
            purse.channel,
            purse.provider,
            currency,
            micro,
            messages
        ])?;
    }
    db.prepare_cached("UPDATE sent SET cost_micro = ?3, currency = ?4 WHERE connection = ?1 AND provider_id = ?2")?
        .execute(params![connection.as_bytes(), provider_id, price.micro, price.currency])
        .map(drop)
}

pub(super) fn messages(db: &Connection, connection: Id, provider_ids: &[String]) -> Result<Vec<Message>> {
    let mut one = db.prepare_cached(
        "SELECT c.id, c.flow, c.event, s.state FROM sent s CROSS JOIN command c ON c.ordinal = s.command
         WHERE s.connection = ?1 AND s.provider_id = ?2",
    )?;
    let mut found = Vec::new();
    for provider_id in provider_ids {
        let message = one
            .query_row(params![connection.as_bytes(), provider_id], |row| {
                Ok(Message {
                    provider_id: provider_id.clone(),
                    command: id(Kind::Command, 0, row)?,
                    flow: maybe_id(Kind::Flow, 1, row)?,
                    event: maybe_id(Kind::Event, 2, row)?,
                    state: delivery(row.get(3)?),
                })
            })
            .optional()?;
        found.extend(message);
    }
    Ok(found)
}

pub(super) fn costs(db: &Connection, merchant: Id, month: &str) -> Result<Vec<Spent>> {
    db.prepare_cached(
        "SELECT flow, channel, provider, currency, micro, messages FROM spent WHERE merchant = ?1 AND month = ?2 AND messages > 0
         ORDER BY flow, channel, provider, currency",
    )?
    .query_map(params![merchant.as_bytes(), month], |row| {
        Ok(Spent {
            flow: row.get::<_, String>(0)?.parse().ok(),
            channel: row.get(1)?,
            provider: row.get(2)?,
            currency: row.get(3)?,
            micro: row.get(4)?,
            messages: row.get::<_, i64>(5)?.unsigned_abs(),
        })
    })?
    .collect()
}
