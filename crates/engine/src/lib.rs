//! The loops of the hub: read what came, decide what follows, call outward until it is confirmed, tick.
//!
//! The engine is handed the list of providers and names none of them; it knows no status codes and no SQL.

mod account;
mod batch;
mod breaker;
pub mod bridge;
mod call;
mod chain;
mod clock;
pub mod code;
mod command;
pub mod consent;
pub mod csv;
pub mod devices;
mod digest;
pub mod doctor;
pub mod endpoint;
mod erase;
mod events;
pub mod flow;
mod jetstream;
mod keys;
mod lane;
mod login;
mod lost;
pub mod loyalty;
mod masks;
mod metrics;
mod networks;
mod nodes;
pub mod opt_outs;
mod outward;
mod rate;
mod read;
pub mod recipient;
mod replay;
pub mod review;
mod rhythm;
mod sender;
pub mod setup;
mod status;
mod target;
mod tick;
pub mod trace;
mod trial;
mod vault;
mod verdict;
mod watch;
mod window;
mod world;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

pub use account::Imported;
use arc_swap::ArcSwap;
pub use clock::Clock;
pub use command::{
    Accepted, CommandRequest, Holder, Refused,
    batch::{BatchAccepted, BatchMessage, BatchRequest, Batched},
};
pub use digest::{Bar, Digest, DigestPage, Period, Points, Span};
pub use endpoint::Endpoint;
pub use erase::{Erasure, ErasureError};
pub use jetstream::NatsOptions;
pub use keys::{ApiKey, NewKey, Role};
pub use metrics::{Metrics, ProviderLabel, RequestLabel, Route};
pub use networks::Networks;
pub use sender::{ChannelState, SenderState};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uzel_model::{Id, Provider, Request, Response};
use uzel_store::{Entry, Source, Store, StoreError};
pub use vault::{Master, OpenError, RotateError, Rotated, Vault, VaultError};
pub use verdict::{FoundOut, NotSettled};
pub use world::{Link, Merchant, Outlet, Stored, World};

/// Calls outward that may be under way at once; also the most commands that a crash can leave unknown.
pub const IN_FLIGHT_MAX: usize = 64;

/// What the operator decides for the whole hub.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses beside the public ones that may be called.
    pub networks: Networks,
    /// How long a call may take, answer included.
    pub call_timeout: Duration,
    /// The hub's own address as providers and browsers see it, without a slash at the end.
    pub public_url: Option<String>,
    /// Prints texts that are not really sent (development on loopback only).
    pub print_texts: bool,
    /// Readiness fails when the oldest entry has waited longer than this.
    pub ready_age: Duration,
    /// Beyond the time of a call, how long a command is held that is being sent: then other nodes take it for lost.
    pub lease_margin: Duration,
    /// How long entries and what followed from them are kept; for ever if not set.
    pub keep: Option<Duration>,
    /// An endpoint whose calls have failed for so long gets nothing any more.
    pub endpoint_patience: Duration,
    /// Where events are published, and commands may come from.
    pub nats: Option<NatsOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            networks: Networks::default(),
            call_timeout: Duration::from_secs(30),
            public_url: None,
            print_texts: false,
            ready_age: Duration::from_secs(300),
            lease_margin: Duration::from_secs(30),
            keep: None,
            endpoint_patience: Duration::from_secs(5 * 86_400),
            nats: None,
        }
    }
}

/// The hub without its HTTP side.
pub struct Engine {
    pub store: Arc<dyn Store>,
    pub providers: &'static [Provider],
    pub vault: Vault,
    pub clock: Clock,
    pub options: Options,
    pub metrics: Metrics,
    world: ArcSwap<World>,
    /// Held while what is set up is changed or read again, so that what was read last is what is used.
    changing: tokio::sync::Mutex<()>,
    outward: outward::Outward,
    rhythms: rhythm::Rhythms,
    clubs: loyalty::club::Clubs,
    /// Something new may be due.
    due: lane::Due,
    /// Events have been committed.
    told: Notify,
    stop: CancellationToken,
    /// What was unread at the start has been read.
    caught_up: CancellationToken,
    tasks: TaskTracker,
    /// Calls that this node makes for commands now.
    under_way: AtomicUsize,
    /// That this machine's clock is wrong has been said.
    clock_off: AtomicBool,
    /// The last entry could not be journalled.
    refusing: AtomicBool,
    loyalty_turns: loyalty::Turns,
}

impl Engine {
    /// Loads what is set up. Nothing runs before [`Engine::start`].
    pub async fn open(
        store: Arc<dyn Store>,
        providers: &'static [Provider],
        vault: Vault,
        clock: Clock,
        options: Options,
    ) -> Result<Arc<Self>, StoreError> {
        let setup = store.setup().await?;
        vault.take_up(&setup.envelopes);
        let world = World::build(setup, providers, &vault).at(options.public_url.clone());
        store.hash_phones_by(erase::phone_hash(&vault));
        let outward = outward::Outward::new(&options, !clock.is_simulated());
        let mut metrics = Metrics::default();
        metrics.watch(store.stats());
        let engine = Self {
            store,
            providers,
            vault,
            clock,
            options,
            metrics,
            world: ArcSwap::from_pointee(world),
            changing: tokio::sync::Mutex::default(),
            outward,
            rhythms: rhythm::Rhythms::default(),
            clubs: loyalty::club::Clubs::default(),
            due: lane::Due::default(),
            told: Notify::new(),
            stop: CancellationToken::new(),
            caught_up: CancellationToken::new(),
            tasks: TaskTracker::new(),
            under_way: AtomicUsize::new(0),
            clock_off: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            loyalty_turns: loyalty::Turns::default(),
        };
        engine.follow_clock(Duration::MAX).await?;
        engine.outward.breakers.load(engine.store.breakers().await?);
        engine.rhythms.load(engine.store.rhythms().await?);
        Ok(Arc::new(engine))
    }

    /// Takes back what a dead process left behind, and starts the loops.
    pub async fn start(self: &Arc<Self>) -> Result<(), StoreError> {
        let (again, unknown) = self.take_back().await?;
        if again + unknown > 0 {
            tracing::warn!(
                commands.again = again,
                commands.unknown = unknown,
                "took over what was being sent when the hub last stopped"
            );
        }
        if self.store.shared() {
            self.tasks.spawn(nodes::run(self.clone()));
        }
        self.tasks.spawn(read::run(self.clone()));
        self.tasks.spawn(call::run(self.clone(), lane::Lane::Connections));
        self.tasks.spawn(call::run(self.clone(), lane::Lane::Endpoints));
        self.tasks.spawn(tick::run(self.clone()));
        self.tasks.spawn(digest::run(self.clone()));
        self.tasks.spawn(loyalty::sweep(self.clone()));
        jetstream::start(self).await
    }

    /// Takes back what has been *sending* for longer than its lease.
    pub(crate) async fn take_back(&self) -> Result<(u64, u64), StoreError> {
        let (again, unknown) = self.store.recover(self.clock.now()).await?;
        self.metrics.took_back(again, unknown);
        if again + unknown > 0 {
            self.due.notify_one();
        }
        Ok((again, unknown))
    }

    /// The same while the hub runs. A node that is alone knows what it is sending: no clock that was moved, and no disk that was
    /// full for long, makes that unknown.
    pub(crate) async fn take_back_late(&self) -> Result<(u64, u64), StoreError> {
        if !self.store.shared() && self.under_way.load(Ordering::Acquire) > 0 {
            return Ok((0, 0));
        }
        self.take_back().await
    }

    /// Stops taking work, lets the calls under way end, and closes the store.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }

    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Reads again what is set up, after a change.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let _alone = self.changing.lock().await;
        self.use_stored(&[]).await
    }

    async fn stored_world(&self) -> Result<World, StoreError> {
        let setup = self.store.setup().await?;
        self.vault.take_up(&setup.envelopes);
        Ok(World::build(setup, self.providers, &self.vault).at(self.options.public_url.clone()))
    }

    /// Uses what is stored from now on. No call carries the login of where its connection pointed before to where it points
    /// now: what is known of such logins goes first. Those that are `void` the caller has seen to.
    async fn use_stored(&self, void: &[Id]) -> Result<(), StoreError> {
        let (before, world) = (self.world(), self.stored_world().await?);
        let moved = world.links.values().filter(|link| !void.contains(&link.id));
        let moved = moved.filter(|link| before.links.get(&link.id).is_some_and(|before| before.target != link.target));
        let moved: Vec<Id> = moved.map(|link| link.id).collect();
        self.voiding_logins(&moved, async { self.world.store(Arc::new(world)) }).await;
        self.due.notify_one();
        Ok(())
    }

    /// Journals a verified request that tells something. Its credentials have been taken out.
    pub async fn accept(&self, link: &Link, request: Request, answer: &Response, trace: String) -> Result<Id, StoreError> {
        let mut entry = self.entry(link, request, Source::Webhook, trace);
        entry.answer = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
        let id = entry.id;
        let kept = self.store.append(entry).await;
        self.refusing.store(kept.is_err(), Ordering::Relaxed);
        kept.map(|()| id)
    }

    /// Reads an entry again through today's code; what it told before stays told, and nothing done is done again.
    pub async fn replay(&self, id: Id) -> Result<Option<ReplayOutcome>, StoreError> {
        let Some(entry) = self.store.entry(id).await? else { return Ok(None) };
        if entry.is_erased() {
            let dead = Some(read::ERASED.to_owned());
            return Ok(Some(ReplayOutcome { new_events: 0, known_events: 0, queued: 0, dead }));
        }
        let world = self.world();
        let known = status::known(self.store.as_ref(), &world, std::slice::from_ref(&entry)).await?;
        let mut change = read::change(&world, &entry, &known, self.clock.now());
        if let Some(mark) = &mut change.mark {
            mark.again = true;
        }
        let dead =
            change.mark.as_ref().and_then(|mark| (mark.state == uzel_store::EntryState::Dead).then(|| mark.notes.join("; ")));
        let ended = change.ends_login;
        let applied = self.store.apply(change).await?;
        self.forget_login(ended);
        let queued = applied.queued + replay::dead_calls(self, id).await?;
        self.due.notify_one();
        self.told.notify_one();
        Ok(Some(ReplayOutcome { new_events: applied.new_events, known_events: applied.duplicates, queued, dead }))
    }

    fn entry(&self, link: &Link, request: Request, source: Source, trace: String) -> Entry {
        Entry {
            id: Id::new(uzel_model::id::Kind::Entry),
            merchant: link.merchant,
            connection: link.id,
            provider: link.provider.id.to_owned(),
            request,
            answer: String::new(),
            source,
            trace,
        }
    }

    /// Whether entries can be journalled: tried, where the last one could not.
    pub async fn takes_entries(&self) -> Result<(), StoreError> {
        if self.refusing.load(Ordering::Relaxed) {
            let tried = tokio::time::timeout(Duration::from_secs(2), self.store.writable()).await;
            tried.map_err(|_| StoreError::Busy)??;
            self.refusing.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ready means progress: nothing has waited too long.
    pub async fn lag(&self) -> Result<Duration, StoreError> {
        // What a person has paused waits on purpose, and a provider that is down is not the hub's standstill: both must not
        // keep webhooks out. What cannot be used as it is set up counts.
        let world = self.world();
        let working = world.links.values().filter(|link| !link.paused).map(|link| link.id);
        let working = working.filter(|link| self.open_breaker(*link).is_none());
        let broken = world.broken.iter().map(|(id, _)| *id).filter(|id| id.kind() == uzel_model::id::Kind::Connection);
        let health = self.store.health(working.chain(broken).collect()).await?;
        let now = self.clock.now();
        let age = |at: Option<jiff::Timestamp>| at.map_or(0, |at| (now.as_millisecond() - at.as_millisecond()).max(0)) as u64;
        Ok(Duration::from_millis(age(health.oldest_unread_at).max(age(health.oldest_due_at))))
    }

    /// Does work to its end even when whoever asked for it goes away: a renewed login whose saving was cut short would be lost,
    /// and a setup that was stored would not be used.
    async fn to_the_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
        // In a box: what a task is made of would else be compiled anew for each kind of work.
        let work: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(work);
        self.tasks.spawn(work).await.map_err(|_| "this failed inside the hub: its log says more".to_owned())
    }

    /// The same for what a person asks of a provider, whose words may repeat what it was sent.
    async fn asked<T: Send + 'static>(
        &self,
        link: &Arc<Link>,
        work: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        self.to_the_end(work).await?.map_err(|why| link.without_secrets(&why))
    }

    /// Asks the provider whether the connection works; `Err` says what is wrong.
    pub async fn health(self: &Arc<Self>, link: &Arc<Link>) -> Result<String, String> {
        let (engine, own) = (self.clone(), link.clone());
        self.asked(link, async move { tick::health(&engine, &own).await }).await
    }

    /// The URL by which a provider reaches a connection, with a key of its own, where our public address is known.
    pub fn hook_url(&self, link: &Link) -> Option<String> {
        let key = self.vault.hook_key(link.id.as_bytes());
        self.options.public_url.as_ref().map(|url| format!("{url}/hooks/{}?key={}", link.id, key.expose()))
    }

    /// That URL, if it was registered by us: an address that a person set in the provider's cabinet is not looked for.
    fn registered_url(&self, link: &Link) -> Option<String> {
        let key = self.vault.hook_key(link.id.as_bytes());
        let registered = self.world().by_webhook_key(&self.vault, link.provider.id, key.expose()).is_some();
        self.hook_url(link).filter(|_| registered)
    }

    /// Registers our webhook at the provider: the given URL, or ours, whose key is let in from now on.
    pub async fn subscribe(self: &Arc<Self>, link: &Arc<Link>, url: Option<String>) -> Result<(), String> {
        let (engine, own) = (self.clone(), link.clone());
        let work = async move {
            let url = match url {
                Some(url) => url,
                None => {
                    let unknown = "the hub does not know its public address: set `public_url`, or give `url`";
                    let url = engine.hook_url(&own).ok_or(unknown)?;
                    engine.let_in(&own).await.map_err(|error| error.to_string())?;
                    url
                }
            };
            tick::subscribe(&engine, &own, &url).await
        };
        self.asked(link, work).await
    }

    async fn let_in(&self, link: &Link) -> Result<(), StoreError> {
        let key = self.vault.hook_key(link.id.as_bytes());
        let row = uzel_store::KeyRow {
            hash: self.vault.key_hash(link.provider.id, key.expose()),
            id: Id::new(uzel_model::id::Kind::Key).to_string(),
            of: Some(link.id),
            about: link.provider.id.to_owned(),
            webhook: true,
            label: "registered by the hub".to_owned(),
            made_at: self.clock.now(),
            expires_at: None,
            last_used_at: None,
        };
        self.store.put_setup(uzel_store::Setup { keys: vec![row], ..Default::default() }).await?;
        self.reload().await
    }

    /// Ends an authorisation that a person began in a browser.
    pub async fn authorize(
        self: &Arc<Self>,
        link: &Arc<Link>,
        query: Vec<(String, String)>,
        redirect_url: String,
    ) -> Result<(), String> {
        let (engine, own) = (self.clone(), link.clone());
        self.asked(link, async move { tick::authorize(&engine, &own, &query, &redirect_url).await }).await
    }

    /// What a text would cost.
    pub async fn cost(self: &Arc<Self>, link: &Arc<Link>, phone: String, text: String) -> Result<uzel_model::port::Cost, String> {
        let (engine, own) = (self.clone(), link.clone());
        self.asked(link, async move { tick::cost(&engine, &own, &phone, &text).await }).await
    }

    /// Money left at the provider.
    pub async fn balance(self: &Arc<Self>, link: &Arc<Link>) -> Result<String, String> {
        let (engine, own) = (self.clone(), link.clone());
        self.asked(link, async move { tick::balance(&engine, &own).await }).await
    }
}

/// What a replay did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ReplayOutcome {
    pub new_events: u32,
    pub known_events: u32,
    pub queued: u32,
    pub dead: Option<String>,
}

impl Engine {
    /// What an entry would cause, without causing it.
    pub fn dry_run(&self, entry: &Entry) -> serde_json::Value {
        let world = self.world();
        let change = read::change(&world, entry, &status::Known::new(), self.clock.now());
        let mark = change.mark.as_ref();
        let events: Vec<serde_json::Value> = change
            .events
            .iter()
            .map(|new| {
                let commands: Vec<serde_json::Value> = new
                    .commands
                    .iter()
                    .map(|queued| {
                        let mut told = serde_json::json!({
                            "job": queued.command.job, "due_at": queued.command.due_at, "latest_at": queued.command.latest_at,
                            "held": queued.held, "flow": queued.command.flow,
                        });
                        let steps = chain::preview(&world, &new.event, &queued.command);
                        if !steps.is_empty() {
                            told["then"] = serde_json::json!(steps);
                        }
                        told
                    })
                    .collect();
                serde_json::json!({ "event": new.event, "commands": commands, "calls_off": new.call_off.is_some() })
            })
            .collect();
        serde_json::json!({ "state": mark.map(|mark| mark.state), "notes": mark.map(|mark| &mark.notes), "events": events })
    }

    /// What a body would cause if it came in to a connection now.
    pub fn dry_run_body(&self, link: &Link, body: String, content_type: String) -> serde_json::Value {
        let request = Request {
            method: "POST".to_owned(),
            path: String::new(),
            query: Vec::new(),
            headers: vec![("content-type".to_owned(), content_type)],
            body: body.into(),
            received_at: self.clock.now(),
            peer: None,
            key: None,
        };
        self.dry_run(&self.entry(link, request, Source::Webhook, tick::new_trace()))
    }
}
