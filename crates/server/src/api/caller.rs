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
    /// A key, by its keyed hash and its id.
    Key { hash: Vec<u8>, id: String },
}

impl Holder {
    /// What one holder's own keys are told from another's by.
    pub(crate) fn proof(&self) -> Vec<u8> {
        match self {
            Self::Socket => b"socket".to_vec(),
            Self::Key { hash, .. } => hash.clone(),
        }
    }

    /// As the audit log names it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Socket => "local",
            Self::Key { id, .. } => id,
        }
    }
}

impl Caller {
    /// Whether a merchant's rows are this caller's to see.
    pub(crate) fn sees(&self, merchant: Id) -> bool {
        self.merchant.is_none_or(|own| own == merchant)
    }

    pub(crate) fn is_owner(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Owner)
    }

    /// Of whom rows are listed: a caller of one business sees its own, the hub's owner all, or those of the one that is named.
    pub(crate) fn scope(&self, app: &App, named: Option<&str>) -> Result<Option<Id>, Problem> {
        match (named, self.merchant) {
            (Some(named), _) => self.merchant(app, named).map(Some),
            (None, own) => Ok(own),
        }
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
            return Ok(Self { merchant: None, role: Role::Admin, holder: Holder::Socket });
        }
        let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // The platform of the requirement has a header of its own for the paths of merchants.
        let of_merchants = parts.uri.path().strip_prefix("/api/v1").unwrap_or(parts.uri.path()).starts_with("/merchants");
        let admin = parts.headers.get("x-admin-key").filter(|_| of_merchants).and_then(|value| value.to_str().ok());
        let Some(key) = bearer.map(|(_, key)| key).or(admin).map(str::trim) else { return Err(Problem::unauthorized()) };
        let hash = app.engine.vault.key_hash("api", key);
        let known = app.engine.world().by_api_hash(&hash).cloned();
        let now = app.engine.clock.now();
        match known {
            Some(known) if known.is_good(now) => {
                app.used.note(&known.id, now);
                Ok(Self { merchant: known.of, role: known.role, holder: Holder::Key { hash, id: known.id } })
            }
            // Whoever has a key that was good once is no guesser.
            Some(_) => Err(Problem::expired()),
            None => {
                app.door.failed(app.door.client(&parts.headers, &parts.extensions), Guessed::Api { key })?;
                Err(Problem::unauthorized())
            }
        }
    }
}
