//! Desks answer questions. The heart of a desk is pure; what it needs from outside the engine fetches within the deadline.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use uzel_model::{
    Request,
    connector::{Answer, Question},
};
use uzel_store::Source;

use crate::{Engine, Link};

/// A part of the hub that decides questions.
#[async_trait]
pub trait Desk: Send + Sync {
    /// The name that questions carry.
    fn name(&self) -> &'static str;
    /// Decides. May wait for an outside call, within the deadline; what comes later is thrown away.
    async fn decide(&self, question: &Question) -> Result<Value, String>;
}

/// Reads the question, decides it, and journals question and answer in one durable row before the answer is given.
pub(crate) async fn decide(engine: &Engine, link: &Arc<Link>, request: Request, trace: String, deadline: Duration) -> Answer {
    let again = |reason: &str| Answer::TryAgain { reason: reason.to_owned() };
    let question = match link.connector.question(&request) {
        Ok(question) => question,
        Err(malformed) => return again(&format!("the question cannot be read: {malformed}")),
    };
    let Some(desk) = engine.desks.iter().find(|desk| desk.name() == question.desk) else {
        return again("nobody here decides such questions");
    };
    let decided = match tokio::time::timeout(deadline, desk.decide(&question)).await {
        Ok(Ok(body)) => body,
        Ok(Err(reason)) => return again(&reason),
        Err(_) => return again("no decision in time: try again"),
    };
    let mut entry = engine.entry(link, request, Source::Question, trace);
    entry.answer = decided.to_string();
    match engine.store.append(entry).await {
        Ok(()) => Answer::Decided(decided),
        Err(error) => again(&error.to_string()),
    }
}
