//! What shall go wrong: for the next calls, or for a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Does the work at once and answers late.
    Latency,
    /// Answers with this status; the work is not done.
    Status,
    /// Closes the connection; the work is not done.
    CutBefore,
    /// Does the work and closes the connection.
    CutAfter,
    /// Answers 200 with a page that is no answer; the work is not done.
    Garbage,
    /// Says that it is called too often.
    RateLimit,
    /// Forgets the tokens given out, and refuses the call for its token.
    TokenExpiry,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Goes with every kind: the answer, or the cut, comes that much later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    for_ms: Option<u64>,
    /// Only calls whose path below the provider begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

struct Active {
    fault: Fault,
    until: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct Faults {
    /// Spares the lock while there are none.
    any: AtomicBool,
    list: Mutex<Vec<Active>>,
}

impl Faults {
    /// Replaces the faults. A fault with neither `calls` nor `for_ms` is for one call.
    pub(crate) fn put(&self, body: Value) -> Result<(), String> {
        let faults: Vec<Fault> = match body {
            Value::Array(_) => serde_json::from_value(body),
            one => serde_json::from_value(one).map(|fault| vec![fault]),
        }
        .map_err(|error| error.to_string())?;
        let now = Instant::now();
        let mut list = Vec::with_capacity(faults.len());
        for mut fault in faults {
            if fault.kind == Kind::Latency && fault.latency_ms.is_none() {
                return Err("latency needs latency_ms".to_owned());
            }
            if fault.status.is_some_and(|status| !(200..=599).contains(&status)) {
                return Err("status is between 200 and 599".to_owned());
            }
            if fault.calls.is_none() && fault.for_ms.is_none() {
                fault.calls = Some(1);
            }
            let until = fault.for_ms.map(|ms| now + Duration::from_millis(ms));
            if fault.calls != Some(0) {
                list.push(Active { fault, until });
            }
        }
        let mut present = self.list.lock();
        self.any.store(!list.is_empty(), Ordering::Release);
        *present = list;
        Ok(())
    }

    /// The fault for this call, if any: the first in the queue that fits.
    pub(crate) fn take(&self, path: &str, token_call: bool) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let mut list = self.list.lock();
        list.retain(|active| active.until.is_none_or(|until| now < until));
        let at = list.iter().position(|active| {
            let fault = &active.fault;
            let fits = fault.path.as_deref().is_none_or(|prefix| path.starts_with(prefix));
            fits && !(token_call && fault.kind == Kind::TokenExpiry)
        });
        let taken = at.map(|at| {
            let fault = list[at].fault.clone();
            if let Some(calls) = &mut list[at].fault.calls {
                *calls -= 1;
                if *calls == 0 {
                    list.remove(at);
                }
            }
            fault
        });
        self.any.store(!list.is_empty(), Ordering::Release);
        taken
    }

    /// The faults still waiting.
    pub(crate) fn show(&self) -> Value {
        let now = Instant::now();
        let list = self.list.lock();
        let waiting = list.iter().filter(|active| active.until.is_none_or(|until| now < until));
        json!(waiting.map(|active| &active.fault).collect::<Vec<_>>())
    }

    pub(crate) fn reset(&self) {
        self.any.store(false, Ordering::Release);
        self.list.lock().clear();
    }
}
