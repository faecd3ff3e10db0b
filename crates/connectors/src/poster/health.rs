//! Whether Poster answers, and whose orders the token reads.

use async_trait::async_trait;
use uzel_model::{CallError, Client, port::Health};

use super::{Poster, wire::answer};
use crate::tree;

#[async_trait]
impl Health for Poster {
    /// The account's settings: the cheapest call that proves the token.
    async fn health(&self, client: &Client<'_>) -> Result<Option<String>, CallError> {
        let settings = answer(&client.send(self.get("settings.getAllSettings", &[])).await?)?;
        if !settings.is_object() {
            return Err(CallError::Unreadable("the answer holds no settings".to_owned()));
        }
        // Orders of another account have the same ids: points of theirs would go to guests of ours.
        let theirs = tree::text(&settings["COMPANY_ID"]).filter(|name| super::is_label(name) && name.parse::<u64>().is_err());
        Ok(match (&self.account, theirs) {
            (Some(ours), Some(theirs)) if *ours != theirs => {
                Some(format!("the access token is of the account {theirs}, the settings name {ours}"))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    #[tokio::test]
    async fn a_token_of_another_account_is_told_of() {
        let settings = json!({ "access_token": "700001:5d41402abc4b2a76", "account": "demo-cafe" });
        let poster = PROVIDER.open(settings).unwrap();
        let script = Script::new(&[
            (200, r#"{"response":{"COMPANY_ID":"demo-cafe"}}"#),
            (200, r#"{"response":{"COMPANY_ID":"other-cafe"}}"#),
            (200, r#"{"response":{}}"#),
            (200, r#"{"error":{"code":10,"message":"Token is not valid"}}"#),
            (200, r#"{"response":[]}"#),
            (502, "<html>"),
        ]);
        let (client, health) = (Client::new(&script), poster.health().unwrap());
        assert_eq!(health.health(&client).await.unwrap(), None);
        assert!(health.health(&client).await.unwrap().unwrap().contains("other-cafe"));
        assert_eq!(health.health(&client).await.unwrap(), None);
        assert!(matches!(health.health(&client).await, Err(CallError::Unauthorized(_))));
        assert!(matches!(health.health(&client).await, Err(CallError::Unreadable(_))));
        assert!(health.health(&client).await.is_err());
    }
}
