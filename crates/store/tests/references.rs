//! The embedded store's index of references, at sizes where its parts are full: everything is found, before a part is put in
//! order and after, and after the store was opened again; and what retention took is found no more.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use jiff::{SignedDuration, Timestamp};
use uzel_model::{Bytes, Id, Request, id::Kind};
use uzel_store::{Change, Entry, EntryState, JournalFilter, Mark, Source, Sqlite, Store};

/// One part of the index, as ARCHITECTURE.md has it, and what is gathered before it is put in order.
const PART: usize = 65_536;
const GATHERED: usize = 4_096;
const REFS: usize = 1_024;

/// An entry of this place, and what it is found by.
async fn append(store: &Sqlite, place: usize) -> Id {
    let at = at(place);
    let ordinal = u128::from(at.as_millisecond().unsigned_abs());
    let id = Id::from_bytes(Kind::Entry, (ordinal << 80 | 0x7 << 76 | 0x8 << 60 | place as u128).to_be_bytes());
    let request = Request {
        method: "POST".to_owned(),
        path: String::new(),
        query: Vec::new(),
        headers: Vec::new(),
        body: Bytes::from_static(b"{}"),
        received_at: at,
        peer: None,
        key: None,
    };
    let entry = Entry {
        id,
        merchant: Id::from_bytes(Kind::Merchant, [1; 16]),
        connection: Id::from_bytes(Kind::Connection, [2; 16]),
        provider: "test".to_owned(),
        request,
        answer: "200".to_owned(),
        source: Source::Webhook,
        trace: "t".to_owned(),
    };
    store.append(entry).await.unwrap();
    let refs = (0..REFS).map(|number| reference(place * REFS + number)).collect();
    let mark = Mark { entry: id, again: false, state: EntryState::Read, notes: Vec::new(), refs };
    store.apply(Change { mark: Some(mark), now: Some(at), ..Change::default() }).await.unwrap();
    id
}

fn at(place: usize) -> Timestamp {
    let first: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
    first + SignedDuration::from_mins(place as i64)
}

fn reference(number: usize) -> String {
    format!("order-{number:07}")
}

/// The entries by a reference.
async fn found(store: &Sqlite, number: usize) -> Vec<Id> {
    let filter = JournalFilter { reference: Some(reference(number)), limit: 10, ..JournalFilter::default() };
    store.journal(filter).await.unwrap().into_iter().map(|row| row.id).collect()
}

/// Each of them leads to its entry, and what nobody gave leads nowhere.
async fn all_found(store: &Sqlite, entries: &[Id]) {
    for (place, entry) in entries.iter().enumerate() {
        for number in [0, 1, REFS / 2, REFS - 1] {
            assert_eq!(found(store, place * REFS + number).await, [*entry], "entry {place}, reference {number}");
        }
    }
    assert!(found(store, entries.len() * REFS).await.is_empty());
}

#[tokio::test]
async fn references_are_found_when_a_part_is_full_and_after_the_next_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("uzel.db");
    let mut store = Sqlite::open(&file).unwrap();
    let mut entries = Vec::new();
    // Just before the last gathering that fills the first part, just after it, into the second part, and far into it.
    for references in [PART - REFS, PART, PART + GATHERED - REFS, PART + GATHERED, PART + GATHERED + REFS, 2 * PART + REFS] {
        while entries.len() * REFS < references {
            entries.push(append(&store, entries.len()).await);
        }
        all_found(&store, &entries).await;
        store.close().await;
        store = Sqlite::open(&file).unwrap();
        all_found(&store, &entries).await;
    }
    assert!(store.fsck(false).await.unwrap().iter().all(|law| !law.contains("reference")));
}

#[tokio::test]
async fn retention_takes_the_references_of_full_parts_and_leaves_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("uzel.db");
    let store = Sqlite::open(&file).unwrap();
    let count = 2 * PART / REFS + 10;
    let mut entries = Vec::new();
    for place in 0..count {
        entries.push(append(&store, place).await);
    }
    // A little beyond the first part, so that all of its entries are over.
    let over = PART / REFS + 5;
    // Twice to the end: a part is swept once all of its entries have had their turn.
    for _ in 0..2 {
        while store.purge(at(over), 25).await.unwrap() > 0 {}
    }
    for (place, entry) in entries.iter().enumerate() {
        let kept: &[Id] = if place < over { &[] } else { std::slice::from_ref(entry) };
        assert_eq!(found(&store, place * REFS + 7).await, kept, "entry {place}");
    }
    assert!(store.fsck(false).await.unwrap().is_empty());
    store.close().await;
    let left: isize = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("SELECT (SELECT count(*) FROM reference) + (SELECT count(*) FROM reference_new)", [], |row| row.get(0))
        .unwrap();
    assert!(left.unsigned_abs() <= (count - PART / REFS) * REFS, "{left} references are left");
}
