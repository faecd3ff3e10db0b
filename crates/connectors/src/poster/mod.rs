//! Poster: the cloud till of cafés and shops (joinposter.com).
//!
//! Docs: <https://dev.joinposter.com/docs/v3>. A webhook names a thing and tells little of it, comes many times for one order, and
//! again for two days where it was not taken; so it makes the hub ask what became of the order, and the answer is what is read.
//! Everything is signed by MD5 over a text that ends with the application's secret; refusals come with HTTP 200; `dash.*` prints
//! every number as a text and every sum in kopecks.

mod guests;
mod health;
mod hooks;
mod login;
mod orders;
mod polls;
mod wire;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    Bytes, Connector, Intake, Malformed, Provider, Reading, Rejection, Request, Response, Secret,
    connector::{ASKED, Rate, Scope},
    port::{Authorization, Guests, Health, Login, Polls, Session},
    registration::RegistrationField,
};

use crate::{scrub, tree};

pub(crate) const PROVIDER: Provider =
    Provider::new::<Poster>("poster", "Poster").with_words(include_str!("words.toml")).with_registration(&[
        RegistrationField::text("appId", Some("application_id")).required(),
        RegistrationField::text("appSecret", Some("application_secret")).required(),
    ]);

/// The name under which an application's webhook carries the account's token.
const TOKEN: &str = "access_token";

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Poster {
    /// Name of your account: the first part of the address of your console, without .joinposter.com.
    #[garde(inner(length(chars, min = 1, max = 63), custom(label)))]
    #[schemars(length(min = 1, max = 63), example = "my-cafe")]
    account: Option<String>,
    /// Access token: the account's number, a colon and letters and digits. Not needed where the owner allows access in a browser.
    #[garde(skip)]
    access_token: Option<Secret>,
    /// ID of your application, from dev.joinposter.com; for webhooks and for access that the owner allows in a browser.
    #[garde(inner(length(chars, min = 1, max = 20)))]
    #[schemars(length(min = 1, max = 20))]
    application_id: Option<String>,
    /// The application's secret: Poster signs webhooks with it. It is kept encrypted and not shown again.
    #[garde(skip)]
    application_secret: Option<Secret>,
    /// Numbers of the spots whose orders are read. Empty: those of all.
    #[serde(default)]
    #[garde(length(max = 100))]
    #[schemars(length(max = 100))]
    spot_ids: Vec<String>,
    /// Currency of the account, ISO 4217: it is told with every order.
    #[garde(inner(length(chars, min = 3, max = 3)))]
    #[schemars(length(min = 3, max = 3), example = &"UZS")]
    currency: Option<String>,
    /// Seconds between two polls of closed orders.
    #[serde(default = "poll_every_s")]
    #[garde(range(min = 60, max = 86_400))]
    #[schemars(range(min = 60, max = 86_400))]
    poll_every_s: u32,
    /// Calls a second at the most; Poster publishes no limit.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 1_000))]
    #[schemars(range(min = 1, max = 1_000))]
    calls_per_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
    /// Where an account's own pages live; {account} stands for its name.
    #[serde(default = "account_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    account_url: String,
}

fn poll_every_s() -> u32 {
    300
}

fn calls_per_s() -> u32 {
    5
}

fn base_url() -> String {
    "https://joinposter.com".to_owned()
}

fn account_url() -> String {
    "https://{account}.joinposter.com".to_owned()
}

/// A label of a host's name: what comes from a browser as an account becomes a part of an address.
fn is_label(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(fits)
}

fn label(name: &str, (): &()) -> garde::Result {
    if is_label(name) { Ok(()) } else { Err(garde::Error::new("must be the account's name alone, such as my-cafe")) }
}

/// An account's number, a colon and letters and digits: what becomes a part of every address.
fn is_token(token: &str) -> bool {
    token.split_once(':').is_some_and(|(account, rest)| {
        let digits = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
        digits && rest.len() >= 8 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// What Poster wants to hear. Anything but a 200 holds back all that comes after.
fn accepted() -> Response {
    Response::json(200, &json!({ "status": "accept" }))
}

impl Connector for Poster {
    /// The signature proves it. The hub's key does where Poster signs nothing: its console tries the address with an empty body.
    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        match (hooks::signature(request), &self.application_secret) {
            (Some(given), Some(secret)) => {
                let right = hooks::signatures(request, secret).iter().any(|right| uzel_model::signature::equal(right, &given));
                if right { Ok(()) } else { Err(Rejection::Forged) }
            }
            _ if request.key.is_some() => Ok(()),
            _ => Err(Rejection::Unsigned),
        }
    }

    fn intake(&self, request: &Request) -> Intake {
        match request.body.trim_ascii().is_empty() {
            true => Intake::Greets(accepted()),
            false => Intake::Tells(accepted()),
        }
    }

    fn scrub(&self, request: &Request) -> Option<Bytes> {
        scrub::without(request, TOKEN)
    }

    fn brings_login(&self, request: &Request) -> Option<Session> {
        self.pushed_login(request)
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let body = request.json()?;
        if !body.is_object() {
            return Err(Malformed::new("not a webhook: an object was expected"));
        }
        match request.method == ASKED {
            true => self.read_told(&body),
            false => self.read_hook(request, &body),
        }
    }

    fn guests(&self) -> Option<&dyn Guests> {
        self.may_ask().then_some(self)
    }

    fn login(&self) -> Option<&dyn Login> {
        self.may_ask().then_some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        self.may_ask().then_some(self)
    }

    fn health(&self) -> Option<&dyn Health> {
        self.may_ask().then_some(self)
    }

    fn authorization(&self) -> Option<&dyn Authorization> {
        self.application().map(|_| self as &dyn Authorization)
    }

    fn rates(&self) -> Vec<Rate> {
        let scope = match (self.account_number(), &self.account) {
            (Some(number), _) => Scope::Account(format!("number/{number}")),
            (None, Some(account)) => Scope::Account(format!("name/{account}")),
            (None, None) => Scope::Connection,
        };
        vec![Rate::per_second(scope, self.calls_per_s)]
    }
}

impl Poster {
    /// The application's id and secret.
    fn application(&self) -> Option<(&str, &Secret)> {
        self.application_id.as_deref().zip(self.application_secret.as_ref())
    }

    /// Whether there is a token, or may be one.
    fn may_ask(&self) -> bool {
        self.access_token.is_some() || self.application().is_some()
    }

    /// The number that stands before the colon of the token.
    fn account_number(&self) -> Option<&str> {
        self.access_token.as_ref()?.expose().split_once(':').map(|(number, _)| number)
    }

    /// Whether a webhook is of this connection's account: one application has one address for all that installed it. The account's
    /// number would say it too, but is not signed.
    fn concerns(&self, hook: &Value) -> bool {
        self.account.as_ref().is_none_or(|ours| tree::text(&hook["account"]).as_ref() == Some(ours))
    }
}
