//! Messages without a provider: the text goes to the journal and nowhere else.
//!
//! What a hub without any SMS key uses, so that everything can be tried before there is a contract. It says so each time.

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use uzel_model::{
    CallError, Client, Connector, Malformed, Provider, Reading, Request,
    port::{MessageStatus, Messages, Sent},
};

pub(crate) const PROVIDER: Provider =
    Provider::new::<Log>("log", "Journal only (nothing is sent)").with_words(include_str!("log.words.toml"));

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {}

impl Connector for Log {
    /// Nobody is let in by a key here.
    fn keyed(&self) -> bool {
        false
    }

    fn parse(&self, _request: &Request) -> Result<Reading, Malformed> {
        Err(Malformed::new("nobody is expected to call here"))
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }
}

#[async_trait]
impl Messages for Log {
    async fn send(&self, _client: &Client<'_>, _phone: &str, _text: &str, key: &str) -> Result<Sent, CallError> {
        Ok(Sent::new(format!("dev_logged/{key}")))
    }

    async fn statuses(&self, _client: &Client<'_>, _provider_ids: &[String]) -> Result<Vec<MessageStatus>, CallError> {
        Ok(Vec::new())
    }
}
