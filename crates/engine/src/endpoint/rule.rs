//! An endpoint as a person sets it up, and all that can be wrong with it.

use cel::Program;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{Secret, check::Fault, event::kind};

use super::Template;
use crate::{Networks, trial};

const URL_BYTES_MAX: usize = 2_048;
const EVENTS_MAX: usize = 50;
const TEMPLATE_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 20;
const HEADER_BYTES_MAX: usize = 1_024;
/// Headers that the hub or HTTP itself sets.
const OWN_HEADERS: [&str; 9] =
    ["connection", "content-length", "content-type", "host", "te", "traceparent", "trailer", "transfer-encoding", "upgrade"];

/// In which order an endpoint gets its webhooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Those of one subject (one order, one visit) one after another; subjects beside each other.
    #[default]
    PerSubject,
    /// Each as soon as it can go.
    None,
}

/// How often an endpoint may be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRule {
    /// So many calls in any period.
    pub calls: u32,
    /// The period, in seconds.
    #[serde(default = "second")]
    pub period_s: u32,
}

fn second() -> u32 {
    1
}

/// Where webhooks go, which, and in which form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointRule {
    /// Where webhooks are sent: `https://…`. Without TLS only to addresses that the operator's `allow_networks` names.
    pub url: String,
    /// Types of events that it is told of: `order.completed`, `order.*`, `*`. Default: all.
    #[serde(default = "all")]
    pub events: Vec<String>,
    /// A condition in CEL over `event`, for instance `event.data.sum > 500.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The payload's own form, a template of JSON over `event`, `merchant` and `outlet`: `{"order": {{ event.subject }}}`.
    /// Default: CloudEvents 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// `per_subject` (default) or `none`.
    #[serde(default)]
    pub order: Order,
    /// How often it may be called; as often as it answers, if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateRule>,
    /// How long one call may take, in milliseconds.
    #[serde(default = "patience")]
    pub timeout_ms: u32,
    /// Webhooks wait until it is paused no more.
    #[serde(default)]
    pub paused: bool,
    /// `X-Loyalty-Signature` on every webhook, not only on those of loyalty events.
    #[serde(default)]
    pub loyalty_signature: bool,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn patience() -> u32 {
    15_000
}

/// Whether a pattern (`order.*`, `*`) means this type.
pub(super) fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => kind.starts_with(start),
        None => pattern == kind,
    }
}

impl EndpointRule {
    /// Everything that is wrong with it, by field.
    pub(crate) fn faults(&self, networks: &Networks) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut check =
            |field: &str, result: Result<(), String>| faults.extend(result.err().map(|fault| (field.to_owned(), fault)));
        check("url", self.right_url(networks));
        if self.events.is_empty() || self.events.len() > EVENTS_MAX {
            check("events", Err(format!("must name 1 to {EVENTS_MAX} types of events")));
        }
        for (place, pattern) in self.events.iter().enumerate() {
            let right = pattern == "*"
                || !pattern.trim_end_matches('*').contains('*') && (!pattern.ends_with('*') || pattern.ends_with(".*"));
            let known = kind::ALL.iter().any(|kind| matches(pattern, kind));
            if !right || !known {
                let known = kind::ALL.join(", ");
                check(
                    &format!("events/{place}"),
                    Err(format!("`{pattern}` means no type of event: write one of {known}, or `order.*`, or `*`")),
                );
            }
        }
        let kinds: Vec<String> = kind::ALL
            .iter()
            .filter(|kind| self.events.iter().any(|pattern| matches(pattern, kind)))
            .map(|kind| (*kind).to_owned())
            .collect();
        check("filter", self.program().and_then(|program| program.map_or(Ok(()), |program| trial::condition(&program, &kinds))));
        check("template", self.right_template(&kinds));
        if let Some(rate) = &self.rate {
            if rate.calls == 0 {
                check("rate/calls", Err("must be at least 1".to_owned()));
            }
            if !(1..=86_400).contains(&rate.period_s) {
                check("rate/period_s", Err("must be 1 to 86400".to_owned()));
            }
        }
        if !(500..=30_000).contains(&self.timeout_ms) {
            check("timeout_ms", Err("must be 500 to 30000".to_owned()));
        }
        faults
    }

    fn right_url(&self, networks: &Networks) -> Result<(), String> {
        let url = reqwest::Url::parse(&self.url).ok().filter(|url| url.has_host());
        let url = url.ok_or("is no URL: write one such as `https://shop.example/webhooks`")?;
        let address = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        match url.scheme() {
            "https" if address.is_some_and(|address| !networks.allows(address)) => {
                return Err("names a private address: the operator's `allow_networks` does not name it".to_owned());
            }
            "http" if networks.is_empty() || address.is_some_and(|address| !networks.names(address)) => {
                return Err("must begin with `https://`: without TLS only addresses of `allow_networks` are called".to_owned());
            }
            "https" | "http" => {}
            _ => return Err("must begin with `https://`".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("carries a login: give it as a header `authorization`".to_owned());
        }
        if url.fragment().is_some() || self.url.len() > URL_BYTES_MAX {
            return Err(format!("must have no `#` and {URL_BYTES_MAX} bytes at the most"));
        }
        Ok(())
    }

    fn right_template(&self, kinds: &[String]) -> Result<(), String> {
        let Some(text) = &self.template else { return Ok(()) };
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("may have {TEMPLATE_BYTES_MAX} bytes at the most"));
        }
        let template = Template::new(text)?;
        kinds.iter().try_for_each(|kind| template.render(&trial::sample(kind), "merchant", Some("outlet")).map(drop))
    }

    pub(super) fn program(&self) -> Result<Option<Program>, String> {
        self.filter.as_deref().map(Program::compile).transpose().map_err(|error| format!("is not CEL: {error}"))
    }
}

/// What is wrong with extra headers, by their names.
pub(crate) fn header_faults<'a>(headers: impl Iterator<Item = (&'a String, &'a Secret)>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (place, (name, value)) in headers.enumerate() {
        let low = name.to_ascii_lowercase();
        let own = OWN_HEADERS.contains(&low.as_str())
            || ["webhook-", "x-signature-", "x-loyalty-"].iter().any(|start| low.starts_with(start));
        let token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let visible =
            value.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.expose().len() <= HEADER_BYTES_MAX;
        let detail = match () {
            () if !token => "is no name of a header",
            () if own => "is set by the hub itself",
            () if !visible => "must be visible ASCII of 1024 bytes at the most",
            () if place >= HEADERS_MAX => "is one too many: 20 headers at the most",
            () => continue,
        };
        faults.push(Fault::new(format!("/headers/{name}"), detail));
    }
    faults
}
