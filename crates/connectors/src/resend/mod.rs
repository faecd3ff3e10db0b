//! Resend: e-mail, and news of what became of it.
//!
//! Docs: <https://resend.com/docs/api-reference>. Limits count per team, over all its keys. An `Idempotency-Key` is known for 24
//! hours: the same key with the same body gives the first answer without a second mail. A 200 with an id can still become "failed"
//! or "suppressed" seconds later. Webhooks are signed by Svix, which is Standard Webhooks with its own names of headers.

mod hooks;
mod messages;
mod wire;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use uzel_model::{
    Connector, Malformed, Provider, Reading, Rejection, Request, Secret,
    connector::{Rate, Scope, Variables},
    port::Messages,
    signature, webhook,
};

pub(crate) const PROVIDER: Provider =
    Provider::new::<Resend>("resend", "Resend").with_words(include_str!("words.toml")).with_variables(Variables {
        slug: "email",
        needed: &[("RESEND_API_KEY", "api_key"), ("RESEND_FROM", "from")],
        optional: &[("RESEND_WEBHOOK_SECRET", "webhook_secret")],
    });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resend {
    /// API key (`re_…`), from the page «API Keys»; permission to send is enough.
    #[garde(skip)]
    api_key: Secret,
    /// From whom e-mails come, at a domain that you have verified with Resend: `noreply@mail.example.com`, or with a name,
    /// `Coffee house <noreply@mail.example.com>`.
    #[garde(length(chars, min = 3, max = 320))]
    #[schemars(length(min = 3, max = 320))]
    from: String,
    /// Where answers of guests go, if not to the sender.
    #[garde(inner(length(chars, min = 3, max = 320)))]
    #[schemars(length(min = 3, max = 320))]
    reply_to: Option<String>,
    /// Signing secret of the webhook (`whsec_…`); without it the hub is not told what becomes of e-mails.
    #[garde(skip)]
    webhook_secret: Option<Secret>,
    /// The key has full access: the hub also asks what became of e-mails, a few a minute.
    #[serde(default)]
    #[garde(skip)]
    full_access: bool,
    /// Calls a second at the most; Resend counts them over all keys of your team.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 10_000))]
    #[schemars(range(min = 1, max = 10_000))]
    calls_per_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
}

fn calls_per_s() -> u32 {
    2
}

fn base_url() -> String {
    "https://api.resend.com".to_owned()
}

impl Connector for Resend {
    /// Its webhooks prove themselves by a signature.
    fn keyed(&self) -> bool {
        false
    }

    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        let secret = self.webhook_secret.as_ref().ok_or(Rejection::Unsigned)?;
        webhook::verify(request, secret)
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        hooks::read(&request.json()?)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        let team = signature::sha256_hex([self.api_key.expose().as_bytes()]);
        vec![Rate::per_second(Scope::Account(team), self.calls_per_s)]
    }
}
