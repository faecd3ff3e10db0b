//! Whether a consumer that somebody else wrote gets what the database tells of: by the stock client, and by the stream alone.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context, ensure};
use async_nats::jetstream::{self, consumer::pull};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_postgres::Client;

/// So long a node that died may keep the others from publishing, and then some.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the hub has published all.
pub(crate) async fn published(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: i64 = client.query_one("SELECT count(*) FROM unpublished", &[]).await?.try_get(0)?;
        if left == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{left} events are still to be published after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every event of the database is in the stream and nothing else is; what repeats is the same; and of one subject the events stand
/// in the order in which they were committed.
pub(crate) async fn judge(client: &Client, nats: &str) -> anyhow::Result<Value> {
    let mut told: Vec<(String, String)> = Vec::new();
    let sql = "SELECT e.doc::json ->> 'id', e.doc::json ->> 'subject' FROM chaos.history h JOIN event e ON e.id = h.event ORDER BY h.step";
    for row in client.query(sql, &[]).await? {
        told.push((row.try_get(0)?, row.try_get(1)?));
    }
    let mut events: HashSet<String> = HashSet::new();
    for row in client.query("SELECT doc::json ->> 'id' FROM event", &[]).await? {
        events.insert(row.try_get(0)?);
    }
    let got = consume(nats).await?;
    let mut first: HashMap<&str, &Value> = HashMap::new();
    let mut by_subject: HashMap<&str, Vec<&str>> = HashMap::new();
    for event in &got {
        let id = event["id"].as_str().context("an event in the stream has no id")?;
        ensure!(events.contains(id), "{id} is in the stream and not in the database");
        match first.insert(id, event) {
            Some(before) => ensure!(before == event, "{id} is in the stream twice, and not the same"),
            None => by_subject.entry(event["subject"].as_str().unwrap_or_default()).or_default().push(id),
        }
    }
    let missing = events.iter().find(|id| !first.contains_key(id.as_str()));
    ensure!(missing.is_none(), "{missing:?} is in the database and not in the stream");
    let mut committed: HashMap<&str, Vec<&str>> = HashMap::new();
    for (id, subject) in &told {
        committed.entry(subject).or_default().push(id);
    }
    for (subject, ids) in &committed {
        let came = by_subject.get(subject);
        ensure!(came == Some(ids), "the events of {subject} were committed as {ids:?}, and stand in the stream as {came:?}");
    }
    let several = committed.values().filter(|ids| ids.len() > 1).count();
    Ok(
        json!({ "messages": got.len(), "events": events.len(), "repeats": got.len() - events.len(), "subjects_with_several": several }),
    )
}

/// All of the stream, as a durable consumer gets it.
async fn consume(nats: &str) -> anyhow::Result<Vec<Value>> {
    let jetstream = jetstream::new(async_nats::connect(nats).await?);
    let mut stream = jetstream.get_stream("UZEL").await?;
    let last = stream.info().await?.state.last_sequence;
    let config = pull::Config { durable_name: Some("theirs".to_owned()), ..Default::default() };
    let mut messages = stream.get_or_create_consumer("theirs", config).await?.messages().await?;
    let mut got = Vec::new();
    let mut place = 0;
    while place < last {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await;
        let message =
            next.with_context(|| format!("the stream gave {place} of {last} messages"))?.context("the stream ended")??;
        let event: Value = serde_json::from_slice(&message.payload)?;
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).map(|id| id.as_str());
        ensure!(id == event["id"].as_str(), "a message has the id {id:?} and holds the event {}", event["id"]);
        let subject = format!("uzel.events.bench.{}", event["type"].as_str().unwrap_or_default());
        ensure!(*message.subject == subject, "an event for {subject} came by {}", message.subject);
        place = message.info().map_err(anyhow::Error::from_boxed)?.stream_sequence;
        got.push(event);
        message.ack().await.map_err(anyhow::Error::from_boxed)?;
    }
    Ok(got)
}
