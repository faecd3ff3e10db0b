//! MTS Exolve: text messages, what became of them, and what people write back.
//!
//! Docs: <https://docs.exolve.ru/docs/ru/api-reference/sms-api/>. The names of fields read the wrong way round: `number` is the sender,
//! `destination` the person. Ids have 64 bits and are kept as texts. Events carry no signature: the hub's key in the address proves
//! them. An answer without `message_id` leaves the outcome open: then the list of what was sent tells.

use async_trait::async_trait;
use garde::Validate;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    CallError, Channel, Client, Connector, Malformed, Outbound, Provider, Reading, Request, Secret,
    connector::{Rate, Scope, StatusNews, Variables},
    port::{Messages, Polls, Sent},
    signature,
};

use super::{events, wire};

pub(crate) const PROVIDER: Provider = Provider::new::<ExolveSms>("exolvesms", "MTS Exolve SMS")
    .with_words(include_str!("sms.words.toml"))
    .with_variables(Variables {
        slug: "sms-exolve",
        needed: &[("EXOLVE_SMS_API_KEY", "api_key"), ("EXOLVE_SMS_SENDER", "sender")],
        optional: &[],
    });

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExolveSms {
    /// API key of the application in your Exolve account.
    #[garde(skip)]
    api_key: Secret,
    /// Who texts come from: a mobile number bought at Exolve (11 digits, without a plus) or a registered sender's name.
    #[garde(length(chars, min = 1, max = 20))]
    #[schemars(length(min = 1, max = 20))]
    sender: String,
    /// Number of an approved template that all texts follow (service messages of some operators).
    #[garde(skip)]
    template_resource_id: Option<u64>,
    /// Seconds between looks for messages that people wrote and no event told of.
    #[serde(default = "poll_every_s")]
    #[garde(range(min = 30, max = 86_400))]
    #[schemars(range(min = 30, max = 86_400))]
    pub(super) poll_every_s: u32,
    /// Calls a second at the most; Exolve publishes no limit.
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

fn poll_every_s() -> u32 {
    300
}

fn calls_per_s() -> u32 {
    10
}

fn base_url() -> String {
    "https://api.exolve.ru".to_owned()
}

impl ExolveSms {
    pub(super) async fn call(&self, client: &Client<'_>, method: &str, body: &Value, reads: bool) -> Result<Value, CallError> {
        let url = format!("{}/messaging/v1/{method}", self.base_url.trim_end_matches('/'));
        wire::call(client, &self.api_key, url, body, reads).await
    }
}

impl Connector for ExolveSms {
    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        events::read(&request.json()?)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        Some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        let account = signature::sha256_hex([self.api_key.expose().as_bytes()]);
        vec![Rate::per_second(Scope::Account(account), self.calls_per_s)]
    }
}

#[async_trait]
impl Messages for ExolveSms {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let mut body = json!({
            "number": self.sender, "destination": wire::digits(message.phone()?), "text": message.content.text,
        });
        if let Some(template) = self.template_resource_id {
            body["template_resource_id"] = json!(template);
        }
        let answer = self.call(client, "SendSMS", &body, false).await?;
        let id = wire::id(&answer).ok_or_else(|| CallError::Unreadable("the answer has no message_id".to_owned()))?;
        Ok(Sent::new(id))
    }

    fn can_be_asked(&self) -> bool {
        true
    }

    async fn statuses(&self, client: &Client<'_>, provider_ids: &[String]) -> Result<Vec<StatusNews>, CallError> {
        self.statuses_of(client, provider_ids).await
    }

    fn can_find(&self) -> bool {
        true
    }

    async fn find(
        &self,
        client: &Client<'_>,
        message: Outbound<'_>,
        sent_at: Timestamp,
    ) -> Result<Option<StatusNews>, CallError> {
        self.find_sent(client, message, sent_at).await
    }
}

#[cfg(test)]
mod tests {
    use uzel_model::{Address, Refusal, event::kind, port::Delivery};

    use super::*;
    use crate::testing::{self, Script};

    fn open() -> Box<dyn Connector> {
        PROVIDER.open(json!({ "api_key": "key-of-exolve", "sender": "79580001122" })).unwrap()
    }

    async fn send(status: u16, answer: &str) -> Result<Sent, CallError> {
        let script = Script::new(&[(status, answer)]);
        let sent = open().messages().unwrap().send(&Client::new(&script), testing::hello().outbound()).await;
        let call = &script.sent()[0];
        assert!(call.url.ends_with("/messaging/v1/SendSMS") && !call.repeatable);
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(body, json!({ "number": "79580001122", "destination": "79990001122", "text": "Привет" }));
        sent
    }

    #[tokio::test]
    async fn an_id_is_kept_whole_as_text_or_number_and_without_one_the_outcome_is_open() {
        for answer in [r#"{"message_id":"439166538239448536"}"#, r#"{"message_id":439166538239448536}"#] {
            assert_eq!(send(200, answer).await.unwrap().provider_id, "439166538239448536");
        }
        assert_eq!(send(200, r#"{"success":true,"messageId":"7"}"#).await.unwrap().provider_id, "7");
        for answer in
            ["{}", "[]", "null", r#"{"message_id":null}"#, r#"{"message_id":""}"#, r#"{"message_id":"0"}"#, "<html>", ""]
        {
            assert!(matches!(send(200, answer).await, Err(CallError::Unreadable(_))), "{answer}");
        }
    }

    #[tokio::test]
    async fn every_shape_of_an_error_is_sorted_by_what_to_do() {
        use Refusal::{Account, Command, NotHere, Ours};
        let cases = [
            (400, "incorrect number format", Command),
            (400, "destination is not permitted for delivery", NotHere),
            (400, "customer has not signed, the number must match your confirmed phone number", Account),
            (400, "invalid SendSMSRequest.Text: value length must be at least 1 bytes", Ours),
            (400, "something new", Command),
            (403, "no access", Account),
            (404, "404 page not found", Ours),
        ];
        for (status, words, wanted) in cases {
            let shapes = [
                json!({ "error": { "message": words } }).to_string(),
                json!({ "error": words }).to_string(),
                json!({ "message": words, "code": 3 }).to_string(),
                words.to_owned(),
            ];
            for shape in shapes {
                match send(status, &shape).await {
                    Err(CallError::Refused { refusal, reason, .. }) => {
                        assert!(refusal == wanted && reason.contains(words), "{shape}: {refusal:?} {reason}");
                    }
                    other => panic!("{shape}: {other:?}"),
                }
            }
        }
        assert!(matches!(send(401, r#"{"error":"malformed token"}"#).await, Err(CallError::Unauthorized(_))));
        match send(400, &"ы".repeat(5_000)).await {
            Err(CallError::Refused { reason, .. }) => assert!(reason.chars().count() < 300),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn states_are_words_or_numbers_and_what_ends_counts() {
        let state = |event: Value| {
            let mut event = event;
            event["message_id"] = json!("7");
            let reading = open().parse(&testing::post("application/json", &event.to_string())).unwrap();
            reading.statuses.first().map(|news| (news.state, news.refusal, news.code.clone()))
        };
        let told = |state, refusal, code: &str| Some((state, refusal, code.to_owned()));
        let delivered = told(Delivery::Delivered, None, "DELIVERED");
        for event in [
            json!({ "delivery_status": "DELIVERY_STATUS_DELIVERED" }),
            json!({ "delivery_status": 3 }),
            json!({ "delivery_status": "3" }),
            json!({ "status": "STATUS_DELIVERED" }),
            json!({ "delivery_status": 2, "status": 3 }),
            json!({ "delivery_status": "DELIVERED", "direction": 2 }),
        ] {
            assert_eq!(state(event.clone()), delivered, "{event}");
        }
        let exceeded = told(Delivery::Failed, Some(Refusal::NotHere), "RETRIES_EXCEEDED");
        assert_eq!(state(json!({ "delivery_status": 5, "status": 4 })), exceeded);
        assert_eq!(
            state(json!({ "delivery_status": "DELIVERY_STATUS_FAILED", "status": "STATUS_UNDERFUNDED" })),
            told(Delivery::Failed, Some(Refusal::Account), "UNDERFUNDED")
        );
        assert_eq!(state(json!({ "delivery_status": 6 })), told(Delivery::Failed, Some(Refusal::Content), "PROHIBITED"));
        for open in [json!({ "status": 1 }), json!({ "delivery_status": "DELIVERY_STATUS_NEW_WORD" })] {
            assert!(matches!(state(open), Some((Delivery::OnTheWay, None, _))));
        }
        for nothing in [json!({}), json!({ "status": 99 }), json!({ "status": -1 }), json!({ "status": [] })] {
            assert_eq!(state(nothing), None);
        }
    }

    #[test]
    fn what_a_person_writes_is_an_event_and_no_status() {
        let event = json!({ "message_id": 439166540000000123_i64, "sender": "79990001122", "receiver": "79580001122", "text": "СТОП",
            "direction": "DIRECTION_INCOMING", "delivery_status": "DELIVERY_STATUS_DELIVERED" });
        let reading = open().parse(&testing::post("application/json", &event.to_string())).unwrap();
        assert!(reading.statuses.is_empty());
        let happening = &reading.happenings[0];
        assert_eq!((happening.kind, &happening.data), (kind::MESSAGE_RECEIVED, &json!({ "text": "СТОП" })));
        assert_eq!(happening.person.phones, [json!("+79990001122")]);
        assert_eq!(happening.key.as_deref(), Some("received/439166540000000123"));
    }

    #[tokio::test]
    async fn a_lost_message_is_the_only_one_to_that_phone_with_those_words() {
        let row = |id: &str, receiver: &str, text: &str| json!({ "message_id": id, "receiver": receiver, "text": text, "direction": 2, "delivery_status": 3 });
        let find = async |rows: Vec<Value>| {
            let script = Script::new(&[(200, &json!({ "messages": rows }).to_string())]);
            let ours = open();
            let found =
                ours.messages().unwrap().find(&Client::new(&script), testing::hello().outbound(), Timestamp::UNIX_EPOCH).await;
            found.unwrap().map(|news| (news.provider_id, news.state, news.to))
        };
        let (mine, theirs) = (row("7", "79990001122", "Привет "), row("8", "79990001123", "Привет"));
        let to = Some(Address::Phone("+79990001122".to_owned()));
        assert_eq!(find(vec![theirs.clone(), mine.clone()]).await, Some(("7".to_owned(), Delivery::Delivered, to)));
        assert_eq!(find(vec![mine.clone(), row("9", "79990001122", "Привет")]).await, None);
        assert_eq!(find(vec![theirs, row("9", "79990001122", "Пока")]).await, None);
        assert_eq!(find(Vec::new()).await, None);
    }

    #[tokio::test]
    async fn a_list_that_is_left_out_is_empty_and_one_of_another_kind_is_unreadable() {
        for (answer, fine) in
            [("{}", true), (r#"{"messages":null}"#, true), (r#"{"messages":{}}"#, false), ("[]", false), ("7", false)]
        {
            let script = Script::new(&[(200, answer)]);
            let ours = open();
            let page =
                ours.polls().unwrap().poll(&Client::new(&script), Some("1970-01-01T00:00:00Z"), Timestamp::UNIX_EPOCH).await;
            assert_eq!(page.is_ok(), fine, "{answer}");
        }
    }
}
