//! Stand-ins for the outside providers of the hub.
//!
//! Each provider answers below its own path (`/smsru/…`, `/iiko/…`) as its dossier says the real service does.
//! `/_sandbox/…` is the control: what was called, what shall go wrong, what the provider shall send.
//! The crate shares no code with the rest of the workspace, so that a misreading of a provider in one of them
//! shows up as a disagreement instead of cancelling out.

mod amocrm;
mod cases;
mod control;
mod evotor;
mod exolve;
mod faults;
mod fcm;
mod iiko;
mod jowi;
mod limit;
mod modulkassa;
mod poster;
mod record;
mod resend;
mod rkeeper;
mod serve;
mod smsru;
mod telegram;
mod token;
mod webpush;
mod whatsappmeta;
mod wire;
mod yclients;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use cases::{CASES, Case, CaseInfo, case};
use faults::Faults;
use record::Records;
use wire::{Answer, Call};

type Make = fn() -> Box<dyn Provider>;

/// The providers there are: name and how to make one.
const PROVIDERS: &[(&str, Make)] = &[
    ("smsru", || Box::new(smsru::SmsRu::default())),
    ("iiko", || Box::new(iiko::Iiko::default())),
    ("amocrm", || Box::new(amocrm::AmoCrm::default())),
    ("yclients", || Box::new(yclients::Yclients::default())),
    ("telegram", || Box::new(telegram::Telegram::default())),
    ("rkeeper", || Box::new(rkeeper::Rkeeper::default())),
    ("webpush", || Box::new(webpush::WebPush::default())),
    ("fcm", || Box::new(fcm::Fcm::default())),
    ("resend", || Box::new(resend::Resend::default())),
    ("exolvesms", || Box::new(exolve::ExolveSms::default())),
    ("whatsappexolve", || Box::new(exolve::ExolveWhatsapp::default())),
    ("jowi", || Box::new(jowi::Jowi::default())),
    ("evotor", || Box::new(evotor::Evotor::default())),
    ("modulkassa", || Box::new(modulkassa::ModulKassa::default())),
    ("poster", || Box::new(poster::Poster::default())),
    ("whatsappmeta", || Box::new(whatsappmeta::WhatsApp::default())),
];

/// A running sandbox; it stops when this is dropped.
pub struct Sandbox {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Sandbox {
    /// Starts on this address (port 0 takes a free one).
    pub async fn start(address: SocketAddr) -> std::io::Result<Sandbox> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve::run(listener, Arc::new(World::new())));
        Ok(Sandbox { address, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Such as `http://127.0.0.1:8099`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until the server ends.
    pub async fn stopped(mut self) {
        drop((&mut self.task).await);
    }

    /// Closes the port and every connection, and waits until that is done.
    pub async fn stop(self) {
        self.task.abort();
        self.stopped().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a provider's stand-in has to be able to do.
trait Provider: Send + Sync {
    /// Does the work of a call and answers it.
    fn answer(&self, call: &Call) -> Answer;

    /// How this provider words a failure with this HTTP status.
    fn failure(&self, status: u16) -> Answer;

    /// How this provider says that it is called too often.
    fn limited(&self) -> Answer {
        self.failure(429)
    }

    /// Whether this call fetches a token, and so cannot be refused for an old one.
    fn is_token_call(&self, _call: &Call) -> bool {
        false
    }

    /// Forgets the tokens given out so far.
    fn expire_tokens(&self) {}

    /// How this provider says that the token is no longer good.
    fn token_expired(&self) -> Answer {
        self.failure(401)
    }

    /// Merges these settings into the present ones and gives them all back.
    fn settings(&self, _patch: &Value) -> Result<Value, String> {
        Ok(Value::Object(Map::new()))
    }

    /// Replaces a collection such as `orders`; `None` when there is no such collection.
    fn put(&self, _what: &str, _body: Value) -> Option<Result<Value, String>> {
        None
    }

    /// Shows a collection.
    fn show(&self, _what: &str) -> Option<Value> {
        None
    }

    /// Adds the provider's own counts.
    fn summary(&self, _counts: &mut Map<String, Value>) {}

    /// Makes cases whose content hangs on the state or on the options, such as signed ones.
    fn make_cases(&self, _name: &str, _options: &Value) -> Option<Result<Vec<Case>, String>> {
        None
    }

    /// Where a case goes when the request to send names no address.
    fn destinations(&self) -> Vec<String> {
        Vec::new()
    }

    /// Tells the provider whether it may keep what it accepts.
    fn keep(&self, _keep: bool) {}

    /// Back to the state at the start.
    fn reset(&self);
}

/// One provider with what the sandbox keeps around it.
struct Stand {
    name: &'static str,
    provider: Box<dyn Provider>,
    records: Records,
    faults: Faults,
}

struct World {
    stands: Vec<Stand>,
    /// Made at the first sending only, because most runs never send.
    client: std::sync::OnceLock<Result<reqwest::Client, String>>,
}

impl World {
    fn new() -> World {
        let stands = PROVIDERS
            .iter()
            .map(|(name, make)| Stand { name, provider: make(), records: Records::default(), faults: Faults::default() })
            .collect();
        World { stands, client: std::sync::OnceLock::new() }
    }

    fn stand(&self, name: &str) -> Option<&Stand> {
        self.stands.iter().find(|stand| stand.name == name)
    }
}
