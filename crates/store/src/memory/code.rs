//! Codes by which people prove an address.

use uzel_model::{Id, Timestamp};

use super::rows::Rows;
use crate::{CodeLimit, CodeTry, NewCode, code::KEPT};

pub(super) struct CodeRow {
    code: NewCode,
    tries: u32,
    used: bool,
}

impl Rows {
    pub(super) fn put_code(&mut self, code: NewCode, limits: &[CodeLimit]) -> Option<Timestamp> {
        let over = code.made_at.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        self.codes.retain(|_, row| row.code.made_at >= over);
        let wait_until = limits.iter().filter_map(|limit| {
            let of_limit = |row: &&CodeRow| {
                row.code.merchant == code.merchant
                    && row.code.made_at > limit.since(code.made_at)
                    && (!limit.per_address || row.code.to == code.to)
            };
            let mut made: Vec<Timestamp> = self.codes.values().filter(of_limit).map(|row| row.code.made_at).collect();
            made.sort_unstable_by(|one, other| other.cmp(one));
            made.get(limit.codes as usize - 1).map(|made_at| *made_at + limit.period)
        });
        let wait_until = wait_until.max();
        if wait_until.is_none() {
            self.codes.insert(code.id, CodeRow { code, tries: 0, used: false });
        }
        wait_until
    }

    pub(super) fn try_code(&mut self, code: Id, now: Timestamp, tries_max: u32) -> Option<CodeTry> {
        let good = |row: &&mut CodeRow| !row.used && row.tries < tries_max && row.code.ends_at > now;
        let row = self.codes.get_mut(&code).filter(good)?;
        row.tries += 1;
        Some(CodeTry { merchant: row.code.merchant, to: row.code.to, hash: row.code.hash.clone(), left: tries_max - row.tries })
    }

    pub(super) fn spend_code(&mut self, code: Id) -> bool {
        self.codes.get_mut(&code).is_some_and(|row| !std::mem::replace(&mut row.used, true))
    }
}
