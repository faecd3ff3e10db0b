//! The limits on calls per time that providers set, off until the settings ask for them.

use std::collections::VecDeque;

/// When the calls of the last while came, in milliseconds.
#[derive(Default)]
pub(crate) struct Window(VecDeque<i64>);

impl Window {
    /// Whether one more call fits; a refused call does not count.
    pub(crate) fn fits(&mut self, now_ms: i64, within_ms: i64, limit: u32) -> bool {
        while self.0.front().is_some_and(|at| *at <= now_ms - within_ms) {
            self.0.pop_front();
        }
        let fits = self.0.len() < limit as usize;
        if fits {
            self.0.push_back(now_ms);
        }
        fits
    }
}
