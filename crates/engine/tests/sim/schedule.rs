//! One random schedule: what comes in when and where, what breaks meanwhile, and the wait until all is quiet.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};
use uzel_engine::{Clock, Engine, Master, Options, Vault};
use uzel_model::{Id, Request, Response, Secret, id::Kind};
use uzel_store::{CommandState, EntryState, Setup, SetupRow, Store};

use crate::{
    provider::PROVIDERS,
    store::NodeStore,
    world::{Life, Runs, Weather, World, next, start},
};

pub(crate) const FLOWS: [&str; 4] = ["now", "later", "once", "chain"];
const HOUR: u64 = 3_600_000;

pub(crate) fn flow_id(name: &str) -> Id {
    let place = FLOWS.iter().position(|flow| *flow == name).unwrap();
    Id::from_bytes(Kind::Flow, [place as u8 + 10; 16])
}

fn till() -> Id {
    Id::from_bytes(Kind::Connection, [2; 16])
}

/// Chance of the schedule itself.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        next(&mut self.0) % limit.max(1)
    }

    fn of_1000(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    /// How far a machine's clock is off.
    fn skew_ms(&mut self) -> i64 {
        if self.of_1000(500) { 0 } else { self.below(600_000) as i64 - 300_000 }
    }

    fn weather(&mut self) -> Weather {
        match self.below(4) {
            0 => Weather::default(),
            1 => Weather { slow: 300, lost: 40, unreachable: 100, refused: 40, later: 60, panics: 15, ..Weather::default() },
            2 => Weather { slow: 200, fails: 60, fails_after: 40 * self.below(2), ..Weather::default() },
            _ => {
                Weather { slow: 400, fails: 40, fails_after: 30, lost: 40, unreachable: 150, refused: 30, later: 60, panics: 10 }
            }
        }
    }
}

struct Webhook {
    at_ms: u64,
    body: String,
    keys: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Blow {
    Kill,
    Stop,
    Freeze,
}

/// A node: its process of the moment, and the hub in it once that has started.
type Node = Mutex<(Arc<Life>, Option<Arc<Engine>>)>;

fn webhooks(dice: &mut Dice, world: &World, span_ms: u64) -> Vec<Webhook> {
    let (orders, phones) = (dice.between(10, 30), dice.between(2, 9));
    let mut happens = Vec::new();
    for order in 1..=orders {
        let phone = (!dice.of_1000(100)).then(|| format!("+7999000{:04}", dice.below(phones)));
        world.phones.lock().insert(order, phone.clone());
        let told = phone.filter(|_| !dice.of_1000(250));
        let event = json!({ "kind": "done", "order": order, "phone": told });
        let at = dice.below(span_ms);
        happens.push((at, "done", order, event.clone()));
        for _ in 0..dice.below(4) / 2 {
            happens.push((dice.between(at, span_ms + 1), "done", order, event.clone()));
        }
        if dice.of_1000(300) {
            happens.push((dice.below(span_ms), "cancel", order, json!({ "kind": "cancel", "order": order })));
        }
    }
    happens.sort_by_key(|(at, ..)| *at);
    let mut webhooks = Vec::new();
    while !happens.is_empty() {
        let count = if dice.of_1000(150) { dice.between(2, 4) as usize } else { 1 };
        let of_one: Vec<_> = happens.drain(..count.min(happens.len())).collect();
        let keys = of_one.iter().map(|(_, kind, order, _)| format!("{kind}/{order}")).collect();
        let events: Vec<_> = of_one.iter().map(|(.., event)| event).collect();
        webhooks.push(Webhook { at_ms: of_one[0].0, body: json!({ "events": events }).to_string(), keys });
    }
    for body in ["no json", "{\"panics\":true}"] {
        if dice.of_1000(200) {
            webhooks.push(Webhook { at_ms: dice.below(span_ms), body: body.to_owned(), keys: Vec::new() });
        }
    }
    webhooks
}

fn setup(poll: bool) -> Setup {
    let merchant = Id::from_bytes(Kind::Merchant, [1; 16]);
    let row = |id: Id, slug: &str, doc| SetupRow {
        id,
        merchant: (id != merchant).then_some(merchant),
        slug: slug.to_owned(),
        doc,
        sealed: None,
        version: 0,
    };
    let link =
        |poll: bool| json!({ "provider": "simulated", "outlet": null, "settings": { "life": 0 }, "paused": false, "poll": poll });
    let flow = |name: &str| {
        let via = if name == "chain" { json!(["sms", "other"]) } else { json!("sms") };
        json!({ "on": ["order.completed"], "ground": "service", "ground_by": "s", "via": via, "undelivered_after": "5m",
            "delay": if name == "later" { "15s" } else { "0s" }, "once_in_days": u8::from(name == "once"),
            "text": format!("{name} {{{{ event.subject }}}}") })
    };
    let mut rows = vec![
        row(merchant, "m", json!({ "name": "M", "language": "ru", "country": "RU" })),
        row(till(), "till", link(poll)),
        row(Id::from_bytes(Kind::Connection, [3; 16]), "sms", link(false)),
        row(Id::from_bytes(Kind::Connection, [4; 16]), "other", link(false)),
    ];
    rows.extend(FLOWS.map(|name| row(flow_id(name), name, flow(name))));
    Setup { rows, ..Setup::default() }
}

/// Starts a node's process, over and over until the store lets it.
async fn boot(world: Arc<World>, node: Arc<Node>, life: Arc<Life>, skew_ms: i64) {
    let options = Options { call_timeout: Duration::from_secs(3), lease_margin: Duration::from_secs(5), ..Options::default() };
    let master = Master::new(&Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")).unwrap();
    loop {
        let store = Arc::new(NodeStore::new(&world, &life));
        let now = start() + SignedDuration::try_from(world.began.elapsed()).unwrap() + SignedDuration::from_millis(skew_ms);
        let clock = Clock::simulated(now, world.seed ^ life.number as u64);
        if let Ok(vault) = Vault::of(store.as_ref(), &master).await
            && let Ok(engine) = Engine::open(store.clone(), PROVIDERS, vault, clock, options.clone()).await
            && engine.start().await.is_ok()
        {
            world.note(|| format!("life {} of node {} has started, its clock is off by {skew_ms} ms", life.number, life.node));
            node.lock().1 = Some(engine);
            return store.looks().await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A provider's server: it tells its webhook again and again until some node says "ok".
async fn tell(world: Arc<World>, nodes: Vec<Arc<Node>>, webhook: Webhook, mut dice: Dice) {
    tokio::time::sleep(Duration::from_millis(webhook.at_ms)).await;
    if !webhook.keys.is_empty() {
        world.told.lock().push(webhook.body.clone());
    }
    for _ in 0..40 {
        let (life, engine) = nodes[dice.below(nodes.len() as u64) as usize].lock().clone();
        if let Some(engine) = engine.filter(|_| life.runs() != Runs::Dead) {
            let link = engine.world().links[&till()].clone();
            let request = Request {
                method: "POST".to_owned(),
                path: String::new(),
                query: Vec::new(),
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: webhook.body.clone().into(),
                received_at: engine.clock.now(),
                peer: None,
                key: None,
            };
            let answer = Response::ok();
            let accepted = timeout(Duration::from_secs(4), engine.accept(&link, request, &answer, "t".to_owned())).await;
            if let Ok(Ok(id)) = accepted {
                world.note(|| format!("{id} is answered ok by life {}: {}", life.number, webhook.body));
                return world.ledger.lock().accepted.push((id, webhook.keys));
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.between(300, 3_000))).await;
    }
}

async fn strike(world: Arc<World>, node: Arc<Node>, blow: Blow, at_ms: u64, for_ms: u64, skew_ms: i64) {
    tokio::time::sleep(Duration::from_millis(at_ms)).await;
    let (life, engine) = node.lock().clone();
    // Another blow is under way.
    if life.runs() != Runs::Yes {
        return;
    }
    world.note(|| format!("life {}: {blow:?} for {for_ms} ms", life.number));
    match blow {
        Blow::Kill => life.becomes(Runs::Dead),
        Blow::Stop => stop(&world, &life, engine).await,
        Blow::Freeze => life.becomes(Runs::Frozen),
    }
    tokio::time::sleep(Duration::from_millis(for_ms)).await;
    life.becomes(Runs::Yes);
    if life.runs() == Runs::Dead && node.lock().0.number == life.number {
        let born = world.born(life.node);
        *node.lock() = (born.clone(), None);
        tokio::spawn(boot(world.clone(), node.clone(), born, skew_ms));
    }
    world.note(|| format!("life {}: {blow:?} is over", life.number));
}

async fn stop(world: &World, life: &Life, engine: Option<Arc<Engine>>) {
    if let Some(engine) = engine
        && timeout(Duration::from_secs(300), engine.stop()).await.is_err()
        && life.runs() == Runs::Yes
    {
        world.ledger.lock().broken.push(format!("life {} was asked to stop and never did", life.number));
    }
    life.becomes(Runs::Dead);
}

/// Whether nothing waits any more.
async fn is_quiet(world: &World, poll: bool) -> bool {
    let polled = world.store.cursor(till()).await.unwrap().and_then(|cursor| cursor.parse().ok()).unwrap_or(0_usize);
    let counts = world.store.counts().await.unwrap();
    (!poll || polled == world.told.lock().len())
        && counts.entries.iter().all(|(state, _)| *state != EntryState::Unread)
        && counts.commands.iter().all(|(state, _)| !matches!(state, CommandState::Waiting | CommandState::Sending))
}

/// Runs the schedule of a seed until all is quiet.
pub(crate) async fn run(seed: u64, trace: bool) -> Arc<World> {
    let mut dice = Dice(seed);
    let world = World::new(seed, dice.weather(), trace);
    let (count, span_ms, poll) = (dice.between(1, 4), dice.between(3_000, 20_000), dice.of_1000(330));
    world.store.put_setup(setup(poll)).await.unwrap();
    for spans in [&world.store_down, &world.provider_down] {
        let from = dice.below(span_ms);
        let lasts = if dice.of_1000(8) { HOUR } else { dice.below(15_000) };
        if dice.of_1000(250) {
            spans.lock().push((Duration::from_millis(from), Duration::from_millis(from + lasts)));
        }
    }
    let nodes: Vec<Arc<Node>> = (0..count).map(|node| Arc::new(Mutex::new((world.born(node as usize), None)))).collect();
    for node in &nodes {
        let life = node.lock().0.clone();
        tokio::spawn(boot(world.clone(), node.clone(), life, dice.skew_ms()));
    }
    let mut tasks = JoinSet::new();
    for webhook in webhooks(&mut dice, &world, span_ms) {
        let own = Dice(next(&mut dice.0));
        tasks.spawn(tell(world.clone(), nodes.clone(), webhook, own));
    }
    let blows = dice.below(5);
    world.must_know.store(world.is_kind() && blows == 0, Ordering::Relaxed);
    for _ in 0..blows {
        let node = nodes[dice.below(count) as usize].clone();
        let blow = [Blow::Kill, Blow::Stop, Blow::Freeze, Blow::Freeze][dice.below(4) as usize];
        let (at, lasts) = (dice.below(span_ms + 5_000), dice.between(100, 14_000));
        tasks.spawn(strike(world.clone(), node, blow, at, lasts, dice.skew_ms()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    world.calms();
    let deadline = world.began.elapsed() + Duration::from_millis(3 * HOUR);
    while !is_quiet(&world, poll).await {
        if world.began.elapsed() > deadline {
            world.ledger.lock().broken.push("something waits for ever".to_owned());
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // What a poll brings while the nodes stop is read when they start again.
    let brought = world.ledger.lock().appended.len();
    world.quiet_after.store(brought, Ordering::Relaxed);
    for node in &nodes {
        let (life, engine) = node.lock().clone();
        stop(&world, &life, engine).await;
    }
    world
}
