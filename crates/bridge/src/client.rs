//! `queue list|retry|drop`: asks the running bridge, or opens the queue itself where none runs.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{bridge::now_ms, key::Key, place::Place, settings::Settings};

/// Shows that whoever calls may read the key file.
pub(crate) const PROOF_HEADER: &str = "x-bridge-proof";

/// What a person wants of the queue.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    List,
    /// An id, or `all`.
    Retry(String),
    Drop(String),
}

/// The answer as the running bridge gives it: `items`, or `count`.
pub(crate) async fn ask(place: &Place, settings: &Settings, wish: &Wish) -> anyhow::Result<Value> {
    let Some(_lock) = place.lock()? else { return ask_running(place, settings, wish).await };
    let (mut queue, _) = place.open(settings, now_ms())?;
    Ok(match wish {
        Wish::List => json!({ "items": queue.list() }),
        Wish::Retry(id) => {
            let ids = if id == "all" { queue.retriable() } else { vec![id.clone()] };
            for id in &ids {
                queue.again(id)?;
            }
            json!({ "ok": true, "count": ids.len() })
        }
        Wish::Drop(id) => {
            queue.let_go(id)?;
            json!({ "ok": true, "count": 1 })
        }
    })
}

async fn ask_running(place: &Place, settings: &Settings, wish: &Wish) -> anyhow::Result<Value> {
    let mut listen = settings.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let mut request = match wish {
        Wish::List => http.get(format!("http://{listen}/queue/list")),
        Wish::Retry(id) => http.post(format!("http://{listen}/queue/{id}/retry")),
        Wish::Drop(id) => http.post(format!("http://{listen}/queue/{id}/drop")),
    };
    request = request.header(PROOF_HEADER, Key::load(&place.key(), &place.queue())?.proof());
    if let Some(key) = &settings.till_key {
        request = request.header("x-till-key", key.expose());
    }
    let asked = async {
        let response = request.send().await?;
        let status = response.status();
        Ok::<_, reqwest::Error>((status, response.text().await?))
    };
    let (status, text) = asked
        .await
        .with_context(|| format!("a process works in {}, but no bridge answers on {listen}", place.folder.display()))?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    if !status.is_success() {
        bail!("{}", answer["message"].as_str().unwrap_or("the bridge refused"));
    }
    Ok(answer)
}

/// The list for a person.
pub(crate) fn show(items: &Value) -> String {
    let items = items["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "nothing waits".to_owned();
    }
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let part = |state: &str| -> Vec<String> {
        let of_state = items.iter().filter(|item| item["state"] == state);
        of_state
            .map(|item| {
                let note = match () {
                    () if item["settled"] == true => " (done at the hub: only to be known, then dropped)",
                    () if item["behind"] == true => " (waits behind an earlier call of its order)",
                    () => "",
                };
                let (id, call, order) = (text(item, "id"), text(item, "call"), text(item, "orderId"));
                format!("{id}  {call} of order {order}, since {}{note}\n    {}", text(item, "since"), text(item, "reason"))
            })
            .collect()
    };
    let mut shown = Vec::new();
    for (state, title) in
        [("person", "Needs a person (`queue retry ID` or `queue drop ID`):"), ("waiting", "Waits for the line:")]
    {
        let lines = part(state);
        if !lines.is_empty() {
            shown.push(format!("{title}\n{}", lines.join("\n")));
        }
    }
    shown.join("\n\n")
}
