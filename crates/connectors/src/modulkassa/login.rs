//! Access to documents: a pair that is set, or one that the hub gets by associating with the retail point.

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use uzel_model::{
    CallError, Client, Outgoing, Secret,
    port::{Login, Session},
};

use super::ModulKassa;
use crate::tree;

/// The header of a pair. A key without a colon is a name without a password.
pub(super) fn basic(pair: &str) -> String {
    let colon = if pair.contains(':') { "" } else { ":" };
    format!("Basic {}", BASE64_STANDARD.encode(format!("{pair}{colon}")))
}

#[async_trait]
impl Login for ModulKassa {
    /// Associating voids the pair of whoever associated before, so it is done once: a pair that is refused later is not replaced.
    async fn renew(&self, client: &Client<'_>, session: Option<&Session>) -> Result<Session, CallError> {
        let lost = |what: &str| Err(CallError::Unauthorized(what.to_owned()));
        let session_of = |pair: Secret| Session { access: pair, refresh: None, expires_at: None };
        match (&self.api_key, session) {
            (Some(key), None) => return Ok(session_of(key.clone())),
            (Some(key), Some(session)) if session.access.expose() != key.expose() => return Ok(session_of(key.clone())),
            (Some(_), Some(_)) => return lost("ModulKassa refused the key (api_key): another program may have associated since"),
            (None, Some(_)) => {
                return lost(
                    "the association is lost, another program may have associated since: set api_key, or make the connection anew to associate again",
                );
            }
            (None, None) => {}
        }
        let Some((login, password, point)) = self.association() else {
            return lost("neither a key nor login, password and retail point are set");
        };
        let client_id = serde_urlencoded::to_string([("clientId", &self.client_id)]).unwrap_or_default();
        let own = basic(&format!("{login}:{}", password.expose()));
        let url = self.at(&format!("v1/associate/{point}?{client_id}"));
        let reply = client.send(Outgoing::new("POST", url).header("authorization", own).logs_in()).await?;
        match reply.status {
            0..300 => {}
            403 => return lost("the login has no right for this retail point"),
            404 => return lost("ModulKassa does not know this retail point"),
            status => return lost(&format!("ModulKassa refused the login or password ({status})")),
        }
        let answer: Value = reply.json()?;
        match (tree::text(&answer["userName"]), tree::text(&answer["password"])) {
            (Some(name), Some(password)) => Ok(session_of(Secret::new(format!("{name}:{password}")))),
            _ => Err(CallError::Unreadable("userName or password is missing in the answer".to_owned())),
        }
    }

    /// A call that brings a pair of its own keeps it: orders have another one. A key that is set counts before an association of earlier.
    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        if !outgoing.headers.iter().any(|(name, _)| *name == "authorization") {
            let pair = self.api_key.as_ref().unwrap_or(&session.access);
            outgoing.headers.push(("authorization", basic(pair.expose())));
        }
    }
}
