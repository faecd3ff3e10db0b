//! An endpoint as the hub's one client sees it: a way out like a connection, whose provider is the merchant's own software.

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Malformed, Provider,
    connector::{Connector, Rate, Reading, Request, Scope},
    webhook::PROVIDER_ID,
};

/// No row of the list of providers: nobody sets up a connection to it.
pub static PROVIDER: Provider = Provider::new::<Receiver>(PROVIDER_ID, "Endpoint");

/// How often an endpoint may be called.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// So many calls in each period; as many as it takes, if not set.
    #[garde(range(min = 1))]
    pub calls: Option<u32>,
    #[serde(default)]
    #[garde(skip)]
    pub period_s: u32,
}

impl Connector for Receiver {
    fn keyed(&self) -> bool {
        false
    }

    fn parse(&self, _request: &Request) -> Result<Reading, Malformed> {
        Err(Malformed::new("an endpoint sends nothing"))
    }

    fn rates(&self) -> Vec<Rate> {
        self.calls.map(|calls| Rate { scope: Scope::Connection, calls, period_s: self.period_s.max(1) }).into_iter().collect()
    }
}
