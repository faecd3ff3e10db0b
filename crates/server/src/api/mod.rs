//! The API: what commands, programs and integrators ask of the hub, a file per subject.
//!
//! [`routes`] is the one table of what there is and which role may call it; the router, the OpenAPI document and the readable page
//! are made of it.

mod accounts;
mod administration;
mod audit;
mod caller;
mod codes;
mod commands;
mod connections;
mod consents;
mod costs;
mod customers;
mod customers_csv;
mod devices;
mod digest;
mod endpoints;
mod events;
mod flows;
mod hub;
mod journal;
mod keys;
mod mask;
mod once;
mod openapi;
mod outbox;
mod pace;
mod page;
mod part;
mod people;
mod platform;
mod programmes;
mod providers;
mod read;
mod recipients;
mod reviews;
mod route;
mod secrets;
mod setup;
mod used;

use std::sync::Arc;

use axum::Router;
pub(crate) use caller::{Caller, Holder};
pub use commands::refused_message;
pub(crate) use openapi::document;
pub(crate) use pace::{Pace, tell};
pub(crate) use platform::camel;
pub(crate) use read::{Path, Query, bytes as body};
use route::{ADMIN, ANYBODY, OPERATOR, OWNER, READER, Route, delete, get, patch, post, put};
use setup::{connections as links, flows as rules, merchants, outlets};
pub(crate) use used::Used;

use crate::App;

/// What a setup may carry.
const SETUP_BYTES_MAX: usize = 8 << 20;
/// What a stop list may carry.
const STOP_LIST_BYTES_MAX: usize = 4 << 20;
/// What a file of customers may carry.
const CUSTOMERS_BYTES_MAX: usize = 8 << 20;

/// Everything that can be asked, and by whom.
#[rustfmt::skip]
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/api/v1/me", ANYBODY, "Who this key is", hub::myself),

        get("/api/v1/merchants", READER, "List merchants", merchants::list),
        post("/api/v1/merchants", ADMIN, "Make a merchant", merchants::create).creates(),
        get("/api/v1/merchants/{id}", READER, "Show a merchant", merchants::show),
        patch("/api/v1/merchants/{id}", OWNER, "Change a merchant", merchants::change),
        delete("/api/v1/merchants/{id}", ADMIN, "Take a merchant away", merchants::remove)
            .says("Only one that has no outlets, connections, flows, endpoints or recipients any more."),
        get("/api/v1/merchants/{id}/digest", READER, "Show the digest of a day or a week", digest::show)
            .says("As it is sent to the merchant's people who want it, in figures, in words, and as a picture."),

        get("/api/v1/merchants/{id}/channels", READER, "Tell by which channels messages can go", codes::channels)
            .says("For each channel its connections, which of them sends where none is named, and why it is not ready."),
        get("/api/v1/merchants/{id}/costs", READER, "Tell what messages cost in a month", costs::costs)
            .says("By flow, channel, provider and currency, as far as providers tell; kept when the journal forgets the messages."),

        get("/api/v1/merchants/{id}/outlets", READER, "List outlets", outlets::list),
        post("/api/v1/merchants/{id}/outlets", OWNER, "Make an outlet", outlets::create).creates(),
        get("/api/v1/merchants/{id}/outlets/{outlet}", READER, "Show an outlet", outlets::show),
        patch("/api/v1/merchants/{id}/outlets/{outlet}", OWNER, "Change an outlet", outlets::change),
        delete("/api/v1/merchants/{id}/outlets/{outlet}", OWNER, "Take an outlet away", outlets::remove),
        put("/api/v1/merchants/{id}/outlets/{outlet}/status", OWNER, "Mark an outlet as active or not", administration::status).also_bare()
            .says("A mark for people: the till of an inactive outlet works on, as at the platform."),
        put("/api/v1/merchants/{id}/outlets/{outlet}/pos", OWNER, "Say what till an outlet has", outlets::pos).also_bare(),
        post("/api/v1/merchants/{id}/outlets/{outlet}/bridge-secret", OWNER, "Issue a bridge secret", outlets::issue).repeatable().also_bare()
            .says("It replaces the current one at once, and is shown now and never again."),
        delete("/api/v1/merchants/{id}/outlets/{outlet}/bridge-secret", OWNER, "Withdraw the bridge secret", outlets::withdraw).also_bare(),
        post("/api/v1/merchants/{id}/outlets/{outlet}/bridge-secret/next", OWNER, "Issue the next bridge secret", outlets::issue_next)
            .repeatable().also_bare()
            .says("Both are good from now on: the till is moved to it, then it is promoted."),
        delete("/api/v1/merchants/{id}/outlets/{outlet}/bridge-secret/next", OWNER, "Withdraw the next bridge secret", outlets::withdraw_next)
            .also_bare(),
        post("/api/v1/merchants/{id}/outlets/{outlet}/bridge-secret/promote", OWNER, "Make the next bridge secret the current one", outlets::promote)
            .or(&["conflict"]).also_bare(),

        get("/api/v1/merchants/{id}/settings", OWNER, "Show a merchant's settings by the platform's names", platform::show).also_bare(),
        put("/api/v1/merchants/{id}/settings", OWNER, "Change a merchant's settings by the platform's names", platform::put).also_bare(),
        get("/api/v1/merchants/{id}/outbox", OWNER, "List what goes to a merchant's endpoints", outbox::list).also_bare(),
        get("/api/v1/merchants/{id}/outbox/stats", OWNER, "Count what goes to a merchant's endpoints", outbox::stats).also_bare(),
        post("/api/v1/merchants/{id}/outbox/retryAll", OWNER, "Send again all that never got there", outbox::retry_all).repeatable().also_bare(),
        post("/api/v1/merchants/{id}/outbox/retrySince", OWNER, "Send again what never got there since a time", outbox::retry_since)
            .repeatable().also_bare(),
        post("/api/v1/merchants/{id}/outbox/pause", OWNER, "Send nothing to a merchant's endpoints for now", outbox::pause)
            .repeatable().also_bare()
            .says("Until it is resumed: a pause that ends by itself is refused."),
        post("/api/v1/merchants/{id}/outbox/resume", OWNER, "Send to a merchant's endpoints again", outbox::resume).repeatable().also_bare(),
        post("/api/v1/merchants/{id}/outbox/{command}/retry", OWNER, "Send one webhook again", outbox::retry)
            .repeatable().or(&["conflict"]).also_bare(),

        get("/api/v1/merchants/{id}/programme", READER, "Show the loyalty programme", programmes::show),
        put("/api/v1/merchants/{id}/programme", OWNER, "Set the loyalty programme", programmes::put)
            .says("Makes one, or makes it what is given: what is not named is as it is by default."),
        patch("/api/v1/merchants/{id}/programme", OWNER, "Change the loyalty programme", programmes::change),
        post("/api/v1/merchants/{id}/programme/qr-keys", OWNER, "Make a new key of customers' codes", programmes::rotate)
            .says("It signs from now on; the one before stays good until the next time."),
        post("/api/v1/merchants/{id}/programme/bridge-secret", OWNER, "Issue the merchant's own bridge secret", programmes::issue).repeatable()
            .says("For outlets that have none. It replaces the current one at once, and is shown now and never again."),
        delete("/api/v1/merchants/{id}/programme/bridge-secret", OWNER, "Withdraw the merchant's bridge secret", programmes::withdraw),
        post("/api/v1/merchants/{id}/programme/bridge-secret/next", OWNER, "Issue the merchant's next bridge secret", programmes::issue_next)
            .repeatable(),
        delete("/api/v1/merchants/{id}/programme/bridge-secret/next", OWNER, "Withdraw the merchant's next bridge secret", programmes::withdraw_next),
        post("/api/v1/merchants/{id}/programme/bridge-secret/promote", OWNER, "Make the merchant's next bridge secret the current one", programmes::promote)
            .or(&["conflict"]),
        get("/api/v1/merchants/{id}/customers", READER, "List customers of the programme", customers::list),
        post("/api/v1/merchants/{id}/customers", OPERATOR, "Make a customer", customers::create).creates().or(&["conflict"]),
        get("/api/v1/merchants/{id}/customers/{customer}", READER, "Show a customer", customers::show),
        patch("/api/v1/merchants/{id}/customers/{customer}", OPERATOR, "Change a customer", customers::change),
        post("/api/v1/merchants/{id}/customers/{customer}/adjust", OWNER, "Give or take points", customers::adjust).or(&["conflict"])
            .says("With a reason, which stands in the ledger and in the audit log."),
        get("/api/v1/merchants/{id}/ledger", READER, "List movements of points", customers::ledger)
            .says("Double entry: each takes points from one book to another. Nothing is ever edited, only countered."),
        post("/api/v1/loyalty/import", OWNER, "Bring customers and their points from elsewhere", customers::import)
            .repeatable().csv().up_to(CUSTOMERS_BYTES_MAX)
            .says("The first line names the columns (`customer`, `phone`, `name`, `balance`, `level`). A file with a fault changes nothing; one \
                   that comes twice gives nothing twice."),
        post("/api/v1/loyalty/audit", OWNER, "Prove the ledger of points", customers::prove).repeatable()
            .says("Holds every balance against the sum of its movements, and says where they differ."),

        get("/api/v1/connections", READER, "List connections", links::list),
        post("/api/v1/connections", OWNER, "Make a connection", links::create).creates()
            .says("`settings` are what the provider's schema says (`GET /api/v1/providers/{id}`). Where the provider needs a webhook key, \
                   one is made and shown once."),
        get("/api/v1/connections/{id}", READER, "Show a connection", links::show),
        patch("/api/v1/connections/{id}", OWNER, "Change a connection", links::change)
            .says("Secrets that are not named stay; where the connection is pointed elsewhere they must be given again."),
        delete("/api/v1/connections/{id}", OWNER, "Take a connection away", links::remove)
            .says("What waits to be sent by it is held back; its journal stays."),
        post("/api/v1/connections/{id}/pause", OPERATOR, "Make no calls for now", links::pause),
        post("/api/v1/connections/{id}/resume", OPERATOR, "Make calls again", links::resume),
        get("/api/v1/connections/{id}/health", READER, "Ask the provider whether it works", connections::health),
        get("/api/v1/connections/{id}/balance", READER, "Ask for the money left", connections::balance).calls_out(),
        get("/api/v1/connections/{id}/push-key", ANYBODY, "Show the key with which browsers ask for notices", connections::push_key)
            .says("The public half of VAPID's key pair, for `applicationServerKey`. It is no secret."),
        post("/api/v1/connections/{id}/cost", READER, "Ask what a text would cost", connections::cost).calls_out().repeatable(),
        get("/api/v1/connections/{id}/account", READER, "Ask how the account at the provider stands", accounts::account).calls_out()
            .says("Money left, limits of the day, senders."),
        get("/api/v1/connections/{id}/stop-list", READER, "List whom the provider writes to no more", accounts::stop_list).calls_out(),
        post("/api/v1/connections/{id}/stop-list", OPERATOR, "Put a phone on the provider's stop list", accounts::stop)
            .calls_out().repeatable(),
        post("/api/v1/connections/{id}/stop-list/remove", OPERATOR, "Take a phone off the provider's stop list", accounts::unstop)
            .calls_out().repeatable(),
        post("/api/v1/connections/{id}/stop-list/import", OWNER, "Take the provider's stop list over as opt-outs", accounts::import)
            .calls_out().repeatable()
            .says("Whoever is on it gets no messages of this merchant by any connection."),
        post("/api/v1/connections/{id}/call-checks", OPERATOR, "Begin to prove a phone by a call", accounts::begin_check).calls_out()
            .says("Show `call` to the person: the call from the phone that is to be proved is dropped, and costs nothing."),
        get("/api/v1/connections/{id}/call-checks/{check}", OPERATOR, "Ask whether the call has come", accounts::check).calls_out(),
        post("/api/v1/connections/{id}/subscribe", OWNER, "Register the webhook at the provider", connections::subscribe).calls_out(),
        get("/api/v1/connections/{id}/refusals", READER, "List requests that were refused", connections::refusals),
        get("/api/v1/connections/{id}/setup", READER, "Tell what the merchant has to do at the provider", providers::setup)
            .says("In three languages, with this connection's addresses. No key is shown: `YOUR_KEY` stands for it."),
        post("/api/v1/connections/{id}/login", OWNER, "Begin a login in a browser", connections::login).or(&["not-found", "bad-request"]),
        get("/api/v1/connections/{id}/webhook-keys", OWNER, "List webhook keys", keys::list_webhook),
        post("/api/v1/connections/{id}/webhook-keys", OWNER, "Make one more webhook key", keys::create_webhook).creates()
            .says("Those from before stay good until they are taken away: first the provider is moved, then the old one goes."),
        delete("/api/v1/connections/{id}/webhook-keys/{key}", OWNER, "Take a webhook key away", keys::remove_webhook),

        get("/api/v1/flows", READER, "List flows", rules::list),
        post("/api/v1/flows", OWNER, "Make a flow", rules::create).creates(),
        post("/api/v1/flows/dry-run", READER, "Tell what would follow", flows::dry_run).repeatable()
            .says("From a journal entry, or from a body as it would come in. Nothing is done."),
        get("/api/v1/flows/{id}", READER, "Show a flow", rules::show),
        patch("/api/v1/flows/{id}", OWNER, "Change a flow", rules::change),
        delete("/api/v1/flows/{id}", OWNER, "Take a flow away", rules::remove),
        get("/api/v1/flows/{id}/versions", READER, "List what a flow was before", rules::versions),
        post("/api/v1/flows/{id}/versions/{version}/restore", OWNER, "Make a flow what it was", rules::restore),

        get("/api/v1/endpoints", READER, "List endpoints", endpoints::list),
        post("/api/v1/endpoints", OWNER, "Make an endpoint", endpoints::create).creates()
            .says("A URL of your own software that receives signed webhooks. The secret that signs is shown now and never again."),
        get("/api/v1/endpoints/{id}", READER, "Show an endpoint", endpoints::show),
        patch("/api/v1/endpoints/{id}", OWNER, "Change an endpoint", endpoints::change),
        delete("/api/v1/endpoints/{id}", OWNER, "Take an endpoint away", endpoints::remove),
        post("/api/v1/endpoints/{id}/test", OPERATOR, "Send a test at once", endpoints::test).calls_out().repeatable(),
        post("/api/v1/endpoints/{id}/recover", OPERATOR, "Send again what never got there", endpoints::recover).or(&["conflict"]),
        post("/api/v1/endpoints/{id}/rotate", OWNER, "Make a new signing key", endpoints::rotate)
            .says("Both sign for a while, so that nothing is refused while your software is moved to it."),
        post("/api/v1/endpoints/{id}/enable", OPERATOR, "Send to it again", endpoints::enable),

        get("/api/v1/recipients", OWNER, "List who gets notices", recipients::list),
        post("/api/v1/recipients", OWNER, "Make a recipient", recipients::create).creates()
            .says("One of the merchant's people who gets notices, comments or digests. Phones and e-mail addresses are written down; a chat is \
                   bound by a link (`POST …/link`)."),
        get("/api/v1/recipients/{id}", OWNER, "Show a recipient", recipients::show),
        patch("/api/v1/recipients/{id}", OWNER, "Change a recipient", recipients::change),
        delete("/api/v1/recipients/{id}", OWNER, "Take a recipient away", recipients::remove),
        post("/api/v1/recipients/{id}/link", OWNER, "Make a link that binds a chat", recipients::link).calls_out().or(&["conflict"])
            .says("Good once and for a day; it is shown now and never again. One from before that was not used is void."),
        get("/api/v1/recipients/{id}/devices", OWNER, "List the devices of a recipient", devices::list),
        post("/api/v1/recipients/{id}/devices", OWNER, "Register a device that gets notices", devices::register).repeatable()
            .says("A browser or an application does so at each start: the same device again is no second one, and one that was another person's \
                   is theirs no more."),
        delete("/api/v1/recipients/{id}/devices/{device}", OWNER, "Take a device away", devices::remove),

        post("/api/v1/commands", OPERATOR, "Send a message to one person", commands::ask).accepts().once_only()
            .says("By a connection that is named, or by the merchant's first of a `channel`. Where only the journal stands for a provider, the \
                   answer says `dev`: nobody gets it."),
        post("/api/v1/commands/batch", OPERATOR, "Send messages to up to a hundred people", commands::ask_many).accepts().once_only()
            .says("Each in its own words. Who wants no messages gets none, and the answer names them; the rest goes by one call where the \
                   provider takes batches, else one by one. Each message is a command of its own; `id` is the one that sends them."),
        post("/api/v1/commands/batch/dry-run", OPERATOR, "Tell what would become of a batch", commands::look_at_many).repeatable()
            .says("Who would get no message, and why. Nothing is queued."),
        get("/api/v1/commands", READER, "List commands", commands::list),
        get("/api/v1/commands/{id}", READER, "Show a command", commands::show),
        post("/api/v1/commands/{id}/cancel", OPERATOR, "Call a command off", commands::cancel).or(&["conflict"])
            .says("While it waits; what is being sent or has ended stays as it is."),

        post("/api/v1/commands/{id}/settle", OWNER, "Say what became of a command of unknown outcome", commands::settle),

        post("/api/v1/codes", OPERATOR, "Send a code to a phone or a mailbox", codes::send).accepts().or(&["no-channel", "too-many-codes"])
            .says("Six digits, good for ten minutes and five checks. The code stands in no answer, journal or log."),
        post("/api/v1/codes/check", OPERATOR, "Check a code that a person typed", codes::check).repeatable()
            .says("Each check counts. A right one uses the code up; give `to`, and it is right only for the address that it went to."),

        get("/api/v1/events", READER, "List events", events::list),
        get("/api/v1/events/feed", READER, "Read on in the feed of events", events::feed)
            .says("Every event once, when it is whole, those of one subject in their order. Keep `cursor` and give it back as `after`: nothing is \
                   missed and nothing comes twice."),
        get("/api/v1/events/{id}", READER, "Show an event", events::show),

        get("/api/v1/journal", READER, "List the sync log", journal::list),
        get("/api/v1/journal/{id}", READER, "Show all that followed from an entry", journal::show),
        get("/api/v1/dead-letters", READER, "List what could not be read or sent", journal::dead_letters),
        post("/api/v1/replay", OPERATOR, "Read entries again", journal::replay)
            .says("Through today's code. What an entry told before stays told, and nothing that was done is done again."),

        post("/api/v1/merchants/{id}/erasures", OWNER, "Forget a person", people::erase).repeatable()
            .says("Bodies, names and phones go, numbers, times and ids stay; an opt-out stays as a keyed hash. What no erasure reaches is told."),
        post("/api/v1/consents", OPERATOR, "Record what a person says about messages", consents::record),
        get("/api/v1/consents", READER, "Show what a person said about messages", consents::show),
        get("/api/v1/opt-outs", READER, "List who wants no messages", consents::opt_outs),
        post("/api/v1/opt-outs/import", OWNER, "Take a stop list over", consents::import).repeatable().csv().up_to(STOP_LIST_BYTES_MAX)
            .says("One address a line; the first line may name the columns (`phone`, `email` or `address`, `channel`, `reason`)."),

        get("/api/v1/reviews", READER, "List reviews", reviews::list),
        get("/api/v1/reviews/{id}", READER, "Show a review", reviews::show),
        post("/api/v1/reviews/{id}/answer", OPERATOR, "Answer a review", reviews::answer).or(&["conflict"])
            .says("The guest gets it by the channel that they were asked by, unless they want no messages."),
        get("/api/v1/merchants/{id}/reviews/stats", READER, "Count what came of review requests", reviews::stats),

        get("/api/v1/keys", OWNER, "List keys", keys::list),
        post("/api/v1/keys", OWNER, "Make a key", keys::create).creates().says("The key itself is shown now and never again."),
        get("/api/v1/keys/{id}", OWNER, "Show a key", keys::show),
        delete("/api/v1/keys/{id}", OWNER, "Take a key away", keys::remove),
        get("/api/v1/audit", OWNER, "List who changed what", audit::list),

        get("/api/v1/providers", ANYBODY, "List what the hub can be connected to", providers::list),
        get("/api/v1/providers/{id}", ANYBODY, "Show a provider", providers::show),
        get("/api/v1/providers/{id}/refusals", ADMIN, "List refused requests that belong to no connection", providers::refusals),

        get("/api/v1/notices", READER, "List what a person should know", hub::notices),
        get("/api/v1/counts", ADMIN, "Count rows by their state", hub::counts),
        get("/api/v1/doctor", ADMIN, "Examine the hub", hub::doctor),
        post("/api/v1/fsck", ADMIN, "Check the store's own laws", hub::fsck),
        post("/api/v1/nats", ADMIN, "End the publishing of events", hub::nats),
        get("/api/v1/secrets", ADMIN, "Show which master key seals", secrets::show),
        post("/api/v1/secrets/rotate", ADMIN, "Change the master key", secrets::rotate).repeatable()
            .says("Only on the hub's own machine, over its socket: `uzel secrets rotate`."),
        post("/api/v1/apply", ADMIN, "Apply a whole setup", flows::apply).up_to(SETUP_BYTES_MAX),
    ];
    // The requirement names these without the prefix.
    let bare: Vec<Route> = routes.iter().filter_map(Route::without_prefix).collect();
    routes.extend(bare);
    routes.extend([
        get("/merchants", ADMIN, "List merchants", administration::merchants),
        post("/merchants", ADMIN, "Make a merchant", administration::create_merchant).creates(),
        put("/merchants/{id}", OWNER, "Change a merchant", administration::change_merchant),
        delete("/merchants/{id}", ADMIN, "Take a merchant away", administration::remove_merchant),
        get("/merchants/{id}/outlets", READER, "List outlets", administration::outlets),
        post("/merchants/{id}/outlets", OWNER, "Make an outlet", administration::create_outlet).creates(),
        put("/merchants/{id}/outlets/{outlet}", OWNER, "Change an outlet", administration::change_outlet),
        delete("/merchants/{id}/outlets/{outlet}", OWNER, "Take an outlet away", administration::remove_outlet),
    ]);
    routes
}

pub(crate) fn router() -> Router<Arc<App>> {
    routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler()))
}
