//! Messages without a provider: the text goes to the journal and nowhere else.
//!
//! What a hub without any SMS key uses, so that everything can be tried before there is a contract. It says so each time.

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use uzel_model::{
    CallError, Channel, Client, Connector, Malformed, Outbound, Provider, Reading, Request,
    port::{Messages, Sent},
};

pub(crate) const PROVIDER: Provider =
    Provider::new::<Log>("log", "Journal only (nothing is sent)").with_words(include_str!("log.words.toml"));

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// For which channel it stands: `sms`, `whatsapp`, `email`, `telegram` or `push`.
    #[serde(default = "sms")]
    #[garde(skip)]
    channel: Channel,
}

fn sms() -> Channel {
    Channel::Sms
}

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
    fn channel(&self) -> Channel {
        self.channel
    }

    fn reaches_people(&self) -> bool {
        false
    }

    fn tells_delivery(&self) -> bool {
        false
    }

    async fn send(&self, _client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        Ok(Sent::new(format!("dev_logged/{}", message.key)))
    }
}
