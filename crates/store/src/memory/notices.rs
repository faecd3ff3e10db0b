//! Notices that people are still to be told of, and how often they were told.

use std::collections::BTreeSet;

use uzel_model::{Id, Timestamp};

use super::rows::Rows;
use crate::{Told, Untold};

impl Rows {
    pub(super) fn untold(&self, limit: usize) -> Vec<Untold> {
        let all = self.notices.iter().filter(|(_, (_, told_at))| told_at.is_none());
        let mut untold: Vec<Untold> = all.map(|((day, ..), (notice, _))| Untold { notice: notice.clone(), day: *day }).collect();
        untold.sort_by_key(|untold| untold.notice.merchant);
        untold.truncate(limit);
        untold
    }

    pub(super) fn tellings(&self, merchant: Id, since: Timestamp) -> u64 {
        let own = self.notices.values().filter(|(notice, _)| notice.merchant == merchant);
        own.filter_map(|(_, told_at)| told_at.filter(|at| *at > since)).collect::<BTreeSet<_>>().len() as u64
    }

    pub(super) fn noticed(&self, merchant: Id, connection: Id, kind: &str) -> Option<i64> {
        let own = self.notices.keys().filter(|(_, of, about, known)| (*of, *about) == (merchant, connection) && known == kind);
        own.map(|(day, ..)| *day).max()
    }

    pub(super) fn may_tell(&self, told: &Told) -> bool {
        told.notices.iter().all(|(connection, kind, day)| {
            let row = self.notices.get(&(*day, told.merchant, *connection, kind.clone()));
            row.is_some_and(|(_, told_at)| told_at.is_none())
        })
    }

    pub(super) fn tell_notices(&mut self, told: Told) {
        for (connection, kind, day) in told.notices {
            if let Some((_, told_at)) = self.notices.get_mut(&(day, told.merchant, connection, kind)) {
                *told_at = Some(told.at);
            }
        }
    }
}
