use serde_json::json;
use uzel_model::{Timestamp, id::Kind};
use uzel_store::{Memory, Purpose, Setup, SetupRow};

use super::{key::Key, ring::envelopes_of, *};

fn store() -> Memory {
    Memory::new(|| Timestamp::UNIX_EPOCH)
}

fn master() -> Master {
    Master::new(&Master::make()).unwrap()
}

fn place(merchant: Id, connection: Id, field: &str) -> Place<'_> {
    Place { merchant, connection, field }
}

#[tokio::test]
async fn a_secret_opens_only_with_its_key_and_in_its_place() {
    let store = store();
    let vault = Vault::of(&store, &master()).await.unwrap();
    let other = Vault::of(&Memory::new(|| Timestamp::UNIX_EPOCH), &master()).await.unwrap();
    let [one, two] = [Id::new(Kind::Merchant), Id::new(Kind::Merchant)];
    let [here, there] = [Id::new(Kind::Connection), Id::new(Kind::Connection)];
    let sealed = vault.seal_at(place(one, here, "token"), b"secret");
    assert_eq!(*vault.open_at(place(one, here, "token"), &sealed).unwrap(), b"secret");
    for elsewhere in [place(two, here, "token"), place(one, there, "token"), place(one, here, "password")] {
        assert_eq!(vault.open_at(elsewhere, &sealed), Err(VaultError::Spoilt), "{elsewhere:?}");
    }
    assert_eq!(other.open_at(place(one, here, "token"), &sealed), Err(VaultError::Unknown));
    for byte in 0..sealed.len() {
        let mut spoilt = sealed.clone();
        spoilt[byte] ^= 1;
        assert!(vault.open_at(place(one, here, "token"), &spoilt).is_err(), "byte {byte}");
        assert!(vault.open_at(place(one, here, "token"), &sealed[..byte]).is_err(), "{byte} bytes");
    }
}

#[tokio::test]
async fn each_merchant_has_a_key_of_its_own_and_each_setting_is_sealed_by_itself() {
    let store = store();
    let vault = Vault::of(&store, &master()).await.unwrap();
    let [one, two] = [Id::new(Kind::Merchant), Id::new(Kind::Merchant)];
    let link = Id::new(Kind::Connection);
    let hidden = json!({ "login": "a", "password": "b" }).as_object().unwrap().clone();
    let mut sealer = vault.sealer();
    let [first, second] = [one, two].map(|merchant| sealer.settings(merchant, link, &hidden));
    // Nothing of it is used before it is stored.
    assert_eq!(vault.unseal_settings(one, link, &first), Err(VaultError::Unknown));
    store.rekey(sealer.made(&store.setup().await.unwrap().envelopes).unwrap()).await.unwrap();
    vault.take_up(&store.setup().await.unwrap().envelopes);
    assert_eq!(vault.unseal_settings(one, link, &first).unwrap(), hidden);
    assert_eq!(vault.unseal_settings(two, link, &first), Err(VaultError::Spoilt));
    assert_ne!(envelopes_of(&first), envelopes_of(&second));
    let mut swapped: Map<String, Value> = serde_json::from_slice(&first).unwrap();
    swapped.insert("login".to_owned(), swapped["password"].clone());
    let swapped = Value::Object(swapped).to_string();
    assert_eq!(vault.unseal_settings(one, link, swapped.as_bytes()), Err(VaultError::Spoilt));
}

#[tokio::test]
async fn what_is_the_hub_s_own_opens_in_its_context_also_after_new_keys_were_made() {
    let store = store();
    let vault = Vault::of(&store, &master()).await.unwrap();
    let sealed = vault.seal(b"here", b"secret");
    assert_eq!(vault.open(b"here", &sealed).unwrap(), b"secret");
    assert_eq!(vault.open(b"there", &sealed), Err(VaultError::Spoilt));
    let merchant = Id::new(Kind::Merchant);
    assert_eq!(vault.open_at(place(merchant, merchant, "here"), &sealed), Err(VaultError::Spoilt));
    let (setup, stored) = (store.setup().await.unwrap(), store.sealed().await.unwrap());
    let new = master();
    let rotation = vault.0.load().rotation(&new, &setup, &stored, true, false).unwrap();
    assert_eq!((rotation.done.resealed, rotation.done.unopened), (0, 0));
    store.rekey(rotation.change).await.unwrap();
    let after = Vault::of(&store, &new).await.unwrap();
    assert_eq!(after.open(b"here", &sealed).unwrap(), b"secret");
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_writes_nothing() {
    let store = store();
    let right = master();
    Vault::of(&store, &right).await.unwrap();
    let before = (store.setup().await.unwrap().envelopes, store.sealed().await.unwrap().check);
    let wrong = Vault::of(&store, &master()).await.unwrap_err();
    assert!(matches!(wrong, OpenError::Key(VaultError::Wrong)), "{wrong}");
    assert_eq!((store.setup().await.unwrap().envelopes, store.sealed().await.unwrap().check), before);
    Vault::of(&store, &right).await.unwrap();
}

/// A store as programs from before envelopes left it.
async fn from_before(store: &Memory, master: &Master, hidden: &Value) -> (Id, Id) {
    let (merchant, link) = (Id::new(Kind::Merchant), Id::new(Kind::Connection));
    let seal = |context: &[u8], plain: &[u8]| [&[1], &master.before_envelopes("uzel/seal/1").seal(context, plain)[..]].concat();
    let row = |id: Id, sealed| SetupRow {
        id,
        merchant: (id != merchant).then_some(merchant),
        slug: "x".to_owned(),
        doc: json!({}),
        sealed,
        version: 0,
    };
    let sealed = seal(link.as_bytes(), hidden.to_string().as_bytes());
    store.put_setup(Setup { rows: vec![row(merchant, None), row(link, Some(sealed))], ..Setup::default() }).await.unwrap();
    store.put_session(link, seal(&[link.as_bytes().as_slice(), b"session"].concat(), b"login")).await.unwrap();
    (merchant, link)
}

#[tokio::test]
async fn what_was_sealed_before_there_were_envelopes_opens_and_is_sealed_anew_with_the_next_master_key() {
    let store = store();
    let (old, new) = (master(), master());
    let hidden = json!({ "api_id": "secret", "list": ["a", 1] });
    let (merchant, link) = from_before(&store, &old, &hidden).await;
    assert!(matches!(Vault::of(&store, &new).await, Err(OpenError::Key(VaultError::Wrong))));
    assert!(store.sealed().await.unwrap().check.is_none());

    let vault = Vault::of(&store, &old).await.unwrap();
    let read = |vault: &Vault, setup: &Setup, sessions: &[(Id, Vec<u8>)]| {
        let sealed = setup.rows.iter().find_map(|row| row.sealed.clone()).unwrap();
        let login = vault.open_at(place(merchant, link, SESSION), &sessions[0].1).unwrap();
        assert_eq!(
            (Value::Object(vault.unseal_settings(merchant, link, &sealed).unwrap()), &**login),
            (hidden.clone(), &b"login"[..])
        );
    };
    let (setup, sealed) = (store.setup().await.unwrap(), store.sealed().await.unwrap());
    read(&vault, &setup, &sealed.sessions);
    // Keys that were hashed then are found now.
    let hashed = old.before_envelopes("uzel/hash/1").hmac(b"api\nkey");
    assert_eq!(vault.key_hash("api", "key"), hashed);

    let rotation = vault.0.load().rotation(&new, &setup, &sealed, false, false).unwrap();
    assert_eq!((rotation.done.resealed, rotation.done.unopened), (2, 0));
    store.rekey(rotation.change).await.unwrap();
    let (setup, sealed) = (store.setup().await.unwrap(), store.sealed().await.unwrap());
    let after = Vault::of(&store, &new).await.unwrap();
    read(&after, &setup, &sealed.sessions);
    assert_eq!(after.key_hash("api", "key"), hashed);
    assert!(matches!(Vault::of(&store, &old).await, Err(OpenError::Key(VaultError::Before))));
}

#[tokio::test]
async fn a_node_with_the_old_master_key_goes_on_with_the_new_one_and_opens_keys_that_are_made_since() {
    let store = store();
    let (old, new) = (master(), master());
    let (one, other) = (Vault::of(&store, &old).await.unwrap(), Vault::of(&store, &old).await.unwrap());
    let (setup, sealed) = (store.setup().await.unwrap(), store.sealed().await.unwrap());
    let rotation = one.0.load().rotation(&new, &setup, &sealed, true, true).unwrap();
    store.rekey(rotation.change).await.unwrap();
    one.0.store(Arc::new(rotation.next));
    let stored = store.setup().await.unwrap().envelopes;
    assert!(stored.iter().any(|envelope| envelope.purpose == Purpose::Handover));
    other.take_up(&stored);
    assert_eq!((other.fingerprint(), other.key_hash("a", "b")), (new.fingerprint(), one.key_hash("a", "b")));
    let (merchant, link) = (Id::new(Kind::Merchant), Id::new(Kind::Connection));
    let at = place(merchant, link, "token");
    assert_eq!(*other.open_at(at, &one.seal_at(at, b"x")).unwrap(), b"x");
    // What that node makes from now on, the new master key opens.
    let mut sealer = other.sealer();
    let hidden = json!({ "token": "y" }).as_object().unwrap().clone();
    let sealed = sealer.settings(merchant, link, &hidden);
    store.rekey(sealer.made(&stored).unwrap()).await.unwrap();
    assert_eq!(Vault::of(&store, &new).await.unwrap().unseal_settings(merchant, link, &sealed).unwrap(), hidden);
}

#[test]
fn a_new_master_key_is_handed_over_for_ten_minutes() {
    let envelope = |id, purpose| Envelope { id, purpose, merchant: None, wrapped: Vec::new() };
    let long_ago = Id::from_bytes(Kind::Key, [1; 16]);
    let envelopes = vec![
        envelope(long_ago, Purpose::Handover),
        envelope(Id::new(Kind::Key), Purpose::Handover),
        envelope(long_ago, Purpose::Seal),
    ];
    assert_eq!(rotate::handed_over(&Setup { envelopes, ..Setup::default() }), [long_ago]);
}

#[test]
fn a_key_is_shown_nowhere() {
    let text = Master::make();
    let master = Master::new(&text).unwrap();
    assert_eq!(format!("{master:?} {text:?}"), "Master(***) Secret(***)");
    assert!(!text.expose().contains(&master.fingerprint()));
    for wrong in ["", "short", "AAAA", &"A".repeat(88)] {
        assert!(Master::new(&Secret::new(wrong)).is_err(), "{wrong}");
    }
    assert!(Key::of(&[0; 31]).is_none());
}
