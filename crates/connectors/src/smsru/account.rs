//! The account: money left, and addresses for news of messages.

use async_trait::async_trait;
use serde_json::Value;
use uzel_model::{
    CallError, Client,
    port::{Balance, Subscription},
};

use super::SmsRu;
use crate::tree;

#[async_trait]
impl Balance for SmsRu {
    async fn balance(&self, client: &Client<'_>) -> Result<String, CallError> {
        let answer = self.call(client, "/my/balance", &[], true).await?;
        tree::text(&answer["balance"])
            .filter(|_| tree::decimal(&answer["balance"]).is_some())
            .ok_or_else(|| CallError::Unreadable("balance is no sum of money".to_owned()))
    }
}

#[async_trait]
impl Subscription for SmsRu {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        self.call(client, "/callback/add", &[("url", url)], true).await.map(|_| ())
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        let answer = self.call(client, "/callback/get", &[], true).await?;
        let known = match &answer["callback"] {
            Value::Array(urls) => urls.iter().any(|known| known.as_str() == Some(url)),
            Value::Object(urls) => urls.values().any(|known| known.as_str() == Some(url)),
            _ => false,
        };
        Ok((!known).then(|| "our address is not among the account's callbacks".to_owned()))
    }
}
