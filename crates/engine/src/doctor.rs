//! What a look at the whole hub finds: each thing with its verdict, and what to do where it is not well.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use uzel_store::{CommandState, EntryState};

use crate::{Endpoint, Engine, Link, World, jetstream};

/// So long the store and NATS have to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A clock that is off by more confuses whoever compares logs.
const CLOCK_MS_MAX: i64 = 2_000;

const DAY_S: i64 = 86_400;
/// A token that ends sooner is to be replaced.
const TOKEN_DAYS_MIN: i64 = 30;

/// So soon a key of the API that ends is told of.
const KEY_DAYS_MIN: i64 = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    /// It works, and a person should look at it.
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub about: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    pub fn warn(about: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    pub fn fail(about: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

impl Engine {
    /// Looks at everything. Providers are asked only where `calls` says so.
    pub async fn examine(self: &Arc<Self>, calls: bool) -> Vec<Finding> {
        let mut findings = vec![self.examine_store().await];
        findings.extend(self.examine_clock().await);
        findings.extend(self.examine_nats().await);
        let world = self.world();
        findings.extend(examine_setup(&world));
        findings.extend(self.examine_keys(&world));
        findings.extend(self.examine_work().await);
        let mut links: Vec<_> = world.links.values().cloned().collect();
        links.sort_by_key(|link| link.id);
        for link in links {
            findings.extend(self.examine_link(&world, &link, calls).await);
        }
        findings.extend(world.all_endpoints().into_iter().map(|endpoint| self.examine_endpoint(endpoint)));
        findings
    }

    /// Keys of the API that end soon: whoever uses them is let in no more then.
    fn examine_keys(&self, world: &World) -> Vec<Finding> {
        let now = self.clock.now();
        let mut ending: Vec<(Timestamp, &str, &str)> = world
            .api_keys()
            .filter_map(|key| Some((key.expires_at?, key.id.as_str(), key.role.word())))
            .filter(|(end, ..)| (end.as_second() - now.as_second()) < KEY_DAYS_MIN * DAY_S)
            .collect();
        ending.sort_unstable();
        let told = ending.into_iter().map(|(end, id, role)| {
            let ends = if end > now { "ends" } else { "has ended" };
            let found = format!("{id} ({role}) {ends} on {end:.0}");
            Finding::warn("key", found, format!("uzel keys create makes another; uzel keys remove {id} takes it away"))
        });
        told.collect()
    }

    fn examine_endpoint(&self, endpoint: &Endpoint) -> Finding {
        let (slug, failing) = (endpoint.slug(), self.open_breaker(endpoint.id()));
        match (&endpoint.doc.disabled, failing) {
            (Some(disabled), _) => Finding::warn(
                "endpoint",
                format!("{slug} is disabled since {}: {}", disabled.at, disabled.reason),
                format!("uzel endpoints test {slug}; then enable {slug} and recover {slug} --since {}", disabled.at),
            ),
            (None, Some(open)) => Finding::warn(
                "endpoint",
                format!("{slug} fails since {}: {}", open.since, open.reason),
                format!("uzel endpoints test {slug}; webhooks are sent again for three days"),
            ),
            (None, None) => Finding::ok("endpoint", format!("{slug}: nothing against it")),
        }
    }

    async fn examine_store(&self) -> Finding {
        let asked = async {
            self.store.writable().await?;
            self.store.about().await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(about)) => {
                let nodes = if self.store.shared() { format!(", nodes at work {}", about.nodes) } else { String::new() };
                let found = format!(
                    "{} {}, schema {} of {}, {:.1} MB{nodes}; it can be written",
                    about.kind,
                    about.version,
                    about.schema,
                    about.schema_known,
                    about.bytes as f64 / 1e6
                );
                if about.schema > about.schema_known {
                    return Finding::warn("store", found, "the schema is of a newer program: bring this node up to date too");
                }
                Finding::ok("store", found)
            }
            Ok(Err(error)) => Finding::fail("store", error.to_string(), "webhooks are answered 503 until it can be written"),
            Err(_) => Finding::fail("store", "it does not answer in 5 s", "look at its disk, its locks and its connections"),
        }
    }

    async fn examine_clock(&self) -> Option<Finding> {
        let asked_at = Timestamp::now();
        let told = tokio::time::timeout(PATIENCE, self.store.clock()).await.ok()?.ok()??;
        let here = asked_at.as_millisecond().midpoint(Timestamp::now().as_millisecond());
        let off = here - told.as_millisecond();
        let found = format!("this machine's clock is {off} ms from the database's");
        Some(match off.abs() > CLOCK_MS_MAX {
            true => Finding::warn("clock", found, "keep NTP running on both; leases go by the database's clock"),
            false => Finding::ok("clock", found),
        })
    }

    async fn examine_nats(&self) -> Vec<Finding> {
        let waiting = match self.store.publishing().await {
            Ok((0, _)) => None,
            Ok((count, since)) => Some(format!("; events to be published: {count}{}", age(since, self.clock.now()))),
            // That the store does not answer is told of the store.
            Err(_) => None,
        };
        let Some(options) = &self.options.nats else {
            let forgotten = waiting.map(|waiting| {
                Finding::warn("nats", format!("no server is set{waiting}"), "set `nats`, or end it: `uzel nats off`")
            });
            return forgotten.into_iter().collect();
        };
        let waiting = waiting.unwrap_or_default();
        let at = options.address();
        vec![match tokio::time::timeout(PATIENCE, jetstream::look(options)).await {
            Ok(Ok(found)) => Finding::ok("nats", format!("{at}: {found}{waiting}")),
            Ok(Err(why)) => Finding::fail("nats", format!("{at}: {why}{waiting}"), "events wait in the store and are not lost"),
            Err(_) => Finding::fail(
                "nats",
                format!("{at} does not answer in 5 s{waiting}"),
                "start the server; events wait in the store and are not lost",
            ),
        }]
    }

    async fn examine_work(&self) -> Vec<Finding> {
        let (counts, lag) = match (self.store.counts().await, self.lag().await) {
            (Ok(counts), Ok(lag)) => (counts, lag),
            (Err(error), _) | (_, Err(error)) => return vec![Finding::fail("work", error.to_string(), "see the store")],
        };
        let entries = |state| counts.entries.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count);
        let commands = |state| counts.commands.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count);
        let found = format!(
            "unread {}, waiting {}, being sent {}; the oldest has waited {} s",
            entries(EntryState::Unread),
            commands(CommandState::Waiting),
            commands(CommandState::Sending),
            lag.as_secs()
        );
        let mut findings = vec![match lag > self.options.ready_age {
            true => Finding::fail("work", found, "nothing goes on: is a hub running, and does its log tell of errors?"),
            false => Finding::ok("work", found),
        }];
        for (count, what, advice) in [
            (entries(EntryState::Dead), "requests could not be read", "uzel journal list --status dead; then uzel replay --dead"),
            (commands(CommandState::Dead), "commands are dead", "uzel journal list --status error; then uzel replay --dead"),
            (
                commands(CommandState::Unknown),
                "commands may have been carried out or not",
                "uzel journal list --status unknown; ask the provider, then uzel commands settle",
            ),
        ] {
            if count > 0 {
                findings.push(Finding::warn("work", format!("{count} {what}"), advice));
            }
        }
        findings
    }

    async fn examine_link(self: &Arc<Self>, world: &World, link: &Arc<Link>, calls: bool) -> Vec<Finding> {
        let merchant = world.merchants.get(&link.merchant).map_or("", |(slug, _)| slug);
        let name = format!("{merchant}/{} ({})", link.slug, link.provider.id);
        let mut findings = Vec::new();
        if let Some(open) = self.open_breaker(link.id) {
            findings.push(Finding::warn(
                "connection",
                format!("{name}: calls fail since {:.0}: {}", open.since, open.reason),
                format!("uzel connections health {}", link.id),
            ));
        }
        findings.extend(self.examine_login(link, &name).await);
        if calls && !link.paused {
            findings.push(match self.health(link).await {
                Ok(found) => Finding::ok("connection", format!("{name}: {found}")),
                Err(why) => Finding::fail("connection", format!("{name}: {why}"), "uzel journal list shows its calls"),
            });
        }
        findings
    }
}

impl Engine {
    /// What is said of what a connection logs in with, where it ends soon or has ended.
    pub(crate) async fn login_ends(&self, link: &Link) -> Option<String> {
        if link.connector.token_ends_at().is_none() && matches!(self.login_age(link).await, Ok(None)) {
            // Nobody has begun: that is no end.
            return None;
        }
        let told = self.examine_login(link, &link.slug).await.filter(|told| told.verdict != Verdict::Ok)?;
        Some([Some(told.found), told.advice].into_iter().flatten().collect::<Vec<_>>().join(": "))
    }

    /// Whether what a connection logs in with ends soon: the token in its settings, else the login that a person made.
    async fn examine_login(&self, link: &Link, name: &str) -> Option<Finding> {
        let now = self.clock.now();
        let days = |from: Timestamp, to: Timestamp| (to.as_second() - from.as_second()).div_euclid(DAY_S);
        if let Some(end) = link.connector.token_ends_at() {
            let advice = "make a new token at the provider, and set it by `uzel apply`";
            let found = |what: &str| format!("{name}: the token in its settings {what} {end:.0}");
            return Some(match days(now, end) {
                ..0 => Finding::fail("connection", found("ended on"), advice),
                0..TOKEN_DAYS_MIN => Finding::warn("connection", found("ends on"), advice),
                _ => Finding::ok("connection", found("ends on")),
            });
        }
        let (authorization, _) = (link.connector.authorization()?, link.connector.login()?);
        let again = format!("uzel connections login {}", link.id);
        let age = match self.login_age(link).await {
            Ok(Some(age)) => age,
            Ok(None) => {
                let advice = format!("{again}, unless its settings hold a token");
                return Some(Finding::warn("connection", format!("{name}: nobody has logged in"), advice));
            }
            Err(why) => return Some(Finding::fail("connection", format!("{name}: {why}"), "log in again")),
        };
        if age.ends_at.is_some_and(|at| at <= now) {
            return Some(Finding::warn("connection", format!("{name}: its login has expired"), again));
        }
        let old = days(age.made_at?, now);
        let found = format!("{name}: its login was made or renewed {old} days ago");
        // In the last third of its time something keeps it from being renewed.
        Some(match authorization.lasts_days().map(i64::from) {
            Some(most) if old >= most => Finding::fail("connection", format!("{found}, and lasts {most}"), again),
            Some(most) if old * 3 >= most * 2 => Finding::warn("connection", format!("{found}, and lasts {most}"), again),
            _ => Finding::ok("connection", found),
        })
    }
}

fn examine_setup(world: &World) -> Vec<Finding> {
    let paused = match world.links.values().filter(|link| link.paused).count() {
        0 => String::new(),
        paused => format!(" ({paused} paused)"),
    };
    let found =
        format!("merchants {}, connections {}{paused}, flows {}", world.merchants.len(), world.links.len(), world.flows.len());
    let mut findings = vec![match world.flows.is_empty() {
        true => Finding::warn("setup", found, "nothing is sent without a flow: uzel apply setup.toml"),
        false => Finding::ok("setup", found),
    }];
    for programme in world.programmes().filter(|programme| programme.rule.open_loyalty) {
        let merchant = world.merchants.get(&programme.merchant).map_or("", |(slug, _)| slug.as_str());
        let found = format!("anybody may ask for quotes of `{merchant}` and commit them: `open_loyalty` is on");
        findings.push(Finding::warn("loyalty", found, "set it to false, and give each till a key"));
    }
    let broken = world.broken.iter();
    findings
        .extend(broken.map(|(id, why)| Finding::fail("setup", format!("{id} cannot be used: {why}"), "mend it by uzel apply")));
    findings
}

fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or_else(String::new, |at| format!(", the first since {} s", (now.as_second() - at.as_second()).max(0)))
}
