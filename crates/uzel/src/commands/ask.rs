//! Asks a hub: over its socket where one runs, else in this process over the same API.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request},
};
use serde_json::Value;
use tower::ServiceExt;
use uzel_engine::Engine;
use uzel_server::App;

use super::places::dotted;
use crate::{
    hub::{Folder, Parts, SOCKET, open},
    settings::Settings,
};

const ANSWER_BYTES_MAX: usize = 256 << 20;
const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) enum Asker {
    Running {
        client: reqwest::Client,
        socket: PathBuf,
    },
    Own {
        router: Router,
        engine: Arc<Engine>,
        _folder: Folder,
        /// Dropped last, with all that was tried in it.
        _passing: Option<tempfile::TempDir>,
    },
}

impl Asker {
    pub(crate) async fn new(settings: &Settings) -> anyhow::Result<Self> {
        let socket = settings.data.join(SOCKET);
        if tokio::net::UnixStream::connect(&socket).await.is_ok() {
            let client = reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().build()?;
            return Ok(Self::Running { client, socket });
        }
        if settings.database.is_none() && !settings.data.join("uzel.db").exists() {
            bail!("no hub in {}: start one with `uzel serve`, or name its folder with --data", settings.data.display());
        }
        Self::own(settings, &settings.data, None).await
    }

    /// A hub that has not been started yet: its folder is made.
    pub(crate) async fn first(settings: &Settings) -> anyhow::Result<Self> {
        Self::own(settings, &settings.data, None).await
    }

    /// A hub in a folder that is thrown away.
    pub(crate) async fn passing(settings: &Settings) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder to try it in")?;
        let path = folder.path().to_owned();
        let settings = Settings {
            database: None,
            migrate: true,
            master_key: None,
            master_key_file: None,
            master_key_command: None,
            ..settings.clone()
        };
        Self::own(&settings, &path, Some(folder)).await
    }

    async fn own(settings: &Settings, path: &Path, passing: Option<tempfile::TempDir>) -> anyhow::Result<Self> {
        let folder = Folder::open(path)?;
        let engine = open(&folder, settings, Parts::default()).await?;
        let router = uzel_server::local_router(App::new(engine.clone(), settings.door()?));
        Ok(Self::Own { router, engine, _folder: folder, _passing: passing })
    }

    pub(crate) async fn end(&self) {
        if let Self::Own { engine, .. } = self {
            engine.stop().await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        accepted(self.exchange(Method::GET, path, None).await?)
    }

    /// The rows of a list.
    pub(crate) async fn list(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.get(path).await?["items"].take())
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        accepted(self.exchange(Method::DELETE, path, None).await?)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        accepted(self.exchange(Method::POST, path, Some(body)).await?)
    }

    /// Under a key of the caller's own.
    pub(crate) async fn post_once(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Value> {
        let header = [("idempotency-key", key), JSON];
        accepted(self.exchange_under(Method::POST, path, body.to_string().into(), &header).await?)
    }

    pub(crate) async fn post_csv(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let header = [("content-type", "text/csv; charset=utf-8")];
        accepted(self.exchange_under(Method::POST, path, body, &header).await?)
    }

    /// `Err` inside: a problem that the caller shows itself.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> anyhow::Result<Result<Value, Value>> {
        let (status, answer) = self.exchange(Method::POST, path, Some(body)).await?;
        match status {
            200..=299 => Ok(Ok(answer)),
            422 => Ok(Err(answer)),
            _ => accepted((status, answer)).map(Ok),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        self.exchange_under(method, path, body.map(Value::to_string).unwrap_or_default().into(), &[JSON]).await
    }

    async fn exchange_under(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        head: &[(&str, &str)],
    ) -> anyhow::Result<(u16, Value)> {
        let (status, bytes) = match self {
            Self::Running { client, socket } => {
                let mut request = client.request(method, format!("http://hub{path}")).body(body);
                for (name, value) in head {
                    request = request.header(*name, *value);
                }
                let answer = request.send().await.with_context(|| format!("the hub at {} does not answer", socket.display()))?;
                (answer.status().as_u16(), answer.bytes().await?)
            }
            Self::Own { router, .. } => {
                let mut request = Request::builder().method(method).uri(path);
                for (name, value) in head {
                    request = request.header(*name, *value);
                }
                let request = request.body(Body::from(body))?;
                let answer = router.clone().oneshot(request).await?;
                (answer.status().as_u16(), to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await?)
            }
        };
        let answer =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok((status, answer))
    }
}

/// A fault in plain words. A field of a query stands without the stroke that a place in a body begins with.
fn words(pointer: &str, detail: &str) -> String {
    match if pointer.starts_with('/') { dotted(pointer) } else { pointer.to_owned() } {
        place if place.is_empty() => detail.to_owned(),
        place => format!("{place}: {detail}"),
    }
}

fn accepted((status, answer): (u16, Value)) -> anyhow::Result<Value> {
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let faults: Vec<String> = answer["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|fault| words(fault["pointer"].as_str().unwrap_or_default(), fault["detail"].as_str().unwrap_or_default()))
        .collect();
    let detail = answer["detail"].as_str().or(answer.as_str()).unwrap_or("the hub refuses").trim_end();
    if faults.is_empty() {
        bail!("{detail}");
    }
    bail!("{detail}: {}", faults.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_is_told_in_plain_words() {
        let told = |answer| format!("{:#}", accepted((422, answer)).unwrap_err());
        let faults =
            json!([{ "pointer": "/flow/0/text", "detail": "is missing" }, { "pointer": "from", "detail": "is \"no\" time" }]);
        assert_eq!(
            told(json!({ "detail": "nothing was changed", "errors": faults })),
            "nothing was changed: flow[0].text: is missing; from: is \"no\" time"
        );
        assert_eq!(told(json!({ "detail": "no such entry" })), "no such entry");
        assert_eq!(told(json!({ "detail": "x", "errors": [{ "pointer": "", "detail": "is no text" }] })), "x: is no text");
        assert_eq!(told(json!("from a proxy\n")), "from a proxy");
    }
}
