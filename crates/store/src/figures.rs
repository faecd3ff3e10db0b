//! What happened in a stretch of time, counted: for a digest.

use jiff::SignedDuration;
use uzel_model::{
    Id, Timestamp,
    id::Kind,
    loyalty::{Book, MoveKind},
};

use crate::CommandState;

/// What is counted of.
#[derive(Debug, Clone)]
pub struct FiguresOf {
    /// Connections of one merchant.
    pub connections: Vec<Id>,
    /// Kinds of events.
    pub kinds: Vec<String>,
    /// From this moment on, by when rows were made.
    pub from: Timestamp,
    /// Before this moment.
    pub to: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    pub events: Vec<EventFigure>,
    pub messages: Vec<MessageFigure>,
    pub costs: Vec<CostFigure>,
}

/// Events of one kind that were made in one quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventFigure {
    pub kind: String,
    /// Where the quarter begins, in UTC.
    pub at: Timestamp,
    pub count: u64,
}

/// Messages that were asked for in that time and stand alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageFigure {
    /// By number; what is being sent counts as waiting.
    pub state: CommandState,
    /// Why they are held back; empty in other states.
    pub reason: String,
    /// Whether a flow asked for them.
    pub of_flow: bool,
    pub count: u64,
}

/// What messages of these connections cost that were sent in that time, as far as providers have told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CostFigure {
    /// ISO 4217.
    pub currency: String,
    /// Millionths of the currency's unit.
    pub micro: i64,
    /// Messages whose cost is known.
    pub count: u64,
}

/// What is counted of a merchant's points.
#[derive(Debug, Clone, Copy)]
pub struct PointsOf {
    pub merchant: Id,
    /// From this moment on.
    pub from: Timestamp,
    /// Before this moment.
    pub to: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PointsFigures {
    /// In one order, by outlet, kind and way.
    pub sums: Vec<PointsFigure>,
    /// Customers who were made in that time.
    pub joined: u64,
}

/// Movements at one outlet of one kind and way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointsFigure {
    pub outlet: Option<Id>,
    pub kind: MoveKind,
    pub from: Book,
    pub to: Book,
    pub points: i64,
    /// How many movements.
    pub count: u64,
}

/// An id is made right after its movement's moment is taken, by a clock that may have been set meanwhile.
const ID_OFF: SignedDuration = SignedDuration::from_hours(1);

impl PointsOf {
    /// Ids of movements from which to which these may be: an index is read no farther.
    pub(crate) fn movements(&self) -> (Id, Id) {
        let (from, to) = (self.from.saturating_sub(ID_OFF), self.to.saturating_add(ID_OFF));
        let least = |at: Result<Timestamp, jiff::Error>, or| Id::least(Kind::Points, at.unwrap_or(or));
        (least(from, Timestamp::MIN), least(to, Timestamp::MAX))
    }

    /// Ids of customers who were made in that time.
    pub(crate) fn customers(&self) -> (Id, Id) {
        (Id::least(Kind::Customer, self.from), Id::least(Kind::Customer, self.to))
    }
}

pub(crate) const QUARTER_MS: i64 = 900_000;

/// The beginning of the quarter with this number since 1970.
pub(crate) fn quarter(number: i64) -> Timestamp {
    Timestamp::from_millisecond(number.saturating_mul(QUARTER_MS)).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Figures {
    /// In one order, rows that stand alike added up.
    pub(crate) fn sorted(mut self) -> Self {
        self.events.sort();
        self.events.dedup_by(|next, first| {
            let same = (&next.kind, next.at) == (&first.kind, first.at);
            first.count += if same { next.count } else { 0 };
            same
        });
        self.messages.sort();
        self.messages.dedup_by(|next, first| {
            let same = (next.state, &next.reason, next.of_flow) == (first.state, &first.reason, first.of_flow);
            first.count += if same { next.count } else { 0 };
            same
        });
        self.costs.sort();
        self.costs.dedup_by(|next, first| {
            let same = next.currency == first.currency;
            if same {
                (first.micro, first.count) = (first.micro + next.micro, first.count + next.count);
            }
            same
        });
        self
    }
}
