//! What must be true afterwards, by the database and the provider.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use super::provider::Provider;

const DONE: i16 = 2;
const UNKNOWN: i16 = 4;

/// Every 2xx is in the inbox; every order there led to one command, which is done and came once, or is unknown and came once or
/// not at all; nothing came twice, and no guest got two texts at the same time.
pub(crate) async fn judge(database: &str, accepted: &[AtomicBool], provider: &Provider) -> anyhow::Result<Value> {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
    let connection = tokio::spawn(connection);
    let order = "(convert_from(j.body, 'UTF8')::json -> 'order' ->> 'id')::bigint";
    let mut journalled: HashMap<u64, u64> = HashMap::new();
    for row in client.query(&format!("SELECT {order} FROM inbox j"), &[]).await? {
        *journalled.entry(row.try_get::<_, i64>(0)?.unsigned_abs()).or_default() += 1;
    }
    let mut commands: HashMap<u64, Vec<i16>> = HashMap::new();
    let sql = format!("SELECT {order}, c.state FROM command c JOIN inbox j ON j.id = c.entry");
    for row in client.query(&sql, &[]).await? {
        commands.entry(row.try_get::<_, i64>(0)?.unsigned_abs()).or_default().push(row.try_get(1)?);
    }
    drop(client);
    connection.await??;
    let (mut answered, mut sent, mut unknown, mut unknown_and_sent) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (number, accepted) in accepted.iter().enumerate() {
        let number = number as u64;
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
            Some([UNKNOWN]) => {
                unknown += 1;
                unknown_and_sent += u64::from(times);
            }
            other => ensure!(false, "order {number} is in the inbox, and its commands are {other:?}"),
        }
    }
    let overlaps = provider.overlaps();
    ensure!(overlaps == 0, "{overlaps} texts came while another one to the same guest was being taken");
    let entries: u64 = journalled.values().sum();
    Ok(json!({
        "answered_2xx": answered, "journalled": entries, "orders": journalled.len(), "sent_once": sent, "sent_twice": 0,
        "unknown": unknown, "unknown_that_came": unknown_and_sent, "two_at_once_to_a_guest": 0,
    }))
}
