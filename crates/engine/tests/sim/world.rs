//! What the nodes of one schedule share: the store's rows, the provider's memory, chance, and the ledger by which is judged.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use uzel_model::{Id, port::Delivery};
use uzel_store::{Command, CommandState, Memory, Settlement};

/// When every simulation begins.
pub(crate) fn start() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// Whether a node's process runs. What is not running neither calls nor hears an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    Yes,
    Frozen,
    /// Killed: it never runs again, and what it was about to do is not done.
    Dead,
}

/// One process of a node, from its start to its death.
pub(crate) struct Life {
    pub(crate) number: usize,
    pub(crate) node: usize,
    runs: Mutex<Runs>,
    changed: Notify,
}

impl Life {
    pub(crate) fn runs(&self) -> Runs {
        *self.runs.lock()
    }

    /// A dead process stays dead.
    pub(crate) fn becomes(&self, runs: Runs) {
        let mut now = self.runs.lock();
        if *now != Runs::Dead {
            *now = runs;
            self.changed.notify_waiters();
        }
    }

    /// Comes back when the process runs; of a dead one never.
    pub(crate) async fn running(&self) {
        loop {
            let changed = self.changed.notified();
            if self.runs() == Runs::Yes {
                return;
            }
            changed.await;
        }
    }
}

/// How often what goes wrong, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) slow: u64,
    pub(crate) fails: u64,
    pub(crate) fails_after: u64,
    pub(crate) lost: u64,
    pub(crate) unreachable: u64,
    pub(crate) refused: u64,
    pub(crate) later: u64,
    pub(crate) panics: u64,
}

/// A text that a provider sent.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) command: Id,
    pub(crate) phone: String,
    pub(crate) text: String,
    pub(crate) place: u64,
}

/// What is seen from outside of what was committed, each with its place in the order of all.
#[derive(Default)]
pub(crate) struct Ledger {
    places: u64,
    pub(crate) appended: Vec<Id>,
    /// Answered "ok", with the keys of what was told.
    pub(crate) accepted: Vec<(Id, Vec<String>)>,
    /// Subjects, the entries that called them off, and when.
    pub(crate) called_off: Vec<(String, Id, u64)>,
    pub(crate) queued: HashMap<Id, u64>,
    /// Every lease of a command.
    pub(crate) leases: HashMap<Id, Vec<u64>>,
    /// Who may settle a command now.
    pub(crate) holders: BTreeMap<Id, i64>,
    pub(crate) ended: HashMap<Id, (u64, CommandState)>,
    pub(crate) effects: Vec<Effect>,
    /// When it was first committed that a message has arrived, by the provider's id.
    pub(crate) arrived: HashMap<String, u64>,
    /// Laws that were seen to be broken on the way.
    pub(crate) broken: Vec<String>,
}

impl Ledger {
    pub(crate) fn place(&mut self) -> u64 {
        self.places += 1;
        self.places
    }

    /// Keys of everything that was answered "ok".
    pub(crate) fn told(&self) -> BTreeSet<String> {
        self.accepted.iter().flat_map(|(_, keys)| keys.clone()).collect()
    }

    pub(crate) fn leased(&mut self, commands: &[Command]) {
        for command in commands {
            let place = self.place();
            self.leases.entry(command.id).or_default().push(place);
            if self.holders.insert(command.id, command.lease).is_some() {
                self.broken.push(format!("{} was leased while somebody held it", command.id));
            }
        }
    }

    pub(crate) fn settled(&mut self, settlement: &Settlement) {
        let place = self.place();
        let id = settlement.command;
        if self.holders.remove(&id) != Some(settlement.lease) {
            self.broken.push(format!("{id} was settled by a node that had lost it"));
        }
        if settlement.state != CommandState::Waiting && self.ended.insert(id, (place, settlement.state)).is_some() {
            self.broken.push(format!("{id} ended twice"));
        }
    }

    /// Nobody holds it any more; what the store says of it now.
    pub(crate) fn taken_back(&mut self, id: Id, state: Option<CommandState>) {
        let place = self.place();
        self.holders.remove(&id);
        if let Some(state) = state.filter(|state| *state != CommandState::Waiting) {
            self.ended.insert(id, (place, state));
        }
    }
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) began: Instant,
    pub(crate) store: Memory,
    pub(crate) weather: Weather,
    lives: Mutex<Vec<Arc<Life>>>,
    pub(crate) ledger: Mutex<Ledger>,
    /// Spans of time in which the store, or the provider, is not there.
    pub(crate) store_down: Mutex<Vec<(Duration, Duration)>>,
    pub(crate) provider_down: Mutex<Vec<(Duration, Duration)>>,
    /// Bodies that the provider tells when it is polled, and the phones of its guests.
    pub(crate) told: Mutex<Vec<String>>,
    pub(crate) phones: Mutex<HashMap<u64, Option<String>>>,
    /// Nothing happens by which the fate of a text could be unknown.
    pub(crate) must_know: AtomicBool,
    /// As many entries had come when all was quiet.
    pub(crate) quiet_after: AtomicUsize,
    /// Whether everything goes well from now on.
    calm: Mutex<bool>,
    /// Chance by who calls what: so that the order within one moment decides nothing.
    chances: Mutex<HashMap<(usize, &'static str), u64>>,
    pub(crate) trace: Option<Mutex<Vec<String>>>,
}

thread_local! {
    static HERE: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// The world of this thread's schedule.
pub(crate) fn here() -> Arc<World> {
    HERE.with(|here| here.borrow().clone()).expect("a schedule is under way on this thread")
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather, trace: bool) -> Arc<Self> {
        let (began, start) = (Instant::now(), start());
        let world = Arc::new(Self {
            seed,
            began,
            store: Memory::new(move || start + SignedDuration::try_from(began.elapsed()).unwrap_or_default()),
            weather,
            lives: Mutex::default(),
            ledger: Mutex::default(),
            store_down: Mutex::default(),
            provider_down: Mutex::default(),
            told: Mutex::default(),
            phones: Mutex::default(),
            must_know: AtomicBool::new(false),
            quiet_after: AtomicUsize::new(usize::MAX),
            calm: Mutex::new(false),
            chances: Mutex::default(),
            trace: trace.then(Mutex::default),
        });
        HERE.with(|here| *here.borrow_mut() = Some(world.clone()));
        world
    }

    pub(crate) fn born(&self, node: usize) -> Arc<Life> {
        let mut lives = self.lives.lock();
        let life = Arc::new(Life { number: lives.len(), node, runs: Mutex::new(Runs::Yes), changed: Notify::new() });
        lives.push(life.clone());
        life
    }

    pub(crate) fn life(&self, number: usize) -> Arc<Life> {
        self.lives.lock()[number].clone()
    }

    pub(crate) fn calms(&self) {
        *self.calm.lock() = true;
        self.note(|| "calm".to_owned());
    }

    pub(crate) fn is_calm(&self) -> bool {
        *self.calm.lock()
    }

    /// Whether neither store nor provider leaves anybody in doubt of what it did.
    pub(crate) fn is_kind(&self) -> bool {
        let Weather { fails_after, lost, panics, .. } = self.weather;
        fails_after + lost + panics == 0 && self.store_down.lock().is_empty()
    }

    pub(crate) fn is_down(&self, spans: &Mutex<Vec<(Duration, Duration)>>) -> bool {
        let now = self.began.elapsed();
        !self.is_calm() && spans.lock().iter().any(|(from, to)| (*from..*to).contains(&now))
    }

    /// What becomes of a message, by what it says: of some nobody hears for long.
    pub(crate) fn delivery(&self, provider_id: &str) -> Delivery {
        let ledger = self.ledger.lock();
        let effect = ledger.effects.iter().find(|effect| provider_id == format!("p-{}", effect.command));
        let text = effect.map_or("", |effect| effect.text.as_str());
        let mut state = text.bytes().fold(self.seed, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
        match next(&mut state) % 4 {
            0 => Delivery::Failed,
            1 if !self.is_calm() => Delivery::OnTheWay,
            _ => Delivery::Delivered,
        }
    }

    /// The next number of a lane of chance.
    pub(crate) fn chance(&self, life: usize, what: &'static str) -> u64 {
        let mut chances = self.chances.lock();
        let state = chances.entry((life, what)).or_insert_with(|| {
            let name = what
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
            self.seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ name ^ (life as u64) << 48
        });
        next(state)
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.lock().push(format!("{:>9.3} {}", self.began.elapsed().as_secs_f64(), what()));
        }
    }
}

/// One step of SplitMix64.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
