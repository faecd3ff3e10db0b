//! What is counted for a digest.

use uzel_model::loyalty::{Book, MoveKind};
use uzel_store::{EventFigure, Figures, FiguresOf, LoyaltyChange, MessageFigure, PointsFigure, PointsFigures, PointsOf};

use super::loyalty::{movement, wallet};

use super::*;

const QUARTER_MS: i64 = 900_000;

impl World {
    async fn figures(&self, connections: Vec<Id>, from: Timestamp, to: Timestamp) -> Figures {
        let kinds = vec!["order.completed".to_owned(), "visit.completed".to_owned()];
        self.store.figures(FiguresOf { connections, kinds, from, to }).await.unwrap()
    }
}

#[tokio::test]
async fn what_happened_in_a_stretch_of_time_is_counted_by_kind_quarter_and_state() {
    let world = world().await;
    let from = Timestamp::now() - SignedDuration::from_hours(1);
    let mut ids = Vec::new();
    for number in 0..3_u8 {
        let key = format!("k{number}");
        let event = world.read(&key, |event| {
            let mut held = world.command(event, &format!("held{number}"), now());
            held.held = Some("no_consent".to_owned());
            let mut look_up = world.command(event, &format!("look{number}"), now() + SignedDuration::from_hours(9));
            look_up.command.job = Job::LookUp { what: serde_json::json!({}) };
            let mut of_flow = world.command(event, &format!("text{number}"), now());
            of_flow.command.flow = Some(Id::new(Kind::Flow));
            vec![of_flow, held, look_up]
        });
        ids.push(event.await.id);
    }
    let first = world.lease(now()).await.remove(0);
    world.settle(World::settlement(&first, CommandState::Done)).await.unwrap();
    let to = Timestamp::now() + SignedDuration::from_hours(1);

    let figures = world.figures(vec![world.link], from, to).await;
    let quarter = |id: &Id| Timestamp::from_millisecond((id.ordinal() >> 12) / QUARTER_MS * QUARTER_MS).unwrap();
    assert_eq!(figures.events.iter().map(|figure| figure.count).sum::<u64>(), 3);
    assert!(ids.iter().all(|id| figures.events.iter().any(|figure| figure.at == quarter(id))), "{figures:?}");
    assert!(figures.events.iter().all(|EventFigure { kind, .. }| kind == "order.completed"));
    let message = |state, reason: &str, of_flow, count| MessageFigure { state, reason: reason.to_owned(), of_flow, count };
    assert_eq!(
        figures.messages,
        [
            message(CommandState::Waiting, "", true, 2),
            message(CommandState::Done, "", true, 1),
            message(CommandState::Held, "no_consent", false, 3),
        ]
    );

    // Of others, and of other times, there is nothing.
    assert_eq!(world.figures(vec![Id::new(Kind::Connection)], from, to).await, Figures::default());
    assert_eq!(world.figures(Vec::new(), from, to).await, Figures::default());
    assert_eq!(world.figures(vec![world.link], to, to + SignedDuration::from_hours(1)).await, Figures::default());
    assert_eq!(world.figures(vec![world.link], from, from).await, Figures::default());
}

#[tokio::test]
async fn points_are_added_up_by_outlet_kind_and_way_within_a_stretch_of_time() {
    let world = world().await;
    let now = Timestamp::now();
    let outlet = Id::new(Kind::Outlet);
    let (own, other) = (wallet(&world, "c-1"), wallet(&world, "c-2"));
    let stranger = loyalty::Wallet { merchant: Id::new(Kind::Merchant), ..wallet(&world, "c-1") };
    let earn = (Book::Issued, Book::Spendable);
    let made = [
        (&own, MoveKind::Earn, earn, 50, Some(outlet), 0),
        (&other, MoveKind::Earn, earn, 70, Some(outlet), 0),
        (&own, MoveKind::Earn, (Book::Issued, Book::Promised), 9, None, 0),
        (&own, MoveKind::Refund, (Book::Redeemed, Book::Spendable), 5, None, 0),
        (&own, MoveKind::Refund, (Book::Spendable, Book::Issued), 3, None, 0),
        (&stranger, MoveKind::Earn, earn, 1_000, Some(outlet), 0),
        // Of another time, though their ids are of this one.
        (&own, MoveKind::Earn, earn, 400, Some(outlet), -7),
        (&own, MoveKind::Earn, earn, 400, Some(outlet), 7),
    ];
    let ledger = made.map(|(of, kind, way, points, outlet, days)| loyalty::Movement {
        outlet,
        at: now + SignedDuration::from_hours(24 * days),
        ..movement(of, kind, way, points)
    });
    let wallets = vec![own.clone(), other, stranger.clone()];
    world.move_points(LoyaltyChange { wallets, ledger: ledger.into(), ..LoyaltyChange::default() }).await.unwrap();
    let (from, to) = (now - SignedDuration::from_hours(24), now + SignedDuration::from_hours(24));
    let of = async |merchant, from, to| world.store.points_figures(PointsOf { merchant, from, to }).await.unwrap();
    let sum = |outlet, kind, (from, to), points, count| PointsFigure { outlet, kind, from, to, points, count };
    let sums = vec![
        sum(None, MoveKind::Earn, (Book::Issued, Book::Promised), 9, 1),
        sum(None, MoveKind::Refund, (Book::Spendable, Book::Issued), 3, 1),
        sum(None, MoveKind::Refund, (Book::Redeemed, Book::Spendable), 5, 1),
        sum(Some(outlet), MoveKind::Earn, earn, 120, 2),
    ];
    assert_eq!(of(world.merchant, from, to).await, PointsFigures { sums, joined: 2 });
    let theirs = PointsFigures { sums: vec![sum(Some(outlet), MoveKind::Earn, earn, 1_000, 1)], joined: 1 };
    assert_eq!(of(stranger.merchant, from, to).await, theirs);
    assert_eq!(of(world.merchant, to, to + SignedDuration::from_hours(24)).await, PointsFigures::default());
    assert_eq!(of(world.merchant, from, from).await, PointsFigures::default());
}
