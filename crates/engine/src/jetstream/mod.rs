//! NATS JetStream: every event goes out to the stream `UZEL`, and commands may come in by `UZEL_COMMANDS`.
//!
//! JetStream carries and never keeps: what is to be published waits in the store until it is acknowledged, and a command is
//! acknowledged when the store has it. So a server that is away delays and loses nothing, and the hub starts without it.

mod commands;
mod options;
mod publish;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    Client, Event,
    jetstream::{
        self, Context,
        context::GetStreamErrorKind,
        stream::{Config, Stream},
    },
};
pub use options::NatsOptions;
use parking_lot::Mutex;
use uzel_store::{News, StoreError};

use crate::Engine;

/// Streams that are made where they are missing; one that exists is never changed.
pub(crate) const EVENTS: &str = "UZEL";
pub(crate) const COMMANDS: &str = "UZEL_COMMANDS";
pub(crate) const REFUSED: &str = "UZEL_REFUSED";

const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked how much waits.
const MEASURED_EVERY: Duration = Duration::from_secs(5);
/// The same where nothing is published: only to find out that somebody has forgotten to end it.
const MEASURED_RARELY: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a session with the server ended. The text has no credentials: they are no part of what is connected to.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Server(String),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Broken {
    fn of(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Server(format!("{what}: {error}"))
    }
}

/// Whether the server answers and has the stream of events, for a person.
pub(crate) async fn look(options: &NatsOptions) -> Result<String, String> {
    let client = options.connect_once().await?.connect(options.servers()).await.map_err(|error| reason(&error))?;
    client.flush().await.map_err(|error| error.to_string())?;
    let version = client.server_info().version;
    match jetstream::new(client).get_stream(EVENTS).await {
        Ok(stream) => {
            Ok(format!("NATS {version} answers; stream {EVENTS} holds {} messages", stream.cached_info().state.messages))
        }
        Err(error) => Err(format!("NATS {version} answers; stream {EVENTS}: {error}")),
    }
}

/// Why no connection is made: refused, not trusted, not let in.
fn reason(error: &async_nats::ConnectError) -> String {
    let said = error.to_string();
    match error.kind() {
        async_nats::ConnectErrorKind::AuthorizationViolation => {
            format!("{said}: user, password, token or `nats_creds` are not those that the server wants")
        }
        _ => said,
    }
}

/// The reason that a connection of its own is given, since the one that comes back by itself does not tell all of it.
async fn why_not(options: &NatsOptions) -> Option<String> {
    let tried = async { options.connect_once().await?.connect(options.servers()).await.map_err(|error| reason(&error)) };
    match tokio::time::timeout(REQUEST_TIMEOUT, tried).await {
        Ok(tried) => tried.err(),
        Err(_) => Some("no answer".to_owned()),
    }
}

/// The connection, which comes back by itself, and how it is.
struct Line {
    client: Client,
    jetstream: Context,
    /// What it said last of why it does not work.
    last: Arc<Mutex<Option<String>>>,
}

/// Starts what is set up; without a server it is looked whether events are kept for one.
pub(crate) async fn start(engine: &Arc<Engine>) -> Result<(), StoreError> {
    let Some(options) = engine.options.nats.clone() else {
        engine.tasks.spawn(watch(engine.clone()));
        return Ok(());
    };
    engine.store.publish(true).await?;
    engine.tasks.spawn(measure(engine.clone(), MEASURED_EVERY));
    engine.tasks.spawn(run(engine.clone(), options));
    Ok(())
}

async fn run(engine: Arc<Engine>, options: NatsOptions) {
    let last = Arc::new(Mutex::new(None));
    let (client, jetstream) = match open(&options, &last).await {
        Ok(line) => line,
        // Nothing is asked of the network here: only what is set can be wrong, and the settings were checked at the start.
        Err(error) => return tracing::error!("NATS cannot be used: {error}"),
    };
    let line = Arc::new(Line { client, jetstream, last });
    tokio::join!(keep_on(&engine, &line, &options, Part::Events), keep_on(&engine, &line, &options, Part::Commands));
    engine.metrics.nats_up.set(0);
}

async fn open(options: &NatsOptions, last: &Arc<Mutex<Option<String>>>) -> Result<(Client, Context), String> {
    let told = last.clone();
    let connect = options.connect().await?.event_callback(move |event| {
        let told = told.clone();
        async move {
            match event {
                Event::Connected => *told.lock() = None,
                Event::ServerError(error) => *told.lock() = Some(error.to_string()),
                Event::ClientError(error) => *told.lock() = Some(error.to_string()),
                _ => {}
            }
        }
    });
    let client = connect.connect(options.servers()).await.map_err(|error| error.to_string())?;
    let context = jetstream::context::ContextBuilder::new().timeout(REQUEST_TIMEOUT).ack_timeout(REQUEST_TIMEOUT);
    Ok((client.clone(), context.max_ack_inflight(2 * publish::IN_FLIGHT_MAX).build(client)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Events,
    Commands,
}

/// Works for as long as it can, and again after a pause that grows. The first failure is told and the recovery, not each of
/// the tries between.
async fn keep_on(engine: &Engine, line: &Line, options: &NatsOptions, part: Part) {
    let (mut down, mut failures) = (false, 0u32);
    let nats_up = |up: bool| {
        if part == Part::Events {
            engine.metrics.nats_up.set(i64::from(up));
        }
    };
    while !engine.stop.is_cancelled() {
        let begun = Instant::now();
        let ended = if line.is_up() {
            nats_up(true);
            if down {
                tracing::info!(nats.part = ?part, "NATS answers again");
                down = false;
            }
            match part {
                Part::Events => publish::run(engine, line, options).await,
                Part::Commands => commands::run(engine, line, options).await,
            }
        } else {
            Err(Broken::Server(line.last.lock().clone().unwrap_or_else(|| "no connection".to_owned())))
        };
        let Err(error) = ended else { return };
        nats_up(false);
        failures = if begun.elapsed() > PAUSE_MAX { 0 } else { failures + 1 };
        // The very first connection is made a moment after the start: that is no failure yet.
        if !down && (line.is_up() || failures != 1) {
            let error =
                if line.is_up() { error.to_string() } else { why_not(options).await.unwrap_or_else(|| error.to_string()) };
            tracing::warn!(nats.part = ?part, "NATS does not take part for now, and nothing is lost: {error}");
            down = true;
        }
        let most = Duration::from_millis(100).saturating_mul(1 << failures.min(6)).min(PAUSE_MAX);
        tokio::select! {
            () = tokio::time::sleep(most.mul_f64(rand::random_range(0.5..=1.0))) => {}
            () = engine.stop.cancelled() => {}
        }
    }
}

impl Line {
    fn is_up(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The stream of this name, made if it is missing. One that is there belongs to whoever made it: it is only asked
    /// whether it takes these subjects.
    async fn stream(&self, wanted: Config) -> Result<Stream, Broken> {
        let name = wanted.name.clone();
        let failed = |error: &dyn std::fmt::Display| Broken::of(&format!("stream {name}"), error);
        let found = match self.jetstream.get_stream(&name).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => {
                let made = self.jetstream.create_stream(wanted).await.map_err(|error| failed(&error))?;
                tracing::info!(stream = name, "a stream was made");
                return Ok(made);
            }
            Err(error) => return Err(failed(&error)),
        };
        let has = &found.cached_info().config.subjects;
        let left_out = wanted.subjects.iter().find(|subject| !has.iter().any(|has| covers(has, subject)));
        match left_out {
            Some(subject) => {
                Err(failed(&format!("it exists and does not take `{subject}`: add that subject, or rename the stream")))
            }
            None => Ok(found),
        }
    }
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

/// Whether a stream's subject takes all that another one does.
fn covers(has: &str, wanted: &str) -> bool {
    let (mut has, mut wanted) = (has.split('.'), wanted.split('.'));
    loop {
        match (has.next(), wanted.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

async fn measure(engine: Arc<Engine>, every: Duration) {
    let mut beat = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = engine.stop.cancelled() => return,
        }
        if let Ok((count, _)) = engine.store.publishing().await {
            engine.metrics.unpublished_events.set(count as i64);
        }
    }
}

/// Events that are kept for a server which is not set up any more would be kept for ever.
async fn watch(engine: Arc<Engine>) {
    let mut beat = tokio::time::interval(MEASURED_RARELY);
    let mut told = false;
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = engine.stop.cancelled() => return,
        }
        let Ok((count, since)) = engine.store.publishing().await else { continue };
        engine.metrics.unpublished_events.set(count as i64);
        if count > 0 && !told {
            told = true;
            let since = since.map(|since| since.to_string()).unwrap_or_default();
            tracing::warn!(
                events = count,
                since,
                "events are kept for NATS, but `nats` is not set here: set it, or end this with `uzel nats off`"
            );
        }
    }
}

/// Until something may be there to be published.
async fn until_told(engine: &Engine, news: &mut tokio::sync::broadcast::Receiver<News>) {
    tokio::select! {
        () = engine.told.notified() => {}
        _ = news.recv() => {}
        () = engine.stop.cancelled() => {}
        // Other nodes need not tell of events that queue nothing.
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_a_subject_only_if_it_takes_all_of_it() {
        for (has, wanted, covered) in [
            ("uzel.events.>", "uzel.events.>", true),
            ("uzel.>", "uzel.events.>", true),
            (">", "uzel.events.>", true),
            ("uzel.*.>", "uzel.events.>", true),
            ("uzel.events.*", "uzel.events.>", false),
            ("uzel.events.m.>", "uzel.events.>", false),
            ("uzel.commands.*", "uzel.commands.*", true),
            ("uzel.commands.>", "uzel.commands.*", true),
            ("uzel.commands.m", "uzel.commands.*", false),
            ("uzel", "uzel.commands.*", false),
        ] {
            assert_eq!(covers(has, wanted), covered, "{has} {wanted}");
        }
    }
}
