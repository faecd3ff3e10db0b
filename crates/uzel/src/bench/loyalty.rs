//! Quotes and commits as tills ask for them, beside what the machine can do at all: one durable group commit for each.
//!
//! Latencies are taken at even rates: at 70 % of what is wanted, at 70 % of the highest rate, and at one at which no queue stands.
//! Before each the hub has read all that came, and beside each the ceiling is measured at the same rate.

use std::{cell::Cell, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    Options, SHARE,
    hubs::Hubs,
    intake::{Beside, Measured, compare},
    load::{Load, Outcome, Until},
    rounded,
};

/// What is wanted (`docs/performance.md`).
const QUOTES_PER_S: f64 = 10_000.0;
const COMMITS_PER_S: f64 = 5_000.0;
/// A rate at which no queue stands: what one call costs.
const CALM_PER_S: f64 = 1_000.0;
/// Commits of one measured run: their holds are made before.
const COMMITS: u32 = 40_000;

/// Whom the calls are for.
#[derive(Clone, Copy)]
enum Merchants {
    /// All for one.
    One,
    /// The last digits of the running number say for which.
    Many(u32),
}

impl Merchants {
    fn slug(self, number: u32) -> String {
        match self {
            Self::One => "bench".to_owned(),
            Self::Many(count) => format!("bench-{:0width$}", number % count, width = digits(count)),
        }
    }

    /// In a body whose `#` are digits of the running number.
    fn pattern(self) -> String {
        match self {
            Self::One => "bench".to_owned(),
            Self::Many(count) => format!("bench-{}", "#".repeat(digits(count))),
        }
    }
}

/// Digits of the numbers below it.
fn digits(count: u32) -> usize {
    count.ilog10() as usize
}

struct Till<'a> {
    hubs: &'a Hubs,
    headers: String,
    connections: usize,
    time: Duration,
    customers: u32,
    merchants: Merchants,
    /// Begins the order numbers of each round.
    rounds: Cell<u32>,
}

pub(super) async fn run(hubs: &Hubs, options: &Options, customers: u32, merchants: u32) -> anyhow::Result<Value> {
    for (name, count) in [("--customers", customers), ("--merchants", merchants)] {
        ensure!(count >= 10 && 10_u32.pow(count.ilog10()) == count, "{name}: ten, a hundred, a thousand and so on");
    }
    hubs.apply(&setup(merchants)).await?;
    let beside = Beside::start(hubs).await?;
    let time = Duration::from_secs(options.seconds);
    let ceiling = beside.closed(options.connections, time).await?;
    let mut told =
        json!({ "store": hubs.store.word(), "nodes": hubs.count(), "connections": options.connections, "customers": customers });
    for (name, of) in [("one_merchant", Merchants::One), ("many_merchants", Merchants::Many(merchants))] {
        let till = Till {
            hubs,
            headers: format!("authorization: Bearer {}\r\n", hubs.first().key()),
            connections: options.connections,
            time,
            customers,
            merchants: of,
            rounds: Cell::new(match of {
                Merchants::One => 100,
                Merchants::Many(_) => 500,
            }),
        };
        // Everybody buys something: from then on there are points to spend.
        let holds = till.quotes(customers, "earn").await?;
        let first = till.commit(&holds, None).await?;
        let quotes = till.closed_quotes().await?;
        let holds = till.quotes(COMMITS.min(customers), "redeem").await?;
        let commits = till.commit(&holds, None).await?;
        let quote_rates = rates(quotes.outcome.per_s(), QUOTES_PER_S);
        let commit_rates = rates(commits.outcome.per_s(), COMMITS_PER_S);
        told[name] = json!({
            "first_commits": first.beside(None), "quote": quotes.beside(Some(&ceiling)), "commit": commits.beside(Some(&ceiling)),
        });
        for ((at, quotes_per_s), (_, commits_per_s)) in quote_rates.into_iter().zip(commit_rates) {
            let ceiling = beside.open(till.connections, time, quotes_per_s).await?;
            let quotes = till.open_quotes(quotes_per_s).await?;
            told[name][format!("quote_at_{at}")] = quotes.beside(Some(&ceiling));
            let ceiling = beside.open(till.connections, time, commits_per_s).await?;
            let holds = till.quotes(till.enough(commits_per_s), "redeem").await?;
            let commits = till.commit(&holds, Some(commits_per_s)).await?;
            told[name][format!("commit_at_{at}")] = commits.beside(Some(&ceiling));
        }
        hubs.first().read().await?;
    }
    told["memory_mib"] = hubs.memory_mib();
    // Of a hub that runs already its folder is not known.
    told["store_mib"] = json!(hubs.store_mib().ok());
    Ok(told)
}

/// The rates at which latencies are taken, by their names: a hub that does not reach what is wanted is measured at what it reaches.
fn rates(highest_per_s: f64, wanted_per_s: f64) -> [(&'static str, f64); 3] {
    [
        ("70_percent_of_wanted", wanted_per_s.min(highest_per_s) * SHARE),
        ("70_percent_of_highest", highest_per_s * SHARE),
        ("1000_per_s", CALM_PER_S),
    ]
}

/// What a run came to, and how long the hub's processor worked for it.
struct Ran {
    outcome: Outcome,
    hub_cpu: Option<Duration>,
}

impl Ran {
    fn beside(self, ceiling: Option<&Measured>) -> Value {
        let each = self.hub_cpu.map(|cpu| rounded(cpu.as_secs_f64() * 1e6 / self.outcome.accepted.max(1) as f64));
        let mut told = compare(ceiling, &self.outcome.into());
        told["hub"]["cpu_us_each"] = json!(each);
        told
    }
}

fn setup(merchants: u32) -> Value {
    let slugs =
        || std::iter::once("bench".to_owned()).chain((0..merchants).map(|number| Merchants::Many(merchants).slug(number)));
    json!({
        "merchant": slugs().map(|slug| json!({ "slug": slug, "name": "Bench", "language": "ru", "country": "RU" })).collect::<Vec<_>>(),
        "programme": slugs().map(|slug| json!({ "merchant": slug, "earn_bps": 500, "redeem_limit_bps": 5000 })).collect::<Vec<_>>(),
    })
}

impl Till<'_> {
    fn round(&self) -> u32 {
        self.rounds.set(self.rounds.get() + 1);
        self.rounds.get()
    }

    /// Runs a load after the hub has read all that came before.
    async fn run(&self, load: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Ran> {
        self.hubs.first().read().await?;
        let before = self.hubs.first().cpu();
        let outcome = load.await?;
        ensure!(outcome.refused == 0, "{} calls were refused", outcome.refused);
        let hub_cpu = self.hubs.first().cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Ran { outcome, hub_cpu })
    }

    async fn closed_quotes(&self) -> anyhow::Result<Ran> {
        self.run(self.quote().closed(self.connections, Until::Time(self.time))).await
    }

    async fn open_quotes(&self, per_s: f64) -> anyhow::Result<Ran> {
        self.run(self.quote().open(self.connections, self.time, per_s)).await
    }

    /// Quotes of new orders by customers in turn.
    fn quote(&self) -> Arc<Load> {
        let body = json!({
            "mode": "redeem", "merchantId": self.merchants.pattern(), "userToken": format!("C-{}", "#".repeat(digits(self.customers))), "orderId": format!("Q-{}-############", self.round()),
            "total": 10_000, "eligibleTotal": 10_000
        });
        Load::spread(self.hubs.addresses(), "/loyalty/quote", &self.headers, &body.to_string(), 0)
    }

    /// As many commits as an open loop takes.
    fn enough(&self, per_s: f64) -> u32 {
        (per_s * self.time.as_secs_f64()).ceil() as u32 + self.connections as u32
    }

    /// So many quotes, each of a customer of its own as far as there are enough: bodies of commits.
    async fn quotes(&self, count: u32, mode: &str) -> anyhow::Result<Vec<String>> {
        let round = self.round();
        let order = |number: u32| format!("C-{round}-{number}");
        let bodies: Vec<String> = (0..count)
            .map(|number| {
                let body = json!({
                    "mode": mode, "merchantId": self.merchants.slug(number), "userToken": format!("C-{:0width$}", number % self.customers, width = digits(self.customers)),
                    "orderId": order(number), "total": 10_000, "eligibleTotal": 10_000
                });
                body.to_string()
            })
            .collect();
        let load = Load::each(self.hubs.addresses(), "/loyalty/quote", &self.headers, &bodies);
        let outcome = load.closed(self.connections, Until::Count(count.into())).await?;
        ensure!(outcome.refused == 0, "{} quotes were refused", outcome.refused);
        let mut commits = Vec::with_capacity(bodies.len());
        for (number, answer) in (0_u32..).zip(load.answers()) {
            let answer: Value = serde_json::from_slice(&answer).context("a quote's answer")?;
            let hold = answer["holdId"].as_str().with_context(|| format!("a quote without a hold: {answer}"))?;
            let body = json!({ "merchantId": self.merchants.slug(number), "holdId": hold, "orderId": order(number) });
            commits.push(body.to_string());
        }
        Ok(commits)
    }

    /// Commits all of them as fast as it goes, or as long as this rate takes.
    async fn commit(&self, bodies: &[String], per_s: Option<f64>) -> anyhow::Result<Ran> {
        let load = Load::each(self.hubs.addresses(), "/loyalty/commit", &self.headers, bodies);
        match per_s {
            None => self.run(load.closed(self.connections, Until::Count(bodies.len() as u64))).await,
            Some(per_s) => self.run(load.open(self.connections, self.time, per_s)).await,
        }
    }
}
