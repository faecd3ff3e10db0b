//! Which connection sends: one that is named, or the merchant's first of a channel; and what of each channel is set up.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use uzel_model::{
    Address, Channel, Id, Provider,
    check::Fault,
    message::read_email,
    phone::{self, Kind as PhoneKind},
    port::Messages,
};

use crate::{Engine, Link, World};

/// A device's subscription is a document.
const DEVICE_BYTES_MAX: usize = 4_096;

/// By what a message is to go, as somebody asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish<'a> {
    pub connection: Option<&'a str>,
    /// The same, by the word that flows have for it.
    pub via: Option<&'a str>,
    pub channel: Option<Channel>,
    pub provider: Option<&'a str>,
}

/// Why no connection sends.
#[derive(Debug)]
pub(crate) enum NoSender {
    Fault(Fault),
    /// Nothing is set up for the channel, or all of it is paused.
    NotConfigured(Fault),
}

impl From<Fault> for NoSender {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<NoSender> for Fault {
    fn from(none: NoSender) -> Self {
        let (NoSender::Fault(fault) | NoSender::NotConfigured(fault)) = none;
        fault
    }
}

/// The connection that sends.
pub(crate) fn sender<'a>(
    world: &'a World,
    providers: &[Provider],
    merchant: Id,
    wish: Wish<'_>,
) -> Result<&'a Arc<Link>, NoSender> {
    let (place, name) = match (wish.connection, wish.via, wish.channel) {
        (Some(_), Some(_), _) => return Err(Fault::new("/via", "stands beside `connection`: give one of the two").into()),
        (Some(name), None, _) => ("/connection", name),
        (None, Some(name), _) => ("/via", name),
        (None, None, Some(channel)) => return first(world, providers, merchant, channel, wish.provider),
        (None, None, None) => {
            let why = "is missing: name the connection that sends, or give `via`, or the `channel` by which it is to go";
            return Err(Fault::new("/connection", why).into());
        }
    };
    let by_id = || name.parse().ok().and_then(|id| world.links.get(&id)).filter(|link| link.merchant == merchant);
    let found = world.link_of(merchant, name).or_else(by_id);
    let link = found.ok_or_else(|| Fault::new(place, format!("no connection `{name}` of this merchant that can be used")))?;
    let Some(messages) = link.connector.messages() else {
        return Err(Fault::new(place, format!("{} sends no messages", link.provider.name)).into());
    };
    if let Some(channel) = wish.channel.filter(|channel| *channel != messages.channel()) {
        let why = format!("is `{}`, and `{name}` sends by `{}`", channel.name(), messages.channel().name());
        return Err(Fault::new("/channel", why).into());
    }
    if let Some(provider) = wish.provider.filter(|provider| *provider != link.provider.id) {
        return Err(Fault::new("/provider", format!("is `{provider}`, and `{name}` is of `{}`", link.provider.id)).into());
    }
    Ok(link)
}

/// A merchant's connections that send by a channel: those that reach people first, in the order of the list of providers, then of
/// their making.
fn of_channel<'a>(world: &'a World, providers: &[Provider], merchant: Id, channel: Channel) -> Vec<&'a Arc<Link>> {
    let sends = |link: &&Arc<Link>| link.connector.messages().is_some_and(|messages| messages.channel() == channel);
    let mut links: Vec<&Arc<Link>> = world.links_of(merchant).filter(sends).collect();
    links.sort_by_key(|link| {
        let place = providers.iter().position(|provider| provider.id == link.provider.id);
        (!reaches_people(link), place, link.id)
    });
    links
}

fn first<'a>(
    world: &'a World,
    providers: &[Provider],
    merchant: Id,
    channel: Channel,
    provider: Option<&str>,
) -> Result<&'a Arc<Link>, NoSender> {
    if let Some(unknown) = provider.filter(|id| !providers.iter().any(|known| known.id == *id)) {
        return Err(Fault::new("/provider", format!("`{unknown}` is not known")).into());
    }
    let mut links = of_channel(world, providers, merchant, channel);
    let name = channel.name();
    if let Some(provider) = provider {
        links.retain(|link| link.provider.id == provider);
        if links.is_empty() {
            let why = format!("no connection of this merchant to `{provider}` sends by `{name}`");
            return Err(NoSender::NotConfigured(Fault::new("/provider", why)));
        }
    }
    if links.is_empty() {
        let why = format!("no connection of this merchant sends by `{name}`: set one up");
        return Err(NoSender::NotConfigured(Fault::new("/channel", why)));
    }
    let found = links.into_iter().find(|link| !link.paused);
    found.ok_or_else(|| {
        NoSender::NotConfigured(Fault::new("/channel", format!("every connection that sends by `{name}` is paused")))
    })
}

pub(crate) fn reaches_people(link: &Link) -> bool {
    link.connector.messages().is_some_and(Messages::reaches_people)
}

/// Whom a message goes to by a channel, read as people write it.
pub(crate) fn receiver(to: &str, channel: Channel, country: &str) -> Result<Address, Fault> {
    let fault = |why: &str| Fault::new("/to", why);
    match channel {
        Channel::Sms | Channel::Whatsapp => {
            let phone = phone::read_text(to, country).map_err(|error| fault(&error.to_string()))?;
            match phone.kind {
                PhoneKind::Mobile => Ok(Address::Phone(phone.e164)),
                _ => Err(fault("is no mobile number: it takes no text")),
            }
        }
        Channel::Email => read_email(to).map(Address::Email).map_err(|why| fault(&why)),
        Channel::Telegram => to.trim().parse().map(Address::Chat).map_err(|_| fault("is no chat: give its number")),
        Channel::Push if to.trim().is_empty() => Err(fault("is empty: give the device's subscription or token")),
        Channel::Push if to.len() > DEVICE_BYTES_MAX => Err(fault("is longer than a subscription can be")),
        Channel::Push => Ok(Address::Device(to.trim().to_owned())),
    }
}

/// What is set up for a channel.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChannelState {
    /// `sms`, `whatsapp`, `email`, `telegram` or `push`.
    pub channel: Channel,
    /// A message by it would go to a person now.
    pub ready: bool,
    /// Its messages go to the journal and to nobody.
    pub dev: bool,
    /// Why it is not ready.
    pub why: Option<String>,
    /// The connection that sends where none is named.
    pub connection: Option<Id>,
    /// All that send by it, in the order in which they are chosen.
    pub connections: Vec<SenderState>,
}

/// A connection that sends messages.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SenderState {
    /// The connection.
    pub id: Id,
    /// Its unique name.
    pub slug: String,
    /// Id of its provider.
    pub provider: String,
    /// A message by it would go to a person now.
    pub ready: bool,
    /// Why it would not.
    pub why: Option<String>,
}

impl Engine {
    /// What of each channel a merchant has set up.
    pub fn channels(&self, merchant: Id) -> Vec<ChannelState> {
        let world = self.world();
        Channel::ALL.into_iter().map(|channel| self.channel(&world, merchant, channel)).collect()
    }

    fn channel(&self, world: &World, merchant: Id, channel: Channel) -> ChannelState {
        let links = of_channel(world, self.providers, merchant, channel);
        let connections: Vec<SenderState> = links
            .iter()
            .map(|link| {
                let why = self.not_ready(link);
                let (slug, provider) = (link.slug.clone(), link.provider.id.to_owned());
                SenderState { id: link.id, slug, provider, ready: why.is_none(), why }
            })
            .collect();
        let chosen = first(world, self.providers, merchant, channel, None);
        let why = match &chosen {
            Ok(link) => self.not_ready(link),
            Err(NoSender::Fault(fault) | NoSender::NotConfigured(fault)) => Some(fault.detail.clone()),
        };
        ChannelState {
            channel,
            ready: why.is_none(),
            dev: chosen.as_ref().is_ok_and(|link| !reaches_people(link)),
            why,
            connection: chosen.ok().map(|link| link.id),
            connections,
        }
    }

    fn not_ready(&self, link: &Link) -> Option<String> {
        if link.paused {
            return Some("it is paused".to_owned());
        }
        if !reaches_people(link) {
            return Some("its messages go to the journal only".to_owned());
        }
        self.open_breaker(link.id).map(|open| format!("calls fail since {}: {}", open.since, open.reason))
    }
}
