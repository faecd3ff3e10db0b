//! A provider that takes texts after a moment, puts some off, refuses others, and notices what it must never see: a text twice,
//! and two texts to one guest at the same time. It keeps in which order texts came.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use super::orders::{Order, STUCK};

/// What became of a text that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    /// To be tried again.
    PutOff,
    /// For good.
    Refused,
}

struct Got {
    /// How often each order's text was taken.
    times: Vec<AtomicU8>,
    put_off: Vec<AtomicBool>,
    /// Texts to a guest that are being taken.
    under_way: Vec<AtomicU8>,
    overlaps: AtomicU64,
    /// As they came.
    arrivals: Mutex<Vec<(Order, Answer)>>,
    /// Whether the stuck guest can be written to.
    free: AtomicBool,
}

pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    got: Arc<Got>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    pub(crate) async fn start(orders: u64) -> anyhow::Result<Self> {
        let count = |count: u64| (0..count).map(|_| AtomicU8::new(0)).collect();
        let got = Arc::new(Got {
            times: count(orders),
            put_off: (0..orders).map(|_| AtomicBool::new(false)).collect(),
            under_way: count(Order::guests(orders)),
            overlaps: AtomicU64::new(0),
            arrivals: Mutex::default(),
            free: AtomicBool::new(false),
        });
        let router = Router::new().route("/sms/send", post(take)).with_state(got.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, got, task })
    }

    /// From now on the stuck guest can be written to.
    pub(crate) fn free(&self) {
        self.got.free.store(true, Ordering::Release);
    }

    /// How often the text of this order was taken.
    pub(crate) fn times(&self, order: u64) -> u8 {
        self.got.times.get(order as usize).map_or(0, |times| times.load(Ordering::Relaxed))
    }

    /// Texts that came while another one to the same guest was being taken.
    pub(crate) fn overlaps(&self) -> u64 {
        self.got.overlaps.load(Ordering::Relaxed)
    }

    /// All that came, as it came.
    pub(crate) fn arrivals(&self) -> Vec<(Order, Answer)> {
        self.got.arrivals.lock().clone()
    }
}

impl Got {
    /// What becomes of a text that comes now.
    fn answer(&self, order: Order) -> Answer {
        let first_try = || self.put_off.get(order.0 as usize).is_some_and(|tried| !tried.swap(true, Ordering::AcqRel));
        let answer = match () {
            () if order.guest() == STUCK && !self.free.load(Ordering::Acquire) => Answer::PutOff,
            () if order.is_refused() => Answer::Refused,
            () if order.is_put_off() && first_try() => Answer::PutOff,
            () => Answer::Taken,
        };
        self.arrivals.lock().push((order, answer));
        if let (Answer::Taken, Some(times)) = (answer, self.times.get(order.0 as usize)) {
            times.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

async fn take(State(got): State<Arc<Got>>, form: Bytes) -> Response {
    let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(&form).unwrap_or_default();
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    let digits = |name: &str| -> Option<u64> {
        let value = field(name);
        value.get(value.len().checked_sub(7)?..)?.parse().ok()
    };
    let (Some(order), Some(place)) = (digits("msg").map(Order), digits("to")) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let guest = got.under_way.get(place as usize);
    if guest.is_some_and(|guest| guest.fetch_add(1, Ordering::AcqRel) > 0) {
        got.overlaps.fetch_add(1, Ordering::Relaxed);
    }
    let answer = got.answer(order);
    // In a task of its own: a node that dies hangs up, and its text would seem to be under way for ever.
    let held = got.clone();
    let taken = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(order.takes_ms())).await;
        if let Some(guest) = held.under_way.get(place as usize) {
            guest.fetch_sub(1, Ordering::AcqRel);
        }
    });
    drop(taken.await);
    let entry = match answer {
        Answer::Taken => json!({ "status": "OK", "status_code": 100, "sms_id": format!("000000-{}", order.0) }),
        Answer::Refused => json!({ "status": "ERROR", "status_code": 202 }),
        Answer::PutOff if order.guest() == STUCK => {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
        }
        Answer::PutOff => json!({ "status": "ERROR", "status_code": 220 }),
    };
    axum::Json(json!({ "status": "OK", "status_code": 100, "sms": { field("to"): entry }, "balance": 1 })).into_response()
}
