//! The contract of stores over each of them: the same cases, which do not know what they run on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]
#![allow(clippy::duplicate_mod, reason = "the same cases run over each store")]

mod memory;
mod postgres;
mod schemas;
mod sqlite;

/// What a database has of a merchant `m` and a key `key_1` from before versions were counted.
async fn is_its_first_version(store: &impl uzel_store::Store, merchant: uzel_model::Id) {
    let setup = store.setup().await.unwrap();
    let (row, key) = (&setup.rows[0], &setup.keys[0]);
    assert_eq!((row.id, row.version, row.slug.as_str()), (merchant, 1, "m"));
    assert_eq!((key.id.as_str(), key.label.as_str(), key.expires_at, key.last_used_at), ("key_1", "", None, None));
    let age = jiff::Timestamp::now().duration_since(key.made_at);
    assert!(age.abs() < jiff::SignedDuration::from_mins(10), "made {age:?} ago");
    let versions = store.setup_versions(merchant, 10).await.unwrap();
    assert_eq!(versions.iter().map(|old| (old.version, old.by.as_str())).collect::<Vec<_>>(), [(1, "hub")]);
    assert_eq!(versions[0].doc, serde_json::json!({ "a": 1 }));
    let changed = uzel_store::SetupRow { slug: "n".to_owned(), ..row.clone() };
    store.put_setup(uzel_store::Setup { rows: vec![changed], expects: vec![(merchant, 1)], ..Default::default() }).await.unwrap();
    assert_eq!(store.setup_versions(merchant, 10).await.unwrap().len(), 2);
}
