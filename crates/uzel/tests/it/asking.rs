//! Questions that wait: a provider that asks, with a desk whose answer is late, early or never.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel::hub::Parts;
use uzel_engine::desk::Desk;
use uzel_model::{Connector, Intake, Malformed, Provider, Reading, Request, connector::Question};

use crate::world::{KEY, World};

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Till {}

impl Connector for Till {
    fn intake(&self, _request: &Request) -> Intake {
        Intake::Asks { deadline_ms: 300 }
    }

    fn parse(&self, _request: &Request) -> Result<Reading, Malformed> {
        Ok(Reading::default())
    }

    fn question(&self, request: &Request) -> Result<Question, Malformed> {
        let body = request.json()?;
        Ok(Question { key: body["id"].to_string(), desk: "test", body })
    }
}

/// Waits as long as the question says.
struct Slow;

#[async_trait]
impl Desk for Slow {
    fn name(&self) -> &'static str {
        "test"
    }

    async fn decide(&self, question: &Question) -> Result<Value, String> {
        match question.body["wait_ms"].as_u64() {
            Some(wait) => tokio::time::sleep(Duration::from_millis(wait)).await,
            None => std::future::pending().await,
        }
        Ok(json!({ "discount": 5 }))
    }
}

const TILL: Provider = Provider::new::<Till>("till", "Test till");

fn providers() -> &'static [Provider] {
    let mut all = uzel_connectors::PROVIDERS.to_vec();
    all.push(TILL);
    Box::leak(all.into_boxed_slice())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_in_time_whatever_the_desk_does() {
    let parts = Parts { providers: providers(), desks: vec![Box::new(Slow)], ..Parts::default() };
    let world = World::with(json!({}), parts).await;
    let setup = json!({ "connection": [{ "merchant": "m", "slug": "till", "provider": "till", "webhook_keys": [KEY] }] });
    world.hub.apply(&setup, uzel_engine::setup::Leniency::default()).await.unwrap();

    let early = world.post("till", &json!({ "id": 1, "wait_ms": 0 })).await;
    assert_eq!(early.status(), 200);
    assert_eq!(early.json::<Value>().await.unwrap(), json!({ "discount": 5 }));

    for question in [json!({ "id": 2, "wait_ms": 5_000 }), json!({ "id": 3 }), json!([])] {
        let asked = Instant::now();
        let answer = world.post("till", &question).await;
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        assert!(asked.elapsed() < Duration::from_millis(300 + 150), "{:?}", asked.elapsed());
    }
    // Question and answer stand in one row; what was not answered was not promised.
    assert_eq!(world.api("/api/v1/journal?provider=till").await.as_array().unwrap().len(), 1);
}
