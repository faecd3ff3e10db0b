//! Chains of messages: what follows a settlement, what news of a message change, and what messages cost.

use std::collections::BTreeSet;

use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;
use uzel_model::{Id, Job, Price, Refusal, Timestamp, connector::StatusNews, id::Kind, port::Delivery};

use super::{
    bounce, consent, doc, failed, get, id,
    journal::{self, text},
    lanes::Fault,
    maybe_id,
    outbox::{self, Ended},
    uuid,
    work::Gathered,
};
use crate::{
    Change, CommandState, Early, EntryState, Follow, Message, PhoneHash, Settlement, Spent, Step, StoreError,
    chain::{DELIVERED, EARLY_FOR_MS, OPT_OUT, Purse, becomes, delivery, delivery_number, month, shift},
    consent::refused,
    numbers::{command_number, command_state, entry_tally, key},
};

/// Who makes a message known, and who finds that it is not, go one after another.
pub(super) fn locks(change: &Change, locks: &mut BTreeSet<i64>) {
    let lock = |connection: Id, provider_id: &str| key(&format!("early/{connection}/{provider_id}"));
    locks.extend(change.early.iter().map(|early| lock(early.connection, &early.provider_id)));
    if let Some(Settlement { state: CommandState::Done, provider_id: Some(provider_id), exchanges, .. }) = &change.settlement
        && let Some(exchange) = exchanges.last()
    {
        locks.insert(lock(exchange.connection, provider_id));
    }
    if let Some(call) = change.settlement.as_ref().and_then(|settlement| settlement.exchanges.last()) {
        let ids = change.parts.iter().filter_map(|part| part.provider_id.as_deref());
        locks.extend(ids.map(|provider_id| lock(call.connection, provider_id)));
    }
}

/// Ordering keys of what follows the messages of which these changes tell.
pub(super) async fn keys(work: &Transaction<'_>, changes: impl Iterator<Item = &Change>) -> Result<Vec<i64>, Fault> {
    let (mut connections, mut provider_ids) = (Vec::new(), Vec::new());
    for (connection, news) in changes.flat_map(|change| &change.statuses) {
        connections.push(uuid(*connection));
        provider_ids.push(text(&news.provider_id).into_owned());
    }
    if connections.is_empty() {
        return Ok(Vec::new());
    }
    let statement = work
        .prepare_cached(
            "SELECT w.order_key FROM unnest($1::uuid[], $2::text[]) AS n (connection, provider_id)
             JOIN sent s ON s.connection = n.connection AND s.provider_id = n.provider_id
             JOIN step f ON f.after = s.command JOIN waiting w ON w.command = f.command",
        )
        .await?;
    work.query(&statement, &[&connections, &provider_ids]).await?.iter().map(|row| Ok(get(row, 0)?)).collect()
}

/// Notes which command follows a settled one. `held`: the settled one was called off meanwhile.
pub(super) async fn follow(work: &Transaction<'_>, settled: &Settlement, step: &Step, held: bool) -> Result<(), Fault> {
    let Some(next) = &step.next else { return Ok(()) };
    let put = work.prepare_cached("INSERT INTO step (command, after, why) VALUES ($1, $2, $3)").await?;
    work.execute(&put, &[&uuid(next.command), &uuid(settled.command), &text(&next.why)]).await?;
    if settled.state == CommandState::Dead && !held {
        move_slot(work, uuid(settled.command), uuid(next.command)).await?;
    }
    Ok(())
}

/// Notes what follows a message that is unknown; whether it is so still, and nothing else follows.
pub(super) async fn go_on(work: &Transaction<'_>, follow: &Follow) -> Result<bool, Fault> {
    let put = work
        .prepare_cached(
            "INSERT INTO step (command, after, why)
             SELECT $1, u.id, $3 FROM (SELECT id FROM command WHERE id = $2 AND state = 4 FOR UPDATE) AS u ON CONFLICT DO NOTHING",
        )
        .await?;
    let Follow { after, next } = follow;
    Ok(work.execute(&put, &[&uuid(next.command), &uuid(*after), &text(&next.why)]).await? == 1)
}

/// The place that a chain holds goes over to its next step.
async fn move_slot(work: &Transaction<'_>, from: Uuid, to: Uuid) -> Result<(), Fault> {
    let statement = work.prepare_cached("UPDATE slot SET command = $2 WHERE command = $1").await?;
    work.execute(&statement, &[&from, &to]).await?;
    Ok(())
}

async fn free_slot(work: &Transaction<'_>, command: Uuid) -> Result<(), Fault> {
    let statement = work.prepare_cached("DELETE FROM slot WHERE command = $1").await?;
    work.execute(&statement, &[&command]).await?;
    Ok(())
}

/// Messages are known from now on: news of them that came before are read again.
pub(super) async fn known(
    work: &Transaction<'_>,
    connections: &[Uuid],
    provider_ids: &[String],
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let statement = work
        .prepare_cached(
            "DELETE FROM early e USING unnest($1::uuid[], $2::text[]) AS n (connection, provider_id)
             WHERE e.connection = n.connection AND e.provider_id = n.provider_id RETURNING e.entry",
        )
        .await?;
    for row in work.query(&statement, &[&connections, &provider_ids]).await? {
        read_again(work, get(&row, 0)?, gathered).await?;
    }
    Ok(())
}

/// Keeps where news stand of messages that are not known. Where one has become known meanwhile, they are read again.
pub(super) async fn keep_early(
    work: &Transaction<'_>,
    early: &[Early],
    now: Timestamp,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    for Early { connection, provider_id, entry } in early {
        let over = Timestamp::from_millisecond(now.as_millisecond() - EARLY_FOR_MS).unwrap_or(Timestamp::UNIX_EPOCH);
        let forget = work.prepare_cached("DELETE FROM early WHERE at < $1").await?;
        work.execute(&forget, &[&over]).await?;
        let find = work
            .prepare_cached(
                "SELECT 1 FROM sent s JOIN command c ON c.id = s.command WHERE s.connection = $1 AND s.provider_id = $2",
            )
            .await?;
        if work.query_opt(&find, &[&uuid(*connection), &text(provider_id)]).await?.is_some() {
            read_again(work, uuid(*entry), gathered).await?;
        } else {
            let keep = work.prepare_cached("INSERT INTO early VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING").await?;
            work.execute(&keep, &[&uuid(*connection), &text(provider_id), &uuid(*entry), &now]).await?;
        }
    }
    Ok(())
}

/// An entry is unread again; what it told before stays told.
async fn read_again(work: &Transaction<'_>, entry: Uuid, gathered: &mut Gathered) -> Result<(), Fault> {
    let find = work.prepare_cached("SELECT 1 FROM inbox WHERE id = $1").await?;
    if work.query_opt(&find, &[&entry]).await?.is_none() {
        return Ok(());
    }
    let before = journal::state_of(work, entry).await?;
    if before == EntryState::Unread {
        return Ok(());
    }
    let forget = work.prepare_cached("DELETE FROM outcome WHERE entry = $1").await?;
    work.execute(&forget, &[&entry]).await?;
    let put = work.prepare_cached("INSERT INTO unread (entry, until) VALUES ($1, '-infinity') ON CONFLICT DO NOTHING").await?;
    work.execute(&put, &[&entry]).await?;
    gathered.shift(entry_tally(before), entry_tally(EntryState::Unread));
    gathered.read_again += 1;
    Ok(())
}

/// What became of a message, and of what was to follow it. The key of what follows is locked.
pub(super) async fn news(
    work: &Transaction<'_>,
    connection: Id,
    news: &StatusNews,
    now: Timestamp,
    phones: Option<&PhoneHash>,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let provider_id = text(&news.provider_id);
    let find =
        work.prepare_cached("SELECT command, state FROM sent WHERE connection = $1 AND provider_id = $2 FOR UPDATE").await?;
    let Some(row) = work.query_opt(&find, &[&uuid(connection), &provider_id]).await? else { return Ok(()) };
    let (command, state): (Uuid, i16) = (get(&row, 0)?, get(&row, 1)?);
    if let Some(price) = news.cost.as_ref().and_then(Price::read) {
        spend(work, connection, &provider_id, &price, gathered).await?;
    }
    let Some(state) = becomes(delivery(state.into()), news.state) else { return Ok(()) };
    let put = work.prepare_cached("UPDATE sent SET state = $3, code = $4 WHERE connection = $1 AND provider_id = $2").await?;
    let number = i16::from(delivery_number(state));
    work.execute(&put, &[&uuid(connection), &provider_id, &number, &text(&news.code)]).await?;
    let wants_none = news.refusal == Some(Refusal::OptOut);
    if wants_none && let Some((merchant, to)) = receiver(work, command).await? {
        consent::put(work, &refused(merchant, &to, now), phones).await?;
    }
    if news.bounced
        && state == Delivery::Failed
        && let Some((merchant, to)) = receiver(work, command).await?
    {
        bounce::count(work, merchant, &to, &news.code, now, phones).await?;
    }
    let has_failed = state == Delivery::Failed;
    let find = work.prepare_cached("SELECT command FROM step WHERE after = $1").await?;
    let Some(row) = work.query_opt(&find, &[&command]).await? else {
        // A message that reached nobody has asked nobody.
        return if has_failed { free_slot(work, command).await } else { Ok(()) };
    };
    let next: Uuid = get(&row, 0)?;
    // Locked before it is looked at whether it is being sent: whoever leases it locks it too.
    outbox::hold(work, &[next]).await?;
    let look = work
        .prepare_cached(
            "SELECT state, order_key, subject_key, entry, EXISTS (SELECT 1 FROM sending x WHERE x.command = c.id)
             FROM command c WHERE id = $1",
        )
        .await?;
    let row = work.query_one(&look, &[&next]).await?;
    let (next_state, being_sent) = (command_state(get::<i16>(&row, 0)? as u8), get::<bool>(&row, 4)?);
    if has_failed && !wants_none {
        if matches!(next_state, CommandState::Dead | CommandState::Held) {
            free_slot(work, command).await?;
        } else {
            move_slot(work, command, next).await?;
        }
        if next_state == CommandState::Waiting && !being_sent {
            for sql in [
                "UPDATE waiting SET due_at = least(due_at, $2), next_at = least(next_at, $2) WHERE command = $1",
                "UPDATE command SET due_at = least(due_at, $2) WHERE id = $1",
            ] {
                let statement = work.prepare_cached(sql).await?;
                work.execute(&statement, &[&next, &now]).await?;
            }
            let tell = work.prepare_cached("UPDATE step SET why = why || $2 WHERE command = $1").await?;
            work.execute(&tell, &[&next, &text(&format!("; it failed with {}", news.code))]).await?;
            gathered.wakes = true;
        }
        return Ok(());
    }
    if next_state != CommandState::Waiting {
        return Ok(());
    }
    let reason = if wants_none { OPT_OUT } else { DELIVERED };
    if being_sent {
        let mark = work.prepare_cached("UPDATE sending SET called_off = $2 WHERE command = $1").await?;
        work.execute(&mark, &[&next, &reason]).await?;
        return Ok(());
    }
    let held = i16::from(command_number(CommandState::Held));
    let hold = work.prepare_cached("UPDATE command SET state = $2, reason = $3 WHERE id = $1").await?;
    work.execute(&hold, &[&next, &held, &reason]).await?;
    free_slot(work, next).await?;
    let (order_key, subject_key, entry) = (get(&row, 1)?, get(&row, 2)?, get(&row, 3)?);
    let reason = Some(reason.to_owned());
    outbox::leave(work, &[Ended { command: next, entry, order_key, subject_key, state: CommandState::Held, reason }], gathered)
        .await
}

/// Which merchant's guest a message went to, by the key of their address.
async fn receiver(work: &Transaction<'_>, command: Uuid) -> Result<Option<(Id, String)>, Fault> {
    let find = work.prepare_cached("SELECT merchant, job FROM command WHERE id = $1").await?;
    let row = work.query_one(&find, &[&command]).await?;
    let job: Job = doc(&row, 1)?;
    let merchant = id(Kind::Merchant, &row, 0)?;
    Ok(job.address().map(|to| (merchant, to.key())))
}

/// What a message cost; what was told last counts.
pub(super) async fn spend(
    work: &Transaction<'_>,
    connection: Id,
    provider_id: &str,
    price: &Price,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let find = work
        .prepare_cached(
            "SELECT s.cost_micro, s.currency, s.at, s.channel, s.provider, c.merchant, c.flow FROM sent s
             JOIN command c ON c.id = s.command WHERE s.connection = $1 AND s.provider_id = $2 FOR UPDATE OF s",
        )
        .await?;
    let Some(row) = work.query_opt(&find, &[&uuid(connection), &provider_id]).await? else { return Ok(()) };
    let before: (Option<i64>, Option<String>) = (get(&row, 0)?, get(&row, 1)?);
    let purse = Purse {
        merchant: id(Kind::Merchant, &row, 5)?,
        month: month(get(&row, 2)?),
        flow: maybe_id(Kind::Flow, &row, 6)?.map(|flow| flow.to_string()).unwrap_or_default(),
        channel: get::<Option<String>>(&row, 3)?.unwrap_or_default(),
        provider: get::<Option<String>>(&row, 4)?.unwrap_or_default(),
    };
    let before = before.0.zip(before.1).map(|(micro, currency)| Price { micro, currency });
    for (currency, micro, messages) in shift(before.as_ref(), price) {
        let sum = gathered.spent.entry((purse.clone(), currency)).or_default();
        *sum = (sum.0 + micro, sum.1 + messages);
    }
    let put =
        work.prepare_cached("UPDATE sent SET cost_micro = $3, currency = $4 WHERE connection = $1 AND provider_id = $2").await?;
    work.execute(&put, &[&uuid(connection), &provider_id, &price.micro, &text(&price.currency)]).await?;
    Ok(())
}

/// Adds up what was spent; in order, so that two transactions with the same sums wait for each other and do not block each other.
pub(super) async fn write_spent(work: &Transaction<'_>, gathered: &mut Gathered) -> Result<(), Fault> {
    for ((purse, currency), (micro, messages)) in std::mem::take(&mut gathered.spent) {
        let statement = work
            .prepare_cached(
                "INSERT INTO spent VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (merchant, month, flow, channel, provider, currency)
                 DO UPDATE SET micro = spent.micro + excluded.micro, messages = spent.messages + excluded.messages",
            )
            .await?;
        let Purse { merchant, month, flow, channel, provider } = purse;
        work.execute(&statement, &[&uuid(merchant), &month, &flow, &channel, &provider, &text(&currency), &micro, &messages])
            .await?;
    }
    Ok(())
}

pub(super) async fn messages(
    client: &impl GenericClient,
    connection: Id,
    provider_ids: &[String],
) -> Result<Vec<Message>, StoreError> {
    let provider_ids: Vec<String> = provider_ids.iter().map(|id| text(id).into_owned()).collect();
    let statement = client
        .prepare_cached(
            "SELECT s.provider_id, c.id, c.flow, c.event, s.state FROM sent s JOIN command c ON c.id = s.command
             WHERE s.connection = $1 AND s.provider_id = ANY($2)",
        )
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(connection), &provider_ids]).await.map_err(failed)?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Message {
            provider_id: get(row, 0)?,
            command: id(Kind::Command, row, 1)?,
            flow: maybe_id(Kind::Flow, row, 2)?,
            event: maybe_id(Kind::Event, row, 3)?,
            state: delivery(get::<i16>(row, 4)?.into()),
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn costs(client: &impl GenericClient, merchant: Id, month: &str) -> Result<Vec<Spent>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT flow, channel, provider, currency, micro, messages FROM spent
             WHERE merchant = $1 AND month = $2 AND messages > 0 ORDER BY flow COLLATE \"C\", channel, provider, currency",
        )
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(merchant), &text(month)]).await.map_err(failed)?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Spent {
            flow: get::<String>(row, 0)?.parse().ok(),
            channel: get(row, 1)?,
            provider: get(row, 2)?,
            currency: get(row, 3)?,
            micro: get(row, 4)?,
            messages: get::<i64>(row, 5)?.unsigned_abs(),
        })
    };
    rows.iter().map(read).collect()
}
