//! Logins: made or renewed once for all who need one, on however many nodes, and saved before they are used.
//!
//! A refresh token works once. So one call of a node renews, under a lock, and of the nodes of a shared store one, under a turn.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uzel_model::{
    CallError, Client, Id, Secret,
    port::{Login, Session},
};
use uzel_store::StoreError;
use zeroize::Zeroizing;

use crate::{
    Engine, Link, World,
    nodes::Taken,
    outward::Call,
    vault::{Place, SESSION},
};

/// A connection's login as this node has it in memory.
#[derive(Default)]
struct Held {
    session: Option<Session>,
    /// The store would not have it yet: there is no other copy.
    unsaved: bool,
}

type Lock = Arc<tokio::sync::Mutex<Held>>;

/// The logins that this node holds; each lock is held while one is renewed.
#[derive(Default)]
pub(crate) struct Logins(Mutex<HashMap<Id, Lock>>);

impl Logins {
    fn of(&self, link: Id) -> Lock {
        self.0.lock().entry(link).or_default().clone()
    }
}

impl Engine {
    /// Does a change that voids these connections' logins: no renewal of this node saves one meanwhile, and none is kept.
    pub(crate) async fn voiding_logins<T>(&self, links: &[Id], change: impl Future<Output = T>) -> T {
        let mut held = Vec::new();
        for link in in_order(links) {
            held.push(self.outward.logins.of(link).lock_owned().await);
        }
        // Before the change: if it fails, the stored login is read again.
        held.iter_mut().for_each(|held| **held = Held::default());
        change.await
    }

    /// The same for a change that is written: no other node saves a renewed login meanwhile, either.
    pub(crate) async fn voiding_stored_logins<T>(
        &self,
        links: &[Id],
        change: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let work = async {
            let mut turns = Vec::new();
            for link in in_order(links) {
                match self.take_login(link).await {
                    Ok(Some(turn)) => turns.push(turn),
                    busy => {
                        self.give_all_back(turns).await;
                        return Err(busy.err().unwrap_or(StoreError::Busy));
                    }
                }
            }
            let changed = change.await;
            self.give_all_back(turns).await;
            changed
        };
        self.voiding_logins(links, work).await
    }

    /// Keeps a login that a request brought.
    pub async fn keep_login(&self, link: &Link, session: Session, trace: &str) -> Result<(), StoreError> {
        link.hide(&session);
        Call::new(self, link, trace).adopt(session).await.map_err(|_| StoreError::Busy)
    }

    /// Other nodes may have changed any of them. What only this node has stays.
    pub(crate) fn forget_logins(&self) {
        let locks: Vec<Lock> = self.outward.logins.0.lock().values().cloned().collect();
        for lock in locks {
            self.tasks.spawn(async move {
                let mut held = lock.lock().await;
                if !held.unsaved {
                    *held = Held::default();
                }
            });
        }
    }

    /// What was committed ended or replaced this connection's login: what is kept of it in memory goes too.
    pub(crate) fn forget_login(&self, link: Option<Id>) {
        if let Some(lock) = link.and_then(|link| self.outward.logins.0.lock().get(&link).cloned()) {
            // A renewal under way holds the lock for as long as its call takes: nobody waits for that here.
            self.tasks.spawn(async move { *lock.lock().await = Held::default() });
        }
    }

    /// The stored login of a connection, without its secrets.
    pub(crate) async fn login_age(&self, link: &Link) -> Result<Option<LoginAge>, String> {
        let Some(sealed) = self.store.session(link.id).await.map_err(|error| error.to_string())? else { return Ok(None) };
        let plain = self.vault.open_at(place(link), &sealed).map_err(|error| error.to_string())?;
        let stored: StoredSession = serde_json::from_slice(&plain).map_err(|_| "the stored login is not readable".to_owned())?;
        let ends_at = if stored.refresh.is_some() { None } else { stored.expires_at };
        Ok(Some(LoginAge { ends_at, made_at: stored.made_at }))
    }

    async fn take_login(&self, link: Id) -> Result<Option<Taken>, StoreError> {
        let time = self.options.call_timeout;
        // A call, the time it may wait for its turn, and the time to save what it brought.
        self.take_soon(&format!("login/{link}"), time * 3, time).await
    }

    async fn give_all_back(&self, turns: Vec<Taken>) {
        for turn in turns {
            self.give_back(turn).await;
        }
    }
}

/// In one order, so that two changes at a time do not wait for each other.
fn in_order(links: &[Id]) -> Vec<Id> {
    let mut links = links.to_vec();
    links.sort_unstable();
    links.dedup();
    links
}

/// How old a login is.
pub(crate) struct LoginAge {
    /// Nothing where it renews itself, or lasts.
    pub(crate) ends_at: Option<Timestamp>,
    /// When it was made or renewed last; older programs did not keep it.
    pub(crate) made_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct StoredSession {
    access: String,
    refresh: Option<String>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    made_at: Option<Timestamp>,
}

impl Call<'_> {
    /// The session, made or renewed where needed. `stale` is the token that has just been refused.
    pub(crate) async fn session(&self, login: &dyn Login, stale: Option<&str>) -> Result<Session, CallError> {
        let session = self.session_of(login, stale).await?;
        self.link.hide(&session);
        Ok(session)
    }

    async fn session_of(&self, login: &dyn Login, stale: Option<&str>) -> Result<Session, CallError> {
        let lock = self.engine.outward.logins.of(self.link.id);
        let mut held = lock.lock().await;
        self.stays(&self.engine.world())?;
        let shared = self.engine.store.shared();
        if let Some(session) = held.session.as_ref().filter(|_| held.unsaved) {
            match self.put(self.seal(session)).await {
                Ok(()) => held.unsaved = false,
                Err(error) if shared => return Err(error),
                Err(_) => {}
            }
        }
        if held.session.is_none() {
            held.session = self.stored().await?;
        }
        let now = self.engine.clock.now();
        if let Some(session) = held.session.as_ref().filter(|session| good(session, stale, now)) {
            return Ok(session.clone());
        }
        if shared { self.renew_alone(login, &mut held, stale).await } else { self.renew(login, &mut held).await }
    }

    /// Renews while no other node does, unless another has done it meanwhile.
    async fn renew_alone(&self, login: &dyn Login, held: &mut Held, stale: Option<&str>) -> Result<Session, CallError> {
        let taken = self.engine.take_login(self.link.id).await.map_err(|error| CallError::Unreachable(error.to_string()))?;
        let Some(taken) = taken else {
            return Err(CallError::Unreachable("another node is renewing the login".to_owned()));
        };
        *self.login_until.lock() = Some(taken.until);
        let work = async {
            let stored = self.stored().await?;
            if let Some(session) = stored.as_ref().filter(|session| good(session, stale, self.engine.clock.now())) {
                held.session = Some(session.clone());
                return Ok(session.clone());
            }
            // Another node may have pointed the connection elsewhere, and this one has not heard of it yet.
            let world = self.engine.stored_world().await.map_err(|error| CallError::Unreachable(error.to_string()))?;
            self.stays(&world)?;
            held.session = stored;
            self.renew(login, held).await
        };
        let renewed = work.await;
        *self.login_until.lock() = None;
        // While nobody else has what was made last, nobody else may renew: until the turn is over by itself.
        if !held.unsaved {
            self.engine.give_back(taken).await;
        }
        renewed
    }

    async fn renew(&self, login: &dyn Login, held: &mut Held) -> Result<Session, CallError> {
        // A provider may complain of the old one in its own words.
        held.session.iter().for_each(|old| self.link.hide(old));
        let renewed = login.renew(&Client::new(self), held.session.as_ref()).await?;
        // The old token is dead by now: the new one is kept here even if the store will not have it yet.
        *held = Held { session: Some(renewed.clone()), unsaved: true };
        // Saved before its first use.
        self.save(&renewed).await?;
        held.unsaved = false;
        Ok(renewed)
    }

    /// A connection that was pointed elsewhere since this call began has a login of its own: the old one must neither be
    /// kept for it nor taken from it.
    fn stays(&self, world: &World) -> Result<(), CallError> {
        match world.links.get(&self.link.id) {
            Some(now) if now.target != self.link.target => {
                Err(CallError::Unreachable("the connection was pointed elsewhere meanwhile".to_owned()))
            }
            _ => Ok(()),
        }
    }

    async fn stored(&self) -> Result<Option<Session>, CallError> {
        let sealed = self.engine.store.session(self.link.id).await.map_err(|error| CallError::Unreachable(error.to_string()))?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain =
            self.engine.vault.open_at(place(self.link), &sealed).map_err(|error| CallError::Unauthorized(error.to_string()))?;
        let stored: StoredSession =
            serde_json::from_slice(&plain).map_err(|_| CallError::Unauthorized("the stored login is not readable".to_owned()))?;
        Ok(Some(Session {
            access: Secret::new(stored.access),
            refresh: stored.refresh.map(Secret::new),
            expires_at: stored.expires_at,
        }))
    }

    fn seal(&self, session: &Session) -> Vec<u8> {
        let stored = StoredSession {
            access: session.access.expose().to_owned(),
            refresh: session.refresh.as_ref().map(|refresh| refresh.expose().to_owned()),
            expires_at: session.expires_at,
            made_at: Some(self.engine.clock.now()),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&stored).expect("a session is JSON"));
        self.engine.vault.seal_at(place(self.link), &plain)
    }

    async fn put(&self, sealed: Vec<u8>) -> Result<(), CallError> {
        let put = self.engine.store.put_session(self.link.id, sealed).await;
        put.map_err(|error| CallError::Unreachable(error.to_string()))
    }

    async fn save(&self, session: &Session) -> Result<(), CallError> {
        let mut pause = Duration::from_millis(50);
        // The provider has already killed the old token: losing the new one would cost a person's login.
        loop {
            // Sealed anew each time: the keys may have been changed meanwhile.
            match self.put(self.seal(session)).await {
                Err(_) if pause <= Duration::from_secs(10) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                saved => return saved,
            }
        }
    }

    /// Takes a session that a person's login brought.
    pub(crate) async fn adopt(&self, session: Session) -> Result<(), CallError> {
        let lock = self.engine.outward.logins.of(self.link.id);
        let mut held = lock.lock().await;
        self.stays(&self.engine.world())?;
        // A renewal of another node must not overwrite it. It is kept in any case: the code that brought it works once.
        let taken = self.engine.take_login(self.link.id).await.unwrap_or_default();
        let saved = self.save(&session).await;
        if saved.is_ok() {
            *held = Held { session: Some(session), unsaved: false };
        }
        if let Some(taken) = taken {
            self.engine.give_back(taken).await;
        }
        saved
    }
}

fn good(session: &Session, stale: Option<&str>, now: Timestamp) -> bool {
    session.expires_at.is_none_or(|at| at > now) && stale.is_none_or(|stale| stale != session.access.expose())
}

fn place(link: &Link) -> Place<'static> {
    Place { merchant: link.merchant, connection: link.id, field: SESSION }
}
