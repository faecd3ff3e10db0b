//! WhatsApp by Meta's Cloud API: texts and templates to people, statuses, replies, and who wants no more.
//!
//! Docs: <https://developers.facebook.com/documentation/business-messaging/whatsapp>. There is no idempotency key: a message whose
//! answer was lost is known again by our key in `biz_opaque_callback_data`, which every status gives back. Most failures come
//! after a 200, as a status. Free words are taken for 24 hours after a person has written to this very number. Webhooks are signed
//! over their raw bytes (Meta escapes what is not ASCII), and each of their levels is a list. Ids of numbers, of accounts and
//! phones are three kinds of digits.

mod account;
mod errors;
mod hooks;
mod messages;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use uzel_model::{
    Bytes, Connector, Intake, Malformed, Provider, Reading, Rejection, Request, Response, Secret,
    connector::{Rate, Scope, Variables},
    port::{Messages, Subscription},
    signature,
};

pub(crate) const PROVIDER: Provider = Provider::new::<WhatsApp>("whatsappmeta", "WhatsApp (Meta)")
    .with_words(include_str!("words.toml"))
    .with_variables(Variables {
        slug: "whatsapp",
        needed: &[("META_WHATSAPP_ACCESS_TOKEN", "access_token"), ("META_WHATSAPP_PHONE_NUMBER_ID", "phone_number_id")],
        optional: &[("META_WHATSAPP_APP_SECRET", "app_secret"), ("META_WHATSAPP_VERIFY_TOKEN", "verify_token")],
    });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhatsApp {
    /// Permanent access token of a system user (`EAA…`).
    #[garde(skip)]
    access_token: Secret,
    /// Id of the number that messages go from: digits, but not the phone itself.
    #[garde(length(chars, min = 1, max = 40))]
    #[schemars(length(min = 1, max = 40))]
    phone_number_id: String,
    /// App secret, by which webhooks are signed; without it none is accepted.
    #[garde(skip)]
    app_secret: Option<Secret>,
    /// A word of your own that Meta gives back when the address for webhooks is set.
    #[garde(skip)]
    verify_token: Option<Secret>,
    /// Id of the WhatsApp Business account: with it the hub sets the address for webhooks by itself and looks after templates.
    #[garde(inner(length(chars, min = 1, max = 40)))]
    #[schemars(length(min = 1, max = 40))]
    waba_id: Option<String>,
    /// Templates that are approved, each as name and language (`thanks/ru`). Where they are listed, a flow or a message that names another
    /// one is refused at once.
    #[garde(inner(length(max = 500)))]
    #[schemars(length(max = 500))]
    templates: Option<Vec<String>>,
    /// Version of the Graph API.
    #[serde(default = "api_version")]
    #[garde(length(chars, min = 2, max = 10))]
    #[schemars(length(min = 2, max = 10))]
    api_version: String,
    /// Messages a second at the most: 80 for most numbers, 1,000 for large ones, 20 where the number is also used in the phone app.
    #[serde(default = "messages_per_s")]
    #[garde(range(min = 1, max = 10_000))]
    #[schemars(range(min = 1, max = 10_000))]
    messages_per_s: u32,
    /// How many seconds to wait where one person was sent too many messages; Meta allows one in six seconds.
    #[serde(default = "pair_wait_s")]
    #[garde(range(min = 1, max = 3_600))]
    #[schemars(range(min = 1, max = 3_600))]
    pair_wait_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
}

fn api_version() -> String {
    "v23.0".to_owned()
}

fn messages_per_s() -> u32 {
    80
}

fn pair_wait_s() -> u32 {
    6
}

fn base_url() -> String {
    "https://graph.facebook.com".to_owned()
}

impl WhatsApp {
    fn url(&self, path: &str) -> String {
        format!("{}/{}/{path}", self.base_url.trim_end_matches('/'), self.api_version)
    }

    /// Whether Meta asks for our word, as it does whenever an address is set.
    fn shakes_hands(&self, request: &Request) -> Result<(), Rejection> {
        let given = request.query("hub.verify_token").filter(|_| request.query("hub.mode") == Some("subscribe"));
        match (given, &self.verify_token) {
            (Some(given), Some(token)) if signature::equal(given, token.expose()) => Ok(()),
            (Some(_), Some(_)) => Err(Rejection::Forged),
            _ => Err(Rejection::Unsigned),
        }
    }

    fn is_signed(&self, request: &Request) -> Result<(), Rejection> {
        let secret = self.app_secret.as_ref().ok_or(Rejection::Unsigned)?;
        let given = request.header("x-hub-signature-256").ok_or(Rejection::Unsigned)?;
        let wanted = hex::encode(signature::hmac_sha256(secret.expose().as_bytes(), &request.body));
        let given = given.strip_prefix("sha256=").ok_or(Rejection::Forged)?;
        if signature::equal(&wanted, &given.to_ascii_lowercase()) { Ok(()) } else { Err(Rejection::Forged) }
    }
}

impl Connector for WhatsApp {
    fn credential_headers(&self) -> &'static [&'static str] {
        &["x-hub-signature", "x-hub-signature-256"]
    }

    fn credential_parameters(&self) -> &'static [&'static str] {
        &["hub.verify_token"]
    }

    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET"]
    }

    /// Its webhooks prove themselves by a signature.
    fn keyed(&self) -> bool {
        false
    }

    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        if request.method == "GET" { self.shakes_hands(request) } else { self.is_signed(request) }
    }

    fn intake(&self, request: &Request) -> Intake {
        if request.method == "GET" {
            let challenge = request.query("hub.challenge").unwrap_or_default();
            let body = Bytes::copy_from_slice(challenge.as_bytes());
            return Intake::Greets(Response { status: 200, content_type: "text/plain; charset=utf-8", body });
        }
        Intake::Tells(Response::text(200, "ok"))
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        hooks::read(&request.json()?, &self.phone_number_id)
    }

    fn refuse(&self, request: &Request, rejection: &Rejection) -> Response {
        let status = if request.method == "GET" { 403 } else { 401 };
        Response::json(status, &serde_json::json!({ "error": rejection.to_string() }))
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn subscription(&self) -> Option<&dyn Subscription> {
        (self.waba_id.is_some() && self.verify_token.is_some()).then_some(self as &dyn Subscription)
    }

    fn rates(&self) -> Vec<Rate> {
        let number = signature::sha256_hex([self.phone_number_id.as_bytes(), b"/", self.access_token.expose().as_bytes()]);
        vec![Rate::per_second(Scope::Account(number), self.messages_per_s)]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    const SECRET: &str = "0f5c1d7e9a3b48c6b2d41e6f7a8095cd";

    fn open() -> Box<dyn Connector> {
        let settings =
            json!({ "access_token": "t", "phone_number_id": "1", "app_secret": SECRET, "verify_token": "my-verify-token" });
        PROVIDER.open(settings).unwrap()
    }

    fn signed(body: &str, header: &str) -> Request {
        let mut request = testing::post("application/json", body);
        request.key = None;
        request.headers.push(("x-hub-signature-256".to_owned(), header.to_owned()));
        request
    }

    fn greeting(pairs: &[(&str, &str)]) -> Request {
        let query = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { method: "GET".to_owned(), query, key: None, ..testing::post("", "") }
    }

    #[test]
    fn the_signature_is_over_the_bytes_as_they_came() {
        let vectors = [
            (
                r#"{"object":"whatsapp_business_account","entry":[]}"#,
                "6d42070ac8634c69533e2c01fb169a802d191938d0be85f8d49b7a5295948c0f",
            ),
            (
                r#"{"text":"\u041f\u0440\u0438\u0432\u0435\u0442"}"#,
                "1dca75ddac3b186a041bab3800dd5f94782580291a3c953090bb144dd88f7156",
            ),
            (r#"{"text":"Привет"}"#, "ecaa72ac64362849ff9492d4e57d3ff864688dc279e47cce7d4720d3d8d9fe54"),
        ];
        for (body, hash) in vectors {
            assert_eq!(open().verify(&signed(body, &format!("sha256={hash}"))), Ok(()), "{body}");
            assert_eq!(open().verify(&signed(body, &format!("sha256={}", hash.to_uppercase()))), Ok(()), "{body}");
            for wrong in
                [hash.to_owned(), format!("sha1={hash}"), format!("sha256={}", &hash[1..]), "sha256=".to_owned(), String::new()]
            {
                assert_eq!(open().verify(&signed(body, &wrong)), Err(Rejection::Forged), "{wrong}");
            }
            assert_eq!(open().verify(&signed(&format!("{body} "), &format!("sha256={hash}"))), Err(Rejection::Forged));
            let silent = PROVIDER.open(json!({ "access_token": "t", "phone_number_id": "1" })).unwrap();
            assert_eq!(silent.verify(&signed(body, &format!("sha256={hash}"))), Err(Rejection::Unsigned));
        }
        assert_eq!(open().verify(&Request { key: None, ..testing::post("application/json", "{}") }), Err(Rejection::Unsigned));
    }

    #[test]
    fn a_greeting_is_answered_with_its_challenge_and_nothing_else() {
        let right = [("hub.challenge", "00115820"), ("hub.verify_token", "my-verify-token"), ("hub.mode", "subscribe")];
        assert_eq!(open().verify(&greeting(&right)), Ok(()));
        let Intake::Greets(answer) = open().intake(&greeting(&right)) else { panic!("a greeting") };
        assert_eq!((answer.status, &answer.body[..]), (200, b"00115820".as_slice()));
        let refused = [
            (vec![("hub.mode", "subscribe"), ("hub.verify_token", "another")], Rejection::Forged),
            (vec![("hub.mode", "unsubscribe"), ("hub.verify_token", "my-verify-token")], Rejection::Unsigned),
            (vec![("hub.verify_token", "my-verify-token")], Rejection::Unsigned),
            (vec![("hub.mode", "subscribe")], Rejection::Unsigned),
            (Vec::new(), Rejection::Unsigned),
        ];
        for (query, rejection) in refused {
            assert_eq!(open().verify(&greeting(&query)), Err(rejection), "{query:?}");
            assert_eq!(open().refuse(&greeting(&query), &rejection).status, 403);
        }
        let tokenless = PROVIDER.open(json!({ "access_token": "t", "phone_number_id": "1" })).unwrap();
        assert_eq!(tokenless.verify(&greeting(&[("hub.mode", "subscribe"), ("hub.verify_token", "")])), Err(Rejection::Unsigned));
    }
}
