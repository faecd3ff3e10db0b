//! The load: every order is posted evenly over the time, to one node after another until one takes it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::json;
use tokio::task::JoinSet;

use super::orders::{Order, phone};
use crate::bench::{
    KEY,
    load::{Load, Wire},
};

const CONNECTIONS: usize = 24;
/// After so long without an answer the next node is asked.
const PATIENCE: Duration = Duration::from_secs(3);
const TRIES_FOR: Duration = Duration::from_secs(120);

/// What the load came to so far.
pub(crate) struct Posted {
    /// Orders that were answered 2xx, and those whose cancellation was.
    pub(crate) accepted: Vec<AtomicBool>,
    pub(crate) cancelled: Vec<AtomicBool>,
    next: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) began: Instant,
    /// When a request was last answered 2xx, and the longest time without one, in milliseconds.
    last_ms: AtomicU64,
    silence_ms: AtomicU64,
}

impl Posted {
    pub(crate) fn new(orders: u64) -> Arc<Self> {
        let none = || (0..orders).map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self {
            accepted: none(),
            cancelled: none(),
            next: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            silence_ms: AtomicU64::new(0),
        })
    }

    /// How many orders have been taken up by the load.
    pub(crate) fn taken_up(&self) -> u64 {
        self.next.load(Ordering::Relaxed).min(self.accepted.len() as u64)
    }

    /// The longest time without a 2xx.
    pub(crate) fn silence_s(&self) -> f64 {
        self.silence_ms.load(Ordering::Relaxed) as f64 / 1_000.0
    }

    fn answered(&self) {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let last_ms = self.last_ms.swap(now_ms, Ordering::Relaxed);
        self.silence_ms.fetch_max(now_ms.saturating_sub(last_ms), Ordering::Relaxed);
    }
}

/// Ends when every order has been taken, and the cancellations of those that are cancelled.
pub(crate) fn post_all(addresses: &[SocketAddr], posted: &Arc<Posted>, time: Duration) -> JoinSet<anyhow::Result<()>> {
    let addresses: Arc<[SocketAddr]> = addresses.into();
    let mut posters = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (addresses, posted) = (addresses.clone(), posted.clone());
        posters.spawn(async move {
            loop {
                let number = posted.next.fetch_add(1, Ordering::Relaxed);
                let Some(accepted) = posted.accepted.get(number as usize) else { return Ok(()) };
                let due = posted.began + time.mul_f64(number as f64 / posted.accepted.len() as f64);
                tokio::time::sleep_until(due.into()).await;
                let order = Order(number);
                post(&addresses, &posted, order, "Completed").await?;
                accepted.store(true, Ordering::Relaxed);
                if order.is_cancelled() {
                    post(&addresses, &posted, order, "Cancelled").await?;
                    posted.cancelled[number as usize].store(true, Ordering::Relaxed);
                }
            }
        });
    }
    posters
}

async fn post(addresses: &[SocketAddr], posted: &Posted, order: Order, status: &str) -> anyhow::Result<()> {
    let body = json!({
        "order": {
            "id": "#######", "status": status, "customer": { "name": "Guest", "phone": phone(order.guest()) },
            "restaurantName": if order.waits() { "later" } else { "now" }, "comment": "x".repeat(300)
        }
    });
    let deadline = Instant::now() + TRIES_FOR;
    let target = format!("/api/webhook/rkeeper?key={KEY}");
    for address in addresses.iter().cycle().skip(order.0 as usize % addresses.len()) {
        let load = Load::new(*address, &target, "", &body.to_string(), 0);
        let asked = async {
            let mut wire = Wire::open(&load).await?;
            wire.send(order.0, Instant::now()).await
        };
        if let Ok(Ok(true)) = tokio::time::timeout(PATIENCE, asked).await {
            posted.answered();
            break;
        }
        posted.refused.fetch_add(1, Ordering::Relaxed);
        ensure!(Instant::now() < deadline, "order {} was taken by no node in {TRIES_FOR:?}", order.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
