//! JOWi Club: the loyalty programme of JOWi, a restaurant system of Uzbekistan. Points and levels live there; the hub asks for a
//! guest's account, tells of purchases, and takes points.
//!
//! Its loyalty API is published nowhere: what is called here has the manner of JOWi's public API for restaurants
//! (<https://docs.jowi.club>), and whatever was assumed is a setting. Its signature is the same for every request, so whoever sees
//! one request could sign for ever: the query is kept nowhere. Numbers come as text ("15400.0"); a refusal comes with HTTP 200 and
//! status 0; a missing status is a refusal too.

mod hooks;
mod login;
mod loyalty;
mod wire;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uzel_model::{
    Bytes, Connector, Intake, Malformed, Outgoing, Provider, Reading, Rejection, Request, Response, Secret,
    connector::{Rate, Scope},
    port::{Login, Loyalty},
    signature,
};

pub(crate) const PROVIDER: Provider = Provider::new::<Jowi>("jowi", "JOWi Club").with_words(include_str!("words.toml"));

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jowi {
    /// API key, as JOWi gives it.
    #[garde(skip)]
    api_key: Option<Secret>,
    /// The secret that belongs to the API key.
    #[garde(skip)]
    api_secret: Option<Secret>,
    /// Client's ID, if JOWi gave you access by OAuth instead of a key.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    #[schemars(length(min = 1, max = 200))]
    client_id: Option<String>,
    /// The client's secret.
    #[garde(skip)]
    client_secret: Option<Secret>,
    /// ID of the restaurant in JOWi: operations are booked to it.
    #[garde(inner(length(chars, min = 1, max = 100)))]
    #[schemars(length(min = 1, max = 100))]
    restaurant_id: Option<String>,
    /// Calls a second at the most; JOWi publishes no limit.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 1_000))]
    #[schemars(range(min = 1, max = 1_000))]
    calls_per_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
    /// Where the loyalty API lies below that address.
    #[serde(default = "loyalty_path")]
    #[garde(length(chars, min = 1, max = 100))]
    #[schemars(length(min = 1, max = 100))]
    loyalty_path: String,
    /// Where access by OAuth gives its tokens.
    #[serde(default = "token_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    token_url: String,
}

fn calls_per_s() -> u32 {
    20
}

fn base_url() -> String {
    "https://api.jowi.club".to_owned()
}

fn loyalty_path() -> String {
    "/v3/loyalty".to_owned()
}

fn token_url() -> String {
    "https://api.jowi.club/oauth/token".to_owned()
}

impl Connector for Jowi {
    fn key_in_path(&self) -> bool {
        true
    }

    fn made_secrets(&self) -> Vec<Secret> {
        self.signed().map(|(_, sig)| Secret::new(sig)).into_iter().collect()
    }

    /// The hub's key proves it. Where we have JOWi's own key and signature, both must stand in the body too.
    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        if request.key.is_none() {
            return Err(Rejection::Unsigned);
        }
        let Some((key, sig)) = self.signed() else { return Ok(()) };
        let body = request.json().unwrap_or_default();
        let is = |name: &str, ours: &str| body[name].as_str().is_some_and(|theirs| signature::equal(theirs, ours));
        // Both are compared whatever comes of the first.
        if is("api_key", key.expose()) & is("sig", &sig) { Ok(()) } else { Err(Rejection::Forged) }
    }

    fn intake(&self, _request: &Request) -> Intake {
        Intake::Tells(Response::json(200, &json!({ "status": 1 })))
    }

    fn scrub(&self, request: &Request) -> Option<Bytes> {
        hooks::without_proof(request)
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        hooks::read(&request.json()?)
    }

    fn refuse(&self, _request: &Request, rejection: &Rejection) -> Response {
        Response::json(401, &json!({ "status": 0, "error": 401, "message": rejection.to_string() }))
    }

    fn loyalty(&self) -> Option<&dyn Loyalty> {
        (self.restaurant_id.is_some() && (self.signed().is_some() || self.client().is_some())).then_some(self)
    }

    fn login(&self) -> Option<&dyn Login> {
        self.client().is_some().then_some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        let key = self.api_key.as_ref().map(|key| signature::sha256_hex([key.expose().as_bytes()]));
        vec![Rate::per_second(key.or_else(|| self.client_id.clone()).map_or(Scope::Connection, Scope::Account), self.calls_per_s)]
    }
}

impl Jowi {
    /// Key and signature: the first ten and the last five letters of the SHA-256 of key and secret. It says nothing of the request.
    fn signed(&self) -> Option<(&Secret, String)> {
        let (key, secret) = self.api_key.as_ref().zip(self.api_secret.as_ref())?;
        let hash = signature::sha256_hex([key.expose().as_bytes(), secret.expose().as_bytes()]);
        let letters = hash.chars();
        Some((key, letters.clone().take(10).chain(letters.skip(hash.len() - 5)).collect()))
    }

    /// Who we are for OAuth, which goes before a key.
    fn client(&self) -> Option<(&str, &Secret)> {
        self.client_id.as_deref().zip(self.client_secret.as_ref())
    }

    /// What proves a call that is made by key.
    fn proof(&self) -> Vec<(&'static str, String)> {
        match self.signed().filter(|_| self.client().is_none()) {
            Some((key, sig)) => vec![("api_key", key.expose().to_owned()), ("sig", sig)],
            None => Vec::new(),
        }
    }

    fn address(&self, path: &str) -> String {
        format!("{}/{}{path}", self.base_url.trim_end_matches('/'), self.loyalty_path.trim_matches('/'))
    }

    fn get(&self, path: &str, question: &[(&str, &str)]) -> Outgoing {
        let proof = self.proof();
        let pairs = question.iter().copied().chain(proof.iter().map(|(name, value)| (*name, value.as_str())));
        let pairs: Vec<_> = pairs.collect();
        let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
        let address = self.address(path);
        let url = if query.is_empty() { address } else { format!("{address}?{query}") };
        Outgoing::new("GET", url).hides_query()
    }

    fn post(&self, path: &str, mut body: Map<String, Value>) -> Outgoing {
        body.extend(self.proof().into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))));
        Outgoing::new("POST", self.address(path)).json(&body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const HOOK: &str = r#"{"event_id":"evt-1","event":"loyalty.accrued","account_id":"acc-1","api_key":"demo-api-key-0001","sig":"c57a33f2e70595a"}"#;

    #[test]
    fn the_signature_is_made_as_the_vectors_say() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../../../fixtures/jowi/signature-vectors.json")).unwrap();
        for vector in vectors {
            let settings = json!({ "api_key": vector["api_key"], "api_secret": vector["api_secret"] });
            let jowi: Jowi = serde_json::from_value(settings).unwrap();
            let (_, sig) = jowi.signed().unwrap();
            assert_eq!(vector["sig"], sig);
            assert_eq!(jowi.made_secrets()[0].expose(), sig);
        }
    }

    #[test]
    fn a_webhook_needs_our_key_and_theirs() {
        let jowi = PROVIDER.open(json!({ "api_key": "demo-api-key-0001", "api_secret": "demo-api-secret-0001" })).unwrap();
        let verify = |body: &str, keyed: bool| {
            let request = testing::post("application/json", body);
            jowi.verify(&Request { key: request.key.clone().filter(|_| keyed), ..request })
        };
        assert_eq!(verify(HOOK, true), Ok(()));
        assert_eq!(verify(HOOK, false), Err(Rejection::Unsigned));
        for forged in [
            HOOK.replace("c57a33f2e70595a", "c57a33f2e70595b"),
            HOOK.replace("c57a33f2e70595a", ""),
            HOOK.replace("demo-api-key-0001", "demo-api-key-0002"),
            HOOK.replace(r#""sig":"c57a33f2e70595a""#, r#""sig":["c57a33f2e70595a"]"#),
            "<html>".to_owned(),
            String::new(),
        ] {
            assert_eq!(verify(&forged, true), Err(Rejection::Forged), "{forged}");
        }
        let by_oauth = PROVIDER.open(json!({ "client_id": "a", "client_secret": "b" })).unwrap();
        let request = testing::post("application/json", HOOK);
        assert_eq!(by_oauth.verify(&request), Ok(()), "we have no signature of theirs to compare with");
    }

    #[test]
    fn neither_key_nor_signature_stands_in_what_is_kept_of_an_address() {
        let settings = json!({ "api_key": "abc", "api_secret": "def", "restaurant_id": "r" });
        let jowi: Jowi = serde_json::from_value(settings).unwrap();
        let outgoing = jowi.get("/accounts", &[("phone", "+998901234567")]);
        let url = "https://api.jowi.club/v3/loyalty/accounts?phone=%2B998901234567&api_key=abc&sig=bef57ec7f5c4721";
        assert_eq!(outgoing.url, url);
        assert_eq!(outgoing.shown_url(), "https://api.jowi.club/v3/loyalty/accounts?***");
    }
}
