//! What the process takes of its machine, as Linux tells it when somebody asks. The names are those that all programs use.
//!
//! What cannot be read (another system, a locked `/proc`) is left out: a figure that is missing is better than a wrong one.

use std::fs;

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

#[derive(Debug)]
pub(super) struct Process {
    started_at: f64,
}

impl Process {
    /// Made when the process starts.
    pub(super) fn new() -> Self {
        Self { started_at: Timestamp::now().as_millisecond() as f64 / 1e3 }
    }
}

/// The number behind a name in one of the system's tables; pages of memory are told in kB.
fn number(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<i64> {
    number(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:").map(|kb| kb * 1_024)
}

/// The folder that is being read is open too.
fn open_files() -> Option<i64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as i64 - 1)
}

fn files_max() -> Option<i64> {
    number(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

/// Seconds of all processors together; the kernel's ticks are hundredths on every system we run on.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold anything; what follows is counted from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let whole = [
            ("process_resident_memory_bytes", "Memory that the process takes", resident_bytes()),
            ("process_open_fds", "Files and connections that are open", open_files()),
            ("process_max_fds", "How many may be open", files_max()),
        ];
        for (name, help, value) in whole {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        let started = ConstGauge::new(self.started_at);
        let help = "When the process started, in seconds since 1970";
        started.encode(encoder.encode_descriptor("process_start_time_seconds", help, None, started.metric_type())?)?;
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let help = "Time that processors worked for the process";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_files_and_used_time() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let file = fs::File::open("/proc/self/status").unwrap();
        assert!(open_files().unwrap() >= 1);
        drop(file);
        assert!(files_max().unwrap() > 2);
        assert!(cpu_seconds().is_some());
    }
}
