//! Ids that get another ordinal on their way to SQLite: there no two rows of a table may have the same, and nodes of a server may
//! have made two in one millisecond.

use std::collections::HashMap;

use super::{
    row::{Row, Value},
    tables::{Holds, Table, Thing},
};

/// The ids that were changed, by what they belong to.
#[derive(Default)]
pub(crate) struct Renames {
    new_ids: [HashMap<[u8; 16], [u8; 16]>; 5],
    /// The latest ordinal of each; rows come in the order of their ids.
    latest: [i64; 5],
}

impl Renames {
    /// Changes a row's own id where its ordinal is taken, and ids in it that were changed before. A document that cannot be read
    /// stays as it is.
    pub(crate) fn apply(&mut self, table: &Table, row: &mut Row) {
        for (column, value) in table.columns.iter().zip(row.iter_mut()) {
            match (column.holds, value) {
                (Holds::Own(thing), Value::Id(id)) => *id = self.own(thing, *id),
                (Holds::Of(thing) | Holds::Whole(thing), Value::Id(id)) => *id = self.new_id(thing, *id),
                (Holds::Event, Value::Text(doc)) => self.in_document(doc),
                _ => {}
            }
        }
    }

    /// How many ids of entries, events, commands and exchanges were changed.
    pub(crate) fn count(&self) -> u64 {
        self.new_ids.iter().map(|ids| ids.len() as u64).sum()
    }

    fn own(&mut self, thing: Thing, id: [u8; 16]) -> [u8; 16] {
        let place = thing as usize;
        let wanted = ordinal(id);
        let free = wanted.max(self.latest[place] + 1);
        self.latest[place] = free;
        if free == wanted {
            return id;
        }
        let new_id = with_ordinal(id, free);
        self.new_ids[place].insert(id, new_id);
        new_id
    }

    fn new_id(&self, thing: Thing, id: [u8; 16]) -> [u8; 16] {
        self.new_ids[thing as usize].get(&id).copied().unwrap_or(id)
    }

    fn in_document(&self, doc: &mut String) {
        if self.new_ids[Thing::Entry as usize].is_empty() && self.new_ids[Thing::Event as usize].is_empty() {
            return;
        }
        let Ok(mut event) = serde_json::from_str::<uzel_model::Event>(doc) else { return };
        let (id, entry) = (self.new_id(Thing::Event, *event.id.as_bytes()), self.new_id(Thing::Entry, *event.entry.as_bytes()));
        if id != *event.id.as_bytes() || entry != *event.entry.as_bytes() {
            event.id = uzel_model::Id::from_bytes(event.id.kind(), id);
            event.entry = uzel_model::Id::from_bytes(event.entry.kind(), entry);
            *doc = serde_json::to_string(&event).expect("an event is JSON");
        }
    }
}

fn ordinal(id: [u8; 16]) -> i64 {
    uzel_model::Id::from_bytes(uzel_model::id::Kind::Entry, id).ordinal()
}

/// The id with another time and count, and what else it was made of.
fn with_ordinal(id: [u8; 16], ordinal: i64) -> [u8; 16] {
    let ordinal = u128::from(ordinal.unsigned_abs());
    let kept = u128::from_be_bytes(id) & (0xf << 76 | u128::from(u64::MAX));
    ((ordinal >> 12) << 80 | (ordinal & 0xfff) << 64 | kept).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use uzel_model::{Id, id::Kind};

    use super::{super::tables::TABLES, *};

    #[test]
    fn ids_of_one_moment_get_ordinals_of_their_own_and_whatever_names_them_follows() {
        let table = |name: &str| TABLES.iter().find(|table| table.name == name).unwrap();
        let first = *Id::new(Kind::Entry).as_bytes();
        let mut second = first;
        second[15] ^= 1;
        let mut ids = [first, second];
        ids.sort_unstable();
        let mut renames = Renames::default();
        let mut rows: Vec<Row> = ids.iter().map(|id| vec![Value::Id(*id)]).collect();
        rows.iter_mut().for_each(|row| renames.apply(table("inbox"), row));
        let Value::Id(new_id) = rows[1][0] else { panic!("an id") };
        assert_eq!(rows[0], vec![Value::Id(ids[0])]);
        assert_eq!((ordinal(new_id), new_id[8..].to_vec()), (ordinal(ids[1]) + 1, ids[1][8..].to_vec()));
        assert_eq!(new_id[6] >> 4, 7, "it is still of version 7");
        let mut outcome = vec![Value::Id(ids[1]), Value::Number(3), Value::Null];
        renames.apply(table("outcome"), &mut outcome);
        assert_eq!((outcome[0].clone(), renames.count()), (Value::Id(new_id), 1));
    }
}
