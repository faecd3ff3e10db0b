//! Pages of lists. A cursor is the place of the last row that was given, so that nothing new moves what comes after it.

use schemars::JsonSchema;
use serde::Serialize;
use uzel_model::check::Fault;

use crate::Problem;

/// One page of a list, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(crate) struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Gives the page after this one; nothing where there is none.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Of one row more than was asked for, where there is one.
    pub(crate) fn new(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(place);
        Self { items, next }
    }

    /// A list that is whole.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// How many rows a page may have.
pub(crate) struct Limit {
    default: usize,
    max: usize,
}

pub(crate) const LIMIT: Limit = Limit { default: 50, max: 1_000 };

impl Limit {
    pub(crate) fn read(&self, asked: Option<usize>) -> Result<usize, Problem> {
        match asked.unwrap_or(self.default) {
            limit if (1..=self.max).contains(&limit) => Ok(limit),
            limit => Err(Problem::unreadable("query", Fault::new("limit", format!("must be 1 to {}, not {limit}", self.max)))),
        }
    }
}
