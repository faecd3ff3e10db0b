//! Commands in: each is judged as the API judges it, and acknowledged when it is in the store.
//!
//! A message that can never be taken is told to `uzel.refused.{merchant}` and comes no more. Nothing of a key is kept or told.

use std::time::{Duration, Instant};

use async_nats::{
    HeaderMap,
    jetstream::{
        AckKind, Message,
        consumer::{AckPolicy, pull},
        stream::{Config, RetentionPolicy, StorageType},
    },
};
use futures::StreamExt;
use uzel_model::check::Fault;
use uzel_store::{Refusal, StoreError, WrongKey};

use super::{Broken, COMMANDS, Line, NatsOptions, REFUSED};
use crate::{CommandRequest, Engine, Holder, Refused};

const SUBJECT: &str = "uzel.commands.";
const BYTES_MAX: usize = 64 << 10;
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages asked for at once.
const PORTION: usize = 64;
/// A message comes back after this when the store cannot take it now.
const LATER: Duration = Duration::from_secs(2);
/// Of refusals one in this time is kept to be looked at.
const KEPT_APART: Duration = Duration::from_millis(500);
/// A refusal that cannot be told is told no more after so many tries.
const TRIES_MAX: i64 = 5;
const KEPT_BYTES_MAX: usize = 2 << 10;

pub(super) async fn run(engine: &Engine, line: &Line, options: &NatsOptions) -> Result<(), Broken> {
    line.stream(refusals()).await?;
    let stream = line.stream(config()).await?;
    let wanted = pull::Config {
        durable_name: Some("uzel".to_owned()),
        description: Some("Uzel takes commands; its nodes share this consumer".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        ..pull::Config::default()
    };
    let consumer = stream.get_or_create_consumer("uzel", wanted).await.map_err(|error| Broken::of("consumer uzel", error))?;
    let messages = consumer.stream().max_messages_per_batch(PORTION).heartbeat(Duration::from_secs(5));
    let messages = messages.expires(Duration::from_secs(20)).messages().await;
    let mut messages = messages.map_err(|error| Broken::of("consumer uzel", error))?;
    let mut kept: Option<Instant> = None;
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = engine.stop.cancelled() => return Ok(()),
        };
        let Some(message) = message else { return Err(Broken::Server("the consumer ended".to_owned())) };
        let message = message.map_err(|error| Broken::of("consumer uzel", error))?;
        let ended = handle(engine, line, options, &message, &mut kept).await;
        // Not acknowledged, it comes again; what was taken is known then by its key.
        message.ack_with(ended).await.map_err(|error| Broken::of("acknowledging", error))?;
    }
}

fn config() -> Config {
    Config {
        name: COMMANDS.to_owned(),
        subjects: vec![format!("{SUBJECT}*")],
        description: Some("Commands for Uzel".to_owned()),
        storage: StorageType::File,
        retention: RetentionPolicy::WorkQueue,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    }
}

/// A stream of its own: beside the events it would let a noisy sender push them out, and break their row.
fn refusals() -> Config {
    Config {
        name: REFUSED.to_owned(),
        subjects: vec!["uzel.refused.>".to_owned()],
        description: Some("Commands that Uzel has refused".to_owned()),
        storage: StorageType::File,
        max_age: Duration::from_secs(7 * 86_400),
        max_messages: 100_000,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    }
}

async fn handle(engine: &Engine, line: &Line, options: &NatsOptions, message: &Message, kept: &mut Option<Instant>) -> AckKind {
    let refused = match take(engine, message).await {
        Ok(accepted) => {
            tracing::debug!(command.id = %accepted.id, accepted.repeated, "a command came by a message");
            return AckKind::Ack;
        }
        Err(Refused::Store(error)) => {
            if let StoreError::Failed(why) = &error {
                tracing::error!("a command cannot be written, it comes again: {why}");
            }
            return AckKind::Nak(Some(LATER));
        }
        Err(refused) => refused,
    };
    let document = (options.problem)(&refused);
    if kept.is_none_or(|at| at.elapsed() >= KEPT_APART) {
        *kept = Some(Instant::now());
        keep(engine, message, document["detail"].as_str().unwrap_or_default()).await;
    }
    let tries = message.info().map_or(1, |info| info.delivered);
    match tell(line, message, document).await {
        Err(why) if tries < TRIES_MAX => {
            tracing::warn!("that a command was refused cannot be told yet: {why}");
            AckKind::Nak(Some(LATER))
        }
        _ => AckKind::Term,
    }
}

async fn take(engine: &Engine, message: &Message) -> Result<crate::Accepted, Refused> {
    let key = header(message, "Uzel-Key").ok_or(Refused::NoKey)?;
    let hash = engine.vault.key_hash("api", key);
    let now = engine.clock.now();
    let known = engine.world().by_api_hash(&hash).filter(|key| key.is_good(now)).cloned().ok_or(Refused::NoKey)?;
    let holder = Holder { proof: hash, merchant: known.of, role: known.role };
    let once = header(message, "Nats-Msg-Id").ok_or_else(|| Refused::NoOnce("is missing".to_owned()))?;
    if message.payload.len() > BYTES_MAX {
        return Err(Refused::TooLarge(BYTES_MAX));
    }
    let addressed = addressee(message);
    let request = CommandRequest::read(&message.payload, addressed)?;
    let world = engine.world();
    // By slug here and by id there is the same merchant.
    if request.merchant != addressed && world.merchant(&request.merchant) != world.merchant(addressed) {
        return Err(Refused::Invalid(vec![Fault::new("/merchant", "is another one than in the subject")]));
    }
    engine.command(&holder, request, once).await
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
}

fn addressee(message: &Message) -> &str {
    message.subject.as_str().strip_prefix(SUBJECT).unwrap_or_default()
}

/// Tells whoever listens why a command was refused, under the id that they gave it.
async fn tell(line: &Line, message: &Message, mut document: serde_json::Value) -> Result<(), String> {
    let place = message.info().map_or(0, |info| info.stream_sequence);
    document["nats_msg_id"] = serde_json::json!(header(message, "Nats-Msg-Id"));
    document["sequence"] = serde_json::json!(place);
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("refused/{place}"));
    headers.insert("Content-Type", "application/problem+json");
    let subject = format!("uzel.refused.{}", addressee(message));
    let sent = line.jetstream.publish_with_headers(subject, headers, document.to_string().into()).await;
    sent.map_err(|error| error.to_string())?.await.map(drop).map_err(|error| error.to_string())
}

/// Keeps a refused message as refused requests are kept: without its key.
async fn keep(engine: &Engine, message: &Message, reason: &str) {
    let key = header(message, "Uzel-Key");
    let hash = |key: &str| hex::encode(&engine.vault.key_hash("refused", key)[..4]);
    let body = String::from_utf8_lossy(&message.payload[..message.payload.len().min(KEPT_BYTES_MAX)]).into_owned();
    let body = key.filter(|key| key.len() >= 4).map_or(body.clone(), |key| body.replace(key, "***"));
    let names = message.headers.iter().flat_map(HeaderMap::iter).take(20);
    let refusal = Refusal {
        place: "nats".to_owned(),
        at: engine.clock.now(),
        peer: None,
        method: "NATS".to_owned(),
        path: message.subject.chars().take(100).collect(),
        reason: reason.to_owned(),
        keys: key.iter().map(|key| WrongKey { length: key.len(), hash: hash(key) }).collect(),
        query: Vec::new(),
        headers: names.map(|(name, _)| (name.to_string().chars().take(100).collect(), None)).collect(),
        body,
        cut: message.payload.len() > KEPT_BYTES_MAX,
    };
    if let Err(error) = engine.store.put_refusals(vec![refusal]).await {
        tracing::warn!("a refused command cannot be kept: {error}");
    }
}
