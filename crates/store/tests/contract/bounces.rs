//! Messages that came back: three times within thirty days, and nothing goes to their address any more, until its person says otherwise.

use uzel_model::{Address, Content, connector::StatusNews, port::Delivery};
use uzel_store::{Consent, ConsentHow, ConsentPurpose};

use super::*;

const MAIL: &str = "maria@example.com";

fn on_day(day: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * day)
}

impl World {
    /// A mail to this address that comes back on this day; told as often as `times`.
    async fn comes_back(&self, key: &str, to: &str, day: i64, times: usize) {
        self.read(key, |event| {
            let mut mail = self.command(event, key, now());
            let content = Content::text("mail").into();
            mail.command.job =
                Job::Send { to: Address::Email(to.to_owned()), content, consent: false, repeatable: true, batch: None };
            vec![mail]
        })
        .await;
        let command = self.lease(now()).await.remove(0);
        let settlement = Settlement {
            provider_id: Some(key.to_owned()),
            exchanges: vec![self.exchange()],
            ..Self::settlement(&command, CommandState::Done)
        };
        self.settle(settlement).await.unwrap();
        let news = StatusNews { bounced: true, ..StatusNews::new(key, Delivery::Failed, "bounced/Transient/MailboxFull") };
        for _ in 0..times {
            let statuses = vec![(self.link, news.clone())];
            self.store.apply(Change { statuses, now: Some(on_day(day)), ..Change::default() }).await.unwrap();
        }
    }

    async fn is_given_up(&self, to: &str) -> bool {
        self.store.contact(self.merchant, to).await.unwrap().opted_out
    }

    async fn says_yes(&self, to: &str, day: i64) {
        let word = Consent {
            key: [day as u8; 16],
            merchant: self.merchant,
            address: to.to_owned(),
            channel: None,
            purpose: ConsentPurpose::Marketing,
            granted: true,
            how: ConsentHow::Spoken,
            text: "it works again".to_owned(),
            by: "local".to_owned(),
            at: on_day(day),
        };
        assert_eq!(self.store.put_words(vec![word]).await.unwrap(), [true]);
    }
}

#[tokio::test]
async fn an_address_from_which_messages_come_back_three_times_in_thirty_days_gets_no_more() {
    let world = world().await;
    for (key, day) in [("a", 0), ("b", 10)] {
        world.comes_back(key, MAIL, day, 3).await;
        assert!(!world.is_given_up(MAIL).await, "{key}: one that is told again counts once");
    }
    // The first is too long ago by now, and what another's mailbox does says nothing of this one.
    world.comes_back("c", MAIL, 31, 1).await;
    world.comes_back("d", "ivan@example.com", 32, 1).await;
    assert!(!world.is_given_up(MAIL).await);
    world.comes_back("e", MAIL, 33, 1).await;
    assert!(world.is_given_up(MAIL).await && !world.is_given_up("ivan@example.com").await);
    let words = world.store.words(world.merchant, MAIL, 10).await.unwrap();
    assert_eq!((words.len(), words[0].how, words[0].by.as_str()), (1, ConsentHow::Provider, "hub"));
    assert!(
        words[0].text.contains("3 times within 30 days, the last time as bounced/Transient/MailboxFull"),
        "{}",
        words[0].text
    );
}

#[tokio::test]
async fn a_word_of_the_person_opens_the_address_again_and_begins_the_count_anew() {
    let world = world().await;
    for (key, day) in [("a", 0), ("b", 1), ("c", 2)] {
        world.comes_back(key, MAIL, day, 1).await;
    }
    assert!(world.is_given_up(MAIL).await);
    world.says_yes(MAIL, 3).await;
    assert!(!world.is_given_up(MAIL).await);
    for (key, day) in [("d", 4), ("e", 5)] {
        world.comes_back(key, MAIL, day, 1).await;
    }
    world.says_yes(MAIL, 6).await;
    for (key, day) in [("f", 7), ("g", 8)] {
        world.comes_back(key, MAIL, day, 1).await;
        assert!(!world.is_given_up(MAIL).await, "{key}");
    }
    world.comes_back("h", MAIL, 9, 1).await;
    assert!(world.is_given_up(MAIL).await);
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);
}
