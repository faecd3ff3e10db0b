//! The account: money, limits, senders, the stop list, and addresses for news of messages.

use async_trait::async_trait;
use serde_json::Value;
use uzel_model::{
    CallError, Client,
    port::{Account, Balance, Limit, Standing, StopList, Stopped, Subscription},
};

use super::{SmsRu, wire::digits};
use crate::tree;

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
impl Account for SmsRu {
    async fn account(&self, client: &Client<'_>) -> Result<Standing, CallError> {
        let balance = self.balance(client).await?;
        let day = self.call(client, "/my/limit", &[], true).await?;
        let free = self.call(client, "/my/free", &[], true).await?;
        let senders = self.call(client, "/my/senders", &[], true).await?;
        // Counters are numbers or texts, and null early in the day.
        let count = |value: &Value| tree::integer(value).and_then(|count| u64::try_from(count).ok());
        let limit = |what, total: &Value, used: &Value| Limit { what, total: count(total), used: count(used).unwrap_or(0) };
        Ok(Standing {
            balance: Some(balance),
            currency: Some("RUB"),
            limits: vec![
                limit("messages_a_day", &day["total_limit"], &day["used_today"]),
                limit("free_messages_a_day", &free["total_free"], &free["used_today"]),
            ],
            senders: texts(&senders["senders"]),
        })
    }
}

#[async_trait]
impl StopList for SmsRu {
    async fn list(&self, client: &Client<'_>) -> Result<Vec<Stopped>, CallError> {
        let answer = self.call(client, "/stoplist/get", &[], true).await?;
        match &answer["stoplist"] {
            Value::Object(list) => {
                Ok(list.iter().map(|(phone, note)| Stopped { phone: phone.clone(), note: tree::text(note) }).collect())
            }
            // PHP prints an empty list so.
            Value::Array(list) if list.is_empty() => Ok(Vec::new()),
            _ => Err(CallError::Unreadable("stoplist is no list of phones".to_owned())),
        }
    }

    async fn add(&self, client: &Client<'_>, phone: &str, note: &str) -> Result<(), CallError> {
        let fields = [("stoplist_phone", &*digits(phone)), ("stoplist_text", note)];
        self.call(client, "/stoplist/add", &fields, true).await.map(drop)
    }

    async fn remove(&self, client: &Client<'_>, phone: &str) -> Result<(), CallError> {
        self.call(client, "/stoplist/del", &[("stoplist_phone", &*digits(phone))], true).await.map(drop)
    }
}

#[async_trait]
impl Subscription for SmsRu {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        self.call(client, "/callback/add", &[("url", url)], true).await.map(|_| ())
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        let answer = self.call(client, "/callback/get", &[], true).await?;
        let known = texts(&answer["callback"]).iter().any(|known| known == url);
        Ok((!known).then(|| "our address is not among the account's callbacks".to_owned()))
    }
}

/// A list that PHP prints as a list, or as an object whose names mean nothing.
fn texts(value: &Value) -> Vec<String> {
    let found: Vec<&Value> = match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(list) => list.values().collect(),
        _ => Vec::new(),
    };
    found.into_iter().filter_map(tree::text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    async fn standing(answers: &[(u16, &str)]) -> Result<Standing, CallError> {
        let ours = PROVIDER.open(json!({ "api_id": "k" })).unwrap();
        ours.account().unwrap().account(&Client::new(&Script::new(answers))).await
    }

    #[tokio::test]
    async fn counters_may_be_texts_numbers_or_null() {
        let (balance, free) =
            (r#"{"status_code":100,"balance":"4122.56"}"#, r#"{"status_code":100,"total_free":5,"used_today":null}"#);
        for day in [
            r#"{"status_code":100,"total_limit":"500","used_today":"15"}"#,
            r#"{"status_code":100,"total_limit":500,"used_today":15}"#,
        ] {
            for senders in [r#"{"status_code":100,"senders":["Kofeynya"]}"#, r#"{"status_code":100,"senders":{"0":"Kofeynya"}}"#]
            {
                let found = standing(&[(200, balance), (200, day), (200, free), (200, senders)]).await.unwrap();
                assert_eq!(found.balance.as_deref(), Some("4122.56"));
                let limits: Vec<_> = found.limits.iter().map(|limit| (limit.total, limit.used)).collect();
                assert_eq!(limits, [(Some(500), 15), (Some(5), 0)]);
                assert_eq!(found.senders, ["Kofeynya"]);
            }
        }
        let odd = r#"{"status_code":100,"total_limit":[],"used_today":-1,"senders":7}"#;
        let found = standing(&[(200, balance), (200, odd), (200, odd), (200, odd)]).await.unwrap();
        assert_eq!((found.limits[0].total, found.limits[0].used, found.senders.len()), (None, 0, 0));
    }

    #[tokio::test]
    async fn a_stop_list_is_an_object_or_an_empty_list() {
        let ours = PROVIDER.open(json!({ "api_id": "k" })).unwrap();
        let list = async |answer: &str| {
            let script = Script::new(&[(200, answer)]);
            ours.stop_list().unwrap().list(&Client::new(&script)).await
        };
        let found = list(r#"{"status_code":100,"stoplist":{"79990005566":"asked us","79990005567":""}}"#).await.unwrap();
        let stopped = |phone: &str, note: Option<&str>| Stopped { phone: phone.to_owned(), note: note.map(str::to_owned) };
        assert_eq!(found, [stopped("79990005566", Some("asked us")), stopped("79990005567", None)]);
        assert_eq!(list(r#"{"status_code":100,"stoplist":[]}"#).await.unwrap(), []);
        for odd in
            [r#"{"status_code":100}"#, r#"{"status_code":100,"stoplist":["79990005566"]}"#, r#"{"status_code":100,"stoplist":7}"#]
        {
            assert!(matches!(list(odd).await, Err(CallError::Unreadable(_))), "{odd}");
        }
    }
}
