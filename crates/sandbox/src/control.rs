//! The control below `/_sandbox/`: what was called, what shall go wrong, what the provider shall send.
//!
//! - `GET /_sandbox`: the providers and the cases they can send.
//! - `GET {provider}/calls?since=&limit=`: the calls, newest last; `GET {provider}/summary`: counts.
//! - `PUT|GET|DELETE {provider}/faults`: one fault or an array, which replaces those that wait.
//! - `PUT|GET {provider}/settings`: the fields given are changed; `record` is known to all.
//! - `PUT|GET {provider}/{collection}`: `orders`, `leads`, `records` and so on, replaced as a whole.
//! - `POST {provider}/send/{case}` with `{url, count, replace, headers}`; without `url` to the addresses registered.
//! - `DELETE {provider}`: back to the start, settings included.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cases::{CASES, Case};
use crate::wire::{Answer, Call};
use crate::{Stand, World, cases};

pub(crate) async fn answer(world: &World, call: &Call) -> Answer {
    let segments = call.segments();
    let Some((name, rest)) = segments.split_first() else {
        return overview(world);
    };
    let Some(stand) = world.stand(name) else {
        return fail(404, "no such provider; see /_sandbox");
    };
    match (&call.method, rest) {
        (&Method::DELETE, []) => {
            stand.provider.reset();
            stand.provider.keep(true);
            stand.records.reset();
            stand.faults.reset();
            Answer::empty(204)
        }
        (&Method::GET, ["calls"]) => {
            let since = call.asked("since").and_then(|text| text.parse().ok());
            let limit = call.asked("limit").and_then(|text| text.parse().ok());
            let calls = stand.records.show(since.unwrap_or(0), limit.unwrap_or(usize::MAX));
            Answer::json(200, &calls)
        }
        (&Method::GET, ["summary"]) => {
            let mut counts = Map::new();
            stand.records.summary(&mut counts);
            stand.provider.summary(&mut counts);
            Answer::json(200, &Value::Object(counts))
        }
        (&Method::GET, ["faults"]) => Answer::json(200, &stand.faults.show()),
        (&Method::DELETE, ["faults"]) => {
            stand.faults.reset();
            Answer::empty(204)
        }
        (&Method::PUT, ["faults"]) => match call.json().map(|body| stand.faults.put(body)) {
            Some(Ok(())) => Answer::json(200, &stand.faults.show()),
            Some(Err(error)) => fail(400, &error),
            None => fail(400, "the body is not JSON"),
        },
        (&Method::GET, ["settings"]) => settings(stand, json!({})),
        (&Method::PUT, ["settings"]) => match call.json() {
            Some(body) => settings(stand, body),
            None => fail(400, "the body is not JSON"),
        },
        (&Method::POST, ["send", case]) => send(world, stand, case, call).await,
        (&Method::PUT, [what]) => match call.json().map(|body| stand.provider.put(what, body)) {
            Some(Some(Ok(body))) => Answer::json(200, &body),
            Some(Some(Err(error))) => fail(400, &error),
            Some(None) => fail(404, "this provider keeps no such thing"),
            None => fail(400, "the body is not JSON"),
        },
        (&Method::GET, [what]) => match stand.provider.show(what) {
            Some(body) => Answer::json(200, &body),
            None => fail(404, "this provider keeps no such thing"),
        },
        _ => fail(404, "no such control"),
    }
}

fn fail(status: u16, error: &str) -> Answer {
    Answer::json(status, &json!({ "error": error }))
}

/// Providers and the cases each can send.
fn overview(world: &World) -> Answer {
    let providers = world.stands.iter().map(|stand| {
        let cases = CASES.iter().filter(|case| case.provider == stand.name);
        let cases: Map<String, Value> = cases.map(|case| (case.name.to_owned(), json!(case.description))).collect();
        (stand.name.to_owned(), json!({ "cases": cases }))
    });
    Answer::json(200, &Value::Object(providers.collect()))
}

/// `record` is the same for all providers; the other settings are the provider's own.
fn settings(stand: &Stand, mut patch: Value) -> Answer {
    let record = patch.as_object_mut().and_then(|patch| patch.remove("record"));
    if record.as_ref().is_some_and(|record| !record.is_boolean()) {
        return fail(400, "record is true or false");
    }
    match stand.provider.settings(&patch) {
        Ok(mut all) => {
            if let Some(record) = record.and_then(|record| record.as_bool()) {
                stand.records.set(record);
                stand.provider.keep(record);
            }
            if let Some(all) = all.as_object_mut() {
                all.insert("record".to_owned(), json!(stand.records.on()));
            }
            Answer::json(200, &all)
        }
        Err(error) => fail(400, &error),
    }
}

#[derive(Deserialize)]
struct Order {
    url: Option<String>,
    #[serde(default = "one")]
    count: u32,
    #[serde(default)]
    replace: BTreeMap<String, String>,
    /// Further headers, or others instead of the case's own.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

/// Sends a case and tells what the receiver answered.
async fn send(world: &World, stand: &Stand, name: &str, call: &Call) -> Answer {
    let options = if call.body.is_empty() { Some(json!({})) } else { call.json() };
    let Some(options) = options else {
        return fail(400, "the body is not JSON");
    };
    let order: Order = match serde_json::from_value(options.clone()) {
        Ok(order) => order,
        Err(error) => return fail(400, &error.to_string()),
    };
    let made = match stand.provider.make_cases(name, &options) {
        Some(Ok(made)) => made,
        Some(Err(error)) => return fail(400, &error),
        None => match cases::case(stand.name, name) {
            Some(case) => vec![case],
            None => return fail(404, "no such case; see /_sandbox"),
        },
    };
    let urls = match order.url {
        Some(url) => vec![url],
        None => stand.provider.destinations(),
    };
    if urls.is_empty() {
        return fail(400, "url is missing");
    }
    let client = match world.client.get_or_init(client) {
        Ok(client) => client,
        Err(error) => return fail(500, error),
    };
    let mut last = (0, String::new());
    let mut sent = 0;
    let mut statuses: BTreeMap<u16, u32> = BTreeMap::new();
    for case in made {
        let mut case = case.replaced(&order.replace);
        for (name, value) in &order.headers {
            case.headers.retain(|(old, _)| !old.eq_ignore_ascii_case(name));
            case.headers.push((name.clone(), value.clone()));
        }
        for url in &urls {
            for _ in 0..order.count {
                match post(client, url, &case).await {
                    Ok(answer) => last = answer,
                    Err(error) => return fail(502, &error),
                }
                sent += 1;
                *statuses.entry(last.0).or_default() += 1;
            }
        }
    }
    Answer::json(200, &json!({"status": last.0, "body": last.1, "sent": sent, "statuses": statuses}))
}

/// Sends straight, never through a proxy, and reports redirections instead of following them.
fn client() -> Result<reqwest::Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was first, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(15))
        .build()
        .map_err(|error| error.to_string())
}

async fn post(client: &reqwest::Client, url: &str, case: &Case) -> Result<(u16, String), String> {
    let method = reqwest::Method::from_bytes(case.method.as_bytes()).map_err(|error| error.to_string())?;
    let url = match (case.query.is_empty(), url.contains('?')) {
        (true, _) => url.to_owned(),
        (false, true) => format!("{url}&{}", case.query),
        (false, false) => format!("{url}?{}", case.query),
    };
    let mut request = client.request(method, url);
    if !case.content_type.is_empty() {
        request = request.header("content-type", &case.content_type);
    }
    for (name, value) in &case.headers {
        request = request.header(name, value);
    }
    if !case.body.is_empty() {
        request = request.body(case.body.clone());
    }
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status().as_u16();
    let body = answer.text().await.map_err(|error| error.to_string())?;
    Ok((status, body))
}
