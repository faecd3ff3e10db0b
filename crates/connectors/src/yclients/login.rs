//! Two tokens in one header: the partner's and the user's.

use async_trait::async_trait;
use serde_json::json;
use uzel_model::{
    CallError, Client, Outgoing, Secret,
    port::{Login, Session},
};

use super::{
    Yclients,
    wire::{data, refused},
};
use crate::tree;

#[async_trait]
impl Login for Yclients {
    async fn renew(&self, client: &Client<'_>, _session: Option<&Session>) -> Result<Session, CallError> {
        // A token lives until the password changes.
        let session = |access: Secret| Session { access, refresh: None, expires_at: None };
        if let Some(token) = &self.user_token {
            return Ok(session(token.clone()));
        }
        let Some((login, password)) = self.login.as_deref().zip(self.password.as_ref()) else {
            // An application of the Marketplace has the rights of its installation.
            return Ok(session(Secret::new("")));
        };
        let outgoing = self
            .call("POST", "/auth")
            .header("authorization", self.bearer(None))
            .json(&json!({ "login": login, "password": password.expose() }))
            .reads()
            .logs_in();
        let reply = client.send(outgoing).await?;
        if reply.status >= 400 {
            let answer = serde_json::from_slice(&reply.body).unwrap_or_default();
            let reason = refused(reply.status, &answer).to_string();
            return Err(CallError::Unauthorized(format!("YCLIENTS refused the login or password: {reason}")));
        }
        let user = data(&reply)?;
        let token = tree::text(&user["user_token"])
            .ok_or_else(|| CallError::Unreadable("user_token is missing in the answer".to_owned()))?;
        Ok(session(Secret::new(token)))
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        let bearer = self.bearer(Some(session.access.expose()));
        outgoing.headers.push(("authorization", bearer));
    }
}
