//! `uzel demo`: a hub and the stand-ins on this machine, and a day of four businesses played through them.
//!
//! The day runs on the demo's own clock, so that two hours of waiting take a moment. At the end the stand-ins are asked what
//! they got: the exit status is 0 only if every expected text arrived, once, and no other.

mod day;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, ToSpan, tz::TimeZone};
use serde_json::{Value, json};
use uzel_engine::{Clock, setup::Leniency};
use uzel_sandbox::Sandbox;
use uzel_store::CommandState;

use crate::{
    commands::{say, stop_signal},
    hub::{Hub, Parts},
    settings::Settings,
};

/// In the demo every webhook key is this one.
const KEY: &str = "demo-key";
const MERCHANT: &str = "demo";

#[derive(Debug, Args)]
pub struct Options {
    /// Leave hub and stand-ins running.
    #[arg(long)]
    stay: bool,
    /// Set up only, play nothing.
    #[arg(long)]
    no_play: bool,
    /// Where the hub listens; a free port by default.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the stand-ins listen; a free port by default.
    #[arg(long, default_value = "127.0.0.1:0")]
    sandbox_listen: SocketAddr,
}

pub async fn run(options: &Options, as_json: bool) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("uzel-demo-").tempdir().context("a temporary folder")?;
    let sandbox = Sandbox::start(options.sandbox_listen).await.context("the stand-ins cannot listen")?;
    let settings = Settings {
        listen: options.listen,
        data: folder.path().to_owned(),
        allow_networks: vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
        ..Settings::default()
    };
    let clock = Clock::default();
    let hub = Hub::start(&settings, Parts { clock: clock.clone(), ..Parts::default() }).await?;
    hub.apply(&setup(&sandbox.url(), !options.no_play), Leniency { short_keys: true }).await?;
    if as_json {
        let line = json!({ "hub": hub.url(), "sandbox": sandbox.url(), "owner_key": hub.owner_key()?, "merchant": MERCHANT });
        say(&line.to_string())?;
    }
    let outcome = if options.no_play { Ok(true) } else { play(&hub, &sandbox, &clock, as_json).await };
    if options.stay && outcome.is_ok() {
        if !as_json {
            stay(&hub, &sandbox)?;
        }
        stop_signal().await?;
    }
    hub.stop().await?;
    Ok(if outcome? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Merchant `demo` with a connection to every provider, and the review flow.
fn setup(sandbox: &str, play: bool) -> Value {
    let connection = |slug: &str, provider: &str, outlet: &str, settings: Value| json!({ "merchant": MERCHANT, "outlet": outlet, "slug": slug, "provider": provider, "settings": settings, "webhook_keys": [KEY] });
    let mut flow = json!({
        "merchant": MERCHANT, "slug": "review", "on": ["order.completed", "visit.completed", "deal.won"],
        "ground": "service", "ground_by": "the demo", "via": "sms",
        "text": "{{ name or 'Здравствуйте' }}, спасибо, что были у нас ({{ outlet }})! Оставьте отзыв: https://example.com/r"
    });
    let rule = if play {
        json!({ "delay": "2h", "quiet_from": "21:00", "quiet_to": "10:00", "once_in_days": 14 })
    } else {
        // Bodies from documents carry dates long past: here they are to be sent all the same.
        json!({ "delay": "0s", "latest": "3650d" })
    };
    if let (Some(flow), Some(rule)) = (flow.as_object_mut(), rule.as_object()) {
        flow.extend(rule.clone());
    }
    json!({
        "merchant": [{ "slug": MERCHANT, "name": "Demo", "language": "ru", "country": "RU" }],
        "outlet": [
            { "merchant": MERCHANT, "slug": "cafe", "name": "Кофейня", "zone": "Europe/Moscow" },
            { "merchant": MERCHANT, "slug": "restaurant", "name": "Ресторан", "zone": "Europe/Moscow" },
            { "merchant": MERCHANT, "slug": "salon", "name": "Салон", "zone": "Europe/Moscow" },
            { "merchant": MERCHANT, "slug": "shop", "name": "Магазин", "zone": "Europe/Moscow" }
        ],
        "connection": [
            connection("iiko", "iiko", "cafe", json!({ "base_url": format!("{sandbox}/iiko") })),
            connection("rkeeper", "rkeeper", "restaurant", json!({})),
            connection("yclients", "yclients", "salon", json!({ "base_url": format!("{sandbox}/yclients/api/v1") })),
            connection("amocrm", "amocrm", "shop", json!({ "base_url": format!("{sandbox}/amocrm"), "long_lived_token": "long-lived" })),
            connection("sms", "smsru", "shop", json!({ "base_url": format!("{sandbox}/smsru"), "api_id": "A1B2C3D4-1111-2222-3333-444455556666", "calls_per_s": 10000 })),
            connection("journal-only", "log", "shop", json!({}))
        ],
        "flow": [flow]
    })
}

fn stay(hub: &Hub, sandbox: &Sandbox) -> anyhow::Result<()> {
    let (url, key) = (hub.url(), hub.owner_key()?);
    say(&format!(
        "\nThe hub answers on {url}, the stand-ins on {}. Ctrl-C ends both.\n\n\
         curl -X POST '{url}/api/webhook/rkeeper?key={KEY}' -H 'Content-Type: application/json' \\\n  \
         -d '{{\"order\":{{\"id\":\"77\",\"status\":\"Выполнен\",\"customer\":{{\"phone\":\"+79991234567\"}}}}}}'\n\
         curl -H 'Authorization: Bearer {key}' '{url}/api/v1/journal?limit=5'\n\
         curl '{}/_sandbox/smsru/calls'",
        sandbox.url(),
        sandbox.url()
    ))
}

/// One request of the day.
pub(crate) struct Scene {
    pub provider: &'static str,
    pub content_type: &'static str,
    pub body: String,
}

async fn play(hub: &Hub, sandbox: &Sandbox, clock: &Clock, quiet: bool) -> anyhow::Result<bool> {
    let web = reqwest::Client::builder().no_proxy().build()?;
    // The day begins at noon of tomorrow in the outlets' zone, whenever the demo is started.
    let zone = TimeZone::get("Europe/Moscow")?;
    let now = clock.now();
    let noon = now.to_zoned(zone).date().tomorrow()?.at(12, 0, 0, 0).in_tz("Europe/Moscow")?.timestamp();
    clock.advance(noon.duration_since(now));

    let deals = day::deals();
    put(&web, &format!("{}/_sandbox/amocrm/leads", sandbox.url()), &deals.leads).await?;
    put(&web, &format!("{}/_sandbox/amocrm/contacts", sandbox.url()), &deals.contacts).await?;

    let scenes = day::scenes(clock.now());
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(scenes.len() as u64) };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let mut came: BTreeMap<&str, u32> = BTreeMap::new();
    for scene in &scenes {
        bar.set_message(scene.provider);
        let url = format!("{}/api/webhook/{}?key={KEY}", hub.url(), scene.provider);
        let answer = web.post(url).header("content-type", scene.content_type).body(scene.body.clone()).send().await?;
        ensure!(answer.status().is_success(), "{} was answered {}", scene.provider, answer.status());
        *came.entry(scene.provider).or_default() += 1;
        bar.inc(1);
    }
    bar.set_message("the morning is read; phones are looked up");
    until(hub, "everything to be read", |_, unread| unread == 0).await?;
    until_looked_up(hub).await?;

    bar.set_message("two hours pass; SMS.ru is down");
    let fault = json!({ "kind": "status", "status": 503, "calls": 12 });
    put(&web, &format!("{}/_sandbox/smsru/faults", sandbox.url()), &fault).await?;
    clock.advance(SignedDuration::from_mins(121));
    until(hub, "every text to be sent or held back", |open, _| open == 0).await.inspect_err(|_| bar.abandon())?;
    bar.finish_and_clear();
    judge(hub, sandbox, &web, &came, quiet).await
}

async fn put(web: &reqwest::Client, url: &str, body: &Value) -> anyhow::Result<()> {
    let answer = web.put(url).json(body).send().await?;
    ensure!(answer.status().is_success(), "{url} answers {}: {}", answer.status(), answer.text().await?);
    Ok(())
}

/// Waits until nothing is open, by (open commands, unread entries).
async fn until(hub: &Hub, what: &str, done: impl Fn(u64, u64) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let counts = hub.engine.store.counts().await?;
        let open = counts.commands.iter().filter(|(state, _)| matches!(state, CommandState::Waiting | CommandState::Sending));
        let unread = counts.entries.iter().filter(|(state, _)| *state == uzel_store::EntryState::Unread);
        if done(open.map(|(_, count)| count).sum(), unread.map(|(_, count)| count).sum()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counts = hub.engine.store.counts().await?;
    let notices = hub.engine.store.notices(None, 5).await?;
    bail!("waited a minute for {what}: {} {}", json!(counts), json!(notices))
}

/// Waits until every phone that had to be asked for has been: what is left is due in two hours.
async fn until_looked_up(hub: &Hub) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let links = hub.engine.world().links.keys().copied().collect();
        let next = hub.engine.store.health(links).await?.oldest_due_at;
        let sending =
            hub.engine.store.counts().await?.commands.iter().any(|(state, count)| *state == CommandState::Sending && *count > 0);
        if !sending && next.is_none_or(|at| at > hub.engine.clock.now() + 1.hour()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("waited a minute for look-ups")
}

/// What came, what was sent, what was held back, and whether that is what it should be.
async fn judge(
    hub: &Hub,
    sandbox: &Sandbox,
    web: &reqwest::Client,
    came: &BTreeMap<&str, u32>,
    quiet: bool,
) -> anyhow::Result<bool> {
    let accepted: Vec<Value> = web.get(format!("{}/_sandbox/smsru/accepted", sandbox.url())).send().await?.json().await?;
    let mut got: BTreeMap<String, u32> = BTreeMap::new();
    for message in &accepted {
        *got.entry(message["to"].as_str().unwrap_or_default().trim_start_matches('+').to_owned()).or_default() += 1;
    }
    let wanted: BTreeMap<String, u32> = day::EXPECTED.iter().map(|phone| ((*phone).to_owned(), 1)).collect();
    let counts = hub.engine.store.counts().await?;
    let held: BTreeMap<String, u64> = counts.held.iter().cloned().collect();
    let held_right = day::HELD.iter().all(|(reason, count)| held.get(*reason) == Some(count)) && held.len() == day::HELD.len();
    let stand = |state| counts.commands.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count);
    // The account of the demo sends to Russian numbers only.
    let (refused, unknown) = (stand(CommandState::Dead), stand(CommandState::Unknown));
    let right = got == wanted && held_right && (refused, unknown) == (1, 0);
    if quiet {
        return Ok(right);
    }
    let reasons = uzel_engine::flow::reasons();
    say("\nCAME                          REQUESTS")?;
    for (provider, count) in came {
        say(&format!("  {provider:<28}{count:>8}"))?;
    }
    say("\nSENT BY SMS.RU                   TEXTS   WANTED")?;
    for phone in got.keys().chain(wanted.keys()).collect::<std::collections::BTreeSet<_>>() {
        let (got, wanted) = (got.get(phone).copied().unwrap_or(0), wanted.get(phone).copied().unwrap_or(0));
        let sign = if got == wanted { "" } else { "  ← WRONG" };
        say(&format!("  {:<28}{got:>8}{wanted:>9}{sign}", uzel_model::phone::mask(&format!("+{phone}"))))?;
    }
    say("\nHELD BACK                        TEXTS   WANTED")?;
    for (reason, wanted) in day::HELD {
        let got = held.get(*reason).copied().unwrap_or(0);
        let sign = if got == *wanted { "" } else { "  ← WRONG" };
        say(&format!("  {:<40}{got:>4}{wanted:>5}{sign}", reasons.get(reason).copied().unwrap_or(reason)))?;
    }
    say("\nNOT SENT                         TEXTS   WANTED")?;
    for (why, got, wanted) in [("refused by SMS.ru: a foreign number", refused, 1), ("nobody knows whether it went", unknown, 0)]
    {
        let sign = if got == wanted { "" } else { "  ← WRONG" };
        say(&format!("  {why:<40}{got:>4}{wanted:>5}{sign}"))?;
    }
    say(if right { "\nEvery expected text arrived, once, and no other." } else { "\nThis is NOT what was expected." })?;
    Ok(right)
}
