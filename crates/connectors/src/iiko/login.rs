//! Tokens of the Cloud API.

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::json;
use uzel_model::{
    CallError, Client, Outgoing, Secret,
    port::{Login, Session},
};

use super::{Iiko, wire::answer};
use crate::tree;

#[async_trait]
impl Login for Iiko {
    async fn renew(&self, client: &Client<'_>, _session: Option<&Session>) -> Result<Session, CallError> {
        let login = self.api_login.as_ref().map_or("", Secret::expose);
        let (path, body) = match self.app_id.as_deref().zip(self.client_secret.as_ref()) {
            Some((app, secret)) => {
                ("/api/v2/access_token", json!({ "appId": app, "clientSecret": secret.expose(), "apiKey": login }))
            }
            None => ("/api/1/access_token", json!({ "apiLogin": login })),
        };
        let reply = client.send(self.post(path, &body).reads().logs_in()).await?;
        if matches!(reply.status, 400 | 403 | 404) {
            let said = answer(&reply).err().map_or(String::new(), |error| error.to_string());
            return Err(CallError::Unauthorized(format!("iiko refused the API login: {said}")));
        }
        let token = tree::text(&answer(&reply)?["token"])
            .ok_or_else(|| CallError::Unreadable("token is missing in the answer".to_owned()))?;
        let lasts = SignedDuration::from_mins(i64::from(self.token_minutes));
        Ok(Session { access: Secret::new(token), refresh: None, expires_at: client.now().checked_add(lasts).ok() })
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        outgoing.headers.push(("authorization", format!("Bearer {}", session.access.expose())));
    }
}
