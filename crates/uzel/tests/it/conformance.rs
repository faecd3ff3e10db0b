//! Every port of every provider against its stand-in, through the engine's own client: whatever goes wrong, the error is of
//! the class by which the engine does the right thing next.

use std::path::Path;

use serde_json::{Map, Value, json};
use uzel::{
    hub::{Hub, Parts},
    settings::Settings,
};
use uzel_connectors::PROVIDERS;
use uzel_engine::setup::Leniency;
use uzel_model::port::loyalty::{AccountKey, Reversal};
use uzel_model::{Address, CallError, Channel, Client, Connector, Content, Outbound, Provider, Request, Timestamp, Transport};
use uzel_sandbox::Sandbox;

use crate::{
    jowi,
    world::{anywhere, web},
};

const TIMEOUT_MS: u64 = 1_500;
const PORTS: [&str; 23] = [
    "send",
    "batch",
    "statuses",
    "find",
    "balance",
    "health",
    "cost",
    "account",
    "stop_list",
    "stop",
    "unstop",
    "begin_check",
    "call_check",
    "look_up",
    "poll",
    "check",
    "subscribe",
    "probe",
    "club_account",
    "accrue",
    "redeem",
    "operation",
    "reverse",
];
/// Ports whose work may have been done when their answer is lost.
const ONCE: [&str; 6] = ["send", "batch", "begin_check", "accrue", "redeem", "reverse"];

fn fixtures(provider: &Provider) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(provider.id)
}

/// The settings that the fixtures name, with every address led to the stand-in, which serves below the provider's name.
pub(crate) fn settings(provider: &Provider, sandbox: &str) -> Map<String, Value> {
    let file = std::fs::read(fixtures(provider).join("settings.json")).unwrap_or_else(|_| b"{}".to_vec());
    let mut settings: Map<String, Value> = serde_json::from_slice(&file).unwrap();
    for (name, property) in provider.schema().as_value()["properties"].as_object().into_iter().flatten() {
        if name.ends_with("_url") {
            let path = property["default"].as_str().and_then(|url| reqwest::Url::parse(url).ok());
            let path = path.map_or(String::new(), |url| url.path().trim_end_matches('/').to_owned());
            settings.insert(name.clone(), json!(format!("{sandbox}/{}{path}", provider.id)));
        }
    }
    settings
}

/// Whom to look up: what the first fixture asks for that lacks a phone.
fn looked_up(provider: &Provider, connector: &dyn Connector) -> Option<Value> {
    let mut files: Vec<_> =
        std::fs::read_dir(fixtures(provider)).into_iter().flatten().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().filter(|file| file.extension().is_some_and(|end| end == "http")).find_map(|file| {
        let raw = std::fs::read_to_string(file).unwrap();
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or_default();
        let request = Request {
            method: "POST".to_owned(),
            path: String::new(),
            query: Vec::new(),
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: body.to_owned().into(),
            received_at: Timestamp::UNIX_EPOCH,
            peer: None,
            key: Some("key".to_owned()),
        };
        let reading = connector.parse(&request).ok()?;
        let asked = reading.asks.into_iter().map(|ask| ask.what);
        reading.happenings.into_iter().filter_map(|happening| happening.look_up).chain(asked).next()
    })
}

/// What calls are about.
struct Subject {
    whom: Option<Value>,
    /// Whom messages go to.
    to: Option<Address>,
    /// Where polls stand.
    cursor: Option<String>,
}

/// Somebody who is reached by this channel: whom the fixtures name, if they name one.
fn address(provider: &Provider, channel: Channel, sandbox: &str) -> Address {
    if let Ok(named) = std::fs::read_to_string(fixtures(provider).join("address.json")) {
        return serde_json::from_str(&named.replace("{sandbox}", sandbox)).unwrap();
    }
    match channel {
        Channel::Sms | Channel::Whatsapp => Address::Phone("+79991110001".to_owned()),
        Channel::Email => Address::Email("maria@example.com".to_owned()),
        Channel::Telegram => Address::Chat(7_000_000_001),
        Channel::Push => Address::Device("device".to_owned()),
    }
}

/// Makes one call by a port; `None` if the connector has no such port.
async fn call(port: &str, connector: &dyn Connector, client: &Client<'_>, subject: &Subject) -> Option<Result<(), CallError>> {
    const STOPPED: &str = "+79991110009";
    const HOOK: &str = "https://hub.example/hooks/con_1?key=k";
    let (phone, text) = ("+79991110001", "Спасибо");
    Some(match port {
        "send" => {
            let messages = connector.messages()?;
            let to = subject.to.as_ref().expect("an address of its channel");
            let message = Outbound { to, content: &Content::text(text), key: "key" };
            messages.send(client, message).await.map(drop)
        }
        "batch" => {
            let batches = connector.messages()?.batches()?;
            let to = subject.to.as_ref().expect("an address of its channel");
            let content = Content::text(text);
            let message = Outbound { to, content: &content, key: "key" };
            let body = batches.body(&[message, message]).expect("two messages that can be sent");
            batches.send_all(client, &body, 2, "batch").await.map(drop)
        }
        "statuses" => connector
            .messages()
            .filter(|messages| messages.can_be_asked())?
            .statuses(client, &["202647-1000001".to_owned()])
            .await
            .map(drop),
        "find" => {
            let messages = connector.messages().filter(|messages| messages.can_find())?;
            let to = subject.to.as_ref().expect("an address of its channel");
            let message = Outbound { to, content: &Content::text(text), key: "key" };
            messages.find(client, message, client.now()).await.map(drop)
        }
        "account" => connector.account()?.account(client).await.map(drop),
        "stop_list" => connector.stop_list()?.list(client).await.map(drop),
        "stop" => connector.stop_list()?.add(client, STOPPED, "note").await,
        "unstop" => connector.stop_list()?.remove(client, STOPPED).await,
        "begin_check" => connector.call_checks()?.begin(client, phone).await.map(drop),
        "call_check" => connector.call_checks()?.state(client, "202647-542").await.map(drop),
        "balance" => connector.balance()?.balance(client).await.map(drop),
        "health" => connector.health()?.health(client).await.map(drop),
        "cost" => connector.costs()?.cost(client, phone, text).await.map(drop),
        "look_up" => {
            connector.guests()?.look_up(client, subject.whom.as_ref().expect("a fixture that lacks a phone")).await.map(drop)
        }
        "poll" => {
            let polls = connector.polls()?;
            polls.poll(client, subject.cursor.as_deref(), client.now()).await.map(drop)
        }
        "check" => connector.subscription()?.check(client, HOOK).await.map(drop),
        "subscribe" => connector.subscription()?.subscribe(client, HOOK).await.map(drop),
        "probe" => connector.loyalty()?.probe(client).await,
        "club_account" => {
            let by = AccountKey::Phone("+998901234567".to_owned());
            connector.loyalty()?.account(client, &by).await.map(drop)
        }
        "accrue" => connector.loyalty()?.accrue(client, &jowi::accrual("conformance")).await.map(drop),
        "redeem" => connector.loyalty()?.redeem(client, &jowi::redemption("conformance", 10)).await.map(drop),
        "operation" => connector.loyalty()?.operation(client, &jowi::accrual("conformance").operation).await.map(drop),
        "reverse" => {
            let reversal = Reversal::of(&jowi::accrual("conformance").operation, "a test");
            connector.loyalty()?.reverse(client, &reversal).await.map(drop)
        }
        _ => unreachable!("{port}"),
    })
}

/// A fault of the stand-in, and whether the class of the outcome is right for a call that may, or must not, be repeated.
type Case = (&'static str, Value, fn(&Result<(), CallError>, bool) -> bool);

fn cases() -> Vec<Case> {
    use CallError::{Later, Lost, Refused, Unauthorized, Unreachable, Unreadable};
    let status = |status: u16| json!({ "kind": "status", "status": status, "for_ms": 600_000 });
    let kind = |kind: &str| json!({ "kind": kind, "for_ms": 600_000 });
    // What the provider says no to is the connector's to read, and never leaves the outcome open.
    let said_no: fn(&Result<(), CallError>, bool) -> bool =
        |outcome, _| matches!(outcome, Ok(()) | Err(Refused { .. } | Later { .. } | Unauthorized(_)));
    vec![
        ("nothing wrong", json!([]), |outcome, _| outcome.is_ok()),
        ("slow", json!({ "kind": "latency", "latency_ms": 200, "for_ms": 600_000 }), |outcome, _| outcome.is_ok()),
        ("too slow", json!({ "kind": "latency", "latency_ms": 4_000, "for_ms": 600_000 }), |outcome, _| {
            matches!(outcome, Err(Lost(_)))
        }),
        ("called too often", kind("rate_limit"), |outcome, _| matches!(outcome, Err(Later { .. }))),
        ("429", status(429), |outcome, _| matches!(outcome, Err(Later { .. }))),
        ("500", status(500), |outcome, repeatable| match repeatable {
            true => matches!(outcome, Err(Unreachable(_))),
            false => matches!(outcome, Err(Lost(_))),
        }),
        ("503", status(503), |outcome, _| matches!(outcome, Err(Unreachable(_)))),
        ("cut before the work", kind("cut_before"), |outcome, _| matches!(outcome, Err(Lost(_)))),
        ("cut after the work", kind("cut_after"), |outcome, _| matches!(outcome, Err(Lost(_)))),
        ("a page instead of an answer", kind("garbage"), |outcome, _| matches!(outcome, Err(Unreadable(_)))),
        ("401", status(401), |outcome, _| matches!(outcome, Err(Unauthorized(_)))),
        ("400", status(400), said_no),
        ("402", status(402), said_no),
        ("403", status(403), said_no),
        ("404", status(404), said_no),
        ("422", status(422), said_no),
        // Renewed where it can be, else the account is at fault.
        ("the token has expired", json!({ "kind": "token_expiry", "calls": 1 }), |outcome, _| {
            matches!(outcome, Ok(()) | Err(Unauthorized(_) | Refused { refusal: uzel_model::Refusal::Account, .. }))
        }),
        ("nothing wrong again", json!([]), |outcome, _| !matches!(outcome, Err(Lost(_) | Unreachable(_) | Unreadable(_)))),
    ]
}

async fn judge(provider: &Provider, hub: &Hub, sandbox: &Sandbox) -> Vec<String> {
    let (web, control) = (web(), format!("{}/_sandbox/{}/faults", sandbox.url(), provider.id));
    if web.get(&control).send().await.unwrap().status() == 404 {
        return Vec::new();
    }
    let world = hub.engine.world();
    let link = world.connection(provider.id).unwrap();
    let transport = hub.engine.transport(link, "00000000000000000000000000000001");
    let client = Client::new(&transport as &dyn Transport);
    let cursor = match link.connector.polls() {
        Some(polls) => Some(polls.poll(&client, None, client.now()).await.unwrap().next),
        None => None,
    };
    let to = link.connector.messages().map(|messages| address(provider, messages.channel(), &sandbox.url()));
    let subject = Subject { whom: looked_up(provider, &*link.connector), to, cursor };
    let (mut wrong, mut calls) = (Vec::new(), 0);
    for (what, fault, right) in cases() {
        web.put(&control).json(&json!([])).send().await.unwrap();
        for port in PORTS {
            assert!(web.put(&control).json(&fault).send().await.unwrap().status().is_success(), "{what}");
            let Some(outcome) = call(port, &*link.connector, &client, &subject).await else { continue };
            calls += 1;
            if !right(&outcome, !ONCE.contains(&port)) {
                wrong.push(format!("{} {port}, {what}: {outcome:?}", provider.id));
            }
        }
    }
    assert!(calls > 0, "{provider:?} has a stand-in, and no port that calls it");
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_the_error_is_of_the_right_class() {
    drop(web());
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(anywhere()).await.unwrap();
    let options = Settings {
        listen: anywhere(),
        data: folder.path().join("data"),
        allow_networks: vec!["127.0.0.0/8".to_owned()],
        call_timeout_ms: TIMEOUT_MS,
        ..Settings::default()
    };
    let hub = Hub::start(&options, Parts::default()).await.unwrap();
    let connections: Vec<Value> = PROVIDERS
        .iter()
        .map(|provider| {
            let settings = settings(provider, &sandbox.url());
            json!({ "merchant": "m", "slug": provider.id, "provider": provider.id, "settings": settings })
        })
        .collect();
    hub.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": connections }), Leniency::default()).await.unwrap();
    let judged = futures::future::join_all(PROVIDERS.iter().map(|provider| judge(provider, &hub, &sandbox))).await;
    let wrong: Vec<String> = judged.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    hub.stop().await.unwrap();
}
