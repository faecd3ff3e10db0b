//! Counters, as Prometheus reads them.

use std::{collections::BTreeMap, fmt::Write};

use parking_lot::Mutex;

use crate::{queue::Counts, remote::Line};

#[derive(Default)]
pub(crate) struct Metrics {
    /// By call and result: what tills were answered.
    answered: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// By call and result: what became of what was kept.
    sent: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Metrics {
    pub(crate) fn answered(&self, call: &'static str, result: &'static str) {
        *self.answered.lock().entry((call, result)).or_default() += 1;
    }

    pub(crate) fn sent(&self, call: &'static str, result: &'static str) {
        *self.sent.lock().entry((call, result)).or_default() += 1;
    }

    pub(crate) fn text(&self, counts: &Counts, line: &Line, clock_offset_s: i64) -> String {
        let mut text = String::new();
        let mut put = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a text takes any line");
        for (name, help, counted) in [
            ("requests", "Calls of tills by what they were answered.", &self.answered),
            ("queue_sent", "Tries of kept calls by what they came to.", &self.sent),
        ] {
            put(format_args!("# HELP uzel_bridge_{name}_total {help}\n# TYPE uzel_bridge_{name}_total counter"));
            for ((call, result), count) in counted.lock().iter() {
                put(format_args!("uzel_bridge_{name}_total{{call=\"{call}\",result=\"{result}\"}} {count}"));
            }
        }
        put(format_args!("# HELP uzel_bridge_queue_calls Kept calls by state.\n# TYPE uzel_bridge_queue_calls gauge"));
        put(format_args!("uzel_bridge_queue_calls{{state=\"waiting\"}} {}", counts.waiting));
        put(format_args!("uzel_bridge_queue_calls{{state=\"person\"}} {}", counts.person));
        for (name, help, value) in [
            ("queue_oldest_age_seconds", "Age of the oldest call that waits for the line.", counts.oldest_s),
            ("queue_size_bytes", "Size of the queue's file.", i64::try_from(counts.bytes).unwrap_or(i64::MAX)),
            ("hub_up", "Whether the hub answered the last call.", i64::from(line.is_up().unwrap_or(true))),
            ("clock_offset_seconds", "What the hub's clock shows beyond this machine's.", clock_offset_s),
        ] {
            put(format_args!("# HELP uzel_bridge_{name} {help}\n# TYPE uzel_bridge_{name} gauge\nuzel_bridge_{name} {value}"));
        }
        text
    }
}
