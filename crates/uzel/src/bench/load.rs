//! The load generator: connections that are kept open and speak as little HTTP/1.1 as will do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// More than any answer to a benchmark should need.
const ANSWER_MAX: usize = 64 * 1024;

/// Requests whose bytes are ready.
enum Requests {
    /// All the same but for the digits at some places.
    Like { bytes: Vec<u8>, places: Vec<(usize, usize)> },
    /// Each by itself.
    Each(Vec<Vec<u8>>),
}

/// Requests that are sent over and over by several connections.
pub(crate) struct Load {
    /// Connections are spread over them evenly.
    addresses: Vec<SocketAddr>,
    opened: AtomicU64,
    requests: Requests,
    next: AtomicU64,
    /// Bodies of answers by the number of their request, where they are wanted.
    answers: Option<Mutex<Vec<Vec<u8>>>>,
    /// When each request was due, in microseconds since `epoch`, by its number; what lies beyond is not noted.
    started: Vec<AtomicU64>,
    epoch: Instant,
}

/// When to stop.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After this time.
    Time(Duration),
    /// After so many requests.
    Count(u64),
}

/// What a run came to.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) elapsed: Duration,
    micros: Vec<u32>,
}

impl Load {
    /// Every run of `#` in the head or the body takes the running number. Of the first `noted` requests it is kept when they
    /// were due.
    pub(crate) fn new(address: SocketAddr, target: &str, headers: &str, body: &str, noted: usize) -> Arc<Self> {
        Self::spread(vec![address], target, headers, body, noted)
    }

    /// The same over several nodes.
    pub(crate) fn spread(addresses: Vec<SocketAddr>, target: &str, headers: &str, body: &str, noted: usize) -> Arc<Self> {
        let bytes = request(target, headers, body);
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'#') {
            match places.last_mut() {
                Some((start, width)) if *start + *width == at => *width += 1,
                _ => places.push((at, 1)),
            }
        }
        Self::of(addresses, Requests::Like { bytes, places }, None, noted)
    }

    /// Requests that each have a body of their own, sent once; the bodies of their answers are kept.
    pub(crate) fn each(addresses: Vec<SocketAddr>, target: &str, headers: &str, bodies: &[String]) -> Arc<Self> {
        let requests = bodies.iter().map(|body| request(target, headers, body)).collect();
        Self::of(addresses, Requests::Each(requests), Some(Mutex::new(vec![Vec::new(); bodies.len()])), 0)
    }

    fn of(addresses: Vec<SocketAddr>, requests: Requests, answers: Option<Mutex<Vec<Vec<u8>>>>, noted: usize) -> Arc<Self> {
        let started = (0..noted).map(|_| AtomicU64::new(0)).collect();
        let (opened, next) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { addresses, opened, requests, next, answers, started, epoch: Instant::now() })
    }

    /// The bodies of the answers, by the number of their request.
    pub(crate) fn answers(&self) -> Vec<Vec<u8>> {
        self.answers.as_ref().map(|answers| std::mem::take(&mut *answers.lock())).unwrap_or_default()
    }

    /// The next request's number, which then is taken.
    pub(crate) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next request will carry.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// When this request was due.
    pub(crate) fn started(&self, number: u64) -> Option<Instant> {
        let micros = self.started.get(number as usize)?.load(Ordering::Relaxed);
        (micros > 0).then(|| self.epoch + Duration::from_micros(micros))
    }

    /// Each connection sends its next request as soon as the last one is answered.
    pub(crate) async fn closed(self: &Arc<Self>, connections: usize, until: Until) -> anyhow::Result<Outcome> {
        self.run(connections, until, None).await
    }

    /// Requests are due at an even rate whether or not earlier ones are answered; latency counts from when one was due.
    pub(crate) async fn open(self: &Arc<Self>, connections: usize, time: Duration, per_s: f64) -> anyhow::Result<Outcome> {
        self.run(connections, Until::Time(time), Some(Duration::from_secs_f64(1.0 / per_s.max(1.0)))).await
    }

    async fn run(self: &Arc<Self>, connections: usize, until: Until, gap: Option<Duration>) -> anyhow::Result<Outcome> {
        let mut wires = Vec::new();
        for _ in 0..connections {
            wires.push(Wire::open(self).await?);
        }
        let began = Instant::now();
        let left = Arc::new(AtomicU64::new(match until {
            Until::Time(_) => u64::MAX,
            Until::Count(count) => count,
        }));
        let end = match until {
            Until::Time(time) => Some(began + time),
            Until::Count(_) => None,
        };
        let mut tasks = JoinSet::new();
        for (place, wire) in wires.into_iter().enumerate() {
            let pace = gap.map(|gap| (began + gap * place as u32, gap * connections as u32));
            tasks.spawn(wire.drive(end, left.clone(), pace));
        }
        let mut whole = Outcome::default();
        while let Some(part) = tasks.join_next().await {
            let part = part??;
            whole.accepted += part.accepted;
            whole.refused += part.refused;
            whole.micros.extend(part.micros);
        }
        whole.elapsed = began.elapsed();
        whole.micros.sort_unstable();
        Ok(whole)
    }
}

impl Outcome {
    /// Of both together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.elapsed += other.elapsed;
        self.micros.extend(other.micros);
        self.micros.sort_unstable();
        self
    }

    /// Requests that were all taken, by their microseconds.
    pub(crate) fn of(mut micros: Vec<u32>, elapsed: Duration) -> Self {
        micros.sort_unstable();
        Self { accepted: micros.len() as u64, refused: 0, elapsed, micros }
    }

    pub(crate) fn per_s(&self) -> f64 {
        self.accepted as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of the requests does not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        quantile(&self.micros, share)
    }
}

/// Of sorted microseconds, in milliseconds.
pub(crate) fn quantile(micros: &[u32], share: f64) -> f64 {
    let place = (micros.len() as f64 * share) as usize;
    micros.get(place.min(micros.len().saturating_sub(1))).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

/// One connection.
pub(crate) struct Wire {
    load: Arc<Load>,
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(load: &Arc<Load>) -> anyhow::Result<Self> {
        let turn = load.opened.fetch_add(1, Ordering::Relaxed) as usize;
        let address = load.addresses.get(turn % load.addresses.len().max(1)).context("a load has an address")?;
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let request = match &load.requests {
            Requests::Like { bytes, .. } => bytes.clone(),
            Requests::Each(_) => Vec::new(),
        };
        Ok(Self { load: load.clone(), stream, request, answer: Vec::with_capacity(4096) })
    }

    async fn drive(
        mut self,
        end: Option<Instant>,
        left: Arc<AtomicU64>,
        pace: Option<(Instant, Duration)>,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut due = pace.map(|(first, _)| first);
        loop {
            let start = due.unwrap_or_else(Instant::now);
            if end.is_some_and(|end| start >= end) {
                break;
            }
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                break;
            }
            if start > Instant::now() {
                tokio::time::sleep_until(start.into()).await;
            }
            if self.ask(start).await? {
                outcome.accepted += 1;
            } else {
                outcome.refused += 1;
            }
            outcome.micros.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
            due = due.zip(pace).map(|(due, (_, gap))| due + gap);
        }
        Ok(outcome)
    }

    /// Sends the next request; whether it was answered 2xx.
    async fn ask(&mut self, start: Instant) -> anyhow::Result<bool> {
        let number = self.load.take();
        self.send(number, start).await
    }

    /// Sends the request of this number; whether it was answered 2xx.
    pub(crate) async fn send(&mut self, number: u64, start: Instant) -> anyhow::Result<bool> {
        if let Some(started) = self.load.started.get(number as usize) {
            started.store(start.duration_since(self.load.epoch).as_micros() as u64, Ordering::Relaxed);
        }
        match &self.load.requests {
            Requests::Like { places, .. } => {
                for (start, width) in places {
                    let mut rest = number;
                    for digit in self.request[*start..start + width].iter_mut().rev() {
                        *digit = b'0' + (rest % 10) as u8;
                        rest /= 10;
                    }
                }
                self.stream.write_all(&self.request).await?;
            }
            Requests::Each(requests) => {
                let request = requests.get(number as usize).context("all requests of this load are sent")?;
                self.stream.write_all(request).await?;
            }
        }
        self.answer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the server closed a connection");
            if let Some(head) = whole(&self.answer) {
                if let Some(kept) = &self.load.answers
                    && let Some(kept) = kept.lock().get_mut(number as usize)
                {
                    *kept = self.answer[head..].to_vec();
                }
                return Ok(self.answer.get(9) == Some(&b'2'));
            }
            ensure!(self.answer.len() < ANSWER_MAX, "an answer without an end");
        }
    }
}

fn request(target: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let text = format!(
        "POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    text.into_bytes()
}

/// Where the body begins, if head and body are there.
fn whole(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let length = answer[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok())?
    });
    (answer.len() >= head + 4 + length.unwrap_or(0)).then_some(head + 4)
}
