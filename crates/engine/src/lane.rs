//! Two lanes of calls: to providers, and to the merchants' own software. Each has a loop and places of its own.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{Engine, IN_FLIGHT_MAX, Link, World};

/// Of the calls to providers one connection may have at the most: so that one dead provider never holds all.
const PER_LINK_MAX: usize = IN_FLIGHT_MAX * 3 / 4;
/// Webhooks may be sent twice, so a crash leaves none of them unknown; and however slow endpoints are, they take no place from
/// calls to providers.
const WEBHOOKS_MAX: usize = 256;
/// Of these one endpoint may have so many.
const PER_ENDPOINT_MAX: usize = 16;

/// Something new may be due.
#[derive(Default)]
pub(crate) struct Due {
    calls: Notify,
    webhooks: Notify,
}

impl Due {
    pub(crate) fn notify_one(&self) {
        self.calls.notify_one();
        self.webhooks.notify_one();
    }
}

/// Whose commands a loop makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Connections,
    Endpoints,
}

impl Lane {
    pub(crate) fn in_flight_max(self) -> usize {
        match self {
            Self::Connections => IN_FLIGHT_MAX,
            Self::Endpoints => WEBHOOKS_MAX,
        }
    }

    pub(crate) fn per_link_max(self) -> usize {
        match self {
            Self::Connections => PER_LINK_MAX,
            Self::Endpoints => PER_ENDPOINT_MAX,
        }
    }

    /// Whose commands may be made. An endpoint that gets nothing any more is among them: its commands are held back.
    pub(crate) fn links(self, world: &World) -> impl Iterator<Item = &Arc<Link>> {
        let connections = world.links.values().filter(move |_| self == Self::Connections);
        let endpoints = world.endpoints.values().map(|endpoint| &endpoint.link).filter(move |_| self == Self::Endpoints);
        connections.chain(endpoints).filter(|link| !link.paused)
    }

    pub(crate) fn due(self, engine: &Engine) -> &Notify {
        match self {
            Self::Connections => &engine.due.calls,
            Self::Endpoints => &engine.due.webhooks,
        }
    }
}
