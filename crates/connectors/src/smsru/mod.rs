//! SMS.ru: text messages to Russian numbers, and news of what became of them.
//!
//! Docs: <https://sms.ru/api>. The answer is 200 even when it refuses, and "OK" at its top does not mean that any message
//! was taken: only the entry of the number tells. The key of a callback's hash is the account's `api_id`; anything
//! that comes to the callback's address must be answered with `100`, or it is repeated for five days.

mod account;
mod callback;
mod callcheck;
mod messages;
mod wire;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use uzel_model::{
    Connector, Intake, Malformed, Provider, Reading, Rejection, Request, Response, Secret,
    connector::{Rate, Scope, Variables},
    port::{Account, Balance, CallChecks, Costs, Messages, StopList, Subscription},
    signature,
};

use self::callback::Callback;

pub(crate) const PROVIDER: Provider = Provider::new::<SmsRu>("smsru", "SMS.ru")
    .with_words(include_str!("words.toml"))
    .with_variables(Variables { slug: "sms", needed: &[("SMSRU_API_KEY", "api_id")], optional: &[("SMSRU_SENDER", "from")] });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmsRu {
    /// API key (api_id), from the main page of your account.
    #[garde(skip)]
    api_id: Secret,
    /// Sender's name, as it is registered with SMS.ru; without it texts go from a shared name.
    #[garde(inner(length(chars, min = 1, max = 20)))]
    #[schemars(length(min = 1, max = 20))]
    from: Option<String>,
    /// Let SMS.ru hold texts back until it is day where the guest is.
    #[serde(default)]
    #[garde(skip)]
    daytime: bool,
    /// Test mode: nothing is sent and nothing is charged.
    #[serde(default)]
    #[garde(skip)]
    test: bool,
    /// Where SMS.ru took a text perhaps and its answer was lost: send the same text once more after a minute. SMS.ru knows it again
    /// and sends nothing twice within a day, but if it never had the text the guest gets it after all.
    #[serde(default)]
    #[garde(skip)]
    resend_lost: bool,
    /// Ask for the price of each text before it goes, so that the hub can count what messages cost; one more call for each.
    #[serde(default)]
    #[garde(skip)]
    ask_cost: bool,
    /// Calls a second at the most; SMS.ru publishes no limit.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 100_000))]
    #[schemars(range(min = 1, max = 100_000))]
    calls_per_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
}

fn calls_per_s() -> u32 {
    10
}

fn base_url() -> String {
    "https://sms.ru".to_owned()
}

impl Connector for SmsRu {
    /// An address that is tried out must answer any request with `100`.
    fn methods(&self) -> &'static [&'static str] {
        &["POST", "GET"]
    }

    /// Its callbacks prove themselves by a hash.
    fn keyed(&self) -> bool {
        false
    }

    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        let callback = Callback::of(request);
        let Some(hash) = &callback.hash else {
            return if callback.is_probe() { Ok(()) } else { Err(Rejection::Unsigned) };
        };
        let matches = |items: &[String]| {
            let items = items.iter().map(String::as_bytes);
            let wanted = signature::sha256_hex(std::iter::once(self.api_id.expose().as_bytes()).chain(items));
            signature::equal(&wanted, &hash.to_ascii_lowercase())
        };
        // Line ends change on the way through multipart forms, and nothing promises the order of fields.
        if callback.readings().iter().any(|items| matches(items)) { Ok(()) } else { Err(Rejection::Forged) }
    }

    fn intake(&self, request: &Request) -> Intake {
        let taken = Response::text(200, "100");
        if Callback::of(request).is_probe() { Intake::Greets(taken) } else { Intake::Tells(taken) }
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let callback = Callback::of(request);
        if callback.items.is_empty() {
            return Err(Malformed::new("no data in the form"));
        }
        let mut reading = Reading::default();
        for (_, item) in &callback.items {
            callback::read(item, &mut reading);
        }
        Ok(reading)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn balance(&self) -> Option<&dyn Balance> {
        Some(self)
    }

    fn costs(&self) -> Option<&dyn Costs> {
        Some(self)
    }

    fn account(&self) -> Option<&dyn Account> {
        Some(self)
    }

    fn stop_list(&self) -> Option<&dyn StopList> {
        Some(self)
    }

    fn call_checks(&self) -> Option<&dyn CallChecks> {
        Some(self)
    }

    fn subscription(&self) -> Option<&dyn Subscription> {
        Some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        let account = signature::sha256_hex([self.api_id.expose().as_bytes()]);
        vec![Rate::per_second(Scope::Account(account), self.calls_per_s)]
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;
    use uzel_model::{connector::StatusNews, port::Delivery};

    use super::*;
    use crate::testing;

    const API_ID: &str = "A1B2C3D4-1111-2222-3333-444455556666";
    const ONE: &str = "6f65b4f6cfdc0314292dfef23b980a9f3644c00ffe1a92c1bc2896d83189cca6";
    const THREE: &str = "a5a6166302314e8db42370c230cf412aa3989458a39bb9b58a5fb107c87f8f90";
    const FORM: &str = "application/x-www-form-urlencoded";

    fn open() -> Box<dyn Connector> {
        PROVIDER.open(json!({ "api_id": API_ID })).unwrap()
    }

    #[test]
    fn a_probe_is_greeted() {
        let probe = testing::post(FORM, "");
        assert_eq!(open().verify(&probe), Ok(()));
        assert_eq!(open().intake(&probe), Intake::Greets(Response::text(200, "100")));
    }

    #[test]
    fn the_hash_is_checked_whatever_the_order_and_line_ends() {
        let one = "data%5B0%5D=sms_status%0A202647-1000001%0A103%0A1795338960";
        let second = "sms_status%0A202647-1000002%0A104%0A1795338961";
        let third = "callcheck_status%0A202647-542%0A401%0A1795338970";
        let verify = |body: &str| open().verify(&testing::post(FORM, body));
        assert_eq!(verify(&format!("{one}&hash={ONE}")), Ok(()));
        assert_eq!(verify(&format!("{one}&hash={}", ONE.to_uppercase())), Ok(()));
        assert_eq!(verify(&format!("{}&hash={ONE}", one.replace("%0A", "%0D%0A"))), Ok(()));
        let three = format!("data[2]={third}&{one}&data[1]={second}&hash={THREE}");
        assert_eq!(verify(&three), Ok(()));
        let reading = open().parse(&testing::post(FORM, &three)).unwrap();
        assert_eq!((reading.statuses.len(), reading.happenings.len(), reading.skipped.len()), (2, 1, 0));
        assert_eq!(reading.happenings[0].data, json!({ "check": "202647-542", "confirmed": true }));
        assert_eq!(reading.statuses[1].state, Delivery::Failed);

        assert_eq!(verify(one), Err(Rejection::Unsigned));
        assert_eq!(verify(&format!("{one}&hash={THREE}")), Err(Rejection::Forged));
        assert_eq!(verify(&format!("hash={ONE}")), Err(Rejection::Forged));
    }

    #[test]
    fn a_multipart_form_is_read() {
        let body = format!(
            "--x1\r\nContent-Disposition: form-data; name=\"data[0]\"\r\n\r\nsms_status\r\n202647-1000001\r\n103\r\n1795338960\r\n\
             --x1\r\nContent-Disposition: form-data; name=\"hash\"\r\n\r\n{ONE}\r\n--x1--\r\n"
        );
        let request = testing::post("multipart/form-data; boundary=x1", &body);
        assert_eq!(open().verify(&request), Ok(()));
        let reading = open().parse(&request).unwrap();
        let at = Some(Timestamp::from_second(1795338960).unwrap());
        let wanted = StatusNews { at, ..StatusNews::new("202647-1000001", Delivery::Delivered, 103) };
        assert_eq!(reading.statuses, [wanted]);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body: String, multipart: bool) {
            let kind = if multipart { "multipart/form-data; boundary=x" } else { FORM };
            let body = if multipart { format!("--x\r\nA: name=\"data[0]\"\r\n\r\n{body}\r\n--x--") } else { format!("data[]={body}") };
            let request = testing::post(kind, &body);
            prop_assert!(open().verify(&request).is_err());
            prop_assert!(open().parse(&request).is_ok());
        }
    }
}
