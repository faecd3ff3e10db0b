//! Binding chats and devices to a recipient. A chat is bound by a link that is good once and for a day; its code is kept as a
//! keyed hash.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use uzel_model::{Address, Client, Id, id::Kind};
use uzel_store::{Setup, SetupRow, StoreError};

use super::{BOUND_MAX, Bound, Code, RecipientDoc};
use crate::{Engine, Vault, outward::Call, setup::TURN_HOLD, tick};

/// How long a link is good.
const CODE_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// A link that binds one chat.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Invited {
    /// To be opened by the person, on the device where they have the messenger. Shown now and never again.
    pub url: String,
    /// Until when it is good.
    #[schemars(with = "String")]
    pub until: Timestamp,
}

/// Why there is no link.
#[derive(Debug, Clone)]
pub enum NotInvited {
    Missing,
    /// What is asked for cannot be.
    Not(String),
    /// The provider did not tell what is needed.
    Failed(String),
    Store(StoreError),
}

impl From<StoreError> for NotInvited {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// Makes a link that binds a chat to a recipient. An earlier one that was not used is void.
    pub async fn invite(self: &Arc<Self>, id: Id, via: Option<&str>, by: &str) -> Result<Invited, NotInvited> {
        let world = self.world();
        let recipient = world.recipients().find(|recipient| recipient.id == id).cloned().ok_or(NotInvited::Missing)?;
        let named = |slug: &str| via.is_none_or(|via| via == slug);
        let ways = recipient.doc.rule.addresses.iter().filter(|way| named(&way.via));
        let mut links = ways.filter_map(|way| world.link_of(recipient.merchant, &way.via));
        let link = links.find(|link| link.connector.invites().is_some()).cloned().ok_or_else(|| {
            NotInvited::Not("none of their addresses names a connection whose chats are bound by a link".to_owned())
        })?;
        let code = Vault::new_key("").expose().to_owned();
        let (engine, own, asked) = (self.clone(), link.clone(), code.clone());
        let url = self.asked(&link, async move {
            let trace = tick::new_trace();
            let call = Call::new(&engine, &own, &trace);
            let invites = own.connector.invites().ok_or("this provider binds no chats")?;
            invites.link(&Client::new(&call), &asked).await.map_err(|error| error.to_string())
        });
        let url = url.await.map_err(NotInvited::Failed)?;
        let until = self.clock.now() + CODE_LIFE;
        let kept = Code { via: link.slug.clone(), hash: self.link_code_hash(&code), until };
        self.alter_recipient(id, by, "recipient.link", move |doc| {
            doc.code = Some(kept);
            true
        })
        .await?;
        Ok(Invited { url, until })
    }

    fn link_code_hash(&self, code: &str) -> String {
        hex::encode(self.vault.key_hash("recipient", code))
    }

    /// Binds an address to a recipient, by a connection that stands among their addresses. Whether it is bound now.
    pub async fn bind(self: &Arc<Self>, id: Id, via: &str, to: Address, by: &str) -> Result<bool, StoreError> {
        let (via, at) = (via.to_owned(), self.clock.now());
        self.alter_recipient(id, by, "recipient.bind", move |doc| doc.bind(Bound { via, to, at })).await
    }

    /// Binds a chat by a code that came from it. Gives the recipient, or nothing where the code is unknown, used or too old.
    pub(crate) async fn bind_by_code(self: &Arc<Self>, via: Id, code: &str, to: &Address) -> Result<Option<Id>, StoreError> {
        let (hash, now) = (self.link_code_hash(code), self.clock.now());
        let holder = |engine: &Self| {
            let world = engine.world();
            let link = world.links.get(&via)?;
            let holds = |code: &Code| code.via == link.slug && code.hash == hash && code.until > now;
            let holder = world.recipients_of(link.merchant).find(|recipient| recipient.doc.code.as_ref().is_some_and(holds))?;
            Some((holder.id, link.slug.clone()))
        };
        let mut found = holder(self);
        if found.is_none() && self.store.shared() {
            // Another node may have made it a moment ago.
            self.reload().await?;
            found = holder(self);
        }
        let Some((id, slug)) = found else { return Ok(None) };
        let bound = Bound { via: slug, to: to.clone(), at: now };
        let work = self.alter_recipient(id, "hub", "recipient.bind", move |doc| {
            // Another chat may have used it meanwhile.
            doc.code.take_if(|code| code.hash == hash).is_some() && doc.bind(bound)
        });
        Ok(work.await?.then_some(id))
    }

    /// Takes an address away from every recipient of the connection's merchant who has bound it. Gives how many.
    pub async fn unbind(self: &Arc<Self>, via: Id, to: &Address, by: &str) -> Result<usize, StoreError> {
        self.rebind(via, to, None, by).await
    }

    /// The same address under another name from now on, or under none.
    pub(crate) async fn rebind(
        self: &Arc<Self>,
        via: Id,
        to: &Address,
        next: Option<&Address>,
        by: &str,
    ) -> Result<usize, StoreError> {
        let world = self.world();
        let Some(link) = world.links.get(&via) else { return Ok(0) };
        let has = |bound: &Bound| bound.via == link.slug && bound.to == *to;
        let ids: Vec<Id> = world
            .recipients_of(link.merchant)
            .filter(|recipient| recipient.doc.bound.iter().any(has))
            .map(|recipient| recipient.id)
            .collect();
        let action = if next.is_some() { "recipient.move" } else { "recipient.unbind" };
        let mut changed = 0;
        for id in ids {
            let (slug, to, next) = (link.slug.clone(), to.clone(), next.cloned());
            let work = self.alter_recipient(id, by, action, move |doc| doc.rebind(&slug, &to, next));
            changed += usize::from(work.await?);
        }
        Ok(changed)
    }

    /// Changes what a recipient's row keeps beside its rule, alone. Whether anything was changed.
    pub(crate) async fn alter_recipient(
        self: &Arc<Self>,
        id: Id,
        by: &str,
        action: &'static str,
        change: impl FnOnce(&mut RecipientDoc) -> bool + Send + 'static,
    ) -> Result<bool, StoreError> {
        let (engine, by) = (self.clone(), by.to_owned());
        let work = async move {
            let _alone = engine.changing.lock().await;
            let taken = engine.take_soon("setup", TURN_HOLD, TURN_HOLD).await?.ok_or(StoreError::Busy)?;
            let done = engine.alter_stored_recipient(id, &by, action, change).await;
            engine.give_back(taken).await;
            done
        };
        self.to_the_end(work).await.map_err(StoreError::Failed)?
    }

    async fn alter_stored_recipient(
        &self,
        id: Id,
        by: &str,
        action: &str,
        change: impl FnOnce(&mut RecipientDoc) -> bool,
    ) -> Result<bool, StoreError> {
        let setup = self.store.setup().await?;
        let found = setup.rows.iter().find(|row| row.id == id && row.id.kind() == Kind::Recipient).cloned();
        let Some(row) = found else { return Ok(false) };
        let read = serde_json::from_value(row.doc.clone());
        let mut doc: RecipientDoc = read.map_err(|error| StoreError::Failed(error.to_string()))?;
        if !change(&mut doc) {
            return Ok(false);
        }
        // What does not open cannot be kept: it has to be registered again.
        let before = row.sealed.as_ref().zip(row.merchant);
        let before = before.and_then(|(sealed, merchant)| self.vault.unseal_settings(merchant, id, sealed).ok());
        let mut devices = before.clone().unwrap_or_default();
        doc.seal(&mut devices);
        let sealed = match before {
            Some(before) if before == devices => row.sealed.clone(),
            _ if devices.is_empty() => None,
            _ => self.seal_row(&setup, &row, Value::Object(devices)).await?,
        };
        let audit = vec![self.audit_row(by, action, row.merchant, id, json!({ "slug": row.slug }))];
        let expects = vec![(id, row.version)];
        let row = SetupRow { doc: json!(doc), sealed, ..row };
        self.store.put_setup(Setup { rows: vec![row], audit, expects, ..Setup::default() }).await?;
        self.use_stored(&[]).await?;
        Ok(true)
    }
}

impl RecipientDoc {
    /// The newest comes first. Nothing is bound by a way that is not among the addresses.
    fn bind(&mut self, bound: Bound) -> bool {
        if !self.rule.addresses.iter().any(|way| way.via == bound.via) {
            return false;
        }
        self.bound.retain(|known| known.via != bound.via || known.to != bound.to);
        self.bound.insert(0, bound);
        self.bound.truncate(BOUND_MAX);
        true
    }

    fn rebind(&mut self, via: &str, to: &Address, next: Option<Address>) -> bool {
        let before = self.bound.clone();
        match next {
            None => self.bound.retain(|bound| bound.via != via || bound.to != *to),
            Some(next) => {
                for bound in self.bound.iter_mut().filter(|bound| bound.via == via && bound.to == *to) {
                    bound.to = next.clone();
                }
            }
        }
        self.bound != before
    }
}
