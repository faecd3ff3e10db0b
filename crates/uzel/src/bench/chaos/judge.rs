//! What must be true afterwards, by the database, the provider and the stream.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{history, order, orders::Order, post::Posted, provider::Provider};

pub(crate) const DONE: i16 = 2;
pub(crate) const DEAD: i16 = 3;
const UNKNOWN: i16 = 4;
const HELD: i16 = 5;

/// An entry's order and its status, out of its body.
const ORDER: &str = "(convert_from(j.body, 'UTF8')::json -> 'order' ->> 'id')::bigint";
const STATUS: &str = "convert_from(j.body, 'UTF8')::json -> 'order' ->> 'status'";

/// Every 2xx is in the inbox; every order there led to one command, which has ended as it may; nothing came twice, and no guest
/// got two texts at the same time or in another order than was theirs.
pub(crate) async fn judge(client: &Client, posted: &Posted, provider: &Provider) -> anyhow::Result<Value> {
    let mut journalled: HashMap<u64, u64> = HashMap::new();
    let mut cancelled = HashSet::new();
    for row in client.query(&format!("SELECT {ORDER}, {STATUS} = 'Cancelled' FROM inbox j"), &[]).await? {
        let number = row.try_get::<_, i64>(0)?.unsigned_abs();
        match row.try_get(1)? {
            true => drop(cancelled.insert(number)),
            false => *journalled.entry(number).or_default() += 1,
        }
    }
    let mut commands: HashMap<u64, Vec<i16>> = HashMap::new();
    let sql = format!("SELECT {ORDER}, c.state FROM command c JOIN inbox j ON j.id = c.entry");
    for row in client.query(&sql, &[]).await? {
        commands.entry(row.try_get::<_, i64>(0)?.unsigned_abs()).or_default().push(row.try_get(1)?);
    }
    let (mut answered, mut sent, mut dead, mut held, mut unknown, mut unknown_and_sent) =
        (0_u64, 0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    for (number, accepted) in posted.accepted.iter().enumerate() {
        let number = number as u64;
        let order = Order(number);
        let called_off = posted.cancelled[number as usize].load(Ordering::Relaxed);
        ensure!(
            !called_off || cancelled.contains(&number),
            "that order {number} is cancelled was answered 2xx and is not in the inbox"
        );
        let accepted = accepted.load(Ordering::Relaxed);
        answered += u64::from(accepted);
        ensure!(!accepted || journalled.contains_key(&number), "order {number} was answered 2xx and is not in the inbox");
        let times = provider.times(number);
        ensure!(times <= 1, "the text of order {number} came {times} times");
        sent += u64::from(times);
        if !journalled.contains_key(&number) {
            ensure!(times == 0, "the text of order {number} came, and the order is not in the inbox");
            continue;
        }
        match commands.get(&number).map(Vec::as_slice) {
            Some([DONE]) => ensure!(times == 1, "the text of order {number} is done, and did not come"),
            Some([DEAD]) => {
                ensure!(order.is_refused(), "the text of order {number} is dead, and the provider did not refuse it");
                dead += 1;
            }
            Some([HELD]) => {
                ensure!(cancelled.contains(&number) && times == 0, "the text of order {number} is held back, and should not be");
                held += 1;
            }
            Some([UNKNOWN]) => {
                unknown += 1;
                unknown_and_sent += u64::from(times);
            }
            other => ensure!(false, "order {number} is in the inbox, and its commands are {other:?}"),
        }
    }
    let overlaps = provider.overlaps();
    ensure!(overlaps == 0, "{overlaps} texts came while another one to the same guest was being taken");
    let order = order::judge(&history::read(client, provider).await?)?;
    let entries: u64 = journalled.values().sum();
    Ok(json!({
        "answered_2xx": answered, "journalled": entries, "orders": journalled.len(), "cancellations": cancelled.len(),
        "sent_once": sent, "sent_twice": 0, "dead": dead, "held": held, "unknown": unknown, "unknown_that_came": unknown_and_sent,
        "two_at_once_to_a_guest": 0, "order": order,
    }))
}
