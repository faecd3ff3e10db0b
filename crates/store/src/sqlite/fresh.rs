//! Entries on their way from the writer to the reader, in memory: what was just written need not be read from disk again.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::Entry;

const ENTRIES_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;

/// The hand-over. What does not fit stays on disk, and is taken from there before anything newer.
pub(super) struct Fresh {
    state: Mutex<State>,
    pub(super) appended: Arc<Notify>,
    /// Counts groups in which events became whole.
    pub(super) told: watch::Sender<u64>,
}

struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// There may be unread entries on disk that are not among these.
    behind: bool,
    /// Something has been pushed since the reader was last woken.
    news: bool,
    /// Events have become whole since it was last told.
    events: bool,
}

/// Where the next entries are.
pub(super) enum Next {
    Here(Vec<Entry>),
    OnDisk,
}

impl Fresh {
    /// After a start nobody knows what is on disk.
    pub(super) fn new() -> Self {
        let state = State { entries: VecDeque::new(), bytes: 0, behind: true, news: false, events: false };
        Self { state: Mutex::new(state), appended: Arc::default(), told: watch::Sender::new(0) }
    }

    /// An entry that has been committed.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state.lock();
        state.news = true;
        if entry.source == crate::Source::Question {
            return;
        }
        let bytes = state.bytes + entry.request.body.len();
        if state.behind || state.entries.len() >= ENTRIES_MAX || bytes > BYTES_MAX {
            state.behind = true;
        } else {
            state.bytes = bytes;
            state.entries.push_back(entry);
        }
    }

    /// Entries on disk are unread again.
    pub(super) fn on_disk(&self) {
        let mut state = self.state.lock();
        (state.behind, state.news) = (true, true);
    }

    /// Events have been committed.
    pub(super) fn events(&self) {
        self.state.lock().events = true;
    }

    /// Wakes the reader if there is anything new, also where the bringer did not wait for the end; and whoever reads the feed.
    pub(super) fn wake(&self) {
        let (news, events) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.news), std::mem::take(&mut state.events))
        };
        if news {
            self.appended.notify_one();
        }
        if events {
            self.told.send_modify(|groups| *groups += 1);
        }
    }

    /// Takes what is next. When that is on disk, what is appended from now on comes here again: it may then be handed out
    /// twice, which the change that marks it as read notices.
    pub(super) fn take(&self, limit: usize) -> Next {
        let mut state = self.state.lock();
        if state.entries.is_empty() && state.behind {
            state.behind = false;
            return Next::OnDisk;
        }
        let count = state.entries.len().min(limit);
        let entries: Vec<Entry> = state.entries.drain(..count).collect();
        state.bytes -= entries.iter().map(|entry| entry.request.body.len()).sum::<usize>();
        Next::Here(entries)
    }

    /// The disk had a whole page: there may be more, and it goes before what is newer.
    pub(super) fn more_on_disk(&self) {
        let mut state = self.state.lock();
        state.behind = true;
        state.entries.clear();
        state.bytes = 0;
    }
}
