//! Tokens, where JOWi gives access by OAuth (client credentials, RFC 6749 4.4). That is assumed: nothing of it is published.

use async_trait::async_trait;
use jiff::SignedDuration;
use uzel_model::{
    CallError, Client, Outgoing, Secret,
    port::{Login, Session},
};

use super::Jowi;
use crate::tree;

/// Renewed so much before its end, or at half of a shorter life.
const EARLY_S: i64 = 60;

#[async_trait]
impl Login for Jowi {
    async fn renew(&self, client: &Client<'_>, _session: Option<&Session>) -> Result<Session, CallError> {
        let (id, secret) = self.client().map_or(("", ""), |(id, secret)| (id, secret.expose()));
        let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
        let reply = client.send(Outgoing::new("POST", &self.token_url).form(&form).reads().logs_in()).await?;
        if reply.status >= 400 {
            return Err(CallError::Unauthorized(format!("JOWi refused the client's ID or secret (HTTP {})", reply.status)));
        }
        let answer: serde_json::Value = reply.json()?;
        let token = tree::text(&answer["access_token"])
            .ok_or_else(|| CallError::Unreadable("access_token is missing in the answer".to_owned()))?;
        let lasts_s = tree::integer(&answer["expires_in"]).filter(|lasts_s| *lasts_s > 0);
        let used_s = lasts_s.map(|lasts_s| (lasts_s - EARLY_S).max(lasts_s / 2));
        let expires_at = used_s.and_then(|used_s| client.now().checked_add(SignedDuration::from_secs(used_s)).ok());
        Ok(Session { access: Secret::new(token), refresh: None, expires_at })
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        outgoing.headers.push(("authorization", format!("Bearer {}", session.access.expose())));
    }
}
