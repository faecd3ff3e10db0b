//! Who asks: told by the key that came, or by the machine's own socket.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use uzel_engine::{Link, Role};
use uzel_model::Id;

use crate::{App, Local, Problem, door::Guessed};

/// Whoever holds a key of the hub.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// `None`: the hub's owner, or a command on this machine.
    pub merchant: Option<Id>,
    pub role: Role,
    pub holder: Holder,
}

/// What proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The machine's own socket, whose file only the hub's user may open.
    Socket,
    /// A key, by its keyed hash.
    Key(Vec<u8>),
}

impl Caller {
    /// Whether a merchant's rows are this caller's to see.
    pub(crate) fn sees(&self, merchant: Id) -> bool {
        self.merchant.is_none_or(|own| own == merchant)
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.role == Role::Owner
    }

    /// A connection that this caller sees; others look as if they did not exist.
    pub(crate) fn connection(&self, app: &App, id: &str) -> Result<Arc<Link>, Problem> {
        let world = app.engine.world();
        let own = self.merchant.and_then(|merchant| world.link_of(merchant, id));
        let found = own.or_else(|| world.connection(id)).filter(|link| self.sees(link.merchant));
        found.cloned().ok_or_else(|| Problem::not_found("no such connection"))
    }

    /// A merchant that this caller sees, by id or slug.
    pub(crate) fn merchant(&self, app: &App, name: &str) -> Result<Id, Problem> {
        let found = app.engine.world().merchant(name).filter(|merchant| self.sees(*merchant));
        found.ok_or_else(|| Problem::not_found("no such merchant"))
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        if parts.extensions.get::<Local>().is_some() {
            return Ok(Self { merchant: None, role: Role::Owner, holder: Holder::Socket });
        }
        let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some(key) = bearer.map(|(_, key)| key.trim()) else { return Err(Problem::unauthorized()) };
        let hash = app.engine.vault.key_hash("api", key);
        match app.engine.world().by_api_hash(&hash) {
            Some((merchant, role)) => Ok(Self { merchant, role, holder: Holder::Key(hash) }),
            None => {
                app.door.failed(app.door.client(&parts.headers, &parts.extensions), Guessed::Api { key })?;
                Err(Problem::unauthorized())
            }
        }
    }
}

/// The owner of the whole hub. To others such paths do not exist.
#[derive(Debug, Clone)]
pub(crate) struct Owner(pub Caller);

impl FromRequestParts<Arc<App>> for Owner {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.is_owner() && caller.merchant.is_none() {
            Ok(Self(caller))
        } else {
            Err(Problem::not_found("no such path for this key"))
        }
    }
}
