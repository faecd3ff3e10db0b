//! Documents that no webhook told of: store by store, page by page.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uzel_model::{
    Bytes, CallError, Client,
    port::{Page, Polls},
};

use super::{
    Evotor,
    wire::{self, answer, items, next_page},
};
use crate::tree;

/// Read again at each poll: clocks differ, and a till's documents come in bursts.
const OVERLAP: SignedDuration = SignedDuration::from_mins(15);

/// A page holds up to a thousand stores.
const STORE_PAGES_MAX: usize = 100;

/// Where polls stand: what was closed between two moments, in milliseconds, and how far it is read.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    from: i64,
    to: i64,
    /// The store that is read; those with smaller ids have been.
    store: Option<String>,
    /// Its next page.
    page: Option<String>,
}

#[async_trait]
impl Polls for Evotor {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let start = || Cursor { from: since.as_millisecond(), ..Cursor::default() };
        let Some(cursor) = cursor else { return Ok(page(Vec::new(), &start(), false)) };
        let mut cursor: Cursor = serde_json::from_str(cursor).unwrap_or_else(|_| start());
        let stores = self.all_stores(client).await?;
        let store = match &cursor.store {
            Some(store) => stores.iter().find(|known| *known >= store),
            None => {
                cursor.to = client.now().as_millisecond();
                stores.first()
            }
        };
        let Some(store) = store else { return Ok(page(Vec::new(), &over(&cursor), false)) };
        let goes_on = cursor.page.take().filter(|_| cursor.store.as_ref() == Some(store));
        let from = cursor.from.saturating_sub_unsigned(OVERLAP.as_millis().unsigned_abs() as u64).max(0);
        let (from, to) = (from.to_string(), cursor.to.to_string());
        let path = format!("stores/{store}/documents");
        let query: Vec<(&str, &str)> = match &goes_on {
            // The cursor stands for the whole question.
            Some(page) => vec![("cursor", page)],
            None => vec![("since", &from), ("until", &to), ("types", "SELL,PAYBACK")],
        };
        let answer = answer(&client.send(self.get(&path, &query)).await?)?;
        let bodies = items(&answer)?.iter().map(|document| Bytes::from(document.to_string())).collect();
        let next = match next_page(&answer).filter(|next| goes_on.as_ref() != Some(next)) {
            Some(next) => Cursor { store: Some(store.clone()), page: Some(next), ..cursor },
            None => match stores.iter().find(|known| *known > store) {
                Some(next) => Cursor { store: Some(next.clone()), page: None, ..cursor },
                None => over(&cursor),
            },
        };
        let more = next.store.is_some();
        Ok(page(bodies, &next, more))
    }
}

/// All has been read to the end of the time.
fn over(cursor: &Cursor) -> Cursor {
    Cursor { from: cursor.to.max(cursor.from), ..Cursor::default() }
}

fn page(bodies: Vec<Bytes>, next: &Cursor, more: bool) -> Page {
    Page { bodies, next: serde_json::to_string(next).expect("numbers and texts are JSON"), more }
}

impl Evotor {
    /// The stores to read, in one order: those that are set, or all of the account.
    async fn all_stores(&self, client: &Client<'_>) -> Result<Vec<String>, CallError> {
        let mut stores = match self.stores.is_empty() {
            false => self.stores.clone(),
            true => self.known_stores(client).await?,
        };
        stores.retain(|store| wire::is_plain(store));
        stores.sort();
        stores.dedup();
        Ok(stores)
    }

    /// All stores of the account, page by page.
    pub(super) async fn known_stores(&self, client: &Client<'_>) -> Result<Vec<String>, CallError> {
        let mut stores = Vec::new();
        let mut cursor = None;
        for _ in 0..STORE_PAGES_MAX {
            let query: Vec<(&str, &str)> = cursor.iter().map(|cursor: &String| ("cursor", cursor.as_str())).collect();
            let answer = answer(&client.send(self.get("stores", &query)).await?)?;
            stores.extend(items(&answer)?.iter().filter_map(|store| tree::text(&store["id"])));
            match next_page(&answer) {
                None => return Ok(stores),
                next if next == cursor => break,
                next => cursor = next,
            }
        }
        Err(CallError::Unreadable("the list of stores does not end".to_owned()))
    }
}
