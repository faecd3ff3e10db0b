//! The engine's loops under thousands of random schedules: several nodes, a store and a provider that fail in every way, and
//! time that does not wait. `SIM_SEED=<seed>` runs one schedule again and tells what happened in it; `SIM_COUNT`
//! says how many to run.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

mod judge;
mod provider;
mod schedule;
mod store;
mod world;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use parking_lot::Mutex;

/// Without optimisation each costs twenty times as much: there a sample, and thousands where `./test` builds a release.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 300 } else { 5_000 };

struct Ran {
    broken: Vec<String>,
    trace: Vec<String>,
    entries: usize,
    effects: usize,
}

fn run(seed: u64, trace: bool) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = schedule::run(seed, trace).await;
        let broken = judge::judge(&world).await;
        let trace = world.trace.as_ref().map(|trace| trace.lock().clone()).unwrap_or_default();
        let ledger = world.ledger.lock();
        Ran { broken, trace, entries: ledger.appended.len(), effects: ledger.effects.len() }
    })
}

/// What the simulated provider panics with on purpose is told to nobody.
fn quietly() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        drop(rustls::crypto::ring::default_provider().install_default());
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref() != Some(&provider::PANIC) {
                loud(panic);
            }
        }));
    });
}

fn given(name: &str) -> Option<u64> {
    std::env::vars().find(|(known, _)| known == name).map(|(_, value)| value.parse().expect("a whole number"))
}

#[test]
fn thousands_of_random_schedules_break_no_promise() {
    quietly();
    let (first, count) = match given("SIM_SEED") {
        Some(seed) => (seed, given("SIM_COUNT").unwrap_or(1)),
        None => (rand::random::<u64>() >> 24, given("SIM_COUNT").unwrap_or(SCHEDULES)),
    };
    let (next, entries, effects) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().len() < 3 {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let ran = run(first + number, false);
                    entries.fetch_add(ran.entries as u64, Ordering::Relaxed);
                    effects.fetch_add(ran.effects as u64, Ordering::Relaxed);
                    if !ran.broken.is_empty() {
                        failed.lock().push((first + number, ran.broken));
                    }
                }
            });
        }
    });
    let (took, ran) = (began.elapsed().as_secs_f64(), next.load(Ordering::Relaxed).min(count));
    println!(
        "seeds {first} to {}: {ran} schedules in {took:.1} s ({:.0} a second), {} entries, {} texts",
        first + ran.max(1) - 1,
        ran as f64 / took,
        entries.into_inner(),
        effects.into_inner()
    );
    let mut failed = failed.into_inner();
    failed.sort();
    let Some((seed, broken)) = failed.first() else { return };
    for line in run(*seed, true).trace {
        println!("{line}");
    }
    for (seed, broken) in &failed {
        println!("SIM_SEED={seed}:\n  {}", broken.join("\n  "));
    }
    panic!("SIM_SEED={seed}: {}", broken.join("; "));
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    quietly();
    /// Ids are new each time: each by its place instead.
    fn told(trace: Vec<String>) -> Vec<String> {
        let mut places = HashMap::new();
        let mut named = |word: &str| match word.trim_end_matches(':').split_once('_') {
            Some((kind, rest)) if rest.len() == 26 => {
                let count = places.len();
                format!("{kind}_{}", places.entry(word.trim_end_matches(':').to_owned()).or_insert(count))
            }
            _ => word.to_owned(),
        };
        trace.iter().map(|line| line.split(' ').map(&mut named).collect::<Vec<_>>().join(" ")).collect()
    }
    for seed in 0..20 {
        let (one, other) = (told(run(seed, true).trace), told(run(seed, true).trace));
        for place in 0..one.len().max(other.len()) {
            assert_eq!(one.get(place), other.get(place), "seed {seed}, line {place}");
        }
    }
}
