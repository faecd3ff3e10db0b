//! `bridge.toml`: all that a person sets.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::{secret::Secret, words::Language};

/// The settings; only `hub`, `merchant` and one of `secret` and `staff_key` must be there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The hub's address, for instance `https://hub.example`; `/loyalty/…` is put behind it.
    pub hub: String,
    /// Id or slug of the merchant: what a till's body leaves out.
    pub merchant: String,
    /// Id or slug of the outlet, likewise.
    pub outlet: Option<String>,
    /// The outlet's bridge secret; the hub shows it once.
    pub secret: Option<Secret>,
    /// The next one, while secrets are changed: tried where the hub refuses the first.
    pub next_secret: Option<Secret>,
    /// Sent as `X-Staff-Key` where the till sends none.
    pub staff_key: Option<Secret>,
    /// Of messages to the cashier, where the till names none: ru, uz or en.
    #[serde(default)]
    pub language: Language,
    /// Where tills call.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// What tills must send as `X-Till-Key`; without one the bridge listens on loopback only.
    pub till_key: Option<Secret>,
    /// How long a cashier waits for a quote at most.
    #[serde(default = "quote_timeout_ms")]
    pub quote_timeout_ms: u64,
    /// How long one try of a commit, refund, cancellation or code may take.
    #[serde(default = "commit_timeout_ms")]
    pub commit_timeout_ms: u64,
    /// How many calls may wait; a call beyond is answered 503.
    #[serde(default = "queue_records_max")]
    pub queue_records_max: usize,
    /// How long a call is tried before a person must look at it: the hub knows a key for 72 hours.
    #[serde(default = "keep_hours")]
    pub keep_hours: u32,
    /// What quotes are answered while the line is down.
    #[serde(default)]
    pub offline: Offline,
}

/// The merchant's rule for quotes while the line is down.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Offline {
    pub quotes: OfflineQuotes,
    /// Points for a purchase, in hundredths of a percent of its eligible total: 500 is 5 %.
    pub earn_bps: u32,
    /// The most that one receipt may spend, in units, against the last balance known; 0 for nothing.
    pub redeem_max: u64,
    /// The most of a receipt's eligible total that points may pay, in hundredths of a percent.
    pub redeem_limit_bps: u32,
    /// How long a balance that was seen counts.
    pub balance_hours: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OfflineQuotes {
    /// Sell without loyalty.
    Refuse,
    /// Promise points by `earn_bps`, and credit them when the line is back.
    Earn,
}

impl Default for Offline {
    fn default() -> Self {
        Self { quotes: OfflineQuotes::Refuse, earn_bps: 500, redeem_max: 0, redeem_limit_bps: 5_000, balance_hours: 24 }
    }
}

pub(crate) fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 18080))
}

fn quote_timeout_ms() -> u64 {
    5_000
}

fn commit_timeout_ms() -> u64 {
    10_000
}

fn queue_records_max() -> usize {
    10_000
}

fn keep_hours() -> u32 {
    72
}

impl Settings {
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let name = || file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("there is no {}: make it with `setup`", name())
            }
            read => read.with_context(name)?,
        };
        Self::read(&text).with_context(name)
    }

    /// Reads and judges them; a fault never repeats the file's text, which holds secrets.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        let settings: Self = toml::from_str(text).map_err(|fault| {
            let line = fault.span().map_or(0, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            anyhow::anyhow!("line {line}: {}", fault.message())
        })?;
        settings.judge()?;
        Ok(settings)
    }

    fn judge(&self) -> anyhow::Result<()> {
        self.hub_url()?;
        ensure!(!self.merchant.trim().is_empty(), "`merchant` is empty");
        ensure!(self.outlet.as_ref().is_none_or(|outlet| !outlet.trim().is_empty()), "`outlet` is empty: leave it out");
        for (name, secret) in [("secret", &self.secret), ("next_secret", &self.next_secret), ("staff_key", &self.staff_key)] {
            let Some(secret) = secret else { continue };
            ensure!(!secret.expose().is_empty(), "`{name}` is empty: leave it out");
            ensure!(
                secret.expose().bytes().all(|byte| (0x21..0x7f).contains(&byte)),
                "`{name}` has a space, a line's end or a letter that no key has"
            );
        }
        ensure!(
            self.secret.is_some() || self.staff_key.is_some(),
            "neither `secret` nor `staff_key` is set: the hub would refuse every call"
        );
        ensure!(
            self.offline.redeem_max == 0 || self.staff_key.is_some(),
            "`offline.redeem_max` needs a `staff_key`: the hub tells balances to nobody else"
        );
        ensure!(self.next_secret.is_none() || self.secret.is_some(), "`next_secret` is set without `secret`");
        ensure!(
            self.listen.ip().is_loopback() || self.till_key.is_some(),
            "`listen` is not on loopback: set `till_key`, which tills then send as X-Till-Key"
        );
        ensure!(
            self.till_key.as_ref().is_none_or(|key| key.expose().len() >= 16),
            "`till_key` is too short: it needs 16 characters"
        );
        for (name, value, range) in [
            ("quote_timeout_ms", self.quote_timeout_ms, 200..=60_000),
            ("commit_timeout_ms", self.commit_timeout_ms, 200..=60_000),
            ("queue_records_max", self.queue_records_max as u64, 1..=1_000_000),
            ("keep_hours", u64::from(self.keep_hours), 1..=720),
            ("offline.earn_bps", u64::from(self.offline.earn_bps), 0..=10_000),
            ("offline.redeem_limit_bps", u64::from(self.offline.redeem_limit_bps), 0..=10_000),
            ("offline.balance_hours", u64::from(self.offline.balance_hours), 1..=720),
        ] {
            ensure!(range.contains(&value), "`{name}` is {value}: it must be {} to {}", range.start(), range.end());
        }
        Ok(())
    }

    /// The hub's address without a slash at its end.
    pub(crate) fn hub_url(&self) -> anyhow::Result<String> {
        let example = "for instance https://hub.example";
        let Ok(url) = Url::parse(self.hub.trim()) else { bail!("`hub` is no address ({example})") };
        ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), "`hub` must be an http or https address ({example})");
        ensure!(url.username().is_empty() && url.password().is_none(), "`hub` must hold no user and no password");
        ensure!(url.query().is_none() && url.fragment().is_none(), "`hub` must have nothing behind its path ({example})");
        ensure!(url.scheme() == "https" || is_near(&url), "`hub` must be https: keys would go over the line for all to read");
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    pub(crate) fn quote_timeout(&self) -> Duration {
        Duration::from_millis(self.quote_timeout_ms)
    }

    pub(crate) fn commit_timeout(&self) -> Duration {
        Duration::from_millis(self.commit_timeout_ms)
    }
}

/// Whether it is this machine or the shop's own network.
fn is_near(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Err(_) => host == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        format!("{:#}", Settings::read(text).map(|_| ()).unwrap_err())
    }

    #[test]
    fn a_fault_names_its_field_and_repeats_no_secret() {
        let right = "hub = 'https://hub.example'\nmerchant = 'cafe'\nsecret = 'brg_hidden'\n";
        assert!(Settings::read(right).is_ok());
        for (more, told) in [
            ("lisen = '127.0.0.1:1'", "lisen"),
            ("listen = '0.0.0.0:18080'", "till_key"),
            ("till_key = 'short'\nlisten = '0.0.0.0:18080'", "till_key"),
            ("keep_hours = 0", "keep_hours"),
            ("quote_timeout_ms = 10", "quote_timeout_ms"),
            ("staff_key = 'a b'", "staff_key"),
            ("[offline]\nquotes = 'maybe'", "maybe"),
            ("[offline]\nearn_bps = 20000", "offline.earn_bps"),
            ("[offline]\nredeem_max = 1", "staff_key"),
            ("secret = 'brg_hidden'", "line 4"),
        ] {
            let told_in = fault(&format!("{right}{more}"));
            assert!(told_in.contains(told), "{more}: {told_in}");
            assert!(!told_in.contains("brg_hidden"), "{told_in}");
        }
        assert!(fault("hub = 'http://hub.example'\nmerchant = 'cafe'\nsecret = 'brg_hidden'").contains("https"));
        assert!(fault("hub = 'https://a:b@hub.example'\nmerchant = 'cafe'\nsecret = 'x'").contains("password"));
        assert!(fault("hub = 'https://hub.example'\nmerchant = 'cafe'").contains("staff_key"));
        assert!(Settings::read("hub = 'http://192.168.1.5:8080/'\nmerchant = 'cafe'\nstaff_key = 'x'").is_ok());
        let debug = format!("{:?}", Settings::read(right).unwrap());
        assert!(!debug.contains("brg_hidden"), "{debug}");
    }
}
