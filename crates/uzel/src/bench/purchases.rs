//! Nodes are killed at random moments while tills sell; then every customer's points are worked out from what the tills were
//! answered, and compared with what the hub says.
//!
//! A till does what tills do: it asks again, in the same words, until it gets an answer.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{hubs::Hubs, rounded};

const CUSTOMERS: u64 = 50;
const TILLS: u64 = 32;
/// Every so many orders one is refunded, in two parts.
const REFUNDED: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(120);

/// What tills were told, by customer.
#[derive(Default)]
struct Told {
    points: HashMap<u64, i64>,
    commits: u64,
    /// Calls that had to be made again.
    repeats: u64,
}

struct Till {
    web: reqwest::Client,
    addresses: Vec<SocketAddr>,
    key: String,
    told: Told,
}

pub(super) async fn run(mut hubs: Hubs, kills: u32, orders: u64, seed: u64) -> anyhow::Result<Value> {
    ensure!((1..=1_000_000).contains(&orders), "--orders: from 1 to a million");
    let mut random = StdRng::seed_from_u64(seed);
    let setup = json!({
        "merchant": [{ "slug": "bench", "name": "Bench", "language": "ru", "country": "RU" }],
        "programme": [{ "merchant": "bench", "earn_bps": 1000, "redeem_limit_bps": 5000 }],
    });
    hubs.apply(&setup).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut tills = JoinSet::new();
    for _ in 0..TILLS {
        let till = Till {
            web: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
            addresses: hubs.addresses(),
            key: hubs.first().key().to_owned(),
            told: Told::default(),
        };
        tills.spawn(till.sell(next.clone(), orders));
    }
    let progress = ProgressBar::new(u64::from(kills));
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} kills, {msg}").context("the bar's own template")?);
    let began = Instant::now();
    for kill in 0..u64::from(kills) {
        let share = orders * (kill + 1) / (u64::from(kills) + 1);
        while next.load(Ordering::Relaxed) < share {
            ensure!(began.elapsed() < PATIENCE * 10, "the tills stand still");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..50))).await;
        let node = random.random_range(0..hubs.count());
        let node = hubs.node_mut(node).context("there is such a node")?;
        node.kill()?;
        node.answers().await?;
        progress.set_message(format!("{} orders", next.load(Ordering::Relaxed)));
        progress.inc(1);
    }
    let mut whole = Told::default();
    while let Some(told) = tills.join_next().await {
        let told = told??;
        for (customer, points) in told.points {
            *whole.points.entry(customer).or_default() += points;
        }
        whole.commits += told.commits;
        whole.repeats += told.repeats;
    }
    progress.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let hub = hubs.first();
    hub.read().await?;
    for (customer, points) in &whole.points {
        let answer = hub.get(&format!("/loyalty/balance/bench/{}", name(*customer))).await?;
        ensure!(
            answer["balance"] == json!(points),
            "the tills were told of {points} points of customer {customer}, the hub says {answer}"
        );
    }
    let found = hub.post("/api/v1/fsck", &json!({})).await?;
    ensure!(found["found"] == json!([]), "fsck finds: {found}");
    Ok(json!({
        "store": hubs.store.word(), "nodes": hubs.count(), "seed": seed, "kills": kills, "seconds": rounded(seconds),
        "orders": orders, "commits": whole.commits, "calls_made_again": whole.repeats,
        "points": whole.points.values().sum::<i64>(), "points_lost_or_made": 0, "fsck": "clean",
    }))
}

fn name(customer: u64) -> String {
    format!("C-{customer}")
}

impl Till {
    async fn sell(mut self, next: Arc<AtomicU64>, orders: u64) -> anyhow::Result<Told> {
        loop {
            let order = next.fetch_add(1, Ordering::Relaxed);
            if order >= orders {
                return Ok(self.told);
            }
            let customer = order % CUSTOMERS;
            for mode in ["redeem", "earn"] {
                let points = self.purchase(order, customer, mode).await?;
                *self.told.points.entry(customer).or_default() += points;
            }
            if order.is_multiple_of(REFUNDED) {
                for part in 1..=2 {
                    let body = json!({ "merchantId": "bench", "orderId": format!("O-{order}"), "refundTotal": 333 });
                    let answer = self.ask("/loyalty/refund", &body, Some(&format!("refund-{order}-{part}"))).await?;
                    let points = number(&answer, "pointsRestored")? - number(&answer, "pointsRevoked")?;
                    *self.told.points.entry(customer).or_default() += points;
                }
            }
        }
    }

    /// A quote and its commit; what it did to the customer's points.
    async fn purchase(&mut self, order: u64, customer: u64, mode: &str) -> anyhow::Result<i64> {
        let quote = json!({
            "mode": mode, "merchantId": "bench", "userToken": name(customer), "orderId": format!("O-{order}"), "total": 1000,
            "eligibleTotal": 1000
        });
        let quoted = self.ask("/loyalty/quote", &quote, None).await?;
        // A refusal, or nothing to spend: the sale goes on without.
        let Some(hold) = quoted["holdId"].as_str() else { return Ok(0) };
        let commit = json!({ "merchantId": "bench", "holdId": hold, "orderId": format!("O-{order}") });
        let answer = self.ask("/loyalty/commit", &commit, Some(&format!("{mode}-{order}"))).await?;
        self.told.commits += 1;
        Ok(match mode {
            "earn" => number(&answer, "earnApplied")?,
            _ => -number(&answer, "redeemApplied")?,
        })
    }

    /// Asks until it is answered.
    async fn ask(&mut self, path: &str, body: &Value, key: Option<&str>) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut turn = 0;
        loop {
            let address = self.addresses.get(turn % self.addresses.len().max(1)).context("there is a node")?;
            let mut request = self.web.post(format!("http://{address}{path}")).bearer_auth(&self.key).json(body);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            if let Ok(answer) = request.send().await {
                match (answer.status(), answer.json::<Value>().await) {
                    (StatusCode::CREATED, Ok(body)) => return Ok(body),
                    (status, Ok(body)) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                        bail!("{path} {body}: {status}")
                    }
                    _ => {}
                }
            }
            ensure!(Instant::now() < deadline, "{path} is not answered: {body}");
            self.told.repeats += 1;
            turn += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn number(answer: &Value, field: &str) -> anyhow::Result<i64> {
    answer[field].as_i64().with_context(|| format!("no {field} in {answer}"))
}
