//! Short links, reviews and their counts; what people said about messages.

use uzel_model::Channel;
use uzel_store::{
    Consent, ConsentHow, ConsentPurpose, LeftReview, LinkNews, LinkPurpose, MapService, OptOut, ReviewAnswer, ReviewCount,
    ReviewFilter, ReviewReply, ShortLink,
};

use super::*;

const PHONE: &str = "+79991234567";

fn later(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

impl World {
    /// A link in the message of a new command.
    async fn link(&self, number: u8, to: &str) -> ShortLink {
        let event = self.read(&number.to_string(), |event| vec![self.command(event, &event.key, later(1))]).await;
        let entry = self.entry();
        self.store.append(entry.clone()).await.unwrap();
        let command = self.command(&event, &format!("{number}/again"), later(1));
        let link = ShortLink {
            code: [number; 16],
            purpose: LinkPurpose::Review,
            merchant: self.merchant,
            outlet: None,
            source: self.link,
            via: self.link,
            channel: Channel::Sms,
            flow: None,
            event: Some(event.id),
            command: command.command.id,
            to: Address::Phone(to.to_owned()),
            day: 20_000,
            made_at: now(),
            expires_at: later(24 * 90),
            sent_at: None,
            opened_at: None,
            clicks: 0,
            review: None,
        };
        let change = Change { commands: vec![command], links: vec![link.clone()], now: Some(now()), ..Change::default() };
        self.store.apply(change).await.unwrap();
        link
    }

    async fn hear(&self, link: &ShortLink, news: LinkNews) {
        let change = Change { link_news: vec![(link.code, news)], now: Some(now()), ..Change::default() };
        self.store.apply(change).await.unwrap();
    }

    async fn leave(&self, link: &ShortLink, was: u32, stars: u8, comment: Option<&str>) -> Result<Id, StoreError> {
        let review = Id::new(Kind::Review);
        let (comment, at) = (comment.map(str::to_owned), later(i64::from(was)));
        let left = LeftReview { code: link.code, review, was, stars, comment, at };
        let entry = self.entry();
        let change = Change { entries: vec![entry], left_review: Some(left), now: Some(at), ..Change::default() };
        self.store.apply(change).await?;
        Ok(self.store.short_link(link.code).await.unwrap().unwrap().0.review.unwrap())
    }

    async fn counted(&self) -> Vec<(String, &'static str, i64)> {
        let counts = self.store.review_counts(self.merchant, 20_000, 20_000).await.unwrap();
        let some = counts.into_iter().filter(|count| count.count != 0);
        some.map(|ReviewCount { channel, what, count, .. }| (what, channel.name(), count)).collect()
    }

    async fn unread_entries(&self) -> usize {
        self.store.unread(100).await.unwrap().len()
    }
}

fn word(world: &World, number: u8, address: &str, granted: bool, channel: Option<Channel>, at: Timestamp) -> Consent {
    Consent {
        key: [number; 16],
        merchant: world.merchant,
        address: address.to_owned(),
        channel,
        purpose: ConsentPurpose::Marketing,
        granted,
        how: ConsentHow::Form,
        text: format!("form {number}"),
        by: "key_1".to_owned(),
        at,
    }
}

#[tokio::test]
async fn a_link_is_kept_with_its_command_and_counted_once_for_each_thing_that_becomes_of_it() {
    let world = world().await;
    let link = world.link(1, PHONE).await;
    assert_eq!(world.store.short_link(link.code).await.unwrap(), Some((link.clone(), None)));
    assert_eq!(world.store.short_link([9; 16]).await.unwrap(), None);
    let alone = ShortLink { code: [2; 16], command: Id::new(Kind::Command), ..link.clone() };
    world.store.apply(Change { links: vec![alone], now: Some(now()), ..Change::default() }).await.unwrap();
    assert_eq!(world.store.short_link([2; 16]).await.unwrap(), None, "its command was never queued");

    let sent = |channel| LinkNews::Sent { via: link.via, channel, to: link.to.clone(), at: now() };
    world.hear(&link, sent(Channel::Whatsapp)).await;
    world.hear(&link, sent(Channel::Whatsapp)).await;
    assert_eq!(world.counted().await, [("sent".to_owned(), "whatsapp", 1)]);
    world.hear(&link, sent(Channel::Sms)).await;
    assert_eq!(world.counted().await, [("sent".to_owned(), "sms", 1)], "a fallback has sent it by another channel");
    for _ in 0..2 {
        world.hear(&link, LinkNews::Opened { at: later(1) }).await;
        world.hear(&link, LinkNews::Clicked { map: MapService::Yandex, at: later(1) }).await;
    }
    world.hear(&link, LinkNews::Clicked { map: MapService::Dgis, at: later(1) }).await;
    let counted = ["click/dgis", "click/yandex", "opened", "sent"].map(|what| (what.to_owned(), "sms", 1));
    assert_eq!(world.counted().await, counted);
    assert!(world.store.review_counts(world.merchant, 20_001, i32::MAX).await.unwrap().is_empty());
    assert!(world.store.review_counts(Id::new(Kind::Merchant), i32::MIN, i32::MAX).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_review_is_left_with_its_entry_or_not_at_all_and_the_last_word_of_it_stands() {
    let world = world().await;
    let link = world.link(1, PHONE).await;
    world.unread_entries().await;
    let id = world.leave(&link, 0, 2, None).await.unwrap();
    assert_eq!(world.unread_entries().await, 1);
    assert!(matches!(world.leave(&link, 0, 5, None).await, Err(StoreError::Conflict)));
    assert_eq!(world.unread_entries().await, 0, "nothing of a conflict is kept");
    assert_eq!(world.leave(&link, 1, 3, Some("долго")).await.unwrap(), id);
    assert_eq!(world.leave(&link, 2, 3, None).await.unwrap(), id);
    let (link, review) = world.store.short_link(link.code).await.unwrap().unwrap();
    let review = review.unwrap();
    assert_eq!((review.stars, review.comment.as_deref(), review.given), (3, Some("долго"), 3));
    assert_eq!((review.left_at, review.changed_at, link.opened_at), (now(), later(2), Some(now())));
    let counted = ["comment", "opened", "sent", "stars/3"].map(|what| (what.to_owned(), "sms", 1));
    assert_eq!(world.counted().await, counted);
    let nowhere = ShortLink { code: [8; 16], ..link };
    assert!(matches!(
        world
            .store
            .apply(Change {
                left_review: Some(LeftReview { code: nowhere.code, review: id, was: 0, stars: 1, comment: None, at: now() }),
                ..Change::default()
            })
            .await,
        Err(StoreError::Conflict)
    ));
}

#[tokio::test]
async fn reviews_are_found_by_what_they_are_and_answered_once() {
    let world = world().await;
    let mut ids = Vec::new();
    for (number, stars) in [(1, 5), (2, 1), (3, 5)] {
        let link = world.link(number, PHONE).await;
        ids.push(world.leave(&link, 0, stars, None).await.unwrap());
    }
    let found = async |filter: ReviewFilter| -> Vec<Id> {
        let filter = ReviewFilter { limit: if filter.limit == 0 { 10 } else { filter.limit }, ..filter };
        world.store.reviews(filter).await.unwrap().into_iter().map(|review| review.id).collect()
    };
    let all = ReviewFilter { merchant: Some(world.merchant), source: Some(world.link), ..ReviewFilter::default() };
    assert_eq!(found(all.clone()).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(found(ReviewFilter { before: Some(ids[2]), limit: 1, ..all.clone() }).await, [ids[1]]);
    assert_eq!(found(ReviewFilter { stars: Some(5), ..all.clone() }).await, [ids[2], ids[0]]);
    assert!(found(ReviewFilter { outlet: Some(Id::new(Kind::Outlet)), ..all.clone() }).await.is_empty());
    let answer = ReviewAnswer { text: "sorry".to_owned(), by: "local".to_owned(), at: now(), command: Id::new(Kind::Command) };
    let reply = || Change { review_reply: Some(ReviewReply { review: ids[1], answer: answer.clone() }), ..Change::default() };
    world.store.apply(reply()).await.unwrap();
    assert!(matches!(world.store.apply(reply()).await, Err(StoreError::Conflict)));
    assert_eq!(world.store.review(ids[1]).await.unwrap().unwrap().answer, Some(answer));
    assert_eq!(found(ReviewFilter { answered: Some(true), ..all.clone() }).await, [ids[1]]);
    assert_eq!(found(ReviewFilter { answered: Some(false), ..all }).await, [ids[2], ids[0]]);
}

#[tokio::test]
async fn words_are_kept_one_after_another_and_a_known_one_changes_nothing() {
    let world = world().await;
    let put = async |number, granted, channel, at| {
        world.store.put_words(vec![word(&world, number, PHONE, granted, channel, at)]).await.unwrap()[0]
    };
    assert!(put(1, true, None, now()).await);
    assert!(put(2, false, None, later(2)).await);
    assert!(!put(1, true, None, later(9)).await, "a replay brings an old word again");
    assert!(!put(3, true, None, later(1)).await, "a later word stands");
    let contact = async || world.store.contact(world.merchant, PHONE).await.unwrap();
    assert!(contact().await.opted_out);
    assert!(put(4, true, Some(Channel::Whatsapp), later(3)).await);
    assert!(contact().await.refuses(Some(Channel::Sms)) && contact().await.agrees(Some(Channel::Whatsapp)));
    let texts: Vec<String> =
        world.store.words(world.merchant, PHONE, 10).await.unwrap().into_iter().map(|word| word.text).collect();
    assert_eq!(texts, ["form 4", "form 2", "form 3", "form 1"]);
    let latest = world.store.words(world.merchant, PHONE, 1).await.unwrap();
    assert_eq!(latest, [word(&world, 4, PHONE, true, Some(Channel::Whatsapp), later(3))]);
    assert_eq!(world.store.contact(Id::new(Kind::Merchant), PHONE).await.unwrap(), Contact::default());
}

#[tokio::test]
async fn a_lease_tells_what_a_person_said_whatever_their_address_and_however_the_message_is_sent() {
    let world = world().await;
    let addresses = [
        Address::Phone(PHONE.to_owned()),
        Address::Email("maria@example.com".to_owned()),
        Address::Chat(77),
        Address::Device("{\"endpoint\":\"https://push.example/1\"}".to_owned()),
    ];
    for (number, to) in addresses.iter().enumerate() {
        let out = word(&world, number as u8, &to.key(), false, None, now());
        world.store.apply(Change { words: vec![out], now: Some(now()), ..Change::default() }).await.unwrap();
        for repeatable in [false, true] {
            world
                .read(&format!("{number}/{repeatable}"), |event| {
                    let mut new = world.command(event, &event.key, now());
                    new.command.job =
                        Job::Send { to: to.clone(), content: Content::text("t").into(), consent: false, repeatable, batch: None };
                    vec![new]
                })
                .await;
        }
    }
    let leased = world.lease(now()).await;
    assert_eq!(leased.len(), 8);
    assert!(leased.iter().all(|command| command.contact.opted_out), "{leased:?}");
}

#[tokio::test]
async fn the_stop_list_is_told_by_pages() {
    let world = world().await;
    let words = vec![
        word(&world, 1, "+79990000002", false, None, now()),
        word(&world, 2, "+79990000001", false, Some(Channel::Sms), now()),
        word(&world, 3, "maria@example.com", false, None, now()),
        word(&world, 4, "+79990000003", true, None, now()),
    ];
    assert_eq!(world.store.put_words(words).await.unwrap(), [true; 4]);
    let first = world.store.opt_outs(world.merchant, "", 2).await.unwrap();
    let one = OptOut { address: "+79990000001".to_owned(), channels: Some(vec![Channel::Sms]), since: now() };
    assert_eq!(first, [one, OptOut { address: "+79990000002".to_owned(), channels: None, since: now() }]);
    let rest = world.store.opt_outs(world.merchant, "+79990000002", 2).await.unwrap();
    assert_eq!(rest.iter().map(|it| it.address.as_str()).collect::<Vec<_>>(), ["maria@example.com"]);
}

#[tokio::test]
async fn an_erased_person_left_stars_and_nothing_else() {
    let world = world().await;
    let (theirs, other) = (world.link(1, PHONE).await, world.link(2, "+79990000009").await);
    let id = world.leave(&theirs, 0, 2, Some("позвоните мне")).await.unwrap();
    let kept = world.leave(&other, 0, 1, Some("холодно")).await.unwrap();
    let notice = |review: Id| Notice {
        merchant: world.merchant,
        connection: world.link,
        kind: format!("comment/{review}"),
        text: "a comment".to_owned(),
    };
    world.store.apply(Change { notices: vec![notice(id), notice(kept)], now: Some(now()), ..Change::default() }).await.unwrap();
    world.store.put_words(vec![word(&world, 1, PHONE, false, None, now())]).await.unwrap();
    // Entries that nobody has read are not erased: they are read first.
    for entry in world.store.unread(10).await.unwrap() {
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        world.store.apply(Change { mark: Some(mark), now: Some(now()), ..Change::default() }).await.unwrap();
    }
    world.store.hash_phones_by(Arc::new(|_, phone| {
        let mut hash = [0; 32];
        phone.bytes().enumerate().for_each(|(place, byte)| hash[place % 32] ^= byte);
        hash
    }));
    let mut place = Some(uzel_store::ErasurePlace::default());
    while let Some(here) = place {
        place = world.store.erase(world.merchant, PHONE, here, 100).await.unwrap().next;
    }
    assert_eq!(world.store.short_link(theirs.code).await.unwrap(), None);
    let review = world.store.review(id).await.unwrap().unwrap();
    assert_eq!((review.stars, review.comment, review.to), (2, None, None));
    assert!(world.store.words(world.merchant, PHONE, 10).await.unwrap().is_empty());
    assert!(world.store.contact(world.merchant, PHONE).await.unwrap().opted_out, "the hash of the phone says it");
    assert_eq!(world.store.review(kept).await.unwrap().unwrap().comment.as_deref(), Some("холодно"));
    let kinds: Vec<String> = world.store.notices(None, 10).await.unwrap().into_iter().map(|notice| notice.kind).collect();
    assert_eq!(kinds, [format!("comment/{kept}")]);
}

#[tokio::test]
async fn retention_forgets_links_and_reviews_and_keeps_their_counts() {
    let world = world().await;
    let link = world.link(1, PHONE).await;
    let id = world.leave(&link, 0, 4, None).await.unwrap();
    let days = |days: i64| later(24 * days);
    let purge = async |before| while world.store.purge(before, 100).await.unwrap() > 0 {};
    purge(days(-1)).await;
    assert!(world.store.review(id).await.unwrap().is_some());
    purge(days(30)).await;
    assert!(world.store.review(id).await.unwrap().is_none());
    assert!(world.store.short_link(link.code).await.unwrap().is_some(), "it still leads somewhere");
    purge(days(91)).await;
    assert!(world.store.short_link(link.code).await.unwrap().is_none());
    assert!(world.counted().await.contains(&("stars/4".to_owned(), "sms", 1)));
}

#[tokio::test]
async fn a_slot_of_some_places_lets_as_many_through_and_takes_another_one_with_it_or_none() {
    let world = world().await;
    let slot = |key: u8, places, days: i64, also| Slot {
        key: [key; 16],
        places,
        until: later(24 * days),
        reason: format!("slot {key}"),
        also,
    };
    let week = || slot(7, 2, 7, None);
    let once = |key| slot(key, 1, 14, Some(Box::new(week())));
    let queue = async |number: u8, slot: Slot| {
        world
            .read(&number.to_string(), |event| {
                let new = world.command(event, &event.key, now());
                vec![NewCommand { slot: Some(slot.clone()), ..new }]
            })
            .await;
        world.store.counts().await.unwrap().held
    };
    assert!(queue(1, once(1)).await.is_empty());
    assert_eq!(queue(2, once(1)).await, [("slot 1".to_owned(), 1)], "nothing of the week is taken by it");
    assert_eq!(queue(3, week()).await.len(), 1);
    assert_eq!(queue(4, once(2)).await, [("slot 1".to_owned(), 1), ("slot 7".to_owned(), 1)]);
    // The first was given back with the second.
    let free = Slot { also: None, ..once(2) };
    assert_eq!(queue(5, free).await.len(), 2);
}
