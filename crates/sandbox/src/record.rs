//! What was called. Kept as bytes and rendered only when somebody asks, because benchmarks call ten thousand times
//! a second.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::HeaderMap;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::wire::{self, Call};

const KEPT: usize = 1_000_000;

/// The bytes are copies: slices of hyper's read buffer would keep the whole buffer alive.
struct Record {
    at_ms: i64,
    method: Box<str>,
    path: Box<str>,
    query: Box<str>,
    headers: Box<[u8]>,
    body: Box<[u8]>,
    status: u16,
}

pub(crate) struct Records {
    on: AtomicBool,
    count: AtomicU64,
    cut: AtomicU64,
    calls: Mutex<(u64, VecDeque<Record>)>,
}

impl Default for Records {
    fn default() -> Records {
        Records { on: AtomicBool::new(true), count: AtomicU64::new(0), cut: AtomicU64::new(0), calls: Mutex::default() }
    }
}

impl Records {
    /// Notes a call; status 0 stands for a connection that was cut.
    pub(crate) fn note(&self, call: &Call, status: u16) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if status == 0 {
            self.cut.fetch_add(1, Ordering::Relaxed);
        }
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let record = Record {
            at_ms: wire::now_ms(),
            method: call.method.as_str().into(),
            path: call.path.as_str().into(),
            query: call.query.as_str().into(),
            headers: head(&call.headers),
            body: call.body.as_ref().into(),
            status,
        };
        let oldest = {
            let mut calls = self.calls.lock();
            let oldest = if calls.1.len() == KEPT {
                calls.0 += 1;
                calls.1.pop_front()
            } else {
                None
            };
            calls.1.push_back(record);
            oldest
        };
        drop(oldest);
    }

    pub(crate) fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    pub(crate) fn on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.set(true);
        self.count.store(0, Ordering::Relaxed);
        self.cut.store(0, Ordering::Relaxed);
        let old = std::mem::take(&mut *self.calls.lock());
        drop(old);
    }

    /// Calls whose number is greater than `since`, newest last.
    pub(crate) fn show(&self, since: u64, limit: usize) -> Value {
        let calls = self.calls.lock();
        let (dropped, kept) = &*calls;
        let skip = usize::try_from(since.saturating_sub(*dropped)).unwrap_or(usize::MAX);
        let shown = kept.iter().enumerate().skip(skip).take(limit);
        Value::Array(shown.map(|(index, record)| record.render(*dropped + index as u64 + 1)).collect())
    }

    pub(crate) fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("calls".to_owned(), json!(self.count.load(Ordering::Relaxed)));
        counts.insert("cut".to_owned(), json!(self.cut.load(Ordering::Relaxed)));
        counts.insert("record".to_owned(), json!(self.on()));
    }
}

impl Record {
    fn render(&self, number: u64) -> Value {
        let headers = self.headers.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = String::from_utf8_lossy(line);
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        });
        json!({
            "number": number,
            "at_ms": self.at_ms,
            "method": self.method,
            "path": self.path,
            "query": wire::object(wire::pairs(self.query.as_bytes())),
            "headers": wire::object(headers.collect()),
            "body": String::from_utf8_lossy(&self.body),
            "status": self.status,
        })
    }
}

fn head(headers: &HeaderMap) -> Box<[u8]> {
    let mut out = Vec::with_capacity(256);
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
    out.into()
}
