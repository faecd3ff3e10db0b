//! A journal of many months: how long a start takes with it, what people wait for when they look for something, and what
//! accepting costs while retention takes its oldest part away.

mod past;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
pub(super) use table::table;
use uzel_store::{Generator, Past, PostgresOptions};

use self::past::{NUMBER, Span, Template};
use super::{
    KEY, Options, backlog,
    driven::Driven,
    hubs::{self, Hubs, On},
    load::{Load, Until, Wire, quantile},
    rounded,
    stub::Stub,
};

/// Weeks that the journal tells of.
const WEEKS: i64 = 16;
/// Weeks that retention is to take: in the first run on a journal, more in each later one, and in all.
const PURGED: i64 = 4;
const PURGED_MORE: i64 = 2;
const PURGED_MAX: i64 = 8;
/// Entries that are made and written in one go.
const PORTION: u64 = 20_000;
const STARTS: usize = 5;
const LOOK_UPS: usize = 500;
const PAGES: usize = 200;
/// Accepting beside retention is measured at this share of the rate of the closed loop.
const HALF: f64 = 0.5;

/// What is known of a journal that is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    store: String,
    rows: u64,
    from: Timestamp,
    to: Timestamp,
    /// How often retention was let loose on it.
    purges: i64,
}

pub(super) async fn run(on: &On, options: &Options, rows: u64, keep: Option<PathBuf>) -> anyhow::Result<Value> {
    ensure!((20_000..=50_000_000).contains(&rows), "--rows: from twenty thousand to fifty million");
    ensure!(on.nodes == 1, "--nodes: the journal is looked at through one hub");
    let note = keep.as_ref().map(|folder| folder.join("generated.json"));
    let known = note.as_deref().filter(|note| note.exists()).map(read).transpose()?;
    if let (None, Some(folder)) = (&known, &keep) {
        let empty = fs::read_dir(folder).map_or(true, |mut files| files.next().is_none());
        ensure!(empty, "--keep: {} is neither empty nor a journal that was generated to its end", folder.display());
    }
    if let Some(known) = &known {
        ensure!(known.store == on.store.word(), "--keep: the journal there is of --store {}", known.store);
        ensure!(known.rows == rows, "--keep: the journal there has --rows {}", known.rows);
        ensure!(
            PURGED + PURGED_MORE * known.purges <= PURGED_MAX,
            "--keep: too much of the journal there is gone: generate another"
        );
    }
    let stub = Stub::start(0).await?;
    let mut hubs = Hubs::start_in(on, keep).await?;
    set_up(hubs.first(), &stub).await?;
    let mut generated_s = None;
    let mut kept = match known {
        Some(known) => known,
        None => {
            let began = Instant::now();
            let to = Timestamp::now() - SignedDuration::from_mins(1);
            let span = Span { rows, from: to - SignedDuration::from_hours(24 * 7 * WEEKS), to };
            generate(&mut hubs, span).await?;
            generated_s = Some(began.elapsed().as_secs_f64().round());
            Kept { store: on.store.word().to_owned(), rows, from: span.from, to, purges: 0 }
        }
    };
    let span = Span { rows, from: kept.from, to: kept.to };
    let purged_weeks = PURGED + PURGED_MORE * kept.purges;
    kept.purges += 1;
    if let Some(note) = &note {
        fs::write(note, serde_json::to_string(&kept)?)?;
    }
    let mut told = measure(&mut hubs, options, span, purged_weeks).await?;
    told["rows"] = json!(rows);
    told["generated_s"] = json!(generated_s);
    hubs.first_mut().stop()?;
    Ok(told)
}

fn read(note: &Path) -> anyhow::Result<Kept> {
    serde_json::from_str(&fs::read_to_string(note)?).with_context(|| format!("{}", note.display()))
}

/// The setup of deliveries, and a merchant that is seldom heard of.
async fn set_up(hub: &Driven, stub: &Stub) -> anyhow::Result<()> {
    hub.apply(&super::delivery_setup(stub, "0s")).await?;
    let seldom = json!({
        "merchant": [{ "slug": "seldom", "name": "Seldom", "language": "ru", "country": "RU" }],
        "outlet": [{ "merchant": "seldom", "slug": "outlet", "name": "Outlet", "zone": "Europe/Moscow" }],
        "connection": [{ "merchant": "seldom", "outlet": "outlet", "slug": "rkeeper", "provider": "rkeeper", "settings": {} }]
    });
    hub.apply(&seldom).await
}

/// Lets the hub take one entry, ends it, and writes all the others as if it had taken them.
async fn generate(hubs: &mut Hubs, span: Span) -> anyhow::Result<()> {
    let hub = hubs.first();
    let number = format!("{NUMBER:012}");
    let body = past::order(&number, &number[5..]);
    let load = Load::new(hub.address, &format!("/api/webhook/rkeeper?key={KEY}"), "", &body, 0);
    ensure!(Wire::open(&load).await?.send(0, Instant::now()).await?, "the first entry was refused");
    hub.quiet().await?;
    let template = Template::read(hub, span).await?;
    let database = hub.data()?.join("uzel.db");
    hubs.first_mut().stop()?;

    let mut generator = match &hubs.database {
        Some(database) => Generator::postgres(PostgresOptions::new(&database.url), span.from, span.to).await?,
        None => Generator::sqlite(&database)?,
    };
    let progress = ProgressBar::new(span.rows);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {per_sec}, {eta} left{msg}");
    progress.set_style(style.context("the bar's own template")?);
    // While one portion is written the next is made.
    let (made, portions) = mpsc::sync_channel::<anyhow::Result<Vec<Past>>>(2);
    thread::Builder::new().name("past".to_owned()).spawn(move || {
        for first in (0..span.rows).step_by(PORTION as usize) {
            let portion = (first..span.rows.min(first + PORTION)).map(|number| template.past(number)).collect();
            if made.send(portion).is_err() {
                return;
            }
        }
    })?;
    while let Ok(portion) = portions.recv() {
        let portion = portion?;
        let count = portion.len() as u64;
        generator.write(portion).await?;
        progress.inc(count);
    }
    progress.set_message(", putting in order");
    generator.finish().await?;
    progress.finish_and_clear();
    let variables = hubs::variables(hubs.database.as_ref());
    hubs.first_mut().start_again(variables).await
}

async fn measure(hubs: &mut Hubs, options: &Options, span: Span, purged_weeks: i64) -> anyhow::Result<Value> {
    let load = hubs.webhook(0);
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        hubs.first_mut().kill()?;
        starts.push(backlog::first_answer(&load, began).await?);
        hubs.first().read().await?;
    }
    let hub = hubs.first();
    let entries = all(hub).await?;
    let waiting = hub.count("commands", "waiting").await?;
    let nothing = page(hub, "/api/v1/providers").await?;
    let look_up = look_up(hub, span).await?;
    let pages = json!({
        "all": page(hub, "/api/v1/journal?limit=50").await?,
        "of_a_merchant_seldom_heard_of": page(hub, "/api/v1/journal?limit=50&merchant=seldom").await?,
        "of_the_calls": page(hub, "/api/v1/journal?limit=50&provider=smsru").await?,
    });
    let accept = accept(hubs, options, &load, purged_weeks).await?;
    Ok(json!({
        "store": hubs.store.word(), "weeks": WEEKS, "entries": entries, "waiting": waiting, "store_mib": hubs.store_mib()?,
        "start_to_first_2xx_ms": starts.into_iter().map(rounded).collect::<Vec<_>>(),
        "without_the_store": nothing, "look_up": look_up, "newest_page": pages, "accept": accept, "memory_mib": hubs.memory_mib(),
    }))
}

async fn all(hub: &Driven) -> anyhow::Result<u64> {
    Ok(hub.count("entries", "read").await? + hub.count("entries", "dead").await? + hub.count("entries", "duplicate").await?)
}

/// By what an entry is found; each answer must hold it.
async fn look_up(hub: &Driven, span: Span) -> anyhow::Result<Value> {
    let mut random = rand::rng();
    let mut micros: [Vec<u32>; 3] = Default::default();
    for _ in 0..LOOK_UPS {
        let (phone, order, text) = span.found_by(random.random_range(0..span.rows));
        let asked = [format!("phone=%2B{}", &phone[1..]), format!("order={order}"), format!("order={text}")];
        for (asked, micros) in asked.iter().zip(&mut micros) {
            let began = Instant::now();
            let rows = hub.get(&format!("/api/v1/journal?{asked}&unmasked=true")).await?;
            micros.push(began.elapsed().as_micros() as u32);
            let found = rows
                .as_array()
                .into_iter()
                .flatten()
                .any(|row| row["request"].as_str().is_some_and(|body| body.contains(&order)));
            ensure!(found, "{asked} does not find order {order}");
        }
    }
    let [phone, order, text] = micros.map(quantiles);
    Ok(json!({ "phone": phone, "order": order, "provider_id": text }))
}

async fn page(hub: &Driven, path: &str) -> anyhow::Result<Value> {
    let mut micros = Vec::new();
    for _ in 0..PAGES {
        let began = Instant::now();
        let rows = hub.get(path).await?;
        micros.push(began.elapsed().as_micros() as u32);
        ensure!(rows.as_array().is_some_and(|rows| !rows.is_empty()), "{path} is empty");
    }
    Ok(quantiles(micros))
}

fn quantiles(mut micros: Vec<u32>) -> Value {
    micros.sort_unstable();
    json!({ "p50_ms": quantile(&micros, 0.5), "p99_ms": quantile(&micros, 0.99) })
}

/// The same load twice: as it is, and while retention takes the oldest weeks.
async fn accept(hubs: &mut Hubs, options: &Options, load: &Arc<Load>, purged_weeks: i64) -> anyhow::Result<Value> {
    let time = Duration::from_secs(options.seconds);
    let rate = load.closed(options.connections, Until::Time(time)).await?.per_s();
    hubs.first().read().await?;
    let without = load.open(options.connections, time, rate * HALF).await?;
    hubs.first().read().await?;

    let before = all(hubs.first()).await?;
    let mut variables = hubs::variables(hubs.database.as_ref());
    variables.push(("UZEL_KEEP_DAYS", ((WEEKS - purged_weeks) * 7).to_string()));
    hubs.first_mut().stop()?;
    hubs.first_mut().start_again(variables).await?;
    let with = load.open(options.connections, time, rate * HALF).await?;
    hubs.first().read().await?;
    let after = all(hubs.first()).await?;
    let purged = (before + with.accepted).saturating_sub(after);
    ensure!(purged > 0, "retention took nothing meanwhile: give it more --seconds");
    let told = |outcome: &super::load::Outcome| {
        json!({
            "p50_ms": rounded(outcome.quantile(0.5)), "p99_ms": rounded(outcome.quantile(0.99)), "refused": outcome.refused,
        })
    };
    Ok(json!({
        "closed_per_s": rate.round(), "open_per_s": (rate * HALF).round(), "without_retention": told(&without),
        "with_retention": told(&with), "p99_ratio": rounded(with.quantile(0.99) / without.quantile(0.99)), "forgotten_meanwhile": purged,
    }))
}
