//! The day on which a large merchant's points expire: how fast they are booked, and what quotes cost meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::{Value, json};

use super::{
    Options,
    hubs::Hubs,
    load::{Load, Outcome, Until},
    rounded,
};

/// Quotes that go on all the time.
const QUOTES_PER_S: f64 = 500.0;
/// Points are given about so much slower than customers are made.
const SLOWER: f64 = 6.0;
/// Where none was booked for so long, all are.
const QUIET: Duration = Duration::from_secs(5);

pub(super) async fn run(hubs: &Hubs, options: &Options, customers: u32) -> anyhow::Result<Value> {
    ensure!(10_u32.pow(customers.ilog10()) == customers, "--customers: ten, a hundred, a thousand and so on");
    hubs.apply(&json!({
        "merchant": [{ "slug": "bench", "name": "Bench", "language": "ru", "country": "RU" }],
        "programme": [{ "merchant": "bench" }],
    }))
    .await?;
    let head = format!("authorization: Bearer {}\r\n", hubs.first().key());
    let number = "#".repeat(customers.ilog10() as usize);
    let quote = |customer: &str, order: &str| {
        let body = json!({
            "mode": "earn", "merchantId": "bench", "userToken": customer, "orderId": order, "total": 10_000, "eligibleTotal": 10_000,
        });
        Load::spread(hubs.addresses(), "/loyalty/quote", &head, &body.to_string(), 0)
    };
    // A quote makes its customer.
    let made = all(&quote(&format!("C-{number}"), "C-############"), options, customers).await?;
    let given_within = Duration::from_secs_f64(10.0 + f64::from(customers) / made.per_s() * SLOWER);
    let (began, expires_at) = (Instant::now(), jiff::Timestamp::now() + given_within);
    let path = format!("/api/v1/merchants/bench/customers/C-{number}/adjust");
    let body = json!({ "points": 100, "reason": "bench", "expires_at": expires_at }).to_string();
    all(&Load::spread(hubs.addresses(), &path, &head, &body, 0), options, customers).await?;
    hubs.first().read().await?;
    ensure!(began.elapsed() < given_within, "the first points expired before the last were given: take fewer customers");

    // Others buy meanwhile, so that each of those points is left to the hub.
    let quotes = quote("D-####", "D-############");
    let second = Duration::from_secs(1);
    let calm = quotes.open(options.connections, Duration::from_secs(options.seconds), QUOTES_PER_S).await?;
    let before = swept(hubs).await?;
    while began.elapsed() < given_within {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut begun, mut ended, mut booked) = (None, Instant::now(), 0);
    let mut during = Outcome::default();
    let mut worst_ms: f64 = 0.0;
    while begun.is_none() || ended.elapsed() < QUIET {
        ensure!(began.elapsed() < given_within + Duration::from_secs(600), "not all was booked in ten minutes");
        let asked = quotes.open(options.connections, second, QUOTES_PER_S).await?;
        let now = swept(hubs).await? - before;
        if now > booked {
            begun = begun.or_else(|| Instant::now().checked_sub(second));
            (ended, booked) = (Instant::now(), now);
            worst_ms = worst_ms.max(asked.quantile(0.99));
            during = during.and(asked);
        }
    }
    let took = begun.map_or(0.0, |begun| ended.duration_since(begun).as_secs_f64());
    ensure!(booked == u64::from(customers), "{booked} of {customers} wallets were booked");
    ensure!(during.refused == 0, "{} quotes were refused", during.refused);
    hubs.first().read().await?;
    let figures = |of: &Outcome| json!({ "p50_ms": rounded(of.quantile(0.5)), "p99_ms": rounded(of.quantile(0.99)) });
    let mut told = json!({
        "store": hubs.store.word(), "nodes": hubs.count(), "customers": customers, "quotes_per_s": QUOTES_PER_S,
        "seconds": rounded(took), "wallets_per_s": (f64::from(customers) / took.max(0.001)).round(),
        "quotes_before": figures(&calm), "quotes_meanwhile": figures(&during), "memory_mib": hubs.memory_mib(),
    });
    told["quotes_meanwhile"]["p99_ms_of_the_worst_second"] = json!(rounded(worst_ms));
    Ok(told)
}

/// One request for each customer.
async fn all(load: &Arc<Load>, options: &Options, customers: u32) -> anyhow::Result<Outcome> {
    let outcome = load.closed(options.connections, Until::Count(customers.into())).await?;
    ensure!(outcome.refused == 0, "{} requests were refused", outcome.refused);
    Ok(outcome)
}

/// Wallets that the nodes have booked by themselves.
async fn swept(hubs: &Hubs) -> anyhow::Result<u64> {
    let mut all = 0;
    for node in hubs.nodes() {
        let metrics = node.text("/metrics").await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("uzel_loyalty_swept_total "));
        all += line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(all)
}
