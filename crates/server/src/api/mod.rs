//! `/api/v1`: what commands and integrators ask of the hub, a file per subject.
//!
//! Who asks stands in the handler's signature: [`Caller`] for any key, [`Owner`] for the hub's owner.

mod caller;
mod commands;
mod connections;
mod endpoints;
mod flows;
mod hub;
mod journal;
mod mask;
mod people;
mod read;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
pub(crate) use caller::{Caller, Holder};
pub use commands::refused_message;
pub(crate) use read::{Path, Query};

use crate::App;

/// What a setup may carry.
const SETUP_BYTES_MAX: usize = 8 << 20;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/journal", get(journal::list))
        .route("/journal/{id}", get(journal::show))
        .route("/replay", post(journal::replay))
        .route("/counts", get(hub::counts))
        .route("/notices", get(hub::notices))
        .route("/fsck", post(hub::fsck))
        .route("/doctor", get(hub::doctor))
        .route("/providers", get(hub::providers))
        .route("/connections", get(connections::list))
        .route("/connections/{id}/health", get(connections::health))
        .route("/connections/{id}/balance", get(connections::balance))
        .route("/connections/{id}/cost", post(connections::cost))
        .route("/connections/{id}/subscribe", post(connections::subscribe))
        .route("/connections/{id}/refusals", get(connections::refusals))
        .route("/connections/{id}/login", post(connections::login))
        .route("/endpoints", get(endpoints::list).post(endpoints::create))
        .route("/endpoints/{id}", get(endpoints::show).patch(endpoints::change).delete(endpoints::remove))
        .route("/endpoints/{id}/test", post(endpoints::test))
        .route("/endpoints/{id}/recover", post(endpoints::recover))
        .route("/endpoints/{id}/rotate", post(endpoints::rotate))
        .route("/endpoints/{id}/enable", post(endpoints::enable))
        .route("/providers/{id}/refusals", get(hub::refusals))
        .route("/apply", post(flows::apply).layer(DefaultBodyLimit::max(SETUP_BYTES_MAX)))
        .route("/flows/dry-run", post(flows::dry_run))
        .route("/commands", post(commands::ask))
        .route("/commands/{id}", get(commands::show))
        .route("/nats", post(hub::nats))
        .route("/consents", post(people::consent))
}
