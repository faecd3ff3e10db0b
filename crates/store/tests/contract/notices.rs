//! Notices: each is to be told once, by whoever comes first.

use super::*;

impl World {
    async fn notice(&self, kind: &str, at: Timestamp) {
        let notice = Notice { merchant: self.merchant, connection: self.link, kind: kind.to_owned(), text: "why".to_owned() };
        self.store.apply(Change { notices: vec![notice], now: Some(at), ..Change::default() }).await.unwrap();
    }

    fn telling(&self, kinds: &[&str], at: Timestamp) -> Change {
        let day = now().as_second().div_euclid(86_400);
        let notices = kinds.iter().map(|kind| (self.link, (*kind).to_owned(), day)).collect();
        Change { told: Some(Told { merchant: self.merchant, notices, at }), now: Some(at), ..Change::default() }
    }

    async fn kinds_untold(&self) -> Vec<String> {
        let untold = self.store.untold(1_000).await.unwrap();
        untold.into_iter().filter(|untold| untold.notice.merchant == self.merchant).map(|untold| untold.notice.kind).collect()
    }
}

#[tokio::test]
async fn a_notice_is_told_once_and_those_of_one_moment_count_as_one() {
    let world = world().await;
    for kind in ["a", "b", "a", "c"] {
        world.notice(kind, now()).await;
    }
    assert_eq!(world.kinds_untold().await, ["a", "b", "c"]);
    assert_eq!(world.store.tellings(world.merchant, Timestamp::UNIX_EPOCH).await.unwrap(), 0);
    world.store.apply(world.telling(&["a", "b"], now())).await.unwrap();
    assert_eq!(world.kinds_untold().await, ["c"]);
    // Whoever comes later with one that was told changes nothing.
    let twice = world.store.apply(world.telling(&["c", "a"], now())).await;
    assert!(matches!(twice, Err(StoreError::Conflict)), "{twice:?}");
    assert_eq!(world.kinds_untold().await, ["c"]);
    let unknown = world.store.apply(world.telling(&["x"], now())).await;
    assert!(matches!(unknown, Err(StoreError::Conflict)), "{unknown:?}");
    let later = now() + SignedDuration::from_secs(1);
    world.store.apply(world.telling(&["c"], later)).await.unwrap();
    let since = |at| world.store.tellings(world.merchant, at);
    assert_eq!(since(now() - SignedDuration::from_secs(1)).await.unwrap(), 2);
    assert_eq!(since(now()).await.unwrap(), 1);
    // The same again on the same day is no news.
    world.notice("a", later).await;
    assert!(world.kinds_untold().await.is_empty());
}

#[tokio::test]
async fn the_last_day_of_a_kind_is_known() {
    let world = world().await;
    let noticed = |kind| world.store.noticed(world.merchant, world.link, kind);
    assert_eq!(noticed("a").await.unwrap(), None);
    let today = now().as_second().div_euclid(86_400);
    world.notice("a", now()).await;
    world.notice("a", now() - SignedDuration::from_hours(48)).await;
    assert_eq!((noticed("a").await.unwrap(), noticed("b").await.unwrap()), (Some(today), None));
}
