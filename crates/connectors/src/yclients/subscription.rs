//! Our webhook at the branch, or by the Marketplace.

use async_trait::async_trait;
use serde_json::{Value, json};
use uzel_model::{CallError, Client, Outgoing, Refusal, port::Subscription};

use super::{Yclients, wire::data};
use crate::tree;

/// As many addresses YCLIENTS keeps for one branch.
const HOOKS: usize = 10;

#[async_trait]
impl Subscription for Yclients {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        if let Some(application) = self.application_id {
            let company = self.company()?;
            let body = json!({ "salon_id": company, "application_id": application, "webhook_urls": [url] });
            let reply = client.send(self.marketplace("POST", "/partner/callback").json(&body).reads()).await?;
            return data(&reply).map(|_| ());
        }
        let mut settings = self.hooks(client).await?;
        let mut urls = urls(&settings);
        if !urls.iter().any(|known| known == url) {
            if urls.len() >= HOOKS {
                return Err(CallError::refused(
                    Refusal::Account,
                    "urls",
                    format!("the branch already has {HOOKS} webhook addresses: remove one in YCLIENTS"),
                ));
            }
            urls.push(url.to_owned());
        }
        if !settings.is_object() {
            settings = json!({});
        }
        settings["urls"] = json!(urls);
        settings["active"] = json!(1);
        settings["record"] = json!(1);
        let path = format!("/hooks_settings/{}", self.company()?);
        let reply = client.send(self.call("POST", path).json(&settings).reads()).await?;
        data(&reply).map(|_| ())
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        if let Some(application) = self.application_id {
            let path = format!("/salon/{}/application/{application}", self.company()?);
            let reply = client.send(self.marketplace("GET", &path)).await?;
            return match reply.status {
                404 => Ok(Some("the application is not installed in the branch".to_owned())),
                _ => data(&reply).map(|_| None),
            };
        }
        let settings = self.hooks(client).await?;
        let wrong = if !urls(&settings).iter().any(|known| known == url) {
            Some("our address is not among the branch's webhooks")
        } else if !tree::flag(&settings["active"]) {
            Some("webhooks of the branch are switched off")
        } else if !tree::flag(&settings["record"]) {
            Some("webhooks of the branch do not tell of records")
        } else {
            None
        };
        Ok(wrong.map(str::to_owned))
    }
}

impl Yclients {
    /// A call of the Marketplace, which lives beside the API.
    fn marketplace(&self, method: &'static str, path: &str) -> Outgoing {
        let base = self.base_url.trim_end_matches('/');
        let url = format!("{}/marketplace{path}", base.strip_suffix("/api/v1").unwrap_or(base));
        Outgoing::new(method, url).header("accept", "application/vnd.yclients.v2+json")
    }

    async fn hooks(&self, client: &Client<'_>) -> Result<Value, CallError> {
        let path = format!("/hooks_settings/{}", self.company()?);
        data(&client.send(self.call("GET", path)).await?)
    }
}

fn urls(settings: &Value) -> Vec<String> {
    let urls = settings["urls"].as_array().map_or(&[][..], Vec::as_slice);
    urls.iter().filter_map(tree::text).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    #[tokio::test]
    async fn an_application_registers_at_the_marketplace() {
        let ours = PROVIDER.open(json!({ "partner_token": "p", "company_id": 4564, "application_id": 18289 })).unwrap();
        let script = Script::new(&[(201, r#"{"success":true,"data":null,"meta":{}}"#)]);
        ours.subscription().unwrap().subscribe(&Client::new(&script), "https://hub.example/h").await.unwrap();
        assert_eq!(script.sent()[0].url, "https://api.yclients.com/marketplace/partner/callback");
    }

    #[tokio::test]
    async fn other_webhooks_of_the_branch_stay() {
        let ours = PROVIDER.open(json!({ "partner_token": "p", "user_token": "u", "company_id": 4564 })).unwrap();
        let script = Script::new(&[
            (200, r#"{"success":true,"data":{"urls":["https://other.example/h"],"active":0,"client":1,"record":0},"meta":[]}"#),
            (201, r#"{"success":true,"data":{},"meta":[]}"#),
        ]);
        ours.subscription().unwrap().subscribe(&Client::new(&script), "https://hub.example/h").await.unwrap();
        let sent: Value = serde_json::from_slice(&script.sent()[1].body).unwrap();
        let wanted =
            json!({ "urls": ["https://other.example/h", "https://hub.example/h"], "active": 1, "client": 1, "record": 1 });
        assert_eq!(sent, wanted);
    }
}
