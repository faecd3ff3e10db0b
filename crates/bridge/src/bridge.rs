//! What the bridge does with each call of a till.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::{
    metrics::Metrics,
    offline::{self, Balances, HOLD_PREFIX},
    queue::{Queue, QueueError},
    record::{Call, Kept, LocalHold},
    remote::{Ask, Came, Remote, Reply},
    sender::Rest,
    settings::Settings,
    wire::{self, Mode, Quote},
    words::Language,
};

/// All that the bridge is while it runs.
pub(crate) struct Bridge {
    pub settings: Settings,
    pub remote: Remote,
    queue: Arc<Mutex<Queue>>,
    orders: Orders,
    balances: Mutex<Balances>,
    /// Wakes the sender: there is something new, or the line is back.
    pub wake: Notify,
    /// Counts how often the sender has found nothing to do.
    pub rounds: watch::Sender<u64>,
    /// While the whole line rests after a failure.
    pub rest: Mutex<Rest>,
    pub metrics: Metrics,
    /// What whoever changes the queue must show.
    pub proof: String,
}

/// What came with a till's call, beside its body.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    pub staff_key: Option<String>,
    pub languages: Option<String>,
    pub request_id: Option<String>,
}

/// A call that must not be lost.
pub(crate) struct Delivery {
    pub call: Call,
    /// Under this key it is known here and, but for cancellations, at the hub.
    pub key: String,
    pub order: String,
    /// The hold that is committed.
    pub hold: Option<String>,
    pub body: String,
    pub caller: Caller,
}

impl Bridge {
    pub(crate) fn new(settings: Settings, queue: Queue, proof: String) -> anyhow::Result<Self> {
        let remote = Remote::new(&settings)?;
        Ok(Self {
            settings,
            remote,
            queue: Arc::new(Mutex::new(queue)),
            orders: Orders::default(),
            balances: Mutex::default(),
            wake: Notify::new(),
            rounds: watch::Sender::new(0),
            rest: Mutex::default(),
            metrics: Metrics::default(),
            proof,
        })
    }

    /// Does something with the queue where waiting for the disk holds nobody else up.
    pub(crate) async fn queue<T: Send + 'static>(&self, work: impl FnOnce(&mut Queue) -> T + Send + 'static) -> T {
        let queue = self.queue.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut queue.lock()));
        done.await.expect("what is done with the queue does not panic")
    }

    pub(crate) fn language(&self, caller: &Caller) -> Language {
        caller.languages.as_deref().and_then(Language::of).unwrap_or(self.settings.language)
    }

    fn ask<'a>(&'a self, call: &'static str, body: &'a str, key: Option<&'a str>, caller: &'a Caller) -> Ask<'a> {
        Ask {
            call,
            body,
            key,
            staff_key: caller.staff_key.as_deref(),
            language: caller.languages.as_deref().unwrap_or(self.settings.language.tag()),
            request_id: caller.request_id.as_deref(),
        }
    }

    /// The hub's answer, or one by the merchant's rule: there always is one.
    pub(crate) async fn quote(self: Arc<Self>, quote: Quote, caller: Caller) -> Reply {
        let body = wire::bytes(&quote);
        let reason = match self.remote.is_down() {
            Some(reason) => reason,
            None => match self.remote.call(&self.ask("quote", &body, None, &caller), self.settings.quote_timeout()).await {
                Came::Answer(reply) => {
                    self.line_is_up();
                    self.remember(&quote, &reply);
                    self.metrics.answered("quote", if reply.is_ok() { "passed" } else { "refused" });
                    return reply;
                }
                Came::Failed(failure) => failure.reason,
            },
        };
        let now_ms = now_ms();
        let rule = &self.settings.offline;
        let language = self.language(&caller);
        let balance = || self.balances.lock().known(&quote.user_token, rule, now_ms);
        let (mut answer, hold) = offline::answer(rule, &quote, balance(), language, &reason, now_ms);
        if let Some(hold) = hold {
            let (user, promised) = (hold.user.clone(), hold.promised);
            match self.queue(move |queue| queue.hold(hold)).await {
                Ok(()) if quote.mode == Mode::Redeem => self.balances.lock().spend(&user, promised),
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!("a quote is refused, for what it promises cannot be kept: {error}");
                    let nothing = crate::settings::Offline::default();
                    answer = offline::answer(&nothing, &quote, None, language, &error.to_string(), now_ms).0;
                }
            }
        }
        self.metrics.answered("quote", "offline");
        reply(201, &answer)
    }

    /// Keeps in mind what the hub promised, and, where the merchant's rule needs it, what it tells of the buyer.
    fn remember(self: &Arc<Self>, quote: &Quote, reply: &Reply) {
        let answer = reply.json();
        if let (Some(hold), Some(points)) = (answer["holdId"].as_str(), answer["pointsToBurn"].as_u64()) {
            self.balances.lock().holds(hold, &quote.user_token, points);
        }
        if self.settings.offline.redeem_max == 0 || quote.is_by_code() || !reply.is_ok() {
            return;
        }
        let (bridge, merchant, user) = (self.clone(), quote.merchant_id.clone(), quote.user_token.clone());
        tokio::spawn(async move {
            if let Some(points) = bridge.remote.balance(&merchant, &user, bridge.settings.commit_timeout()).await {
                bridge.balances.lock().saw(&user, points, now_ms());
            }
        });
    }

    /// A call that only the hub can answer, and that need not be kept.
    pub(crate) async fn pass(self: Arc<Self>, call: &'static str, body: String, caller: Caller) -> Reply {
        match self.remote.call(&self.ask(call, &body, None, &caller), self.settings.commit_timeout()).await {
            Came::Answer(reply) => {
                self.line_is_up();
                self.metrics.answered(call, if reply.is_ok() { "passed" } else { "refused" });
                reply
            }
            Came::Failed(failure) => {
                self.metrics.answered(call, "failed");
                failure.reply.unwrap_or_else(|| fault(503, &failure.reason, call, &caller))
            }
        }
    }

    /// The hub's answer to a call that must not be lost, or the word that it is kept.
    pub(crate) async fn deliver(self: Arc<Self>, delivery: Delivery) -> Reply {
        let reply = self.deliver_in_turn(&delivery).await;
        let result = match reply.status {
            202 => "queued",
            200..300 => "passed",
            503 => "failed",
            _ => "refused",
        };
        self.metrics.answered(delivery.call.name(), result);
        reply
    }

    async fn deliver_in_turn(&self, delivery: &Delivery) -> Reply {
        let Delivery { call, key, order, body, caller, .. } = delivery;
        let turn = tokio::time::timeout(self.settings.commit_timeout(), self.orders.turn(order)).await;
        let (own, now) = ((*call, key.clone(), order.clone(), body.clone(), delivery.hold.clone()), Found::in_queue);
        let troubled = match self.queue(move |queue| now(queue, &own)).await {
            Found::Reply(reply) => return reply,
            Found::Other => return fault(422, "this Idempotency-Key was used for another body", call.name(), caller),
            Found::NoHold => return fault(400, "Hold not found", call.name(), caller),
            Found::Sold(hold) => return self.keep(delivery, "sold without the hub", Some(*hold)).await,
            Found::Behind => return self.keep(delivery, "an earlier call of this order waits", None).await,
            Found::Troubled(id) => Some(id),
            Found::Nothing => None,
        };
        if turn.is_err() {
            return self.keep(delivery, "an earlier call of this order is under way", None).await;
        }
        if let Some(reason) = self.remote.is_down().filter(|_| troubled.is_none()) {
            return self.keep(delivery, &reason, None).await;
        }
        let sent_key = Some(key.as_str()).filter(|_| *call != Call::Cancel);
        match self.remote.call(&self.ask(call.name(), body, sent_key, caller), self.settings.commit_timeout()).await {
            Came::Answer(reply) => {
                self.line_is_up();
                if reply.is_ok() {
                    self.committed(delivery);
                    if let Some(id) = troubled {
                        // The till has done by itself what a person was asked to look at.
                        let done = self.queue(move |queue| queue.done(&id, None, now_ms())).await;
                        done.unwrap_or_else(|error| tracing::warn!("a call that is done stays in the list: {error}"));
                    }
                }
                reply
            }
            Came::Failed(failure) if troubled.is_some() => fault(503, &failure.reason, call.name(), caller),
            Came::Failed(failure) => self.keep(delivery, &failure.reason, None).await,
        }
    }

    /// Points of a commit are spent, as far as the merchant's rule is concerned.
    fn committed(&self, delivery: &Delivery) {
        if let Some(hold) = &delivery.hold {
            self.balances.lock().committed(hold);
        }
    }

    async fn keep(&self, delivery: &Delivery, reason: &str, quote: Option<LocalHold>) -> Reply {
        let kept = Kept {
            id: uuid::Uuid::now_v7().to_string(),
            call: delivery.call,
            key: delivery.key.clone(),
            order: delivery.order.clone(),
            body: delivery.body.clone(),
            staff_key: delivery.caller.staff_key.clone(),
            language: delivery.caller.languages.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms(),
            promised: delivery.hold.as_ref().and_then(|hold| self.balances.lock().promised(hold)),
            quote,
        };
        let answer = queued(&kept);
        let put = self
            .queue(move |queue| match queue.by_key(&kept.key) {
                // It came twice at once, and the other one was kept.
                Some(entry) => Ok(queued(&entry.kept)),
                None => queue.put(kept).map(|()| answer),
            })
            .await;
        match put {
            Ok(answer) => {
                self.committed(delivery);
                self.wake.notify_one();
                answer
            }
            Err(error) => {
                tracing::error!("a {} was not kept, and the till told so: {error}", delivery.call.name());
                let mut refused =
                    fault(503, &format!("{error}. Nothing was kept: repeat it"), delivery.call.name(), &delivery.caller);
                let wait = if matches!(error, QueueError::Full(_)) { "60" } else { "10" };
                refused.headers.push((RETRY_AFTER, HeaderValue::from_static(wait)));
                refused
            }
        }
    }

    /// Lets a hold go that was made here; `None` where the hub must be told.
    pub(crate) async fn cancel_here(&self, hold: &str, caller: &Caller) -> Option<Reply> {
        let own = hold.to_owned();
        let is_local = hold.starts_with(HOLD_PREFIX);
        let gone = self
            .queue(move |queue| {
                if queue.commits(&own) {
                    return Err("Hold already finished: its commit waits in the queue of the bridge".to_owned());
                }
                let Some(hold) = queue.local_hold(&own).cloned() else { return Ok(None) };
                queue.unhold(&own).map_err(|error| error.to_string())?;
                Ok(Some(hold))
            })
            .await;
        match gone {
            Err(told) => Some(fault(409, &told, "cancel", caller)),
            Ok(Some(hold)) => {
                if hold.mode == Mode::Redeem {
                    self.balances.lock().give_back(&hold.user, hold.promised);
                }
                Some(reply(201, &json!({ "ok": true })))
            }
            Ok(None) if is_local => Some(fault(400, "Hold not found", "cancel", caller)),
            Ok(None) => None,
        }
    }

    /// The turn of an order, in which nothing else of it is sent.
    pub(crate) async fn turn(&self, order: &str) -> Turn {
        self.orders.turn(order).await
    }

    /// Something was answered: what waits need not wait any longer.
    fn line_is_up(&self) {
        if self.rest.lock().end() {
            self.wake.notify_one();
        }
    }
}

/// What the queue knows of a call that a till makes.
enum Found {
    Nothing,
    /// It is kept already, or was done: the same answer as then.
    Reply(Reply),
    /// Its key is that of another call.
    Other,
    /// It commits a hold that was made here.
    Sold(Box<LocalHold>),
    NoHold,
    /// One of its order must go first.
    Behind,
    /// It waits for a person: the till tries it itself.
    Troubled(String),
}

impl Found {
    fn in_queue(queue: &mut Queue, own: &(Call, String, String, String, Option<String>)) -> Self {
        let (call, key, order, body, hold) = own;
        if let Some(told) = queue.told(key) {
            return Self::Reply(Reply { status: told.status, headers: vec![JSON], body: Bytes::from(told.body.clone()) });
        }
        if let Some(entry) = queue.by_key(key) {
            return match &entry.trouble {
                _ if entry.kept.body != *body => Self::Other,
                Some(_) if entry.kept.quote.is_none() => Self::Troubled(entry.kept.id.clone()),
                _ => Self::Reply(queued(&entry.kept)),
            };
        }
        match hold {
            Some(id) if id.starts_with(HOLD_PREFIX) => {
                return queue.local_hold(id).map_or(Self::NoHold, |hold| Self::Sold(Box::new(hold.clone())));
            }
            _ => {}
        }
        if queue.is_behind(order, *call) { Self::Behind } else { Self::Nothing }
    }
}

const JSON: (HeaderName, HeaderValue) = (CONTENT_TYPE, HeaderValue::from_static("application/json"));

fn queued(kept: &Kept) -> Reply {
    reply(202, &json!({ "queued": true, "id": kept.id, "reason": kept.reason }))
}

pub(crate) fn reply(status: u16, body: &Value) -> Reply {
    Reply { status, headers: vec![JSON], body: Bytes::from(body.to_string()) }
}

/// An error of the bridge's own, in the shape of the hub's.
pub(crate) fn fault(status: u16, message: &str, call: &str, caller: &Caller) -> Reply {
    let error = reqwest::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reply(
        status,
        &json!({
            "error": error, "message": message, "statusCode": status, "requestId": caller.request_id,
            "path": format!("/{call}"), "timestamp": crate::queue::when(now_ms()),
        }),
    )
}

pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Turns of orders: calls of one order go one after another.
#[derive(Default)]
pub(crate) struct Orders {
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// Let go, the order's next call has its turn.
pub(crate) struct Turn {
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
    order: String,
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Orders {
    async fn turn(&self, order: &str) -> Turn {
        let turn = self.turns.lock().entry(order.to_owned()).or_default().clone();
        let guard = turn.lock_owned().await;
        Turn { guard: Some(guard), order: order.to_owned(), turns: self.turns.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut turns = self.turns.lock();
        if turns.get(&self.order).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.order);
        }
    }
}
