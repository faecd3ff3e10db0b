//! A provider without a network: it reads small bodies, takes its time, loses answers, and remembers what it did.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use garde::Validate;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    CallError, Channel, Client, Connector, Happening, Malformed, Outbound, Outgoing, Person, Provider, Reading, Refusal, Request,
    Timestamp,
    connector::{Rate, Scope, StatusNews},
    event::kind,
    port::{Found, Guests, Messages, Page, Polls, Sent},
};

use crate::world::{Effect, Life, World, here};

pub(crate) const PROVIDERS: &[Provider] = &[Provider::new::<Simulated>("simulated", "Simulated")];

/// What a connector panics with on purpose: told to nobody.
pub(crate) const PANIC: &str = "simulated panic";

/// Bodies of one page of a poll.
const PAGE: usize = 4;

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Simulated {
    /// The process that this connector stands in.
    #[garde(skip)]
    life: usize,
}

impl Connector for Simulated {
    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let body = request.json()?;
        if body["panics"] == true {
            std::panic::panic_any(PANIC);
        }
        let mut reading = Reading::default();
        for event in body["events"].as_array().ok_or_else(|| Malformed::new("no events"))? {
            let (told, order) = (event["kind"].as_str().unwrap_or_default(), event["order"].as_u64().unwrap_or_default());
            let phones = event["phone"].as_str().map(|phone| json!(phone)).into_iter().collect();
            reading.happenings.push(Happening {
                key: Some(format!("{told}/{order}")),
                kind: if told == "done" { kind::ORDER_COMPLETED } else { kind::ORDER_CANCELLED },
                subject: format!("order/{order}"),
                at: None,
                person: Person { name: None, phones, emails: Vec::new() },
                refs: Vec::new(),
                data: json!({}),
                look_up: (told == "done").then(|| json!({ "order": order, "step": 0 })),
            });
        }
        Ok(reading)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn guests(&self) -> Option<&dyn Guests> {
        Some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        Some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        vec![Rate::per_second(Scope::Connection, 8)]
    }
}

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Well,
    LostDone,
    LostNotDone,
    Unreachable,
    Refused,
    OptOut,
    Later,
    PanicsDone,
    PanicsNotDone,
}

fn fate(world: &World, chance: u64) -> Fate {
    let weather = &world.weather;
    let odd = chance >> 63 == 1;
    let fates = [
        (weather.lost, if odd { Fate::LostDone } else { Fate::LostNotDone }),
        (weather.unreachable, Fate::Unreachable),
        (weather.refused, if (chance >> 60) & 3 == 0 { Fate::OptOut } else { Fate::Refused }),
        (weather.later, Fate::Later),
        (weather.panics, if odd { Fate::PanicsDone } else { Fate::PanicsNotDone }),
    ];
    if world.is_calm() {
        return Fate::Well;
    }
    if world.is_down(&world.provider_down) {
        return Fate::Unreachable;
    }
    let mut sum = 0;
    let falls = fates.into_iter().find(|(share, _)| {
        sum += share;
        chance % 1_000 < sum
    });
    falls.map_or(Fate::Well, |(_, fate)| fate)
}

impl Simulated {
    /// Goes through the hub's own client, so that limits are kept and the attempt is journalled; its address leads nowhere.
    async fn begin(&self, client: &Client<'_>, what: &'static str) -> Result<(Arc<World>, Arc<Life>, Fate), CallError> {
        let world = here();
        let life = world.life(self.life);
        life.running().await;
        match client.send(Outgoing::new("POST", "http://127.0.0.1/")).await {
            Err(CallError::Unreachable(why)) if why.contains("address is private") => {}
            Err(error) => return Err(error),
            Ok(_) => panic!("nothing answers there"),
        }
        life.running().await;
        let chance = world.chance(life.number, what);
        // Most calls are short, a few take nearly all of their time. What happens to the caller meanwhile stops no request.
        let longest = if (chance >> 12).is_multiple_of(20) { 2_500 } else { 300 };
        tokio::time::sleep(Duration::from_millis((chance >> 20) % longest)).await;
        let fate = match fate(&world, chance) {
            // Only who is written to can want no more of it.
            Fate::OptOut if what != "send" => Fate::Refused,
            fate => fate,
        };
        Ok((world, life, fate))
    }

    /// What the caller hears, if it still lives.
    async fn answer<T>(client: &Client<'_>, world: &World, life: &Life, fate: Fate, well: T) -> Result<T, CallError> {
        let chance = world.chance(life.number, "answer");
        tokio::time::sleep(Duration::from_millis(chance % 100)).await;
        life.running().await;
        match fate {
            Fate::Well => Ok(well),
            Fate::LostDone | Fate::LostNotDone => Err(CallError::Lost("simulated: no answer".to_owned())),
            Fate::Unreachable => Err(CallError::Unreachable("simulated: not there".to_owned())),
            Fate::Refused => Err(CallError::refused(Refusal::Command, "no", "simulated: refused")),
            Fate::OptOut => Err(CallError::refused(Refusal::OptOut, "stop", "simulated: wants none")),
            Fate::Later => {
                let at = client.now() + SignedDuration::from_millis(200 + (chance >> 10) as i64 % 4_000);
                Err(CallError::Later { reason: "simulated: later".to_owned(), at: Some(at) })
            }
            Fate::PanicsDone | Fate::PanicsNotDone => std::panic::panic_any(PANIC),
        }
    }
}

#[async_trait]
impl Messages for Simulated {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        let (phone, text, key) = (message.phone()?, &message.content.text, message.key);
        let (world, life, fate) = self.begin(client, "send").await?;
        if matches!(fate, Fate::Well | Fate::LostDone | Fate::PanicsDone) {
            let mut ledger = world.ledger.lock();
            let place = ledger.place();
            let command = key.parse().unwrap();
            ledger.effects.push(Effect { command, phone: phone.to_owned(), text: text.clone(), place });
            world.note(|| format!("provider: {key} is sent to {phone}: {text}"));
        }
        Self::answer(client, &world, &life, fate, Sent::new(format!("p-{key}"))).await
    }

    fn can_be_asked(&self) -> bool {
        true
    }

    async fn statuses(&self, client: &Client<'_>, ids: &[String]) -> Result<Vec<StatusNews>, CallError> {
        let (world, life, fate) = self.begin(client, "statuses").await?;
        let status = |id: &String| StatusNews::new(id, world.delivery(id), "told");
        Self::answer(client, &world, &life, fate, ids.iter().map(status).collect()).await
    }
}

#[async_trait]
impl Guests for Simulated {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let (world, life, fate) = self.begin(client, "look_up").await?;
        let order = what["order"].as_u64().unwrap();
        let phone = world.phones.lock().get(&order).cloned().flatten();
        let found = match phone {
            _ if order.is_multiple_of(3) && what["step"] == 0 => Found::Next(json!({ "order": order, "step": 1 })),
            Some(phone) => Found::Person(Person { name: None, phones: vec![json!(phone)], emails: Vec::new() }),
            None => Found::Nobody("simulated: nobody".to_owned()),
        };
        Self::answer(client, &world, &life, fate, found).await
    }
}

#[async_trait]
impl Polls for Simulated {
    fn every_s(&self) -> u32 {
        10
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, _: Timestamp) -> Result<Page, CallError> {
        let (world, life, fate) = self.begin(client, "poll").await?;
        let told = world.told.lock().clone();
        let page = match cursor.map(|cursor| cursor.parse::<usize>().unwrap()) {
            None => Page { next: "0".to_owned(), ..Page::default() },
            Some(from) => {
                let to = told.len().min(from + PAGE);
                let bodies = told[from..to].iter().map(|body| body.clone().into()).collect();
                Page { bodies, next: to.to_string(), more: to < told.len() }
            }
        };
        Self::answer(client, &world, &life, fate, page).await
    }
}
