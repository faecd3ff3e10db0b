//! Points: decisions are read and written whole, by versions, and all of them are accounted for.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
pub(super) use uzel_model::loyalty::{Entry as Movement, Wallet};
use uzel_model::{
    Id,
    id::Kind,
    loyalty::{Account, Book, Earning, Held, Hold, HoldState, Kind as What, Lot, MoveKind, OrderReceipt, Receipt, Taken},
};
use uzel_store::{
    Applied, Change, EntryState, ErasurePlace, JournalFilter, KeptReply, LedgerFilter, LoyaltyChange, LoyaltyLook, LoyaltySeen,
    Progress, PromoUse, PromoUses, Source, SpentToken, Store, StoreError, WalletFilter, Who,
};

use super::{World, now, world};

fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub(super) fn wallet(world: &World, customer: &str) -> Wallet {
    Wallet {
        id: Id::new(Kind::Customer),
        merchant: world.merchant,
        version: 0,
        customer: customer.to_owned(),
        phone: None,
        name: Some("Анна".to_owned()),
        level: None,
        referred_by: None,
        receipts: 0,
        account: Account::default(),
        last_lot: 0,
        booked_at: now(),
        holds: Vec::new(),
        moves: Vec::new(),
        preview_days: 0,
        club: None,
        made_at: now(),
    }
}

fn hold(wallet: &Wallet, order: &str) -> Hold {
    Hold {
        id: Id::new(Kind::Hold),
        merchant: wallet.merchant,
        wallet: wallet.id,
        version: 0,
        state: HoldState::Pending,
        kind: What::Redeem,
        order: order.to_owned(),
        points: 30,
        limit: 30,
        earning: None,
        total: 1_000,
        eligible: 1_000,
        outlet: None,
        staff: None,
        request: Some("r-1".to_owned()),
        promo_code: None,
        at: now(),
        until: Some(at(300)),
        answer: serde_json::json!({ "customerId": "+79991234567", "discount": 30 }),
    }
}

fn receipt(wallet: &Wallet, order: &str) -> OrderReceipt {
    OrderReceipt {
        id: Id::new(Kind::Receipt),
        merchant: wallet.merchant,
        order: order.to_owned(),
        wallet: wallet.id,
        version: 0,
        sums: Receipt { eligible: 1_000, redeemed: 30, earned: 50, ..Receipt::default() },
        spent: vec![Taken { lot: 1, points: 30, expires_at: None }],
        lots: vec![Taken { lot: 2, points: 50, expires_at: None }],
        earning: Some(Earning { eligible: 1_000, bps: 500 }),
        lapsed: 0,
        holds: Vec::new(),
        promo_code: None,
        number: Some("17".to_owned()),
        outlet: None,
        staff: None,
        at: now(),
        earned_as: None,
    }
}

pub(super) fn movement(wallet: &Wallet, kind: MoveKind, (from, to): (Book, Book), points: i64) -> Movement {
    Movement {
        id: Id::new(Kind::Points),
        merchant: wallet.merchant,
        wallet: wallet.id,
        kind,
        from,
        to,
        points,
        balance: 0,
        cause: "import".to_owned(),
        order: None,
        outlet: None,
        staff: None,
        reason: None,
        lots: Vec::new(),
        at: now(),
    }
}

const GIVEN: (Book, Book) = (Book::Issued, Book::Spendable);
const SPENT: (Book, Book) = (Book::Spendable, Book::Redeemed);

fn change(points: LoyaltyChange) -> Change {
    Change { loyalty: Some(Box::new(points)), now: Some(now()), ..Change::default() }
}

fn reply(key: u8, until: Timestamp) -> KeptReply {
    KeptReply { key: [key; 16], body: [1; 16], answer: "{\"ok\":true}".to_owned(), until }
}

fn conflict(applied: Result<Applied, StoreError>) -> bool {
    match applied {
        Ok(_) => false,
        Err(StoreError::Conflict) => true,
        Err(error) => panic!("{error}"),
    }
}

impl World {
    /// The store by two of its nodes, for every second of many at once.
    async fn nodes(&self) -> [Arc<dyn Store>; 2] {
        [self.store.clone(), self.by_hand.node(&self.store).await]
    }

    pub(super) async fn move_points(&self, points: LoyaltyChange) -> Result<Applied, StoreError> {
        self.store.apply(change(points)).await
    }

    fn look(&self) -> LoyaltyLook {
        LoyaltyLook::new(self.merchant, now())
    }

    async fn see(&self, look: LoyaltyLook) -> LoyaltySeen {
        self.store.loyalty(look).await.unwrap()
    }

    async fn see_wallet(&self, id: Id) -> Wallet {
        self.see(LoyaltyLook { who: Some(Who::Id(id)), ..self.look() }).await.wallet.unwrap()
    }

    /// A customer with so many points, as the store has it.
    async fn customer(&self, customer: &str, points: i64) -> Wallet {
        let mut new = wallet(self, customer);
        let mut ledger = Vec::new();
        if points > 0 {
            new.account.lots.push(Lot { id: 1, left: points, active_at: now(), expires_at: None });
            new.last_lot = 1;
            ledger.push(Movement { balance: points, ..movement(&new, MoveKind::Adjust, GIVEN, points) });
        }
        let id = new.id;
        self.move_points(LoyaltyChange { wallets: vec![new], ledger, ..LoyaltyChange::default() }).await.unwrap();
        self.see_wallet(id).await
    }

    async fn ledger(&self, filter: LedgerFilter) -> Vec<Movement> {
        self.store.ledger(LedgerFilter { limit: if filter.limit == 0 { 100 } else { filter.limit }, ..filter }).await.unwrap()
    }

    async fn audited(&self) -> Vec<(Id, String)> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let portion = self.store.audit_loyalty(None, after, 2).await.unwrap();
            found.extend(portion.findings);
            after = portion.next;
            if after.is_none() {
                return found;
            }
        }
    }
}

#[tokio::test]
async fn what_a_decision_wrote_is_seen_by_id_customer_phone_hold_token_and_order() {
    let world = world().await;
    let new = Wallet { phone: Some("+79991234567".to_owned()), ..wallet(&world, "c-1") };
    let (quoted, paid) = (hold(&new, "o-1"), receipt(&new, "o-1"));
    let token = SpentToken { key: [9; 16], hold: quoted.id, until: at(60) };
    let written = LoyaltyChange {
        wallets: vec![new.clone()],
        holds: vec![quoted.clone()],
        receipts: vec![paid.clone()],
        ledger: vec![movement(&new, MoveKind::Adjust, GIVEN, 5)],
        token: Some(token),
        replies: vec![reply(1, at(60)), reply(2, at(60))],
        promo: None,
    };
    world.move_points(written).await.unwrap();
    let (new, quoted, paid) = (Wallet { version: 1, ..new }, Hold { version: 1, ..quoted }, OrderReceipt { version: 1, ..paid });
    let by = |who| LoyaltyLook { who: Some(who), ..world.look() };
    for who in [Who::Id(new.id), Who::Customer("c-1".to_owned()), Who::Phone("+79991234567".to_owned())] {
        assert_eq!(
            world.see(by(who.clone())).await,
            LoyaltySeen { wallet: Some(new.clone()), ..LoyaltySeen::default() },
            "{who:?}"
        );
    }
    let all = LoyaltySeen {
        hold: Some(quoted.clone()),
        receipt: Some(paid.clone()),
        wallet: Some(new.clone()),
        ..LoyaltySeen::default()
    };
    assert_eq!(world.see(LoyaltyLook { hold: Some(quoted.id), ..world.look() }).await, all);
    assert_eq!(world.see(LoyaltyLook { token: Some([9; 16]), ..world.look() }).await, all);
    let by_order = world.see(LoyaltyLook { order: Some("o-1".to_owned()), ..world.look() }).await;
    assert_eq!(by_order, LoyaltySeen { hold: None, ..all.clone() });
    // Another order and another customer than the hold's are looked for where they are named.
    let other = world.customer("c-2", 0).await;
    let look = LoyaltyLook { hold: Some(quoted.id), order: Some("o-2".to_owned()), ..by(Who::Id(other.id)) };
    assert_eq!(world.see(look).await, LoyaltySeen { receipt: None, wallet: Some(other), ..all.clone() });
    let mut replies = world.see(LoyaltyLook { replies: vec![[1; 16], [2; 16], [3; 16]], ..world.look() }).await.replies;
    replies.sort_by_key(|reply| reply.key);
    assert_eq!(replies, [reply(1, at(60)), reply(2, at(60))]);
    // What is over is not seen, and nothing of it is another merchant's.
    let later = LoyaltyLook { token: Some([9; 16]), replies: vec![[1; 16]], now: at(60), ..world.look() };
    assert_eq!(world.see(later).await, LoyaltySeen::default());
    let stranger = Id::new(Kind::Merchant);
    for look in [by(Who::Id(new.id)), by(Who::Customer("c-1".to_owned())), by(Who::Phone("+79991234567".to_owned()))] {
        assert_eq!(world.see(LoyaltyLook { merchant: stranger, ..look }).await, LoyaltySeen::default());
    }
    let look = LoyaltyLook { hold: Some(quoted.id), token: Some([9; 16]), order: Some("o-1".to_owned()), ..world.look() };
    assert_eq!(world.see(LoyaltyLook { merchant: stranger, ..look }).await, LoyaltySeen::default());
}

#[tokio::test]
async fn a_movement_comes_back_as_it_was_written() {
    let world = world().await;
    let customer = world.customer("c", 0).await;
    let outlet = Id::new(Kind::Outlet);
    let full = Movement {
        balance: -7,
        cause: "receipt/rct_1".to_owned(),
        order: Some("o-1".to_owned()),
        outlet: Some(outlet),
        staff: Some("Вера".to_owned()),
        reason: Some("прости\0те".to_owned().replace('\0', "")),
        lots: vec![Taken { lot: 1, points: 3, expires_at: None }, Taken { lot: 2, points: 4, expires_at: Some(at(90)) }],
        at: at(5),
        ..movement(&customer, MoveKind::Refund, (Book::Redeemed, Book::Promised), 7)
    };
    let bare = movement(&customer, MoveKind::Expire, (Book::Promised, Book::Expired), 1);
    let ledger = vec![full.clone(), bare.clone()];
    world.move_points(LoyaltyChange { ledger, ..LoyaltyChange::default() }).await.unwrap();
    assert_eq!(world.ledger(LedgerFilter::default()).await, [bare, full]);
}

#[tokio::test]
async fn a_change_decided_on_another_version_is_a_conflict_and_nothing_of_it_is_done() {
    let world = world().await;
    let customer = world.customer("c", 100).await;
    let (quoted, paid) = (hold(&customer, "o-1"), receipt(&customer, "o-1"));
    let first = LoyaltyChange {
        wallets: vec![customer.clone()],
        holds: vec![quoted.clone()],
        receipts: vec![paid.clone()],
        ..LoyaltyChange::default()
    };
    world.move_points(first).await.unwrap();
    let quoted = Hold { version: 1, ..quoted };
    let paid = OrderReceipt { version: 1, ..paid };
    let now_is = Wallet { version: 2, ..customer.clone() };
    let of = |wallet: &Wallet| LoyaltyChange { wallets: vec![wallet.clone()], ..LoyaltyChange::default() };
    for (what, stale) in [
        ("an old wallet", of(&customer)),
        ("a wallet that is there already", of(&Wallet { version: 0, ..customer.clone() })),
        ("a wallet of the future", of(&Wallet { version: 3, ..customer.clone() })),
        ("a wallet that is not there", of(&Wallet { id: Id::new(Kind::Customer), customer: "d".to_owned(), ..now_is.clone() })),
        ("an old hold", LoyaltyChange { holds: vec![Hold { version: 0, ..quoted.clone() }], ..of(&now_is) }),
        (
            "a hold that is not there",
            LoyaltyChange { holds: vec![Hold { id: Id::new(Kind::Hold), ..quoted.clone() }], ..of(&now_is) },
        ),
        ("an old receipt", LoyaltyChange { receipts: vec![OrderReceipt { version: 0, ..paid.clone() }], ..of(&now_is) }),
        ("an order that has a receipt", LoyaltyChange { receipts: vec![receipt(&customer, "o-1")], ..of(&now_is) }),
        ("a customer that another has", of(&wallet(&world, "c"))),
        ("the same wallet twice", LoyaltyChange { wallets: vec![now_is.clone(), now_is.clone()], ..LoyaltyChange::default() }),
        (
            "two receipts of an order",
            LoyaltyChange { receipts: vec![receipt(&customer, "o-2"), receipt(&customer, "o-2")], ..of(&now_is) },
        ),
    ] {
        let entry = uzel_store::Entry { source: Source::Question, ..world.entry() };
        let all = LoyaltyChange {
            ledger: vec![movement(&customer, MoveKind::Adjust, GIVEN, 1)],
            replies: vec![reply(1, at(60))],
            token: Some(SpentToken { key: [2; 16], hold: quoted.id, until: at(60) }),
            ..stale
        };
        let exchange = world.exchange();
        let all = Change { entries: vec![entry], exchanges: vec![exchange.clone()], ..change(all) };
        assert!(conflict(world.store.apply(all).await), "{what}");
        assert_eq!(world.ledger(LedgerFilter::default()).await.len(), 1, "{what}");
        assert_eq!(world.store.exchange(exchange.id).await.unwrap().map(|known| known.id), None, "{what}");
        let all = JournalFilter { limit: 10, ..JournalFilter::default() };
        assert_eq!(world.store.journal(all).await.unwrap().len(), 0, "{what}");
        let look = LoyaltyLook { replies: vec![[1; 16]], token: Some([2; 16]), ..world.look() };
        assert_eq!(world.see(look).await, LoyaltySeen::default(), "{what}");
        assert_eq!(world.see_wallet(customer.id).await, now_is, "{what}");
    }
    let ended = Hold { state: HoldState::Committed, ..quoted };
    let refunded = OrderReceipt { sums: Receipt { refunded: 10, ..paid.sums }, ..paid };
    let good = LoyaltyChange { holds: vec![ended.clone()], receipts: vec![refunded.clone()], ..of(&now_is) };
    world.move_points(good).await.unwrap();
    let seen = world.see(LoyaltyLook { hold: Some(ended.id), ..world.look() }).await;
    assert_eq!(seen.hold, Some(Hold { version: 2, ..ended }));
    assert_eq!(seen.receipt, Some(OrderReceipt { version: 2, ..refunded }));
    assert_eq!(seen.wallet.unwrap().version, 3);
}

#[tokio::test]
async fn a_customer_and_a_phone_are_one_wallets_of_a_merchant() {
    let world = world().await;
    let phone = Some("+79991234567".to_owned());
    let one = Wallet { phone: phone.clone(), ..wallet(&world, "c-1") };
    let put = async |wallets| world.move_points(LoyaltyChange { wallets, ..LoyaltyChange::default() }).await;
    put(vec![one.clone()]).await.unwrap();
    assert!(conflict(put(vec![Wallet { phone: phone.clone(), ..wallet(&world, "c-2") }]).await), "a new one with the phone");
    let two = world.customer("c-2", 0).await;
    assert!(conflict(put(vec![Wallet { phone: phone.clone(), ..two.clone() }]).await), "one that takes the phone");
    assert!(conflict(put(vec![Wallet { customer: "c-1".to_owned(), ..two.clone() }]).await), "one that takes the name");
    let stranger = Wallet { merchant: Id::new(Kind::Merchant), phone: phone.clone(), ..wallet(&world, "c-1") };
    put(vec![stranger]).await.unwrap();
    // One gives the phone to the other, in either order.
    let given = vec![Wallet { phone: phone.clone(), ..two.clone() }, Wallet { version: 1, phone: None, ..one.clone() }];
    put(given).await.unwrap();
    let holder = async || {
        world.see(LoyaltyLook { who: Some(Who::Phone(phone.clone().unwrap())), ..world.look() }).await.wallet.unwrap().id
    };
    assert_eq!(holder().await, two.id);
    put(vec![Wallet { version: 2, phone: phone.clone(), ..one.clone() }, Wallet { version: 2, phone: None, ..two.clone() }])
        .await
        .unwrap();
    assert_eq!(holder().await, one.id);
    // A customer may be called otherwise.
    put(vec![Wallet { version: 3, customer: "c-3".to_owned(), ..two.clone() }]).await.unwrap();
    assert_eq!(
        world.see(LoyaltyLook { who: Some(Who::Customer("c-3".to_owned())), ..world.look() }).await.wallet.unwrap().id,
        two.id
    );
    assert_eq!(world.see(LoyaltyLook { who: Some(Who::Customer("c-2".to_owned())), ..world.look() }).await.wallet, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_write_a_wallet_at_once_exactly_one_does_and_no_update_is_lost() {
    const WRITERS: i64 = 8;
    const ROUNDS: i64 = 5;
    let world = Arc::new(world().await);
    let (customer, nodes) = (world.customer("c", 0).await, world.nodes().await);
    for round in 0..ROUNDS {
        let seen = world.see_wallet(customer.id).await;
        let tries = (0..WRITERS).map(|number| {
            let (node, seen) = (nodes[number as usize % 2].clone(), seen.clone());
            tokio::spawn(async move {
                let ledger = vec![movement(&seen, MoveKind::Adjust, GIVEN, 1)];
                let wallets = vec![Wallet { receipts: seen.receipts + 1, ..seen }];
                !conflict(node.apply(change(LoyaltyChange { wallets, ledger, ..LoyaltyChange::default() })).await)
            })
        });
        let won = futures::future::try_join_all(tries).await.unwrap();
        assert_eq!(won.into_iter().filter(|won| *won).count(), 1, "round {round}");
    }
    // Whoever conflicts decides again: all of it is there in the end.
    let tries = (0..WRITERS).map(|number| {
        let (world, node, id) = (world.clone(), nodes[number as usize % 2].clone(), customer.id);
        tokio::spawn(async move {
            loop {
                let seen = world.see_wallet(id).await;
                let wallets = vec![Wallet { receipts: seen.receipts + 1, ..seen }];
                if !conflict(node.apply(change(LoyaltyChange { wallets, ..LoyaltyChange::default() })).await) {
                    return;
                }
            }
        })
    });
    futures::future::try_join_all(tries).await.unwrap();
    let last = world.see_wallet(customer.id).await;
    assert_eq!((i64::from(last.receipts), last.version), (ROUNDS + WRITERS, 1 + ROUNDS + WRITERS));
    assert_eq!(world.ledger(LedgerFilter::default()).await.len(), ROUNDS as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_two_wallets_in_either_order_do_not_stand_in_each_others_way() {
    let world = Arc::new(world().await);
    let (one, two, nodes) = (world.customer("c-1", 0).await, world.customer("c-2", 0).await, world.nodes().await);
    let tries = (0..8).map(|number| {
        let (world, node, mut ids) = (world.clone(), nodes[number % 2].clone(), [one.id, two.id]);
        if number % 2 == 1 {
            ids.reverse();
        }
        tokio::spawn(async move {
            loop {
                let mut wallets = Vec::new();
                for id in ids {
                    let seen = world.see_wallet(id).await;
                    wallets.push(Wallet { receipts: seen.receipts + 1, ..seen });
                }
                if !conflict(node.apply(change(LoyaltyChange { wallets, ..LoyaltyChange::default() })).await) {
                    return;
                }
            }
        })
    });
    futures::future::try_join_all(tries).await.unwrap();
    for id in [one.id, two.id] {
        assert_eq!(world.see_wallet(id).await.receipts, 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_customers_move_points_at_once_and_each_of_their_movements_counts() {
    const CUSTOMERS: usize = 24;
    let (world, mut customers) = (Arc::new(world().await), Vec::new());
    for number in 0..CUSTOMERS {
        customers.push(world.customer(&format!("c-{number}"), 100).await);
    }
    let nodes = world.nodes().await;
    let tries = customers.into_iter().enumerate().map(|(place, mut seen)| {
        let node = nodes[place % 2].clone();
        tokio::spawn(async move {
            for round in 0..5 {
                seen.account.lots[0].left -= 2;
                let order = format!("{place}/{round}");
                let spent = Movement { order: Some(order.clone()), ..movement(&seen, MoveKind::Redeem, SPENT, 2) };
                let points = LoyaltyChange {
                    wallets: vec![seen.clone()],
                    holds: vec![Hold { state: HoldState::Committed, ..hold(&seen, &order) }],
                    receipts: vec![receipt(&seen, &order)],
                    ledger: vec![spent],
                    replies: vec![reply((place * 5 + round) as u8, at(60))],
                    ..LoyaltyChange::default()
                };
                node.apply(change(points)).await.unwrap();
                seen.version += 1;
            }
        })
    });
    futures::future::try_join_all(tries).await.unwrap();
    assert_eq!(world.audited().await, []);
    let all = world.store.audit_loyalty(None, None, 100).await.unwrap();
    assert_eq!((all.wallets, all.entries), (CUSTOMERS as u64, 6 * CUSTOMERS as u64));
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_make_the_same_customer_order_key_or_token_at_once_one_does() {
    let world = Arc::new(world().await);
    let (customer, nodes) = (world.customer("c", 0).await, world.nodes().await);
    let made = |what: &'static str| {
        let (world, customer, nodes) = (world.clone(), customer.clone(), nodes.clone());
        async move {
            let tries = (0..8).map(|number| {
                let (world, customer, node) = (world.clone(), customer.clone(), nodes[number % 2].clone());
                tokio::spawn(async move {
                    let points = match what {
                        "customer" => LoyaltyChange { wallets: vec![wallet(&world, "new")], ..LoyaltyChange::default() },
                        "order" => LoyaltyChange { receipts: vec![receipt(&customer, "o-1")], ..LoyaltyChange::default() },
                        "token" => {
                            let token = SpentToken { key: [1; 16], hold: Id::new(Kind::Hold), until: at(60) };
                            LoyaltyChange { token: Some(token), ..LoyaltyChange::default() }
                        }
                        _ => LoyaltyChange { replies: vec![reply(1, at(60))], ..LoyaltyChange::default() },
                    };
                    !conflict(node.apply(change(points)).await)
                })
            });
            futures::future::try_join_all(tries).await.unwrap().into_iter().filter(|won| *won).count()
        }
    };
    for what in ["customer", "order", "token", "key"] {
        assert_eq!(made(what).await, 1, "{what}");
    }
}

#[tokio::test]
async fn a_conflict_fails_no_other_change_of_its_group_and_later_ones_see_what_earlier_ones_did() {
    let world = world().await;
    let (one, two) = (world.customer("c-1", 0).await, world.customer("c-2", 0).await);
    let of = |wallet: &Wallet| change(LoyaltyChange { wallets: vec![wallet.clone()], ..LoyaltyChange::default() });
    let changes = vec![of(&one), of(&one), of(&two), of(&Wallet { version: 2, ..one.clone() })];
    let applied = world.store.apply_all(changes).await;
    assert_eq!(applied.into_iter().map(conflict).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!((world.see_wallet(one.id).await.version, world.see_wallet(two.id).await.version), (3, 2));
}

#[tokio::test]
async fn a_question_is_journalled_as_read_with_the_points_that_it_moves() {
    let world = world().await;
    let customer = world.customer("c", 0).await;
    let entry = uzel_store::Entry { source: Source::Question, ..world.entry() };
    let points = LoyaltyChange { wallets: vec![customer], ..LoyaltyChange::default() };
    let moved = Change { entries: vec![entry.clone()], ..change(points) };
    world.store.apply(moved).await.unwrap();
    assert!(world.store.unread(10).await.unwrap().is_empty());
    let known = world.store.entry(entry.id).await.unwrap().unwrap();
    assert_eq!((known.source, known.request), (Source::Question, entry.request));
    assert_eq!(world.store.counts().await.unwrap().entries, [(EntryState::Read, 1)]);
}

#[tokio::test]
async fn a_reply_and_a_token_are_known_until_they_are_over_and_free_again_then() {
    let world = world().await;
    let token = |until| Some(SpentToken { key: [7; 16], hold: Id::new(Kind::Hold), until });
    let put = async |points: LoyaltyChange, when| conflict(world.store.apply(Change { now: Some(when), ..change(points) }).await);
    let both = |until| LoyaltyChange { replies: vec![reply(1, until)], token: token(until), ..LoyaltyChange::default() };
    assert!(!put(both(at(60)), at(0)).await);
    assert!(put(LoyaltyChange { token: None, ..both(at(90)) }, at(59)).await, "the reply");
    assert!(put(LoyaltyChange { replies: Vec::new(), ..both(at(90)) }, at(59)).await, "the token");
    assert!(!put(both(at(120)), at(60)).await, "free again");
    let seen = world.see(LoyaltyLook { replies: vec![[1; 16]], now: at(119), ..world.look() }).await;
    assert_eq!(seen.replies, [reply(1, at(120))]);
}

#[tokio::test]
async fn a_mark_is_nobodys_until_the_order_is_sold_and_counts_for_whoever_bought_it() {
    let world = world().await;
    let guest = world.customer("c-1", 30).await;
    let id = Id::new(Kind::Receipt);
    let mark =
        OrderReceipt { id, wallet: id, sums: Receipt::default(), earned_as: Some("till:1".to_owned()), ..receipt(&guest, "o-1") };
    world.move_points(LoyaltyChange { receipts: vec![mark.clone()], ..LoyaltyChange::default() }).await.unwrap();
    let look = LoyaltyLook { order: Some("o-1".to_owned()), ..world.look() };
    let seen = world.see(look.clone()).await;
    assert_eq!(seen, LoyaltySeen { receipt: Some(OrderReceipt { version: 1, ..mark.clone() }), ..LoyaltySeen::default() });
    // A commit of the same moment that saw no mark comes too late.
    let other = receipt(&guest, "o-1");
    assert!(conflict(world.move_points(LoyaltyChange { receipts: vec![other], ..LoyaltyChange::default() }).await));
    let sold = OrderReceipt { id, version: 1, at: at(60), earned_as: mark.earned_as, ..receipt(&guest, "o-1") };
    world.move_points(LoyaltyChange { receipts: vec![sold.clone()], ..LoyaltyChange::default() }).await.unwrap();
    let seen = world.see(look).await;
    assert_eq!((seen.receipt, seen.wallet.map(|wallet| wallet.id)), (Some(OrderReceipt { version: 2, ..sold }), Some(guest.id)));
    let since = |seconds| LoyaltyLook { who: Some(Who::Id(guest.id)), since: Some(at(seconds)), ..world.look() };
    assert_eq!(world.see(since(30)).await.progress.receipts, 1);
    assert_eq!(world.see(since(90)).await.progress.receipts, 0);
}

#[tokio::test]
async fn progress_is_what_receipts_and_refunds_came_to_since_a_moment() {
    let world = world().await;
    let customer = world.customer("c", 500).await;
    let by = |kind, way, points, when| Movement { at: at(when), ..movement(&customer, kind, way, points) };
    let ledger = vec![
        by(MoveKind::Earn, GIVEN, 1_000, -100),
        by(MoveKind::Earn, (Book::Issued, Book::Promised), 50, 0),
        by(MoveKind::Earn, GIVEN, 20, 1),
        by(MoveKind::Activate, (Book::Promised, Book::Spendable), 50, 2),
        by(MoveKind::Refund, (Book::Spendable, Book::Issued), 5, 3),
        by(MoveKind::Redeem, SPENT, 40, 4),
        by(MoveKind::Refund, (Book::Redeemed, Book::Spendable), 10, 5),
        by(MoveKind::Referral, GIVEN, 7, 6),
        by(MoveKind::Expire, (Book::Spendable, Book::Expired), 9, 7),
    ];
    let receipts = [-100, 0, 4].map(|when| OrderReceipt { at: at(when), ..receipt(&customer, &format!("o{when}")) }).to_vec();
    world.move_points(LoyaltyChange { ledger, receipts, ..LoyaltyChange::default() }).await.unwrap();
    let look = LoyaltyLook { who: Some(Who::Id(customer.id)), since: Some(now()), ..world.look() };
    assert_eq!(world.see(look.clone()).await.progress, Progress { earned: 65, redeemed: 30, receipts: 2 });
    let ever = world.see(LoyaltyLook { since: Some(at(-1_000)), ..look.clone() }).await.progress;
    assert_eq!(ever, Progress { earned: 1_065, redeemed: 30, receipts: 3 });
    assert_eq!(world.see(LoyaltyLook { since: None, ..look }).await.progress, Progress::default());
    let other = world.customer("d", 0).await;
    let look = LoyaltyLook { who: Some(Who::Id(other.id)), since: Some(now()), ..world.look() };
    assert_eq!(world.see(look).await.progress, Progress::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promo_code_is_used_once_for_an_order_and_no_oftener_than_was_decided_on() {
    let world = Arc::new(world().await);
    let (one, two) = (world.customer("c-1", 0).await, world.customer("c-2", 0).await);
    let uses = |all, by_customer| PromoUses { all, by_customer, last_by_customer_at: None };
    let used = |wallet: &Wallet, order: &str, was| PromoUse {
        merchant: world.merchant,
        code: "SUMMER".to_owned(),
        wallet: wallet.id,
        order: order.to_owned(),
        at: at(1),
        was,
    };
    let put = async |promo| conflict(world.move_points(LoyaltyChange { promo: Some(promo), ..LoyaltyChange::default() }).await);
    assert!(!put(used(&one, "o-1", uses(0, 0))).await);
    assert!(put(used(&two, "o-2", uses(0, 0))).await, "another has used it meanwhile");
    assert!(!put(used(&two, "o-2", uses(1, 0))).await);
    assert!(put(used(&one, "o-1", uses(2, 1))).await, "the same order");
    assert!(put(used(&one, "o-3", uses(2, 0))).await, "the customer has used it meanwhile");
    assert!(!put(PromoUse { at: at(9), ..used(&one, "o-3", uses(2, 1)) }).await);
    let look = LoyaltyLook { who: Some(Who::Id(one.id)), promo_code: Some("SUMMER".to_owned()), ..world.look() };
    let wanted = PromoUses { all: 3, by_customer: 2, last_by_customer_at: Some(at(9)) };
    assert_eq!(world.see(look.clone()).await.promo, wanted);
    assert_eq!(world.see(LoyaltyLook { who: None, ..look.clone() }).await.promo, uses(3, 0));
    assert_eq!(world.see(LoyaltyLook { promo_code: Some("WINTER".to_owned()), ..look.clone() }).await.promo, uses(0, 0));
    assert_eq!(world.see(LoyaltyLook { merchant: Id::new(Kind::Merchant), ..look }).await.promo, uses(0, 0));
    let nodes = world.nodes().await;
    let tries = (0..8).map(|number| {
        let (node, promo) = (nodes[number % 2].clone(), used(&two, &format!("p-{number}"), uses(3, 1)));
        tokio::spawn(async move {
            !conflict(node.apply(change(LoyaltyChange { promo: Some(promo), ..LoyaltyChange::default() })).await)
        })
    });
    let won = futures::future::try_join_all(tries).await.unwrap();
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1, "of many at once");
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_ledger_is_paged_newest_first_by_what_is_asked_for() {
    let world = world().await;
    let (one, two) = (world.customer("c-1", 0).await, world.customer("c-2", 0).await);
    let outlet = Id::new(Kind::Outlet);
    let stranger = Wallet { merchant: Id::new(Kind::Merchant), ..wallet(&world, "c") };
    let ledger: Vec<Movement> = (0..12)
        .map(|number: i64| {
            let whose = [&one, &two, &stranger][(number % 3) as usize];
            Movement {
                at: at(number),
                outlet: (number < 6).then_some(outlet),
                staff: (number % 2 == 0).then(|| "s".to_owned()),
                ..movement(whose, MoveKind::Earn, GIVEN, number + 1)
            }
        })
        .collect();
    let ids: Vec<Id> = ledger.iter().map(|entry| entry.id).collect();
    world.move_points(LoyaltyChange { wallets: vec![stranger], ledger, ..LoyaltyChange::default() }).await.unwrap();
    let numbers = async |filter| world.ledger(filter).await.into_iter().map(|entry| entry.points - 1).collect::<Vec<_>>();
    let own = || LedgerFilter { merchant: Some(world.merchant), ..LedgerFilter::default() };
    assert_eq!(numbers(own()).await, [10, 9, 7, 6, 4, 3, 1, 0]);
    assert_eq!(numbers(LedgerFilter::default()).await, (0..12).rev().collect::<Vec<_>>());
    assert_eq!(numbers(LedgerFilter { wallet: Some(one.id), ..own() }).await, [9, 6, 3, 0]);
    assert_eq!(
        numbers(LedgerFilter { wallet: Some(one.id), merchant: Some(Id::new(Kind::Merchant)), ..own() }).await,
        [] as [i64; 0]
    );
    assert_eq!(numbers(LedgerFilter { outlet: Some(outlet), ..LedgerFilter::default() }).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(numbers(LedgerFilter { outlet: Some(outlet), wallet: Some(two.id), ..own() }).await, [4, 1]);
    assert_eq!(numbers(LedgerFilter { staff: Some("s".to_owned()), ..own() }).await, [10, 6, 4, 0]);
    assert_eq!(numbers(LedgerFilter { before_at: Some(at(7)), ..own() }).await, [6, 4, 3, 1, 0]);
    assert_eq!(numbers(LedgerFilter { limit: 3, ..own() }).await, [10, 9, 7]);
    assert_eq!(numbers(LedgerFilter { before: Some(ids[7]), limit: 3, ..own() }).await, [6, 4, 3]);
}

#[tokio::test]
async fn wallets_are_found_paged_by_their_ids_and_told_when_time_has_to_do_with_them() {
    let world = world().await;
    let mut made: Vec<Wallet> = (0..5)
        .map(|number: i64| Wallet { phone: Some(format!("+7999123456{number}")), ..wallet(&world, &format!("c-{number}")) })
        .collect();
    let lot = |active_at, expires_at| Lot { id: 1, left: 5, active_at, expires_at };
    made[1].account.lots.push(lot(at(50), None));
    made[2].account.lots.push(lot(now(), Some(at(40))));
    made[3].holds.push(Held {
        hold: Id::new(Kind::Hold),
        kind: What::Redeem,
        order: "o".to_owned(),
        points: 1,
        until: Some(at(45)),
    });
    let stranger = Wallet { merchant: Id::new(Kind::Merchant), ..wallet(&world, "c-1") };
    let wallets = made.iter().cloned().chain([stranger.clone()]).collect();
    world.move_points(LoyaltyChange { wallets, ..LoyaltyChange::default() }).await.unwrap();
    let found = async |filter: WalletFilter| {
        let limit = if filter.limit == 0 { 10 } else { filter.limit };
        let wallets = world.store.wallets(WalletFilter { limit, ..filter }).await.unwrap();
        wallets.into_iter().map(|wallet| wallet.id).collect::<Vec<_>>()
    };
    let ids: Vec<Id> = made.iter().map(|wallet| wallet.id).collect();
    let own = || WalletFilter { merchant: Some(world.merchant), ..WalletFilter::default() };
    assert_eq!(found(own()).await, ids);
    assert_eq!(found(WalletFilter { limit: 2, ..own() }).await, ids[..2]);
    assert_eq!(found(WalletFilter { after: Some(ids[1]), limit: 2, ..own() }).await, ids[2..4]);
    assert_eq!(found(WalletFilter { customer: Some("c-1".to_owned()), ..own() }).await, ids[1..2]);
    assert_eq!(found(WalletFilter { customer: Some("c-1".to_owned()), ..WalletFilter::default() }).await, [ids[1], stranger.id]);
    assert_eq!(found(WalletFilter { phone: Some("+79991234562".to_owned()), ..WalletFilter::default() }).await, ids[2..3]);
    assert_eq!(found(WalletFilter { phone: Some("+7".to_owned()), ..own() }).await, []);
    assert_eq!(found(WalletFilter::default()).await.len(), 6);

    let due = async |when, limit| {
        let due = world.store.wallets_due(when, Vec::new(), limit).await.unwrap();
        due.into_iter().map(|wallet| wallet.id).collect::<Vec<_>>()
    };
    assert_eq!(due(at(39), 10).await, []);
    assert_eq!(due(at(60), 10).await, [ids[2], ids[3], ids[1]]);
    assert_eq!(due(at(60), 1).await, ids[2..3]);
    // Those of a merchant whose programme was taken away stand in nobody's way.
    let others = world.store.wallets_due(at(60), vec![world.merchant], 1).await.unwrap();
    assert_eq!(others, []);
    assert_eq!(world.store.wallets_due(at(60), vec![stranger.merchant], 1).await.unwrap()[0].id, ids[2]);
    // Once it has been booked, the next thing is due.
    let mut booked = Wallet { version: 1, booked_at: at(45), ..made[3].clone() };
    booked.holds.clear();
    let points = LoyaltyChange { wallets: vec![booked], ..LoyaltyChange::default() };
    world.move_points(points).await.unwrap();
    assert_eq!(due(at(60), 10).await, [ids[2], ids[1]]);
}

#[tokio::test]
async fn an_audit_says_whose_points_are_not_what_their_movements_come_to_and_why() {
    let world = world().await;
    let mut customers = Vec::new();
    for number in 0..5 {
        customers.push(world.customer(&format!("c-{number}"), 100).await);
    }
    assert_eq!(world.audited().await, []);
    let whole = world.store.audit_loyalty(Some(world.merchant), None, 100).await.unwrap();
    assert_eq!((whole.wallets, whole.entries, whole.next), (5, 5, None));
    assert!(world.store.fsck(false).await.unwrap().is_empty());
    let none = world.store.audit_loyalty(Some(Id::new(Kind::Merchant)), None, 100).await.unwrap();
    assert_eq!((none.wallets, none.entries), (0, 0));

    let spent = |wallet: &Wallet, order: &str| {
        let mut wallet = wallet.clone();
        wallet.account.lots[0].left -= 30;
        let entry = Movement { order: Some(order.to_owned()), ..movement(&wallet, MoveKind::Redeem, SPENT, 30) };
        LoyaltyChange { wallets: vec![wallet], ledger: vec![entry], ..LoyaltyChange::default() }
    };
    let with_receipt = LoyaltyChange { receipts: vec![receipt(&customers[0], "o-0")], ..spent(&customers[0], "o-0") };
    world.move_points(with_receipt).await.unwrap();
    assert_eq!(world.audited().await, []);
    world.move_points(spent(&customers[1], "o-1")).await.unwrap();
    let mut over = receipt(&customers[2], "o-2");
    over.sums.restored = 31;
    world.move_points(LoyaltyChange { receipts: vec![over], ..LoyaltyChange::default() }).await.unwrap();
    let mut rich = customers[3].clone();
    rich.account.lots[0].left = 1_000;
    world.move_points(LoyaltyChange { wallets: vec![rich], ..LoyaltyChange::default() }).await.unwrap();
    let found = world.audited().await;
    let of = |customer: &Wallet| -> Vec<&str> {
        found.iter().filter(|(whose, _)| *whose == customer.id).map(|(_, what)| what.as_str()).collect()
    };
    assert_eq!(of(&customers[0]), [] as [&str; 0]);
    assert!(of(&customers[1])[0].contains("has no receipt"), "{found:?}");
    assert!(of(&customers[2])[0].contains("refunded beyond"), "{found:?}");
    assert!(of(&customers[3])[0].contains("1000") && of(&customers[3])[0].contains("100"), "{found:?}");
    assert_eq!(of(&customers[4]), [] as [&str; 0]);
    let broken = world.store.fsck(true).await.unwrap();
    assert!(broken.iter().any(|law| law.starts_with("1 customers") || law.contains("customers whose points")), "{broken:?}");
}

#[tokio::test]
async fn an_audit_and_a_check_find_a_balance_that_was_changed_by_hand() {
    let world = world().await;
    world.customer("c", 100).await;
    if !world.by_hand.one_point_more().await {
        return;
    }
    let found = world.audited().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, "the balance stands as 101, and its movements come to 100");
    let broken = world.store.fsck(true).await.unwrap();
    assert!(broken.iter().any(|law| law.contains("customers whose points are not what their movements come to")), "{broken:?}");
    assert_eq!(world.audited().await.len(), 1, "nobody mends points by himself");
}

#[tokio::test]
async fn a_purge_takes_holds_that_ended_and_what_is_over_and_leaves_wallets_receipts_and_movements() {
    let world = world().await;
    let customer = world.customer("c", 100).await;
    let holds: Vec<Hold> = (0..5)
        .map(|number| Hold {
            // The last one is over, though nobody has said so.
            state: if matches!(number, 0 | 4) { HoldState::Pending } else { HoldState::Committed },
            until: if number == 0 { Some(Timestamp::now() + SignedDuration::from_hours(48)) } else { Some(at(300)) },
            ..hold(&customer, &format!("o-{number}"))
        })
        .collect();
    let far = Timestamp::now() + SignedDuration::from_hours(24);
    let points = LoyaltyChange {
        holds: holds.clone(),
        receipts: vec![receipt(&customer, "o-1")],
        replies: vec![reply(1, at(1)), reply(2, far)],
        token: Some(SpentToken { key: [1; 16], hold: holds[0].id, until: far }),
        ..LoyaltyChange::default()
    };
    world.move_points(points).await.unwrap();
    let standing = async || {
        let mut standing = Vec::new();
        for hold in &holds {
            standing.push(world.see(LoyaltyLook { hold: Some(hold.id), ..world.look() }).await.hold.is_some());
        }
        standing
    };
    let before = Timestamp::now() + SignedDuration::from_hours(1);
    let purge = async || while world.store.purge(before, 2).await.unwrap() > 0 {};
    while world.store.purge(now(), 2).await.unwrap() > 0 {}
    assert_eq!(standing().await, [true; 5]);
    while world.store.purge_merchant(Id::new(Kind::Merchant), before, 2).await.unwrap() > 0 {}
    assert_eq!(standing().await, [true; 5]);
    while world.store.purge_merchant(world.merchant, before, 2).await.unwrap() > 0 {}
    assert_eq!(standing().await, [true, false, false, false, false]);
    purge().await;
    let look =
        LoyaltyLook { order: Some("o-1".to_owned()), replies: vec![[1; 16], [2; 16]], token: Some([1; 16]), ..world.look() };
    let seen = world.see(look).await;
    assert_eq!(seen.hold.map(|hold| hold.id), Some(holds[0].id), "the token is kept");
    assert_eq!(seen.replies, [KeptReply { until: seen.replies[0].until, ..reply(2, far) }]);
    assert!(seen.receipt.is_some() && seen.wallet.is_some());
    assert_eq!(world.ledger(LedgerFilter::default()).await.len(), 1);
    assert_eq!(world.audited().await, []);
}

#[tokio::test]
async fn an_erased_customer_keeps_the_points_under_an_id_that_says_nothing() {
    let world = world().await;
    world.store.hash_phones_by(Arc::new(|_, _| [1; 32]));
    let phone = "+79991234567";
    let make = async |wallet: Wallet| {
        let entry = Movement { reason: Some(format!("звонил {phone}")), ..movement(&wallet, MoveKind::Adjust, GIVEN, 5) };
        let hold = hold(&wallet, &wallet.customer);
        let points =
            LoyaltyChange { wallets: vec![wallet], holds: vec![hold.clone()], ledger: vec![entry], ..LoyaltyChange::default() };
        world.move_points(points).await.unwrap();
        hold
    };
    let own = Wallet { phone: Some(phone.to_owned()), ..wallet(&world, "c-1") };
    let called = wallet(&world, "9991234567");
    let other = Wallet { phone: Some("+79997654321".to_owned()), ..wallet(&world, "c-3") };
    let quoted = [make(own.clone()).await, make(called.clone()).await, make(other.clone()).await];
    let mut erased = uzel_store::Erased::default();
    let mut place = Some(ErasurePlace::default());
    while let Some(next) = place {
        let portion = world.store.erase(world.merchant, phone, next, 2).await.unwrap();
        erased.add(&portion);
        place = portion.next;
    }
    assert_eq!(erased.wallets, 2);
    let seen = world.see_wallet(own.id).await;
    assert_eq!((seen.phone, seen.name, seen.customer.as_str(), seen.version), (None, None, "c-1", 2));
    let seen = world.see_wallet(called.id).await;
    assert_eq!((seen.customer, seen.version), (called.id.to_string(), 2));
    assert_eq!(world.see_wallet(other.id).await, Wallet { version: 1, ..other.clone() });
    for (hold, is_erased) in quoted.iter().zip([true, true, false]) {
        let hold = world.see(LoyaltyLook { hold: Some(hold.id), ..world.look() }).await.hold.unwrap();
        assert_eq!(hold.answer["customerId"] == "", is_erased);
        assert_eq!(hold.answer["discount"], 30);
    }
    let reasons: Vec<String> = world.ledger(LedgerFilter::default()).await.into_iter().filter_map(|entry| entry.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.contains(phone)).count(), 1, "{reasons:?}");
    // Whoever decided on the wallet as it was decides again, and the phone is free.
    let stale = LoyaltyChange { wallets: vec![Wallet { version: 1, ..own }], ..LoyaltyChange::default() };
    assert!(conflict(world.move_points(stale).await));
    make(Wallet { phone: Some(phone.to_owned()), ..wallet(&world, "c-4") }).await;
}
