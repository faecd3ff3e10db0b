//! Tokens of Google for the service account.

use async_trait::async_trait;
use jiff::SignedDuration;
use serde::Deserialize;
use uzel_model::{
    CallError, Client, Outgoing, Reply, Secret,
    port::{Login, Session},
};

use super::{Fcm, reply};

/// Renewed so long before its end.
const MARGIN_S: i64 = 300;

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: i64,
}

#[derive(Default, Deserialize)]
struct Fault {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

#[async_trait]
impl Login for Fcm {
    async fn renew(&self, client: &Client<'_>, _session: Option<&Session>) -> Result<Session, CallError> {
        let now = client.now();
        let assertion = self.account()?.assertion(now).map_err(CallError::Unauthorized)?;
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.as_str())];
        let reply = client.send(Outgoing::new("POST", &self.token_url).form(&form).reads().logs_in()).await?;
        if reply.status >= 400 {
            let Fault { error, error_description } = reply.json().unwrap_or_default();
            return Err(CallError::Unauthorized(format!(
                "Google gives no token for the service account: {error} {error_description} (is the clock of this machine right, and the \
                 key not deleted?)"
            )));
        }
        let token: Token = reply.json()?;
        let lasts = SignedDuration::from_secs((token.expires_in - MARGIN_S).clamp(0, 3_600));
        Ok(Session { access: Secret::new(token.access_token), refresh: None, expires_at: now.checked_add(lasts).ok() })
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        outgoing.headers.push(("authorization", format!("Bearer {}", session.access.expose())));
    }

    /// With Apple's key it is another matter: a new token would change nothing.
    fn is_stale(&self, reply: &Reply) -> bool {
        !reply::is_third_party(reply)
    }
}
