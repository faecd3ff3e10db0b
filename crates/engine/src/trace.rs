//! One trace per webhook, through to the last attempt: a span where it comes in, where it is read, and for each try at what
//! follows. Every log line inside carries the trace's id, which the journal has as well.
//!
//! A span costs about a microsecond where the log's level lets it in, and nothing where it does not. So a try, which waits for
//! a network, has its span always; on the fast road in, and where entries are read, it is there at level `debug` only, and what is
//! said at other levels there is given its trace by [`failing`] or by the line itself.

use tracing::Span;
use uzel_model::Id;
use uzel_store::{Command, Entry};

use crate::{Engine, Link};

/// A webhook on its way in.
pub fn webhook(trace: &str, link: &Link) -> Span {
    tracing::debug_span!("webhook", trace.id = trace, connection.id = %link.id, provider = link.provider.id)
}

/// A webhook that cannot be taken in.
pub fn failing(trace: &str, link: &Link) -> Span {
    tracing::error_span!("webhook", trace.id = trace, connection.id = %link.id, provider = link.provider.id)
}

/// What came is read.
pub(crate) fn reading(entry: &Entry) -> Span {
    tracing::debug_span!(
        "reading",
        trace.id = entry.trace.as_str(),
        entry.id = %entry.id,
        connection.id = %entry.connection,
        provider = entry.provider.as_str()
    )
}

/// A try at a command.
pub(crate) fn attempt(engine: &Engine, command: &Command) -> Span {
    let provider = |world: &crate::World| world.way_out(command.connection).map_or("", |link| link.provider.id);
    tracing::info_span!(
        "attempt",
        trace.id = command.trace.as_str(),
        command.id = %command.id,
        connection.id = %command.connection,
        provider = provider(&engine.world()),
        attempt.number = command.attempts + 1
    )
}

/// What a provider is told (W3C Trace Context). The span is the exchange: its id is the random half of the exchange's own id, so
/// that the journal need not keep it.
pub(crate) fn traceparent(trace: &str, exchange: Id) -> String {
    format!("00-{trace}-{}-01", hex::encode(&exchange.as_bytes()[8..]))
}
