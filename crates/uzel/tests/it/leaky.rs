//! A provider that lets out whatever it knows: it repeats every secret in its answers, and fails with them in its words.

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use uzel_model::{
    CallError, Channel, Client, Connector, Malformed, Outbound, Outgoing, Provider, Reading, Refusal, Request, Secret, Timestamp,
    port::{Login, Messages, Page, Polls, Sent, Session},
};

pub(crate) const TOKEN: &str = "pl4nted/token+of the=provider";
pub(crate) const ACCESS: &str = "pl4nted/access+of-the=session";
pub(crate) const REFRESH: &str = "pl4nted/refresh+of-the=session";

/// A provider that repeats every secret it is told, a reader and a port that fail with them in their words.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Leaky {
    /// Its token.
    #[garde(skip)]
    token: Secret,
    /// Where it lives.
    #[garde(skip)]
    base_url: String,
}

impl Connector for Leaky {
    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        panic!("cannot read {:?} with {}", request.body, self.token.expose())
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn login(&self) -> Option<&dyn Login> {
        Some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        Some(self)
    }
}

impl Leaky {
    fn call(&self, way: &str) -> Outgoing {
        let query = serde_urlencoded::to_string([("token", self.token.expose())]).unwrap();
        Outgoing::new("POST", format!("{}/{way}?{query}", self.base_url)).form(&[("token", self.token.expose())])
    }
}

#[async_trait]
impl Messages for Leaky {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    /// The text says what is to happen.
    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let text = message.content.text.as_str();
        assert!(text != "panic", "a port that fails with {}", self.token.expose());
        let reply = client.send(self.call(text)).await?;
        let words = String::from_utf8_lossy(&reply.body).into_owned();
        Err(match text {
            "unreadable" => CallError::Unreadable(words),
            "lost" => CallError::Lost(words),
            "unauthorized" => CallError::Unauthorized(words),
            _ => CallError::refused(Refusal::Ours, 1, words),
        })
    }
}

#[async_trait]
impl Login for Leaky {
    async fn renew(&self, client: &Client<'_>, _: Option<&Session>) -> Result<Session, CallError> {
        client.send(self.call("login").logs_in()).await?;
        Ok(Session { access: Secret::new(ACCESS), refresh: Some(Secret::new(REFRESH)), expires_at: None })
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        outgoing.url += &format!("&{}", serde_urlencoded::to_string([("access", session.access.expose())]).unwrap());
        outgoing.headers.push(("authorization", format!("Bearer {}", session.access.expose())));
    }
}

#[async_trait]
impl Polls for Leaky {
    fn every_s(&self) -> u32 {
        60
    }

    async fn poll(&self, client: &Client<'_>, _: Option<&str>, _: Timestamp) -> Result<Page, CallError> {
        let reply = client.send(self.call("poll")).await?;
        Err(CallError::Unreadable(String::from_utf8_lossy(&reply.body).into_owned()))
    }
}

pub(crate) const LEAKY: Provider = Provider::new::<Leaky>("leaky", "Leaky");

/// Answers every request with its own words, and with the status that its path names.
pub(crate) async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = vec![0; 64 << 10];
                let size = stream.read(&mut read).await.unwrap_or_default();
                let said = String::from_utf8_lossy(&read[..size]).into_owned();
                let path = said.split(['/', '?']).nth(1).unwrap_or_default();
                let status = path.parse::<u16>().unwrap_or(200);
                // A provider's own words may name what the session refreshes with.
                let body = format!("{said} {}", REFRESH.replace('/', "\\/"));
                let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).await.ok();
            });
        }
    });
    url
}
