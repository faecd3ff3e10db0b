//! For tests: requests to us, and a transport that answers from a script.

use std::sync::Mutex;

use async_trait::async_trait;
use uzel_model::{Address, Bytes, CallError, Content, Outbound, Outgoing, Reply, Request, Timestamp, Transport};

/// A verified request.
pub(crate) fn post(content_type: &str, body: &str) -> Request {
    Request {
        method: "POST".to_owned(),
        path: String::new(),
        query: Vec::new(),
        headers: vec![("content-type".to_owned(), content_type.to_owned())],
        body: Bytes::copy_from_slice(body.as_bytes()),
        received_at: Timestamp::UNIX_EPOCH,
        peer: None,
        key: Some("key".to_owned()),
    }
}

/// Gives the answers one after another, as the engine's transport would; remembers what was sent.
pub(crate) struct Script {
    answers: Mutex<Vec<(u16, String)>>,
    sent: Mutex<Vec<Outgoing>>,
}

impl Script {
    pub(crate) fn new(answers: &[(u16, &str)]) -> Self {
        let answers = answers.iter().rev().map(|(status, body)| (*status, (*body).to_owned())).collect();
        Self { answers: Mutex::new(answers), sent: Mutex::default() }
    }

    pub(crate) fn sent(&self) -> Vec<Outgoing> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl Transport for Script {
    async fn exchange(&self, outgoing: Outgoing) -> Result<Reply, CallError> {
        self.sent.lock().unwrap().push(outgoing);
        match self.answers.lock().unwrap().pop().expect("the script has an answer left") {
            (401, body) => Err(CallError::Unauthorized(body)),
            (status, body) => Ok(Reply { status, headers: Vec::new(), body: body.into() }),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// A message to somebody.
pub(crate) struct Hello {
    to: Address,
    content: Content,
}

impl Hello {
    pub(crate) fn outbound(&self) -> Outbound<'_> {
        Outbound { to: &self.to, content: &self.content, key: "k" }
    }
}

/// A text to a Russian phone.
pub(crate) fn hello() -> Hello {
    Hello { to: Address::Phone("+79990001122".to_owned()), content: Content::text("Привет") }
}
