//! A provider that takes every text after a moment, and notices what it must never see: a text twice, and two texts to one
//! guest at the same time.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::header, response::IntoResponse, routing::post};
use tokio::{net::TcpListener, task::JoinHandle};

use super::ORDERS_A_GUEST;

struct Got {
    /// By the order's number.
    times: Vec<AtomicU8>,
    /// Texts to a guest that are being taken.
    under_way: Vec<AtomicU8>,
    overlaps: AtomicU64,
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
        let got =
            Arc::new(Got { times: count(orders), under_way: count(orders / ORDERS_A_GUEST + 1), overlaps: AtomicU64::new(0) });
        let router = Router::new().route("/sms/send", post(take)).with_state(got.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, got, task })
    }

    /// How often the text of this order came.
    pub(crate) fn times(&self, order: u64) -> u8 {
        self.got.times.get(order as usize).map_or(0, |times| times.load(Ordering::Relaxed))
    }

    /// Texts that came while another one to the same guest was being taken.
    pub(crate) fn overlaps(&self) -> u64 {
        self.got.overlaps.load(Ordering::Relaxed)
    }
}

async fn take(State(got): State<Arc<Got>>, form: Bytes) -> impl IntoResponse {
    let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(&form).unwrap_or_default();
    let digits = |name: &str| -> Option<u64> {
        let value = &fields.iter().find(|(known, _)| known == name)?.1;
        value.get(value.len().checked_sub(7)?..)?.parse().ok()
    };
    if let Some(times) = digits("msg").and_then(|order| got.times.get(order as usize)) {
        times.fetch_add(1, Ordering::Relaxed);
    }
    let guest = digits("to").and_then(|guest| got.under_way.get(guest as usize));
    if guest.is_some_and(|guest| guest.fetch_add(1, Ordering::AcqRel) > 0) {
        got.overlaps.fetch_add(1, Ordering::Relaxed);
    }
    tokio::time::sleep(Duration::from_millis(3)).await;
    if let Some(guest) = guest {
        guest.fetch_sub(1, Ordering::AcqRel);
    }
    let to = fields.iter().find(|(name, _)| name == "to").map_or("", |(_, to)| to);
    let id =
        fields.iter().find(|(name, _)| name == "msg").map_or("", |(_, text)| text).replace(|c: char| !c.is_ascii_digit(), "");
    let body = format!(
        r#"{{"status":"OK","status_code":100,"sms":{{"{to}":{{"status":"OK","status_code":100,"sms_id":"000000-{id}"}}}},"balance":1}}"#
    );
    ([(header::CONTENT_TYPE, "application/json")], body)
}
