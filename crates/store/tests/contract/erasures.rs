//! Erasure by a mailbox or a chat: found however it is written, and never within a longer one.

use uzel_store::ErasurePlace;

use super::*;

impl World {
    /// An entry with this body, read.
    async fn tells(&self, body: &str) -> Id {
        let mut entry = self.entry();
        entry.request.body = Bytes::from(body.to_owned());
        self.store.append(entry.clone()).await.unwrap();
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        self.store.apply(Change { mark: Some(mark), now: Some(now()), ..Change::default() }).await.unwrap();
        entry.id
    }

    async fn erase_all_of(&self, key: &str) -> u64 {
        self.store.hash_phones_by(std::sync::Arc::new(|_, address| [address.len() as u8; 32]));
        let (mut place, mut entries) = (Some(ErasurePlace::default()), 0);
        while let Some(here) = place {
            let erased = self.store.erase(self.merchant, key, here, 3).await.unwrap();
            (place, entries) = (erased.next, entries + erased.entries);
        }
        entries
    }

    async fn is_erased(&self, entry: Id) -> bool {
        self.store.entry(entry).await.unwrap().unwrap().is_erased()
    }
}

#[tokio::test]
async fn a_mailbox_and_a_chat_are_found_however_they_are_written_and_not_within_another() {
    let own = [
        r#"{"email":"Maria.P+1@Example.com"}"#,
        "a=1&email=maria.p%2B1%40example.com&b=2",
        r#"{"text":"write to\nmaria.p+1@example.com"}"#,
        "to%20maria.p+1@example.com.",
        "Мария <maria.p+1@example.com>, и другие",
    ];
    let others = [
        r#"{"email":"anna.maria.p+1@example.com"}"#,
        r#"{"email":"maria.p+1@example.com.uz"}"#,
        r#"{"email":"mariaxp+1@example.com"}"#,
        r#"{"email":"maria.p+1@example-com.ru"}"#,
    ];
    let chats = [r#"{"chat":{"id":5120042,"type":"private"}}"#, "chat_id=5120042", "x%205120042"];
    let other_chats = [r#"{"chat":{"id":-5120042}}"#, r#"{"chat":{"id":51200421}}"#, r#"{"chat":{"id":15120042}}"#];
    let world = world().await;
    for (key, own, others) in
        [("maria.p+1@example.com", own.as_slice(), others.as_slice()), ("chat/5120042", &chats, &other_chats)]
    {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for body in own {
            mine.push((world.tells(body).await, body));
        }
        for body in others {
            theirs.push((world.tells(body).await, body));
        }
        assert_eq!(world.erase_all_of(key).await, own.len() as u64, "{key}");
        for (entry, body) in mine {
            assert!(world.is_erased(entry).await, "{body}");
        }
        for (entry, body) in theirs {
            assert!(!world.is_erased(entry).await, "{body}");
        }
    }
}
