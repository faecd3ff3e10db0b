//! Texts to people, and what became of them.

use async_trait::async_trait;
use uzel_model::{
    CallError, Client,
    port::{MessageStatus, Messages, Sent},
};

use super::{
    SmsRu,
    wire::{code, digits, digits_at_home, refused, state},
};
use crate::tree;

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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uzel_model::{Connector, Refusal};

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    const API_ID: &str = "A1B2C3D4-1111-2222-3333-444455556666";

    fn open() -> Box<dyn Connector> {
        PROVIDER.open(json!({ "api_id": API_ID })).unwrap()
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
}
