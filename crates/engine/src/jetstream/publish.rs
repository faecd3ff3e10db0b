//! Events out, in their order, at least once.
//!
//! One node at a time publishes (the turn `publish`). Many messages are under way at once, and each names the one before it
//! (`Nats-Expected-Last-Msg-Id`): if one is lost on the way the server refuses all after it, and they are sent again behind
//! the lost one. Where others write to the stream as well, that fails for nothing; then fewer are sent at once, down to
//! one, which names nobody.

use std::{future::IntoFuture, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        stream::{Config, StorageType},
    },
};
use tokio::time::Instant;
use uzel_model::{Event, cloudevent};

use super::{Broken, EVENTS, Line, NatsOptions, until_told};
use crate::{Engine, World};

/// Messages that wait for their acknowledgement at once.
pub(super) const IN_FLIGHT_MAX: usize = 256;
const TURN: &str = "publish";
/// How long a node that died keeps the others from publishing.
const HOLD: Duration = Duration::from_secs(15);
/// The turn is given back and taken anew after this, so that it is never used when it has run out.
const HOLD_USED: Duration = Duration::from_secs(5);
/// A portion that takes longer than this is given up.
const PORTION_TIME: Duration = Duration::from_secs(5);
/// For the headers, which count as well where the server limits a message.
const HEADERS_BYTES: usize = 1_024;

/// The first of these that was not acknowledged, and why.
struct Portion {
    done: usize,
    failure: Option<Failure>,
}

enum Failure {
    /// The one before it is not the last in the stream.
    OutOfOrder,
    Other(Broken),
}

pub(super) async fn run(engine: &Engine, line: &Line, options: &NatsOptions) -> Result<(), Broken> {
    let stream = line.stream(config(options)).await?;
    let largest = largest(line, &stream.cached_info().config);
    let mut news = engine.store.news();
    while !engine.stop.is_cancelled() {
        match engine.store.take(TURN, engine.clock.now(), 0, HOLD.as_millis() as i64).await? {
            Some(token) => {
                let published = publish(engine, line, largest).await;
                engine.store.give_back(TURN, token).await?;
                if !published? {
                    until_told(engine, &mut news).await;
                }
            }
            // Another node does it; it may die.
            None => until_told(engine, &mut news).await,
        }
        if !line.is_up() {
            return Err(Broken::Server("the connection is gone".to_owned()));
        }
    }
    Ok(())
}

fn config(options: &NatsOptions) -> Config {
    Config {
        name: EVENTS.to_owned(),
        subjects: vec!["uzel.events.>".to_owned()],
        description: Some("Events of Uzel, as CloudEvents".to_owned()),
        storage: StorageType::File,
        max_age: options.keep,
        duplicate_window: Duration::from_secs(120).min(options.keep),
        ..Config::default()
    }
}

/// What a message may carry.
fn largest(line: &Line, config: &Config) -> usize {
    let server = line.client.max_payload();
    let stream = usize::try_from(config.max_message_size).ok().filter(|limit| *limit > 0);
    server.min(stream.unwrap_or(server)).saturating_sub(HEADERS_BYTES)
}

/// Publishes for one turn; whether more may wait.
async fn publish(engine: &Engine, line: &Line, largest: usize) -> Result<bool, Broken> {
    let until = Instant::now() + HOLD_USED;
    let mut at_once = IN_FLIGHT_MAX;
    let mut before: Option<String> = None;
    while Instant::now() < until && !engine.stop.is_cancelled() {
        let waiting = engine.store.unpublished(at_once).await?;
        if waiting.is_empty() {
            return Ok(false);
        }
        let portion = send(engine, line, largest, &waiting, before.take()).await;
        if portion.done > 0 {
            let numbers = waiting[..portion.done].iter().map(|(number, _)| *number).collect();
            engine.store.published(numbers).await?;
        }
        match portion.failure {
            None => {
                // What another node has published since shows by this: it took the turn while this one slept.
                before = waiting.last().filter(|_| at_once > 1).map(|(_, event)| event.id.to_string());
                at_once = (at_once * 2).min(IN_FLIGHT_MAX);
            }
            Some(Failure::OutOfOrder) => at_once = (at_once / 2).max(1),
            Some(Failure::Other(why)) => return Err(why),
        }
    }
    Ok(true)
}

/// Sends events one behind the other, and waits for their acknowledgements.
async fn send(engine: &Engine, line: &Line, largest: usize, events: &[(i64, Event)], before: Option<String>) -> Portion {
    let world = engine.world();
    let mut before = before;
    let mut acks = Vec::with_capacity(events.len());
    let mut failure = None;
    let deadline = Instant::now() + PORTION_TIME;
    for (_, event) in events {
        let id = event.id.to_string();
        let (subject, headers, body) = message(&world, event, largest, before.take());
        match line.jetstream.publish_with_headers(subject, headers, body.into()).await {
            Ok(ack) => acks.push(ack.into_future()),
            Err(error) => {
                failure = Some(Failure::Other(Broken::of("publishing", error)));
                break;
            }
        }
        before = Some(id);
    }
    let mut done = 0;
    for ack in acks {
        let ended = tokio::select! {
            ended = ack => Some(ended),
            () = tokio::time::sleep_until(deadline) => None,
            () = stopped(engine) => None,
        };
        failure = match ended {
            Some(Ok(_)) => {
                done += 1;
                continue;
            }
            Some(Err(error)) if error.kind() == jetstream::context::PublishErrorKind::WrongLastMessageId => {
                Some(Failure::OutOfOrder)
            }
            Some(Err(error)) => Some(Failure::Other(Broken::of("publishing", why(&error)))),
            None => Some(Failure::Other(Broken::Server("publishing: no acknowledgement came in time".to_owned()))),
        };
        break;
    }
    Portion { done, failure }
}

/// The hub stops: what is acknowledged within a moment need not be published again.
async fn stopped(engine: &Engine) {
    engine.stop.cancelled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// What the server said, where it said something.
fn why(error: &jetstream::context::PublishError) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn message(world: &World, event: &Event, largest: usize, before: Option<String>) -> (String, HeaderMap, Vec<u8>) {
    let id = event.merchant.to_string();
    let merchant = world.merchants.get(&event.merchant).map_or(id.as_str(), |(slug, _)| slug);
    let outlet = event.outlet.and_then(|outlet| world.outlets.get(&outlet)).map(|(_, slug, _)| slug.as_str());
    let told = cloudevent::CloudEvent::of(event, merchant, outlet);
    let mut body = told.to_json();
    if body.len() > largest {
        // It must not stand in the way of all that come after it.
        tracing::warn!(event.id = %event.id, bytes = body.len(), "an event is too large for a message: it goes without its details");
        body = told.cut().to_json();
    }
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", event.id.to_string());
    headers.insert("Content-Type", cloudevent::CONTENT_TYPE);
    headers.insert("traceparent", cloudevent::traceparent(event));
    if let Some(before) = before {
        headers.insert("Nats-Expected-Last-Msg-Id", before);
    }
    (format!("uzel.events.{merchant}.{}", event.kind), headers, body)
}
