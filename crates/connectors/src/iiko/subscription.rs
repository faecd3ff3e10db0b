//! Our webhook in iiko's settings.

use async_trait::async_trait;
use serde_json::json;
use uzel_model::{CallError, Client, port::Subscription};

use super::{FINAL, Iiko, wire::answer};
use crate::tree;

#[async_trait]
impl Subscription for Iiko {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        let mut body = json!({
            "organizationId": self.organization()?,
            "webHooksUri": url,
            "webHooksFilter": {
                "deliveryOrderFilter": { "orderStatuses": FINAL, "itemStatuses": [], "errors": true },
                "tableOrderFilter": { "orderStatuses": ["Closed", "Deleted"], "itemStatuses": [], "errors": false },
                "reserveFilter": { "updates": true, "errors": false },
                "stopListUpdateFilter": { "updates": true },
            },
        });
        if let Some(token) = &self.auth_token {
            body["authToken"] = json!(token.expose());
        }
        // Setting the same again changes nothing. The body holds a token, but the call needs the session.
        answer(&self.ask(client, "/api/1/webhooks/update_settings", &body).await?).map(|_| ())
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        let body = json!({ "organizationId": self.organization()? });
        let settings = answer(&self.ask(client, "/api/1/webhooks/settings", &body).await?)?;
        let told = &settings["webHooksFilter"]["deliveryOrderFilter"]["orderStatuses"];
        let told = told.as_array().map_or(&[][..], Vec::as_slice);
        let missing = FINAL.iter().find(|status| !told.iter().any(|told| told.as_str() == Some(**status)));
        Ok(match tree::text(&settings["webHooksUri"]) {
            None => Some("iiko has no webhook address for this API login".to_owned()),
            Some(known) if known != url => Some("iiko sends webhooks of this API login to another address".to_owned()),
            Some(_) => missing.map(|status| format!("iiko's filter leaves out deliveries with status {status}")),
        })
    }
}
