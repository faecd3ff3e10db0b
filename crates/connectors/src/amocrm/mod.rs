//! amoCRM (abroad: Kommo): deals won and lost.
//!
//! Docs: <https://www.amocrm.ru/developers/content/crm_platform/webhooks-format>. Webhooks are forms with PHP's bracketed
//! keys where every value is a text; they name no contact, so the guest's phone is asked of API v4, deal first, contact
//! then. An API answer without a body (204) means "not found". A refresh token works once. The account's address can
//! change.

mod api;
mod oauth;
mod polls;
mod reading;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uzel_model::{
    Connector, Intake, Malformed, Provider, Reading, Rejection, Request, Response, Secret, Timestamp,
    connector::{Rate, Scope},
    port::{Authorization, Guests, Login, Polls, Subscription},
    signature,
};

use crate::form;

pub(crate) const PROVIDER: Provider = Provider::new::<Amocrm>("amocrm", "amoCRM").with_words(include_str!("words.toml"));

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amocrm {
    /// Your account's address without https, such as example.amocrm.ru.
    #[garde(inner(length(chars, min = 4, max = 253), custom(host_name)))]
    #[schemars(length(min = 4, max = 253), example = "example.amocrm.ru")]
    host: Option<String>,
    /// Integration ID (amoMarket, your integration, Keys and permissions).
    #[garde(inner(length(chars, min = 1, max = 100)))]
    #[schemars(length(min = 1, max = 100))]
    client_id: Option<String>,
    /// Secret key of the integration.
    #[garde(skip)]
    client_secret: Option<Secret>,
    /// Long-lived token, instead of the integration's ID and key.
    #[garde(skip)]
    long_lived_token: Option<Secret>,
    /// Deals won are told by "deal changed" and "deal added" too; only where "deal status changed" is not subscribed to.
    #[serde(default)]
    #[garde(skip)]
    read_updates: bool,
    /// Which of a contact's phones to try first, by amoCRM's codes; others follow, fax never.
    #[serde(default = "phone_order")]
    #[garde(length(max = 10))]
    #[schemars(length(max = 10))]
    phone_order: Vec<String>,
    /// Seconds between two polls of deals that were closed.
    #[serde(default = "poll_every_s")]
    #[garde(range(min = 60, max = 86_400))]
    #[schemars(range(min = 60, max = 86_400))]
    poll_every_s: u32,
    /// The page where the account's owner allows access.
    #[serde(default = "oauth_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    oauth_url: String,
    /// Where the account's API lives, if not at its own address; the sandbox's address in tests.
    #[garde(inner(length(chars, min = 1)))]
    #[schemars(length(min = 1))]
    base_url: Option<String>,
    /// Hosts beside *.amocrm.ru, *.amocrm.com and *.kommo.com that may be trusted as an account's address; for tests.
    #[serde(default)]
    #[garde(length(max = 10))]
    #[schemars(length(max = 10))]
    allowed_hosts: Vec<String>,
}

fn phone_order() -> Vec<String> {
    ["MOB", "WORK"].map(str::to_owned).into()
}

fn poll_every_s() -> u32 {
    900
}

fn oauth_url() -> String {
    "https://www.amocrm.ru/oauth".to_owned()
}

/// A name of a host: no scheme, port, user or path.
fn host_name(host: &str, (): &()) -> garde::Result {
    match plain_host(host) {
        true => Ok(()),
        false => Err(garde::Error::new("must be an address such as example.amocrm.ru, without https and slashes")),
    }
}

fn plain_host(host: &str) -> bool {
    host.contains('.')
        && host.split('.').all(|label| {
            !label.is_empty() && !label.starts_with('-') && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

impl Connector for Amocrm {
    /// The news that the integration was switched off is a GET.
    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET"]
    }

    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        if request.query("signature").is_some() {
            // Without the secret nothing can be said of the signature, and the key must do.
            return match self.signs_off(request) {
                Some(true) => Ok(()),
                Some(false) => Err(Rejection::Forged),
                None if request.key.is_some() => Ok(()),
                None => Err(Rejection::Unsigned),
            };
        }
        if request.key.is_some() { Ok(()) } else { Err(Rejection::Unsigned) }
    }

    fn intake(&self, request: &Request) -> Intake {
        match request.method.as_str() {
            // A person who opens the hook's address in a browser.
            "GET" if request.query("signature").is_none() => Intake::Greets(Response::ok()),
            _ => Intake::Tells(Response::ok()),
        }
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        if request.query("signature").is_some() {
            return match self.signs_off(request) {
                Some(true) => Ok(Reading {
                    disconnected: Some("the integration was switched off in amoCRM".to_owned()),
                    ..Reading::default()
                }),
                _ => Err(Malformed::new("the integration's switching off cannot be proven: its ID or secret key does not fit")),
            };
        }
        self.read(&body(request)?)
    }

    fn guests(&self) -> Option<&dyn Guests> {
        self.calls().then_some(self)
    }

    fn login(&self) -> Option<&dyn Login> {
        self.calls().then_some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        self.calls().then_some(self)
    }

    fn subscription(&self) -> Option<&dyn Subscription> {
        self.calls().then_some(self)
    }

    fn authorization(&self) -> Option<&dyn Authorization> {
        (self.addressed() && self.application().is_some()).then_some(self)
    }

    fn token_ends_at(&self) -> Option<Timestamp> {
        oauth::ends_at(self.long_lived_token.as_ref()?.expose())
    }

    /// amoCRM counts calls by integration, over all accounts that use it, and by account, over all its integrations. A
    /// long-lived token without the integration's ID is taken for an integration of its own.
    fn rates(&self) -> Vec<Rate> {
        let integration = self.client_id.as_ref().map(|id| format!("integration/{}", id.to_ascii_lowercase()));
        let account = Scope::Account(format!("account/{}", self.base()));
        vec![Rate::per_second(integration.map_or(Scope::Connection, Scope::Account), 7), Rate::per_second(account, 50)]
    }
}

impl Amocrm {
    /// The integration's id and secret key.
    fn application(&self) -> Option<(&str, &Secret)> {
        self.client_id.as_deref().zip(self.client_secret.as_ref())
    }

    fn addressed(&self) -> bool {
        self.host.is_some() || self.base_url.is_some()
    }

    /// Whether the settings let us call the account.
    fn calls(&self) -> bool {
        self.addressed() && (self.long_lived_token.is_some() || self.application().is_some())
    }

    /// Whether the hook's signature proves that amoCRM switched the integration off; `None`: our keys are not set.
    fn signs_off(&self, request: &Request) -> Option<bool> {
        let (id, secret) = self.application()?;
        let client = request.query("client_uuid").unwrap_or_default();
        let account = request.query("account_id").unwrap_or_default();
        let signed = signature::hmac_sha256(secret.expose().as_bytes(), format!("{client}|{account}").as_bytes());
        let given = request.query("signature").unwrap_or_default().to_ascii_lowercase();
        let ours = client.eq_ignore_ascii_case(id) && !account.is_empty();
        Some(ours && signature::equal(&given, &hex::encode(signed)))
    }

    /// Whether a host that came from outside may be called as an account's address.
    fn trusts(&self, host: &str) -> bool {
        if self.allowed_hosts.iter().any(|allowed| allowed == host) {
            return true;
        }
        let host = host.to_ascii_lowercase();
        plain_host(&host) && [".amocrm.ru", ".amocrm.com", ".kommo.com"].iter().any(|suffix| host.ends_with(suffix))
    }
}

/// The body as one tree, by what it is called and, where that is wrong, by how it begins.
fn body(request: &Request) -> Result<Value, Malformed> {
    let body = request.body.trim_ascii();
    let Some(first) = body.first() else {
        return Err(Malformed::new("the body is empty: a form was expected"));
    };
    let called = |word: &str| request.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains(word));
    match b"{[".contains(first) {
        true if called("form-urlencoded") => request.json().or_else(|_| form::read(body)),
        true => request.json(),
        false if called("json") => request.json(),
        false => form::read(body),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn signed(signature: &str) -> Request {
        let client = "5e1f2a3b-0000-4000-8000-00000000c1d0";
        let pairs = [("account_id", "9931001"), ("client_uuid", client), ("signature", signature)];
        let query = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Request { method: "GET".to_owned(), query, key: None, ..testing::post("", "") }
    }

    #[test]
    fn only_the_right_signature_switches_off() {
        let ours = json!({ "client_id": "5e1f2a3b-0000-4000-8000-00000000c1d0", "client_secret": "cs_example_amo_1" });
        let amocrm = PROVIDER.open(ours).unwrap();
        let right = signed("cd8031c5fd8ce8cf9fb257461208cfaddd5a1a05e29aac523a9d015ccaf2a295");
        assert_eq!(amocrm.verify(&right), Ok(()));
        assert!(amocrm.parse(&right).unwrap().disconnected.is_some());
        // The vector without the bar between the ids.
        let wrong = signed("7153e404ccb3f3a3e0462a8caba97c6bcf448c78e71fa937dbd5cd8e40882ad5");
        assert_eq!(amocrm.verify(&wrong), Err(Rejection::Forged));
        assert!(amocrm.parse(&wrong).is_err());

        let keyed = |request: Request| Request { key: Some("key".to_owned()), ..request };
        assert_eq!(amocrm.verify(&keyed(wrong)), Err(Rejection::Forged));
        let bare = PROVIDER.open(json!({})).unwrap();
        assert_eq!(bare.verify(&right), Err(Rejection::Unsigned));
        assert_eq!(bare.verify(&keyed(right.clone())), Ok(()));
        assert!(bare.parse(&right).is_err());
    }

    #[test]
    fn only_amocrms_hosts_are_trusted() {
        let Value::Object(settings) = json!({ "allowed_hosts": ["127.0.0.1:9000"] }) else { unreachable!() };
        let amocrm: Amocrm = serde_json::from_value(Value::Object(settings)).unwrap();
        for host in ["example.amocrm.ru", "Example.amocrm.com", "a-b.kommo.com", "127.0.0.1:9000"] {
            assert!(amocrm.trusts(host), "{host}");
        }
        for host in [
            "amocrm.ru",
            ".amocrm.ru",
            "evil.ru",
            "evilamocrm.ru",
            "a.amocrm.ru:8080",
            "u@a.amocrm.ru",
            "127.0.0.1",
            "a.amocrm.ru/x",
            "x.amocrm.ru.evil.ru",
            "é.amocrm.ru",
            "",
        ] {
            assert!(!amocrm.trusts(host), "{host}");
        }
    }

    #[test]
    fn a_host_is_a_name_only() {
        assert!(PROVIDER.open(json!({ "host": "example.amocrm.ru" })).is_ok());
        let faults = PROVIDER.open(json!({ "host": "https://example.amocrm.ru/" })).unwrap_err();
        assert_eq!(faults[0].pointer, "/host");
    }
}
