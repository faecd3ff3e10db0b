//! Texts to people, what they cost, and what became of them.

use async_trait::async_trait;
use serde_json::Value;
use uzel_model::{
    CallError, Channel, Client, Outbound,
    connector::StatusNews,
    port::{Cost, Costs, Messages, Sent},
};

use super::{
    SmsRu,
    wire::{code, digits, digits_at_home, refused, state},
};
use crate::tree;

/// The sender's name is not registered with the operator of this number.
const SENDER_UNKNOWN: &str = "204";
/// The same text to a number is refused for a minute (231), and for a day (232): after that minute the code is 232 for sure, whatever
/// the clocks.
const AGAIN_AFTER_S: u32 = 61;
const CURRENCY: &str = "RUB";

#[async_trait]
impl Messages for SmsRu {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let (phone, text) = (message.phone()?, &message.content.text);
        // A price that cannot be had keeps no text back.
        let cost = if self.ask_cost { self.cost(client, phone, text).await.ok() } else { None };
        let (entry, remark) = self.entry(client, "/sms/send", phone, text).await?;
        match tree::text(&entry["sms_id"]) {
            Some(provider_id) => Ok(Sent { remark, cost, ..Sent::new(provider_id) }),
            None => Err(CallError::Unreadable("the entry of the number has no sms_id".to_owned())),
        }
    }

    fn again_after_s(&self) -> Option<u32> {
        self.resend_lost.then_some(AGAIN_AFTER_S)
    }

    fn can_be_asked(&self) -> bool {
        true
    }

    async fn statuses(&self, client: &Client<'_>, provider_ids: &[String]) -> Result<Vec<StatusNews>, CallError> {
        if provider_ids.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.call(client, "/sms/status", &[("sms_id", &provider_ids.join(","))], true).await?;
        let entries = answer["sms"].as_object().into_iter().flatten();
        let statuses = entries.filter_map(|(id, entry)| {
            let code = code(entry).ok()?;
            let cost = tree::decimal(&entry["cost"]).and_then(|_| tree::text(&entry["cost"]));
            let cost = cost.map(|cost| Cost { cost, currency: CURRENCY.into(), segments: 0 });
            Some(StatusNews { cost, ..StatusNews::new(id, state(code), code) })
        });
        Ok(statuses.collect())
    }
}

#[async_trait]
impl Costs for SmsRu {
    async fn cost(&self, client: &Client<'_>, phone: &str, text: &str) -> Result<Cost, CallError> {
        let (entry, _) = self.entry(client, "/sms/cost", phone, text).await?;
        let cost = tree::text(&entry["cost"]).filter(|_| tree::decimal(&entry["cost"]).is_some());
        let segments = tree::integer(&entry["sms"]).and_then(|segments| u32::try_from(segments).ok());
        match cost.zip(segments) {
            Some((cost, segments)) => Ok(Cost { cost, currency: CURRENCY.into(), segments }),
            None => Err(CallError::Unreadable("the entry of the number has no cost or no number of messages".to_owned())),
        }
    }
}

impl SmsRu {
    /// The entry of the number when SMS.ru took it, and what the merchant should see to. A sender that is not registered
    /// with the number's operator is left out at the second try: the refusal proves that nothing was sent.
    async fn entry(
        &self,
        client: &Client<'_>,
        path: &str,
        phone: &str,
        text: &str,
    ) -> Result<(Value, Option<String>), CallError> {
        match (self.entry_as(client, path, phone, text, self.from.as_deref()).await, &self.from) {
            (Err(CallError::Refused { code, .. }), Some(from)) if code == SENDER_UNKNOWN => {
                let entry = self.entry_as(client, path, phone, text, None).await?;
                let remark =
                    format!("the sender «{from}» is not registered with every operator: some texts go from the shared name");
                Ok((entry, Some(remark)))
            }
            (entry, _) => entry.map(|entry| (entry, None)),
        }
    }

    async fn entry_as(
        &self,
        client: &Client<'_>,
        path: &str,
        phone: &str,
        text: &str,
        from: Option<&str>,
    ) -> Result<Value, CallError> {
        let digits = digits(phone);
        let mut form = vec![("to", digits.as_str()), ("msg", text)];
        form.extend(from.map(|from| ("from", from)));
        form.extend(self.daytime.then_some(("daytime", "1")));
        form.extend(self.test.then_some(("test", "1")));
        let answer = self.call(client, path, &form, path == "/sms/cost").await?;
        let entries = answer["sms"].as_object();
        let entry = entries.and_then(|entries| entries.iter().find(|(number, _)| digits_at_home(number) == digits));
        let Some((_, entry)) = entry else {
            return Err(CallError::Unreadable("the answer has no entry for the number".to_owned()));
        };
        match code(entry)? {
            100..=199 => Ok(entry.clone()),
            code => Err(refused(code, entry, client.now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uzel_model::{Connector, Refusal};

    use super::{super::PROVIDER, *};
    use crate::testing::{self, Script};

    const API_ID: &str = "A1B2C3D4-1111-2222-3333-444455556666";

    fn open() -> Box<dyn Connector> {
        PROVIDER.open(json!({ "api_id": API_ID })).unwrap()
    }

    async fn send(answer: &str) -> Result<Sent, CallError> {
        let script = Script::new(&[(200, answer)]);
        let sent = open().messages().unwrap().send(&Client::new(&script), testing::hello().outbound()).await;
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
    }

    fn refusal(code: i64) -> String {
        json!({ "status_code": 100, "sms": { "79990001122": { "status": "ERROR", "status_code": code } } }).to_string()
    }

    #[tokio::test]
    async fn every_code_is_sorted_by_what_to_do() {
        use Refusal::{Account, Already, Command, Content, OptOut, Ours};
        let sorted: [(Refusal, &[i64]); 6] = [
            (Account, &[200, 201, 300, 301, 302, 303, 304, 305]),
            (Command, &[202, 204, 207, 214, 299, 399]),
            (Content, &[216]),
            (OptOut, &[209, 215]),
            (Already, &[231, 232]),
            (Ours, &[203, 205, 208, 210, 211, 212, 213, 507, 901, 902]),
        ];
        for (wanted, codes) in sorted {
            for code in codes {
                let top = json!({ "status": "ERROR", "status_code": code }).to_string();
                for answer in [refusal(*code), top] {
                    match send(&answer).await {
                        Err(CallError::Refused { refusal, .. }) => assert_eq!(refusal, wanted, "{code}"),
                        other => panic!("{code}: {other:?}"),
                    }
                }
            }
        }
        // The script's clock stands at 1970-01-01T00:00Z: 03:00 in Moscow.
        let (midnight, minutes) = ("1970-01-01T21:00:00Z", "1970-01-01T00:10:00Z");
        let later: [(Option<&str>, &[i64]); 3] =
            [(Some(midnight), &[206, 230]), (Some(minutes), &[233, 508]), (None, &[220, 500, 501, 502, 503, 504, 505, 506, 577])];
        for (wanted, codes) in later {
            for code in codes {
                match send(&refusal(*code)).await {
                    Err(CallError::Later { at, .. }) => assert_eq!(at, wanted.map(|at| at.parse().unwrap()), "{code}"),
                    other => panic!("{code}: {other:?}"),
                }
            }
        }
        // Neither on its way nor refused: nobody knows.
        for code in [-1, 0, 400, 600, 999] {
            assert!(matches!(send(&refusal(code)).await, Err(CallError::Unreadable(_))), "{code}");
        }
    }

    #[tokio::test]
    async fn a_sender_that_the_operator_does_not_know_is_left_out_once() {
        let ours = PROVIDER.open(json!({ "api_id": API_ID, "from": "Kofeynya" })).unwrap();
        let taken = json!({ "status_code": 100, "sms": { "79990001122": { "status_code": 100, "sms_id": "202647-1" } } });
        let script = Script::new(&[(200, &refusal(204)), (200, &taken.to_string())]);
        let sent = ours.messages().unwrap().send(&Client::new(&script), testing::hello().outbound()).await.unwrap();
        assert!(sent.remark.is_some_and(|remark| remark.contains("Kofeynya")));
        let bodies: Vec<String> = script.sent().into_iter().map(|sent| String::from_utf8(sent.body.to_vec()).unwrap()).collect();
        assert!(bodies[0].contains("from=Kofeynya") && !bodies[1].contains("from="), "{bodies:?}");

        let script = Script::new(&[(200, &refusal(204)), (200, &refusal(204))]);
        let sent = ours.messages().unwrap().send(&Client::new(&script), testing::hello().outbound()).await;
        assert!(matches!(sent, Err(CallError::Refused { refusal: Refusal::Command, .. })), "{sent:?}");
    }

    #[tokio::test]
    async fn a_price_is_asked_without_sending() {
        let answer = json!({ "status_code": 100, "total_cost": 6.4, "total_sms": 2,
            "sms": { "79990001122": { "status_code": 100, "cost": "6.40", "sms": 2 } } });
        let script = Script::new(&[(200, &answer.to_string()), (200, &refusal(202))]);
        let (ours, client) = (open(), Client::new(&script));
        let costs = ours.costs().unwrap();
        let cost = costs.cost(&client, "+79990001122", "Привет").await.unwrap();
        assert_eq!(cost, Cost { cost: "6.40".to_owned(), currency: "RUB".into(), segments: 2 });
        assert!(script.sent()[0].url.ends_with("/sms/cost") && script.sent()[0].repeatable);
        assert!(costs.cost(&client, "+79990001122", "Привет").await.is_err());
    }

    #[tokio::test]
    async fn a_status_tells_the_cost_where_smsru_does() {
        let answer = json!({ "status_code": 100, "sms": {
            "202647-1": { "status_code": 103, "cost": "3.20" }, "202647-2": { "status_code": 104, "cost": 0.5 },
            "202647-3": { "status_code": 102, "cost": "free" }, "202647-4": { "status_code": -1 }, "202647-5": [] } });
        let script = Script::new(&[(200, &answer.to_string())]);
        let ids = ["202647-1".to_owned()];
        let told = open().messages().unwrap().statuses(&Client::new(&script), &ids).await.unwrap();
        let costs: Vec<Option<&str>> = told.iter().map(|news| news.cost.as_ref().map(|cost| cost.cost.as_str())).collect();
        assert_eq!(costs, [Some("3.20"), Some("0.5"), None, None]);
    }

    #[tokio::test]
    async fn a_price_is_asked_first_where_it_is_wanted_and_keeps_no_text_back() {
        let ours = PROVIDER.open(json!({ "api_id": API_ID, "ask_cost": true })).unwrap();
        let price = json!({ "status_code": 100, "sms": { "79990001122": { "status_code": 100, "cost": "3.20", "sms": 1 } } });
        let taken = json!({ "status_code": 100, "sms": { "79990001122": { "status_code": 100, "sms_id": "202647-1" } } });
        for (price, wanted) in [(price.to_string(), Some("3.20")), ("<html>".to_owned(), None)] {
            let script = Script::new(&[(200, &price), (200, &taken.to_string())]);
            let sent = ours.messages().unwrap().send(&Client::new(&script), testing::hello().outbound()).await.unwrap();
            assert_eq!(sent.cost.map(|cost| cost.cost).as_deref(), wanted);
            let paths: Vec<bool> = script.sent().iter().map(|sent| sent.url.ends_with("/sms/send")).collect();
            assert_eq!(paths, [false, true]);
        }
    }

    #[test]
    fn a_lost_text_goes_again_only_where_it_is_wanted() {
        assert_eq!(open().messages().unwrap().again_after_s(), None);
        let ours = PROVIDER.open(json!({ "api_id": API_ID, "resend_lost": true })).unwrap();
        assert_eq!(ours.messages().unwrap().again_after_s(), Some(61));
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
}
