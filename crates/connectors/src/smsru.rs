//! SMS.ru: text messages to Russian numbers, and news of what became of them.
//!
//! Docs: <https://sms.ru/api>. The answer is 200 even when it refuses, and "OK" at its top does not mean that any message
//! was taken: only the entry of the number tells. The key of a callback's hash is the account's `api_id`; anything
//! that comes to the callback's address must be answered with `100`, or it is repeated for five days.

use async_trait::async_trait;
use garde::Validate;
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uzel_model::{
    CallError, Client, Connector, Intake, Malformed, Outgoing, Provider, Reading, Refusal, Rejection, Request, Response, Secret,
    connector::{Rate, Scope, StatusNews},
    port::{Balance, Delivery, MessageStatus, Messages, Sent, Subscription},
    signature,
};

use crate::tree;

pub(crate) const PROVIDER: Provider = Provider::new::<SmsRu>("smsru", "SMS.ru");

/// A callback carries up to 100 items; fields beyond this are nobody's.
const FIELDS: usize = 1_000;

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmsRu {
    /// API key (api_id), from the main page of your account.
    #[garde(skip)]
    api_id: Secret,
    /// Sender's name, as it is registered with SMS.ru; without it texts go from a shared name.
    #[garde(inner(length(min = 1, max = 20)))]
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
    /// Calls a second at the most; SMS.ru publishes no limit.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 100_000))]
    #[schemars(range(min = 1, max = 100_000))]
    calls_per_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(min = 1))]
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
            match news(item) {
                Ok(news) => reading.statuses.push(news),
                Err(why) => reading.skip(why),
            }
        }
        Ok(reading)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn balance(&self) -> Option<&dyn Balance> {
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

#[async_trait]
impl Messages for SmsRu {
    async fn send(&self, client: &Client<'_>, phone: &str, text: &str, _key: &str) -> Result<Sent, CallError> {
        let digits = digits(phone);
        let mut form = vec![("to", digits.as_str()), ("msg", text)];
        form.extend(self.from.as_deref().map(|from| ("from", from)));
        form.extend(self.daytime.then_some(("daytime", "1")));
        form.extend(self.test.then_some(("test", "1")));

        let answer = self.call(client, "/sms/send", &form, false).await?;
        let entries = answer["sms"].as_object();
        let entry = entries.and_then(|entries| entries.iter().find(|(number, _)| digits_at_home(number) == digits));
        let Some((_, entry)) = entry else {
            return Err(CallError::Unreadable("the answer has no entry for the number".to_owned()));
        };
        match (code(entry)?, tree::text(&entry["sms_id"])) {
            (100..=199, Some(provider_id)) => Ok(Sent { provider_id }),
            (100..=199, None) => Err(CallError::Unreadable("the entry of the number has no sms_id".to_owned())),
            (code, _) => Err(refused(code, entry, client.now())),
        }
    }

    async fn statuses(&self, client: &Client<'_>, provider_ids: &[String]) -> Result<Vec<MessageStatus>, CallError> {
        if provider_ids.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.call(client, "/sms/status", &[("sms_id", &provider_ids.join(","))], true).await?;
        let entries = answer["sms"].as_object().into_iter().flatten();
        let statuses = entries.filter_map(|(id, entry)| {
            let code = code(entry).ok()?;
            Some(MessageStatus { provider_id: id.clone(), state: state(code), code: code.to_string() })
        });
        Ok(statuses.collect())
    }
}

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

impl SmsRu {
    /// Makes a call; an answer that refuses as a whole is an error.
    async fn call(&self, client: &Client<'_>, path: &str, fields: &[(&str, &str)], reads: bool) -> Result<Value, CallError> {
        // In the body, never in the URL: URLs end up in logs.
        let mut form = vec![("api_id", self.api_id.expose()), ("json", "1")];
        form.extend_from_slice(fields);
        let outgoing = Outgoing::new("POST", format!("{}{path}", self.base_url.trim_end_matches('/'))).form(&form);
        let reply = client.send(if reads { outgoing.reads() } else { outgoing }).await?;
        if reply.status >= 400 {
            let reason = "SMS.ru does not take the request";
            return Err(CallError::refused(Refusal::Ours, format!("http {}", reply.status), reason));
        }
        let answer: Value = reply.json()?;
        match code(&answer)? {
            100 => Ok(answer),
            code => Err(refused(code, &answer, client.now())),
        }
    }
}

fn code(entry: &Value) -> Result<i64, CallError> {
    tree::integer(&entry["status_code"]).ok_or_else(|| CallError::Unreadable("status_code is missing in the answer".to_owned()))
}

/// What a code that is no success means for the message.
fn refused(code: i64, entry: &Value, now: Timestamp) -> CallError {
    let reason = match tree::text(&entry["status_text"]) {
        Some(text) => format!("{code}: {text}"),
        None => format!("SMS.ru answered with code {code}"),
    };
    let refusal = match code {
        200 | 201 | 300..=305 => Refusal::Account,
        209 | 215 => Refusal::OptOut,
        231 | 232 => Refusal::Already,
        203 | 205 | 208 | 210..=213 | 507 | 901 | 902 => Refusal::Ours,
        206 | 230 => return CallError::Later { reason, at: next_day(now) },
        233 | 508 => return CallError::Later { reason, at: now.checked_add(SignedDuration::from_mins(10)).ok() },
        220 | 500..=599 => return CallError::Later { reason, at: None },
        201..=399 => Refusal::Command,
        _ => return CallError::Unreadable(reason),
    };
    CallError::refused(refusal, code, reason)
}

/// Daily limits begin anew at midnight in Moscow.
fn next_day(now: Timestamp) -> Option<Timestamp> {
    let moscow = TimeZone::get("Europe/Moscow").ok()?;
    let tomorrow = now.to_zoned(moscow).date().checked_add(1.day()).ok()?;
    let midnight = tomorrow.to_zoned(TimeZone::get("Europe/Moscow").ok()?).ok()?;
    Some(midnight.timestamp())
}

/// What a delivery state means. "Not found" (-1) stays open: a message may be asked for before it is listed.
fn state(code: i64) -> Delivery {
    match code {
        103 | 110 => Delivery::Delivered,
        104..=108 | 150 | 200..=399 => Delivery::Failed,
        _ => Delivery::OnTheWay,
    }
}

fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

/// The digits of a number as SMS.ru prints it: mostly `7…`, but `8…` and ten digits have been seen.
fn digits_at_home(number: &str) -> String {
    let digits = digits(number);
    match (digits.len(), digits.strip_prefix('8')) {
        (11, Some(national)) => format!("7{national}"),
        (10, _) => format!("7{digits}"),
        _ => digits,
    }
}

/// Reads one item of a callback: its type, an id, a code and a time, each on a line.
fn news(item: &str) -> Result<StatusNews, String> {
    let mut lines = item.lines().map(str::trim);
    match lines.next() {
        Some("sms_status") => {}
        Some("callcheck_status") => return Err("the result of a call check: the hub makes none".to_owned()),
        Some(other) => {
            let start: String = other.chars().take(40).collect();
            return Err(format!("«{start}» is no news of a message"));
        }
        None => return Err("an empty item".to_owned()),
    }
    let id = lines.next().filter(|id| !id.is_empty() && id.len() <= 100);
    let code = lines.next().and_then(|code| code.parse::<i64>().ok());
    let Some((id, code)) = id.zip(code) else {
        return Err("news of a message without its id or a code".to_owned());
    };
    let time = lines.next().and_then(|time| time.parse().ok());
    Ok(StatusNews {
        provider_id: id.to_owned(),
        state: state(code),
        code: code.to_string(),
        at: time.and_then(|time| Timestamp::from_second(time).ok()),
    })
}

/// The fields of a callback.
#[derive(Default)]
struct Callback {
    /// What stands in the brackets of `data[…]`, and the item, in order of arrival.
    items: Vec<(String, String)>,
    hash: Option<String>,
}

impl Callback {
    fn of(request: &Request) -> Self {
        let kind = request.header("content-type").unwrap_or_default();
        let fields = match boundary(kind) {
            Some(boundary) => multipart(&request.body, &boundary),
            None => serde_urlencoded::from_bytes(&request.body).unwrap_or_default(),
        };
        let mut callback = Self::default();
        for (name, value) in fields.into_iter().take(FIELDS) {
            let index = name.strip_prefix("data[").and_then(|name| name.strip_suffix(']'));
            match index {
                Some(index) => callback.items.push((index.to_owned(), value)),
                None if name == "data" => callback.items.push((String::new(), value)),
                None if name == "hash" && !value.is_empty() => callback.hash = Some(value),
                None => {}
            }
        }
        callback
    }

    /// SMS.ru tries an address out before it uses it.
    fn is_probe(&self) -> bool {
        self.items.is_empty() && self.hash.is_none()
    }

    /// The items in the ways in which they may have been signed.
    fn readings(&self) -> Vec<Vec<String>> {
        let came: Vec<String> = self.items.iter().map(|(_, item)| item.clone()).collect();
        let mut sorted = self.items.clone();
        sorted.sort_by_key(|(index, _)| index.parse::<u64>().unwrap_or(u64::MAX));
        let sorted: Vec<String> = sorted.into_iter().map(|(_, item)| item).collect();
        let plain = |items: &[String]| items.iter().map(|item| item.replace("\r\n", "\n")).collect();
        vec![plain(&came), plain(&sorted), came, sorted]
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let mut words = content_type.split(';').map(str::trim);
    if !words.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let (_, boundary) = words.filter_map(|word| word.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let boundary = boundary.trim_matches('"');
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

/// The named texts of a multipart form; parts that are no such thing are left out.
fn multipart(body: &[u8], boundary: &str) -> Vec<(String, String)> {
    let body = String::from_utf8_lossy(body);
    let parts = body.split(&format!("--{boundary}")).map(str::to_owned).collect::<Vec<_>>();
    parts
        .iter()
        .filter_map(|part| {
            let part = part.strip_prefix("\r\n").or_else(|| part.strip_prefix('\n'))?;
            let (head, value) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
            let (_, name) = head.split_once(" name=\"")?;
            let (name, _) = name.split_once('"')?;
            let value = value.strip_suffix("\r\n").or_else(|| value.strip_suffix('\n')).unwrap_or(value);
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Script};

    const API_ID: &str = "A1B2C3D4-1111-2222-3333-444455556666";
    const ONE: &str = "6f65b4f6cfdc0314292dfef23b980a9f3644c00ffe1a92c1bc2896d83189cca6";
    const THREE: &str = "a5a6166302314e8db42370c230cf412aa3989458a39bb9b58a5fb107c87f8f90";
    const FORM: &str = "application/x-www-form-urlencoded";

    fn open() -> Box<dyn Connector> {
        PROVIDER.open(json!({ "api_id": API_ID })).unwrap()
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
        assert_eq!((reading.statuses.len(), reading.skipped.len()), (2, 1));
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
        let wanted = StatusNews {
            provider_id: "202647-1000001".to_owned(),
            state: Delivery::Delivered,
            code: "103".to_owned(),
            at: Some(Timestamp::from_second(1795338960).unwrap()),
        };
        assert_eq!(reading.statuses, [wanted]);
    }

    #[test]
    fn a_probe_is_greeted() {
        let probe = testing::post(FORM, "");
        assert_eq!(open().verify(&probe), Ok(()));
        assert_eq!(open().intake(&probe), Intake::Greets(Response::text(200, "100")));
    }

    async fn send(answer: &str) -> Result<Sent, CallError> {
        let script = Script::new(&[(200, answer)]);
        let sent = open().messages().unwrap().send(&Client::new(&script), "+79990001122", "Привет", "k").await;
        assert!(!script.sent()[0].url.contains(API_ID));
        let body = String::from_utf8(script.sent()[0].body.to_vec()).unwrap();
        assert!(body.contains("to=79990001122") && body.contains(API_ID), "{body}");
        sent
    }

    #[tokio::test]
    async fn the_entry_of_the_number_tells() {
        for number in ["79990001122", "+79990001122", "89990001122", "9990001122"] {
            let answer = json!({ "status_code": 100, "sms": { number: { "status_code": 100, "sms_id": "202647-1" } } });
            assert_eq!(send(&answer.to_string()).await.unwrap().provider_id, "202647-1");
        }
        for (code, wanted) in [
            (201, Refusal::Account),
            (202, Refusal::Command),
            (207, Refusal::Command),
            (215, Refusal::OptOut),
            (232, Refusal::Already),
            (203, Refusal::Ours),
            (299, Refusal::Command),
        ] {
            let answer = json!({ "status_code": 100, "sms": { "79990001122": { "status_code": code } } });
            let refusal = match send(&answer.to_string()).await {
                Err(CallError::Refused { refusal, .. }) => refusal,
                other => panic!("{code}: {other:?}"),
            };
            assert_eq!(refusal, wanted, "{code}");
        }
    }

    #[tokio::test]
    async fn a_daily_limit_ends_at_midnight_in_moscow() {
        let later = |at: Option<&str>| {
            let at = at.map(|at| at.parse().unwrap());
            move |error: &CallError| matches!(error, CallError::Later { at: found, .. } if *found == at)
        };
        // The script's clock stands at 1970-01-01T00:00Z: 03:00 in Moscow.
        let error = send(r#"{"status_code":206}"#).await.unwrap_err();
        assert!(later(Some("1970-01-01T21:00:00Z"))(&error), "{error:?}");
        for code in [220, 500, 577] {
            let error = send(&json!({ "status_code": code }).to_string()).await.unwrap_err();
            assert!(later(None)(&error), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_leaves_the_outcome_open() {
        for answer in [
            "<html>",
            "[]",
            "{}",
            r#"{"status_code":100,"sms":[]}"#,
            r#"{"status_code":100,"sms":{"79990001122":{"status_code":100}}}"#,
        ] {
            assert!(matches!(send(answer).await, Err(CallError::Unreadable(_))), "{answer}");
        }
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
