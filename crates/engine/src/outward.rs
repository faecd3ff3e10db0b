//! The hub's one client: deadline, rate, breaker, login, address rules, body limits and journalling stand here once.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uzel_model::{
    Bytes, CallError, Client, Id, Outgoing, Reply, Secret, Transport,
    id::Kind,
    port::{Login, Session},
};
use uzel_store::{Exchange, StoreError};

use crate::{
    Engine, Link, Networks, Options,
    breaker::Breakers,
    rate::{Limits, Waits},
    trace,
};

/// What is read of an answer, after unpacking.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What the journal keeps of a request or an answer.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// How long a call that holds no place waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(60);

/// Resolves names, and gives only addresses that may be called: checked where the connection is made, so that a name which
/// changes its address in between gains nothing.
struct Resolver(Networks);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let networks = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found =
                tokio::task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>))
                    .await??;
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| networks.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err("its addresses are private: the operator's `allow_networks` does not name them".into());
            }
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

type Http = LazyLock<reqwest::Client, Box<dyn FnOnce() -> reqwest::Client + Send>>;
type SessionLock = Arc<tokio::sync::Mutex<Option<Session>>>;

/// What all calls share.
pub(crate) struct Outward {
    http: Http,
    networks: Networks,
    timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) breakers: Breakers,
    sessions: Mutex<HashMap<Id, SessionLock>>,
}

impl Outward {
    /// Without `at_once` the client is made for its first call, which is costly: a simulated hub makes none.
    pub(crate) fn new(options: &Options, at_once: bool) -> Self {
        let own = options.clone();
        let http: Http = LazyLock::new(Box::new(move || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(5))
                .timeout(own.call_timeout)
                .pool_max_idle_per_host(crate::IN_FLIGHT_MAX)
                .dns_resolver(Arc::new(Resolver(own.networks)))
                .user_agent(concat!("Uzel/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .build()
                .expect("the client's settings are fixed and right")
        }));
        if at_once {
            LazyLock::force(&http);
        }
        Self {
            http,
            networks: options.networks.clone(),
            timeout: options.call_timeout,
            limits: Limits::default(),
            breakers: Breakers::default(),
            sessions: Mutex::default(),
        }
    }
}

impl Engine {
    /// The way outward for one connection, with all that the loops' own calls keep to. The caller holds no place among the
    /// calls under way, and nothing of it is journalled.
    pub fn transport<'a>(&'a self, link: &'a Link, trace: &'a str) -> impl Transport + 'a {
        Call::new(self, link, trace)
    }

    /// Does a change of the setup that voids these connections' logins: no renewal saves one meanwhile, and none is kept.
    pub(crate) async fn voiding_logins<T>(&self, links: &[Id], change: impl Future<Output = T>) -> T {
        let mut links = links.to_vec();
        // In one order, so that two changes at a time do not wait for each other.
        links.sort_unstable();
        links.dedup();
        let mut held = Vec::new();
        for link in links {
            let lock = self.outward.sessions.lock().entry(link).or_default().clone();
            held.push(lock.lock_owned().await);
        }
        // Before the change: if it fails, the stored login is read again.
        held.iter_mut().for_each(|session| **session = None);
        change.await
    }

    /// Another node may have changed any of them.
    pub(crate) fn forget_logins(&self) {
        let links: Vec<Id> = self.outward.sessions.lock().keys().copied().collect();
        links.into_iter().for_each(|link| self.forget_login(Some(link)));
    }

    /// What was committed ended this connection's login: what is kept of it in memory goes too.
    pub(crate) fn forget_login(&self, link: Option<Id>) {
        if let Some(lock) = link.and_then(|link| self.outward.sessions.lock().get(&link).cloned()) {
            // A renewal under way holds the lock for as long as its call takes: nobody waits for that here.
            self.tasks.spawn(async move { *lock.lock().await = None });
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredSession {
    access: String,
    refresh: Option<String>,
    expires_at: Option<Timestamp>,
}

/// The exchanges of one attempt.
pub(crate) struct Call<'a> {
    engine: &'a Engine,
    link: &'a Link,
    trace: &'a str,
    waits: Waits,
    exchanges: Mutex<Vec<Exchange>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(engine: &'a Engine, link: &'a Link, trace: &'a str) -> Self {
        Self { engine, link, trace, waits: Waits::UpTo(TURN_WAIT_MAX), exchanges: Mutex::default() }
    }

    /// A command's call: it holds a place among the calls under way, so it waits for its turn only shortly.
    pub(crate) fn in_place(mut self) -> Self {
        self.waits = Waits::Shortly;
        self
    }

    /// Whether anything went out, a connection that was not made included.
    pub(crate) fn has_tried(&self) -> bool {
        !self.exchanges.lock().is_empty()
    }

    pub(crate) fn trace(&self) -> &str {
        self.trace
    }

    pub(crate) fn into_exchanges(self) -> Vec<Exchange> {
        self.exchanges.into_inner()
    }

    fn session_lock(&self) -> SessionLock {
        self.engine.outward.sessions.lock().entry(self.link.id).or_default().clone()
    }

    /// The session, made or renewed where needed. `stale` is the token that has just been refused.
    pub(crate) async fn session(&self, login: &dyn Login, stale: Option<&str>) -> Result<Session, CallError> {
        let lock = self.session_lock();
        let mut held = lock.lock().await;
        self.stays()?;
        if held.is_none() {
            *held = self.stored().await?;
        }
        let now = self.engine.clock.now();
        if let Some(session) = held.as_ref() {
            let expired = session.expires_at.is_some_and(|at| at <= now);
            let refused = stale.is_some_and(|stale| stale == session.access.expose());
            if !expired && !refused {
                return Ok(session.clone());
            }
        }
        self.alone(login, &mut held, stale).await
    }

    /// Renews the login while no other node does: a refresh token works once.
    async fn alone(&self, login: &dyn Login, held: &mut Option<Session>, stale: Option<&str>) -> Result<Session, CallError> {
        let (engine, link) = (self.engine, self.link);
        if !engine.store.shared() {
            return self.renew(login, held).await;
        }
        let (name, time) = (format!("login/{}", link.id), engine.options.call_timeout);
        let unreachable = |error: StoreError| CallError::Unreachable(error.to_string());
        let taken = engine.take_soon(&name, time * 3, time).await.map_err(unreachable)?;
        let Some(taken) = taken else {
            return Err(CallError::Unreachable("another node is renewing the login".to_owned()));
        };
        let renewed = async {
            let stored = self.stored().await?;
            let now = engine.clock.now();
            let good = |session: &Session| {
                session.expires_at.is_none_or(|at| at > now) && stale.is_none_or(|stale| stale != session.access.expose())
            };
            match stored {
                // Another node has done it meanwhile.
                Some(session) if good(&session) => {
                    *held = Some(session.clone());
                    Ok(session)
                }
                stored => {
                    *held = stored;
                    self.renew(login, held).await
                }
            }
        };
        let renewed = renewed.await;
        engine.give_back(taken).await;
        renewed
    }

    async fn renew(&self, login: &dyn Login, held: &mut Option<Session>) -> Result<Session, CallError> {
        let renewed = login.renew(&Client::new(self), held.as_ref()).await?;
        // The old token is dead by now: the new one is kept here even if the store will not have it yet.
        *held = Some(renewed.clone());
        // Saved before its first use.
        self.save(&renewed).await?;
        Ok(renewed)
    }

    /// A connection that was pointed elsewhere since this call began has a login of its own: the old one must neither be
    /// kept for it nor taken from it.
    fn stays(&self) -> Result<(), CallError> {
        match self.engine.world().links.get(&self.link.id) {
            Some(now) if now.target != self.link.target => {
                Err(CallError::Unreachable("the connection was pointed elsewhere meanwhile".to_owned()))
            }
            _ => Ok(()),
        }
    }

    async fn stored(&self) -> Result<Option<Session>, CallError> {
        let sealed = self.engine.store.session(self.link.id).await.map_err(|error| CallError::Unreachable(error.to_string()))?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = self
            .engine
            .vault
            .open(&session_context(self.link.id), &sealed)
            .map_err(|error| CallError::Unauthorized(error.to_string()))?;
        let stored: StoredSession =
            serde_json::from_slice(&plain).map_err(|_| CallError::Unauthorized("the stored login is not readable".to_owned()))?;
        Ok(Some(Session {
            access: Secret::new(stored.access),
            refresh: stored.refresh.map(Secret::new),
            expires_at: stored.expires_at,
        }))
    }

    async fn save(&self, session: &Session) -> Result<(), CallError> {
        let stored = StoredSession {
            access: session.access.expose().to_owned(),
            refresh: session.refresh.as_ref().map(|refresh| refresh.expose().to_owned()),
            expires_at: session.expires_at,
        };
        let plain = serde_json::to_vec(&stored).expect("a session is JSON");
        let sealed = self.engine.vault.seal(&session_context(self.link.id), &plain);
        let mut pause = Duration::from_millis(50);
        // The provider has already killed the old token: losing the new one would cost a person's login.
        loop {
            match self.engine.store.put_session(self.link.id, sealed.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if pause > Duration::from_secs(10) => return Err(CallError::Unreachable(error.to_string())),
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }

    /// Takes a session that a person's login brought.
    pub(crate) async fn adopt(&self, session: Session) -> Result<(), CallError> {
        let lock = self.session_lock();
        let mut held = lock.lock().await;
        self.stays()?;
        self.save(&session).await?;
        *held = Some(session);
        Ok(())
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Reply, CallError> {
        self.engine.outward.limits.admit(self.engine, self.link, self.waits).await?;
        let started = Instant::now();
        let at = self.engine.clock.now();
        let id = Id::new(Kind::Attempt);
        let result = self.exchange_once(outgoing, id).await;
        let elapsed = started.elapsed();
        let label = crate::ProviderLabel { provider: self.link.provider.id };
        self.engine.metrics.attempt_seconds.get_or_create(&label).observe(elapsed.as_secs_f64());
        self.record(id, outgoing, &result, at, elapsed);
        result
    }

    async fn exchange_once(&self, outgoing: &Outgoing, id: Id) -> Result<Reply, CallError> {
        let outward = &self.engine.outward;
        let url = reqwest::Url::parse(&outgoing.url)
            .map_err(|_| CallError::refused(uzel_model::Refusal::Ours, "url", "its address is no URL"))?;
        // Names are checked when they are resolved; addresses written out never reach the resolver.
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(|address| !outward.networks.allows(address)) {
            return Err(CallError::Unreachable(
                "its address is private: the operator's `allow_networks` does not name it".to_owned(),
            ));
        }
        let method = reqwest::Method::from_bytes(outgoing.method.as_bytes())
            .map_err(|_| CallError::Unreachable("no such method".to_owned()))?;
        let mut request = outward.http.request(method, url).body(outgoing.body.clone()).timeout(outward.timeout);
        for (name, value) in &outgoing.headers {
            request = request.header(*name, value);
        }
        request = request.header("traceparent", trace::traceparent(self.trace, id));
        let lost = |error: &reqwest::Error| {
            let what = if error.is_timeout() { "no answer in time" } else { "the connection broke before the answer was whole" };
            CallError::Lost(what.to_owned())
        };
        let response = request.send().await.map_err(|error| {
            if error.is_connect() { CallError::Unreachable(format!("no connection: {}", root(&error))) } else { lost(&error) }
        })?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| lost(&error))?;
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(CallError::Unreadable("the answer is larger than 1 MiB".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body: Bytes::from(body) })
    }

    fn record(&self, id: Id, outgoing: &Outgoing, result: &Result<Reply, CallError>, at: Timestamp, elapsed: Duration) {
        let (response, error) = match result {
            Ok(reply) if outgoing.login => (format!("{} (a login: its body is not kept)", reply.status), None),
            Ok(reply) => (format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body)), None),
            Err(error) => (String::new(), Some(error.to_string())),
        };
        let error = error
            .or_else(|| result.as_ref().ok().filter(|reply| reply.status >= 400).map(|reply| format!("HTTP {}", reply.status)));
        let request =
            if outgoing.login { "(a login: its body is not kept)".into() } else { String::from_utf8_lossy(&outgoing.body) };
        self.exchanges.lock().push(Exchange {
            id,
            merchant: self.link.merchant,
            connection: self.link.id,
            provider: self.link.provider.id.to_owned(),
            at,
            endpoint: format!("{} {}", outgoing.method, self.mask(&outgoing.url)),
            request: self.mask(&request),
            response: self.mask(&response),
            error: error.map(|error| self.mask(&error)),
            duration_ms: elapsed.as_millis() as i64,
            trace: self.trace.to_owned(),
        });
    }

    /// Takes every secret of the connection out of a text, and cuts it to what the journal keeps.
    fn mask(&self, text: &str) -> String {
        // Before it is cut: a piece of a secret at the cut would not be known as one.
        let mut masked = self.link.without_secrets(text);
        if let Some((end, _)) = masked.char_indices().nth(KEPT_BYTES_MAX) {
            masked.truncate(end);
            masked.push('…');
        }
        masked
    }
}

fn session_context(link: Id) -> Vec<u8> {
    [link.as_bytes().as_slice(), b"session"].concat()
}

fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[async_trait]
impl Transport for Call<'_> {
    async fn exchange(&self, outgoing: Outgoing) -> Result<Reply, CallError> {
        let login = self.link.connector.login().filter(|_| !outgoing.login);
        let mut ready = outgoing.clone();
        let mut used = None;
        if let Some(login) = login {
            let session = self.session(login, None).await?;
            login.apply(&session, &mut ready);
            used = Some(session);
        }
        let mut reply = self.send(&ready).await?;
        if let (401, Some(login), Some(session)) = (reply.status, login, used) {
            // Refused before anything was done: renew once, repeat once.
            let session = self.session(login, Some(session.access.expose())).await?;
            let mut again = outgoing.clone();
            login.apply(&session, &mut again);
            reply = self.send(&again).await?;
        }
        judge(reply, outgoing.repeatable, self.engine.clock.now())
    }

    fn now(&self) -> Timestamp {
        self.engine.clock.now()
    }
}

/// Turns statuses that mean the same everywhere into errors.
fn judge(reply: Reply, repeatable: bool, now: Timestamp) -> Result<Reply, CallError> {
    let status = reply.status;
    match status {
        401 => Err(CallError::Unauthorized("the provider answers 401: the login is not good".to_owned())),
        429 => {
            let wait = reply
                .header("retry-after")
                .and_then(|value| value.trim().parse::<i64>().ok())
                .filter(|wait| (0..=86_400).contains(wait));
            let at = wait.map(|wait| now + SignedDuration::from_secs(wait));
            Err(CallError::Later { reason: "the provider answers 429: too many calls".to_owned(), at })
        }
        503 => Err(CallError::Unreachable("the provider answers 503: not available".to_owned())),
        300..=399 => Err(CallError::Unreadable(format!("the provider answers {status}: redirects are not followed"))),
        // Behind these the work may have been done.
        500.. if !repeatable => Err(CallError::Lost(format!("the provider answers {status}"))),
        500.. => Err(CallError::Unreachable(format!("the provider answers {status}"))),
        _ => Ok(reply),
    }
}
