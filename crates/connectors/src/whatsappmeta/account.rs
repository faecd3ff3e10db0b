//! The WhatsApp Business account: where its webhooks go, and whether its templates may be used.

use async_trait::async_trait;
use serde_json::{Value, json};
use uzel_model::{CallError, Client, Outgoing, port::Subscription};

use super::WhatsApp;
use crate::tree;

/// Templates looked at: an account may have 250.
const TEMPLATES_MAX: usize = 250;

#[async_trait]
impl Subscription for WhatsApp {
    /// Meta greets the address at once, with our word.
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        let word = self.verify_token.as_ref().map_or("", |token| token.expose());
        let body = json!({ "override_callback_uri": url, "verify_token": word });
        // Setting the same address twice changes nothing.
        let answer = self.call(client, Outgoing::new("POST", self.subscribed()).json(&body).reads()).await?;
        if tree::flag(&answer["success"]) {
            Ok(())
        } else {
            Err(CallError::Unreadable("the answer does not say success".to_owned()))
        }
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        let answer = self.call(client, Outgoing::new("GET", self.subscribed())).await?;
        let apps = listed(&answer)?;
        if !apps.iter().any(|app| app["override_callback_uri"] == url) {
            return Ok(Some("our address is not where the account's webhooks go".to_owned()));
        }
        let fields = format!("message_templates?fields=name,language,status&limit={TEMPLATES_MAX}");
        let answer = self.call(client, Outgoing::new("GET", self.of_account(&fields))).await?;
        let ill: Vec<String> = listed(&answer)?.iter().filter_map(ill).collect();
        Ok((!ill.is_empty()).then(|| format!("templates that cannot be used: {}", ill.join(", "))))
    }
}

impl WhatsApp {
    fn of_account(&self, what: &str) -> String {
        self.url(&format!("{}/{what}", self.waba_id.as_deref().unwrap_or_default()))
    }

    fn subscribed(&self) -> String {
        self.of_account("subscribed_apps")
    }
}

fn listed(answer: &Value) -> Result<&Vec<Value>, CallError> {
    answer["data"].as_array().ok_or_else(|| CallError::Unreadable("data is no list".to_owned()))
}

/// A template that was approved, or asked for, and may not be used.
fn ill(template: &Value) -> Option<String> {
    let status = tree::text(&template["status"])?.to_uppercase();
    let (name, language) = (tree::text(&template["name"])?, tree::text(&template["language"]).unwrap_or_default());
    matches!(status.as_str(), "REJECTED" | "PAUSED" | "DISABLED").then(|| format!("{name} ({language}) is {status}"))
}

#[cfg(test)]
mod tests {
    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    const URL: &str = "https://hub.example/hooks/con_1";

    async fn check(apps: &str, templates: &str) -> Result<Option<String>, CallError> {
        let settings = json!({ "access_token": "t", "phone_number_id": "1", "verify_token": "w", "waba_id": "2" });
        let ours = PROVIDER.open(settings).unwrap();
        let script = Script::new(&[(200, apps), (200, templates)]);
        ours.subscription().unwrap().check(&Client::new(&script), URL).await
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_and_a_template_that_cannot_be_used_are_told() {
        let ours = json!({ "data": [{ "whatsapp_business_api_data": { "id": "3" }, "override_callback_uri": URL }] }).to_string();
        let other = json!({ "data": [{ "whatsapp_business_api_data": { "id": "3" } }] }).to_string();
        let template = |status: &str| json!({ "data": [{ "name": "review", "language": "ru", "status": status }] }).to_string();
        for well in ["APPROVED", "PENDING"] {
            assert_eq!(check(&ours, &template(well)).await, Ok(None), "{well}");
        }
        assert_eq!(
            check(&ours, &template("PAUSED")).await.unwrap().unwrap(),
            "templates that cannot be used: review (ru) is PAUSED"
        );
        assert!(check(&other, "").await.unwrap().unwrap().contains("our address"));
        assert!(matches!(check("{}", "").await, Err(CallError::Unreadable(_))));
        assert!(matches!(check(&ours, "{}").await, Err(CallError::Unreadable(_))));
    }
}
