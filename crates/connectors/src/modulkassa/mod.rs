//! ModulKassa: Russian fiscal tills and their cloud (modulkassa.ru).
//!
//! Docs: <https://modulkassa.github.io/backend-api/>. The cloud calls the address that came with a document when its receipt is
//! printed, and nobody documents how: the call is a hint, and the document is asked for. Three pairs of name and password open its
//! doors; each association voids the pair of the one before. Errors have no body, sums come as numbers or texts, and `fn` stands once in the path.

mod guests;
mod login;
mod reading;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uzel_model::{
    Connector, Intake, Malformed, Provider, Reading, Rejection, Request, Response, Secret,
    connector::{ASKED, Rate, Scope},
    port::{Guests, Health, Login},
    registration::RegistrationField,
    signature,
};

use reading::Callback;

pub(crate) const PROVIDER: Provider =
    Provider::new::<ModulKassa>("modulkassa", "ModulKassa").with_words(include_str!("words.toml")).with_registration(&[
        RegistrationField::text("apiKey", Some("api_key")).required(),
        RegistrationField::text("baseUrl", Some("base_url")),
    ]);

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModulKassa {
    /// Access that an association gave: its name, a colon and its password. Not needed where the hub associates by itself.
    #[garde(skip)]
    api_key: Option<Secret>,
    /// Login that ModulKassa shows when the service for receipts of an online shop is switched on; the hub associates with it, once.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    #[schemars(length(min = 1, max = 200))]
    login: Option<String>,
    /// Password that goes with the login.
    #[garde(skip)]
    password: Option<Secret>,
    /// Id of the retail point.
    #[garde(inner(length(chars, min = 1, max = 64), custom(plain)))]
    #[schemars(length(min = 1, max = 64), example = "5b1c2a3d-0000-4000-8000-00000000aa01")]
    retail_point_id: Option<String>,
    /// Name of the hub at the retail point, if several programs send to it.
    #[serde(default = "client_id")]
    #[garde(length(chars, min = 1, max = 50))]
    #[schemars(length(min = 1, max = 50))]
    client_id: String,
    /// Login that ModulKassa shows when orders (hand-out and delivery) are switched on: to find the customer's phone.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    #[schemars(length(min = 1, max = 200))]
    orders_login: Option<String>,
    /// Password that goes with the login for orders.
    #[garde(skip)]
    orders_password: Option<Secret>,
    /// Secret by which your shop makes the `token` of a document's callback address: HMAC-SHA256 of the document's id, in hex.
    #[garde(skip)]
    callback_secret: Option<Secret>,
    /// Calls a second at the most; ModulKassa publishes no limit.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 1_000))]
    #[schemars(range(min = 1, max = 1_000))]
    calls_per_s: u32,
    /// Where the API of documents lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
    /// Where the API of orders lives.
    #[serde(default = "orders_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    orders_url: String,
}

fn client_id() -> String {
    "uzel".to_owned()
}

fn calls_per_s() -> u32 {
    5
}

fn base_url() -> String {
    "https://my.modulkassa.ru/api/fn".to_owned()
}

fn orders_url() -> String {
    "https://my.modulkassa.ru/api".to_owned()
}

/// Whether an id may stand in a URL's path.
fn is_plain(id: &str) -> bool {
    (1..=100).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn plain(id: &str, (): &()) -> garde::Result {
    if is_plain(id) { Ok(()) } else { Err(garde::Error::new("must be letters, digits and hyphens")) }
}

impl Connector for ModulKassa {
    fn credential_parameters(&self) -> &'static [&'static str] {
        &["token"]
    }

    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET"]
    }

    /// The hub's key, or the token that the shop put into the address: it belongs to one document.
    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        if request.key.is_some() {
            return Ok(());
        }
        let (Some(secret), callback) = (&self.callback_secret, Callback::of(request)) else { return Err(Rejection::Unsigned) };
        let (Some(id), Some(token)) = (callback.document, callback.token) else { return Err(Rejection::Unsigned) };
        let right = hex::encode(signature::hmac_sha256(secret.expose().as_bytes(), id.as_bytes()));
        if signature::equal(&right, &token.to_ascii_lowercase()) { Ok(()) } else { Err(Rejection::Forged) }
    }

    fn intake(&self, _request: &Request) -> Intake {
        Intake::Tells(Response::json(200, &json!({ "ok": true })))
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        match request.method == ASKED {
            true => reading::told(&request.json()?),
            false => self.read(request),
        }
    }

    fn guests(&self) -> Option<&dyn Guests> {
        self.may_ask().then_some(self)
    }

    fn login(&self) -> Option<&dyn Login> {
        self.may_ask().then_some(self)
    }

    fn health(&self) -> Option<&dyn Health> {
        self.may_ask().then_some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        vec![Rate::per_second(Scope::Connection, self.calls_per_s)]
    }
}

impl ModulKassa {
    /// Name, password and retail point by which the hub associates.
    fn association(&self) -> Option<(&str, &Secret, &str)> {
        Some((self.login.as_deref()?, self.password.as_ref()?, self.retail_point_id.as_deref()?))
    }

    fn may_ask(&self) -> bool {
        self.api_key.is_some() || self.association().is_some()
    }
}
