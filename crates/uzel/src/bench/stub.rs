//! A provider that takes every text at once: as little of a stand-in as measuring the hub's own speed allows.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::header, response::IntoResponse, routing::post, serve::ListenerExt};
use tokio::{net::TcpListener, task::JoinHandle};

/// What it has got, by the last seven digits of the phone.
pub(crate) struct Arrivals {
    epoch: Instant,
    micros: Vec<AtomicU64>,
    times: Vec<AtomicU8>,
    all: AtomicU64,
}

impl Arrivals {
    /// How often this phone was written to.
    pub(crate) fn times(&self, phone: u64) -> u8 {
        self.times.get(phone as usize).map_or(0, |times| times.load(Ordering::Relaxed))
    }

    /// When it was first written to.
    pub(crate) fn at(&self, phone: u64) -> Option<Instant> {
        let micros = self.micros.get(phone as usize)?.load(Ordering::Relaxed);
        (micros > 0).then(|| self.epoch + Duration::from_micros(micros))
    }

    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}

pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    pub(crate) arrivals: Arc<Arrivals>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    /// Serves `/sms/send` for so many phones.
    pub(crate) async fn start(phones: usize) -> anyhow::Result<Self> {
        let arrivals = Arc::new(Arrivals {
            epoch: Instant::now(),
            micros: (0..phones).map(|_| AtomicU64::new(0)).collect(),
            times: (0..phones).map(|_| AtomicU8::new(0)).collect(),
            all: AtomicU64::new(0),
        });
        let router = Router::new().route("/sms/send", post(take)).with_state(arrivals.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, arrivals, task })
    }
}

async fn take(State(arrivals): State<Arc<Arrivals>>, form: Bytes) -> impl IntoResponse {
    let to = form.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"to="));
    let to = to.map(|to| String::from_utf8_lossy(to).into_owned()).unwrap_or_default();
    let phone = to.get(to.len().saturating_sub(7)..).and_then(|digits| digits.parse::<usize>().ok());
    if let Some((times, micros)) = phone.and_then(|phone| arrivals.times.get(phone).zip(arrivals.micros.get(phone))) {
        if times.fetch_add(1, Ordering::Relaxed) == 0 {
            micros.store(arrivals.epoch.elapsed().as_micros() as u64, Ordering::Relaxed);
        }
        arrivals.all.fetch_add(1, Ordering::Relaxed);
    }
    let body = format!(
        r#"{{"status":"OK","status_code":100,"sms":{{"{to}":{{"status":"OK","status_code":100,"sms_id":"000000-{to}"}}}},"balance":1}}"#
    );
    ([(header::CONTENT_TYPE, "application/json")], body)
}
