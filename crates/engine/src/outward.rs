//! The hub's one client: deadline, rate, breaker, login, address rules, body limits and journalling stand here once.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};
use uzel_model::{Bytes, CallError, Id, Outgoing, Reply, Secret, Transport, id::Kind, message::HIDDEN};
use uzel_store::Exchange;

use crate::{
    Engine, Link, Networks, Options,
    breaker::Breakers,
    login::Logins,
    rate::{Limits, Waits},
    trace,
};

/// What is read of an answer, after unpacking.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What is read of an endpoint's answer: its status says all, so the rest is left.
const RECEIVED_BYTES_MAX: usize = 64 << 10;
/// What the journal keeps of a request or an answer.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// How long a call that holds no place waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(60);

/// A connection whose provider asks to be left alone makes no call for so long at the most; then one tries again.
const REST_MAX: SignedDuration = SignedDuration::from_hours(1);

/// How long a connection may take to be made: told apart from a call whose outcome nobody knows, since nothing was sent.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Names that are looked up at a time. The system's resolver may hang for longer than a call, and holds a thread meanwhile.
const LOOK_UPS_MAX: usize = 32;

/// Resolves names, and gives only addresses that may be called: checked where the connection is made, so that a name which
/// changes its address in between gains nothing.
struct Resolver {
    networks: Networks,
    /// Only networks that the operator names.
    named_only: bool,
    look_up: fn(&str) -> std::io::Result<Vec<SocketAddr>>,
    room: Arc<Semaphore>,
}

impl Resolver {
    fn new(networks: Networks, named_only: bool) -> Self {
        let look_up = |host: &str| Ok((host, 0).to_socket_addrs()?.collect());
        Self { networks, named_only, look_up, room: Arc::new(Semaphore::new(LOOK_UPS_MAX)) }
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (networks, named_only) = (self.networks.clone(), self.named_only);
        let (look_up, room) = (self.look_up, self.room.clone());
        Box::pin(async move {
            let host = name.as_str().to_owned();
            // Held by the thread: whoever asked may have given up before it ends.
            let place = room.acquire_owned().await?;
            let found = tokio::task::spawn_blocking(move || {
                let found = look_up(&host);
                drop(place);
                found
            });
            let allows = |address: &SocketAddr| may_be_called(&networks, address.ip(), named_only);
            let allowed: Vec<SocketAddr> = found.await??.into_iter().filter(allows).collect();
            if allowed.is_empty() {
                return Err(refusal(named_only).into());
            }
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

fn may_be_called(networks: &Networks, address: IpAddr, named_only: bool) -> bool {
    if named_only { networks.names(address) } else { networks.allows(address) }
}

fn refusal(named_only: bool) -> &'static str {
    if named_only {
        "without TLS only addresses that the operator's `allow_networks` names are called: write `https://`"
    } else {
        "its address is private: the operator's `allow_networks` does not name it"
    }
}

type Http = LazyLock<reqwest::Client, Box<dyn FnOnce() -> reqwest::Client + Send>>;

/// What all calls share.
pub(crate) struct Outward {
    http: Http,
    /// For endpoints without TLS: it reaches only what the operator names.
    plain: Http,
    networks: Networks,
    timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) breakers: Breakers,
    pub(crate) logins: Logins,
}

impl Outward {
    /// Without `at_once` the client is made for its first call, which is costly: a simulated hub makes none.
    pub(crate) fn new(options: &Options, at_once: bool) -> Self {
        let client = |named_only| -> Http {
            let own = options.clone();
            LazyLock::new(Box::new(move || http_client(own, named_only)))
        };
        let http = client(false);
        if at_once {
            LazyLock::force(&http);
        }
        Self {
            http,
            plain: client(true),
            networks: options.networks.clone(),
            timeout: options.call_timeout,
            limits: Limits::default(),
            breakers: Breakers::default(),
            logins: Logins::default(),
        }
    }
}

fn http_client(own: Options, named_only: bool) -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME.min(own.call_timeout / 2))
        .timeout(own.call_timeout)
        .pool_max_idle_per_host(crate::IN_FLIGHT_MAX)
        .dns_resolver(Arc::new(Resolver::new(own.networks, named_only)))
        .user_agent(concat!("Uzel/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .build()
        .expect("the client's settings are fixed and right")
}

impl Engine {
    /// The way outward for one connection, with all that the loops' own calls keep to. The caller holds no place among the
    /// calls under way, and nothing of it is journalled.
    pub fn transport<'a>(&'a self, link: &'a Link, trace: &'a str) -> impl Transport + 'a {
        Call::new(self, link, trace)
    }
}

/// What an endpoint's calls have of their own.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// How long one may take, if the hub gives it as much.
    pub(crate) timeout: Duration,
    pub(crate) headers: Vec<(String, Secret)>,
}

/// The exchanges of one attempt.
pub(crate) struct Call<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) link: &'a Link,
    trace: &'a str,
    waits: Waits,
    /// How it is called, where it is an endpoint.
    receiver: Option<&'a Receiver>,
    /// From then on another node may make the same call.
    lease_until: Option<Instant>,
    /// From then on another node may renew the login.
    pub(crate) login_until: Mutex<Option<Instant>>,
    exchanges: Mutex<Vec<Exchange>>,
    /// A code in what is sent: it is hidden in what is journalled.
    hidden: Mutex<Option<String>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(engine: &'a Engine, link: &'a Link, trace: &'a str) -> Self {
        Self {
            engine,
            link,
            trace,
            waits: Waits::UpTo(TURN_WAIT_MAX),
            receiver: None,
            lease_until: None,
            login_until: Mutex::default(),
            exchanges: Mutex::default(),
            hidden: Mutex::default(),
        }
    }

    /// A command's call: it holds a place among the calls under way, so it waits for its turn only shortly.
    pub(crate) fn in_place(mut self, lease_until: Option<Instant>) -> Self {
        self.waits = Waits::Shortly;
        self.lease_until = lease_until;
        self
    }

    /// A call to an endpoint.
    pub(crate) fn received_by(mut self, receiver: &'a Receiver) -> Self {
        self.receiver = Some(receiver);
        self
    }

    /// Sends one request as it is, and gives any answer that came: whoever asks judges its status.
    pub(crate) async fn deliver(&self, outgoing: &Outgoing) -> Result<Reply, CallError> {
        self.send(outgoing).await
    }

    fn timeout(&self) -> Duration {
        let longest = self.engine.outward.timeout;
        self.receiver.map_or(longest, |receiver| receiver.timeout.min(longest))
    }

    /// Whether anything went out, a connection that was not made included.
    pub(crate) fn has_tried(&self) -> bool {
        !self.exchanges.lock().is_empty()
    }

    /// From now on this code is hidden in what is journalled.
    pub(crate) fn hide(&self, code: Option<String>) {
        *self.hidden.lock() = code;
    }

    pub(crate) fn trace(&self) -> &str {
        self.trace
    }

    pub(crate) fn into_exchanges(self) -> Vec<Exchange> {
        self.exchanges.into_inner()
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Reply, CallError> {
        self.engine.outward.limits.admit(self.engine, self.link, self.waits).await?;
        self.in_time(outgoing)?;
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

    /// A node that slept, or waited for long, may find that another has taken over what it was about to do: nothing goes out
    /// that could not end before that.
    fn in_time(&self, outgoing: &Outgoing) -> Result<(), CallError> {
        let login_until = *self.login_until.lock();
        let until = self.lease_until.into_iter().chain(login_until.filter(|_| outgoing.login)).min();
        if until.is_none_or(|until| Instant::now() + self.engine.outward.timeout <= until) {
            return Ok(());
        }
        tracing::warn!(trace.id = self.trace, connection.id = %self.link.id, "nothing is sent so late: another node may do it");
        Err(CallError::Later { reason: "it came too late to its turn: nothing was sent".to_owned(), at: None })
    }

    async fn exchange_once(&self, outgoing: &Outgoing, id: Id) -> Result<Reply, CallError> {
        let outward = &self.engine.outward;
        let url = reqwest::Url::parse(&outgoing.url)
            .map_err(|_| CallError::refused(uzel_model::Refusal::Ours, "url", "its address is no URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(CallError::refused(uzel_model::Refusal::Ours, "url", "its address holds a name or a password"));
        }
        // Names are checked when they are resolved; addresses written out never reach the resolver.
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        let named_only = (self.receiver.is_some() || outgoing.strangers) && url.scheme() == "http";
        if literal.is_some_and(|address| !may_be_called(&outward.networks, address, named_only)) {
            return Err(CallError::Unreachable(refusal(named_only).to_owned()));
        }
        let http = if named_only { &outward.plain } else { &outward.http };
        let method = reqwest::Method::from_bytes(outgoing.method.as_bytes())
            .map_err(|_| CallError::Unreachable("no such method".to_owned()))?;
        let mut request = http.request(method, url).body(outgoing.body.clone()).timeout(self.timeout());
        for (name, value) in &outgoing.headers {
            request = request.header(*name, value);
        }
        for (name, value) in self.receiver.iter().flat_map(|receiver| &receiver.headers) {
            request = request.header(name, value.expose());
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
            if self.receiver.is_some() {
                // The status has said what became of it: an answer that breaks off or never ends changes nothing.
                let Ok(chunk) = chunk else { break };
                body.extend_from_slice(&chunk[..chunk.len().min(RECEIVED_BYTES_MAX - body.len())]);
                if body.len() == RECEIVED_BYTES_MAX {
                    break;
                }
                continue;
            }
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
        let request = match std::str::from_utf8(&outgoing.body) {
            _ if outgoing.login => "(a login: its body is not kept)".to_owned(),
            Ok(text) => text.to_owned(),
            Err(_) => format!("({} bytes that are no text)", outgoing.body.len()),
        };
        self.exchanges.lock().push(Exchange {
            id,
            merchant: self.link.merchant,
            connection: self.link.id,
            provider: self.link.provider.id.to_owned(),
            at,
            endpoint: format!("{} {}", outgoing.method, self.mask(&outgoing.shown_url())),
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
        if let Some(code) = &*self.hidden.lock() {
            masked = masked.replace(code.as_str(), HIDDEN);
        }
        if let Some((end, _)) = masked.char_indices().nth(KEPT_BYTES_MAX) {
            masked.truncate(end);
            masked.push('…');
        }
        masked
    }
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
        if reply.status == 401 && login.is_some_and(|login| !login.is_stale(&reply)) {
            return Ok(reply);
        }
        if let (401, Some(login), Some(session)) = (reply.status, login, used) {
            // Refused before anything was done: renew once, repeat once.
            let session = self.session(login, Some(session.access.expose())).await?;
            let mut again = outgoing.clone();
            login.apply(&session, &mut again);
            reply = self.send(&again).await?;
            if reply.status == 401 && !login.is_stale(&reply) {
                return Ok(reply);
            }
        }
        let now = self.engine.clock.now();
        if let Some(at) = reply.retry_at(now).filter(|_| reply.status == 429 && !outgoing.reads_429) {
            // What one call is told holds for all of the connection: with more of them the wait would only grow.
            self.engine.outward.limits.leave_alone(self.link.id, at.min(now + REST_MAX));
        }
        judge(reply, &outgoing, now)
    }

    fn now(&self) -> Timestamp {
        self.engine.clock.now()
    }
}

/// Turns statuses that mean the same everywhere into errors.
fn judge(reply: Reply, outgoing: &Outgoing, now: Timestamp) -> Result<Reply, CallError> {
    let status = reply.status;
    match status {
        401 => Err(CallError::Unauthorized("the provider answers 401: the login is not good".to_owned())),
        429 if !outgoing.reads_429 => {
            Err(CallError::Later { reason: "the provider answers 429: too many calls".to_owned(), at: reply.retry_at(now) })
        }
        503 => Err(CallError::Unreachable("the provider answers 503: not available".to_owned())),
        300..=399 => Err(CallError::Unreadable(format!("the provider answers {status}: redirects are not followed"))),
        // Behind these the work may have been done.
        500.. if !outgoing.repeatable => Err(CallError::Lost(format!("the provider answers {status}"))),
        500.. => Err(CallError::Unreachable(format!("the provider answers {status}"))),
        _ => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use reqwest::dns::Resolve;

    use super::*;

    /// First a public address, then ours.
    fn rebinding(host: &str) -> std::io::Result<Vec<SocketAddr>> {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let first = ASKED.fetch_add(1, Ordering::Relaxed) == 0;
        let addresses: &[&str] = match host {
            "rebinds.example" if first => &["93.184.215.14:0"],
            "rebinds.example" => &["127.0.0.1:0"],
            _ => &["10.0.0.1:0", "[::1]:0", "93.184.215.14:0", "169.254.169.254:0", "[64:ff9b::a9fe:a9fe]:0"],
        };
        Ok(addresses.iter().map(|address| address.parse().expect("an address")).collect())
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_addresses_at_each_connection() {
        let resolver = Resolver { look_up: rebinding, ..Resolver::new(Networks::default(), false) };
        let resolve = async |name: &str| {
            let found = resolver.resolve(name.parse().unwrap()).await;
            found.map(Iterator::collect::<Vec<_>>).map_err(|error| error.to_string())
        };
        assert_eq!(resolve("rebinds.example").await.unwrap(), ["93.184.215.14:0".parse().unwrap()]);
        assert!(resolve("rebinds.example").await.unwrap_err().contains("private"));
        assert_eq!(resolve("mixed.example").await.unwrap(), ["93.184.215.14:0".parse().unwrap()]);
    }
}
