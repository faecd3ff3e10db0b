//! What a person asks of the account at a provider: how it stands, its stop list, calls that prove a phone.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use uzel_model::{
    CallError, Client, phone,
    port::{CallCheck, CallCheckState, Standing, Stopped},
};

use crate::{Engine, Link, outward::Call, tick};

/// Opt-outs that are written at the same time: the store puts them into one transaction.
const AT_ONCE: usize = 64;

/// What an import of a stop list did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Imported {
    /// Phones that get no messages of this merchant any more.
    pub opted_out: u64,
    /// Rows that are no phone.
    pub unreadable: u64,
}

/// Makes one call by a port that the connector may have.
macro_rules! ask {
    ($engine:ident, $link:ident, $port:ident, $lacks:literal, |$has:ident, $client:ident| $call:expr) => {{
        let (engine, own) = ($engine.clone(), $link.clone());
        let work = async move {
            let $has = own.connector.$port().ok_or($lacks)?;
            let trace = tick::new_trace();
            let call = Call::new(&engine, &own, &trace);
            let $client = &Client::new(&call);
            $call.await.map_err(|error: CallError| error.to_string())
        };
        $engine.asked($link, work).await
    }};
}

impl Engine {
    /// Money left, limits and senders.
    pub async fn account(self: &Arc<Self>, link: &Arc<Link>) -> Result<Standing, String> {
        ask!(self, link, account, "this provider tells nothing of the account", |port, client| port.account(client))
    }

    /// Whom the provider writes to no more.
    pub async fn stop_list(self: &Arc<Self>, link: &Arc<Link>) -> Result<Vec<Stopped>, String> {
        ask!(self, link, stop_list, "this provider keeps no stop list", |port, client| port.list(client))
    }

    pub async fn put_on_stop_list(self: &Arc<Self>, link: &Arc<Link>, phone: String, note: String) -> Result<(), String> {
        ask!(self, link, stop_list, "this provider keeps no stop list", |port, client| port.add(client, &phone, &note))
    }

    pub async fn take_off_stop_list(self: &Arc<Self>, link: &Arc<Link>, phone: String) -> Result<(), String> {
        ask!(self, link, stop_list, "this provider keeps no stop list", |port, client| port.remove(client, &phone))
    }

    /// Whoever is on the provider's stop list gets no messages of this merchant by any connection.
    pub async fn import_stop_list(self: &Arc<Self>, link: &Arc<Link>) -> Result<Imported, String> {
        let stopped = self.stop_list(link).await?;
        let (engine, own) = (self.clone(), link.clone());
        let work = async move {
            let proof = format!("stop list of {}", own.provider.name);
            let now = engine.clock.now();
            let read = |stopped: &Stopped| phone::read_text(&stopped.phone, &own.country).ok();
            let phones: Vec<_> = stopped.iter().filter_map(read).collect();
            let unreadable = (stopped.len() - phones.len()) as u64;
            let opted_out = phones.len() as u64;
            let put = phones.into_iter().map(|phone| {
                let (engine, proof, merchant) = (&engine, &proof, own.merchant);
                async move { engine.store.put_consent(merchant, &phone.e164, false, proof, now).await }
            });
            let put: Vec<_> = futures::stream::iter(put).buffer_unordered(AT_ONCE).collect().await;
            put.into_iter().collect::<Result<Vec<bool>, _>>().map_err(|error| error.to_string())?;
            Ok(Imported { opted_out, unreadable })
        };
        self.asked(link, work).await
    }

    /// Begins to prove a phone by a call.
    pub async fn begin_call_check(self: &Arc<Self>, link: &Arc<Link>, phone: String) -> Result<CallCheck, String> {
        ask!(self, link, call_checks, "this provider proves no phones", |port, client| port.begin(client, &phone))
    }

    pub async fn call_check(self: &Arc<Self>, link: &Arc<Link>, id: String) -> Result<CallCheckState, String> {
        ask!(self, link, call_checks, "this provider proves no phones", |port, client| port.state(client, &id))
    }
}
