//! The cloud's token: set by hand, or handed over by Evotor. It is not renewed.

use async_trait::async_trait;
use uzel_model::{
    CallError, Client, Outgoing,
    port::{Login, Session},
};

use super::Evotor;

/// Whether a token may stand in a header.
pub(super) fn fits(token: &str) -> bool {
    (8..=1_000).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[async_trait]
impl Login for Evotor {
    async fn renew(&self, _client: &Client<'_>, session: Option<&Session>) -> Result<Session, CallError> {
        match &self.cloud_token {
            Some(token) if session.is_none_or(|session| session.access.expose() != token.expose()) => {
                Ok(Session { access: token.clone(), refresh: None, expires_at: None })
            }
            Some(_) => Err(CallError::Unauthorized("Evotor refused the cloud's token: take a new one".to_owned())),
            None => Err(CallError::Unauthorized(
                "Evotor has sent no token of the cloud yet, or it has ended: install the application again".to_owned(),
            )),
        }
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        // One that is set counts before one that Evotor sent.
        let token = self.cloud_token.as_ref().unwrap_or(&session.access).expose();
        outgoing.headers.push(match self.x_authorization {
            true => ("x-authorization", token.to_owned()),
            false => ("authorization", format!("Bearer {token}")),
        });
    }
}
