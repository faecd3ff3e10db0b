//! Chains from outside: a message goes by the next step where the one before reaches nobody, and never by two.

use serde_json::{Value, json};

use crate::world::{World, setup, until};

/// Merchant `m` with SMS.ru, a stand-in for WhatsApp that tells no delivery, and one for mail; and a flow with these rules.
pub(crate) fn chained(world: &World, rules: &Value) -> Value {
    let mut setup = setup(&world.sandbox.url(), rules);
    let log = |slug: &str, channel: &str| json!({ "merchant": "m", "outlet": "o", "slug": slug, "provider": "log", "settings": { "channel": channel } });
    let links = setup["connection"].as_array_mut().unwrap();
    links.extend([log("whatsapp", "whatsapp"), log("mail", "email")]);
    setup
}

pub(crate) async fn world(rules: Value) -> World {
    let world = World::new(json!({})).await;
    let setup = chained(&world, &rules);
    world.apply(&setup).await;
    world
}

/// The account of the first connection: `nomoney` and `wrong` refuse every text.
async fn account(world: &World, rules: &Value, api_id: &str) {
    let mut setup = chained(world, rules);
    setup["connection"][4]["settings"]["api_id"] = json!(api_id);
    world.apply(&setup).await;
}

pub(crate) async fn serve(world: &World, id: u32) {
    let body = json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone(id), "name": "Иван" } } });
    assert_eq!(world.post("rkeeper", &body).await.status(), 200);
}

fn phone(id: u32) -> String {
    format!("+7999555{id:04}")
}

/// A visit whose guest has an e-mail address.
pub(crate) async fn visit(world: &World, id: u32, client: Value) {
    let body = json!({ "company_id": 4564, "resource": "record", "resource_id": id, "status": "update", "data": {
        "id": id, "visit_id": id, "visit_attendance": 1, "attendance": 1, "deleted": false, "date": "2026-11-24 12:10:00",
        "services": [{ "title": "Стрижка" }], "client": client } });
    assert_eq!(world.post("yclients", &body).await.status(), 200);
}

/// The commands of the newest entry of a provider, with the slug of each connection.
pub(crate) async fn commands(world: &World, provider: &str) -> Vec<(String, Value)> {
    let links = world.api("/api/v1/connections").await;
    let slug = |id: &Value| {
        let link = links.as_array().unwrap().iter().find(|link| link["id"] == *id);
        link.map_or_else(String::new, |link| link["slug"].as_str().unwrap().to_owned())
    };
    let timeline = world.newest(provider).await;
    let commands = timeline["commands"].as_array().unwrap().clone();
    commands.into_iter().map(|command| (slug(&command["connection"]), command)).collect()
}

/// What stands of each: the connection and the state.
pub(crate) async fn states(world: &World, provider: &str) -> Vec<(String, String)> {
    let told = commands(world, provider).await;
    told.into_iter().map(|(slug, command)| (slug, command["state"].as_str().unwrap().to_owned())).collect()
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(slug, state)| ((*slug).to_owned(), (*state).to_owned())).collect()
}

pub(crate) async fn is(world: &World, wanted: &[(&str, &str)]) {
    let wanted = pairs(wanted);
    let mut last = Vec::new();
    until("the steps to stand so", async || {
        last = states(world, "rkeeper").await;
        last == wanted
    })
    .await;
}

/// Has SMS.ru call back with a status of this message.
async fn call_back(world: &World, provider_id: &str, status: i64) {
    let link = world.link("smsru").await;
    let url = format!("{}{}", world.hub.url(), link["hook"].as_str().unwrap());
    let options = json!({ "url": url, "sms_ids": [provider_id], "status": status });
    assert_eq!(world.told_by("smsru", "callback", &options).await["body"], "100");
    until("the news to be read", async || {
        let counts = world.api("/api/v1/counts").await;
        counts["entries"].as_array().unwrap().iter().all(|pair| pair[0] != "unread" || pair[1] == 0)
    })
    .await;
}

async fn provider_id(world: &World) -> String {
    commands(world, "rkeeper").await[0].1["provider_id"].as_str().unwrap().to_owned()
}

async fn events(world: &World, kind: &str) -> Vec<Value> {
    world.api(&format!("/api/v1/events?type={kind}")).await.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_has_arrived_goes_by_no_other_way() {
    let world = world(json!({ "via": ["smsru", "whatsapp", "mail"] })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    call_back(&world, &provider_id(&world).await, 103).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "held")]).await;
    let told = commands(&world, "rkeeper").await;
    assert_eq!((&told[1].1["reason"], &told[1].1["after"]), (&json!("delivered"), &told[0].1["id"]));
    assert!(told[1].1["why"].as_str().unwrap().contains("in case `smsru` has not delivered it in 10 min"), "{}", told[1].1);
    world.pass(20);
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
    let told = events(&world, "message.delivered").await;
    assert_eq!(told.len(), 1, "{told:?}");
    let data = &told[0]["data"]["details"];
    assert_eq!((&data["flow"], &data["channel"], &data["connection"]), (&json!("review"), &json!("sms"), &json!("smsru")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_delivered_in_time_goes_by_the_next_step() {
    let world = world(json!({ "via": ["smsru", "whatsapp"], "undelivered_after": "20m" })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    world.pass(15);
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    world.pass(6);
    is(&world, &[("smsru", "done"), ("whatsapp", "done")]).await;
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_comes_later_and_says_no_moves_the_message_on_at_once() {
    let world = world(json!({ "via": ["smsru", "whatsapp"] })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    call_back(&world, &provider_id(&world).await, 105).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "done")]).await;
    let told = commands(&world, "rkeeper").await;
    assert!(told[1].1["why"].as_str().unwrap().ends_with("it failed with 105"), "{}", told[1].1);
    // Told again, and otherwise: nothing more follows.
    call_back(&world, &provider_id(&world).await, 105).await;
    call_back(&world, &provider_id(&world).await, 103).await;
    world.quiet().await;
    is(&world, &[("smsru", "done"), ("whatsapp", "done")]).await;
    assert_eq!((events(&world, "message.failed").await.len(), events(&world, "message.delivered").await.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_account_moves_the_message_on_where_there_is_another_step() {
    let rules = json!({ "via": ["smsru", "whatsapp"] });
    let world = world(rules.clone()).await;
    account(&world, &rules, "nomoney").await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "dead"), ("whatsapp", "done")]).await;
    assert_eq!(world.notices("account").await.len(), 1, "the merchant is told all the same");
    let told = commands(&world, "rkeeper").await;
    assert!(told[1].1["why"].as_str().unwrap().starts_with("`smsru` cannot send it now"), "{}", told[1].1);
    // The last step has nobody to give way to: it waits for the merchant.
    let rules = json!({ "via": ["smsru"] });
    account(&world, &rules, "nomoney").await;
    serve(&world, 2).await;
    is(&world, &[("smsru", "waiting")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_unknown_fate_moves_on_only_where_the_merchant_says_so() {
    for also in [false, true] {
        let world = world(json!({ "via": ["smsru", "whatsapp"], "also_if_unknown": also })).await;
        world.control("smsru/faults", &json!({ "kind": "cut_after", "path": "/sms/send", "calls": 1 })).await;
        serve(&world, 1).await;
        if also {
            is(&world, &[("smsru", "unknown"), ("whatsapp", "done")]).await;
        } else {
            is(&world, &[("smsru", "unknown")]).await;
            world.pass(30);
            world.quiet().await;
            is(&world, &[("smsru", "unknown")]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_an_address_is_skipped_and_the_journal_says_so() {
    let steps = json!([
        { "via": "mail", "subject": "{{ outlet }}: thanks", "html": "<p>{{ name }}</p>" },
        { "via": "whatsapp", "template": { "name": "review", "language": "ru", "parameters": ["{{ name or 'Guest' }}", "{{ outlet }}"] } },
    ]);
    let mut world = World::new(json!({})).await;
    let mut setup = chained(&world, &json!({ "step": steps }));
    setup["flow"][0].as_object_mut().unwrap().remove("via");
    world.apply(&setup).await;
    serve(&world, 1).await;
    is(&world, &[("whatsapp", "done")]).await;
    let timeline = world.newest("rkeeper").await;
    assert!(timeline["notes"].to_string().contains("step 1 (`mail`) is skipped: no e-mail address"), "{}", timeline["notes"]);
    let template = &timeline["commands"][0]["job"]["template"];
    assert_eq!(template["components"][0]["parameters"][0]["text"], "Иван", "{template}");
    // A guest with an address gets the mail, escaped where it is HTML.
    visit(&world, 7, json!({ "id": 9, "name": "A&B", "phone": "+79991112233", "email": "Maria@Example.com" })).await;
    until("the mail", async || states(&world, "yclients").await == pairs(&[("mail", "done")])).await;
    let job = &world.newest("yclients").await["commands"][0]["job"];
    assert_eq!((&job["email"], &job["subject"]), (&json!("maria@example.com"), &json!("Кафе: thanks")), "{job}");
    assert_eq!(job["html"], "<p>A&amp;B</p>");
    world = world.restart(async |_, _| {}).await;
    assert_eq!(states(&world, "yclients").await, pairs(&[("mail", "done")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_calls_off_what_was_to_follow() {
    let world = world(json!({ "via": ["smsru", "whatsapp"] })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    let body = json!({ "order": { "id": 1, "status": "Отменен", "customer": { "phone": phone(1) } } });
    assert_eq!(world.post("rkeeper", &body).await.status(), 200);
    until("the order to be called off", async || world.commands("held").await == 1).await;
    world.pass(30);
    world.quiet().await;
    assert_eq!((world.commands("done").await, world.commands("held").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_repeats_no_step() {
    let world = world(json!({ "via": ["smsru", "whatsapp"], "once_in_days": 14 })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    let entry = world.newest("rkeeper").await["entry"].clone();
    let replay = async || {
        let (status, answer) = world.ask("/api/v1/replay", &json!({ "entry": entry })).await;
        assert_eq!((status, &answer["outcomes"][0]["outcome"]["queued"]), (200, &json!(0)), "{answer}");
    };
    replay().await;
    world.pass(11);
    is(&world, &[("smsru", "done"), ("whatsapp", "done")]).await;
    replay().await;
    is(&world, &[("smsru", "done"), ("whatsapp", "done")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_as_the_next_step_goes_after_a_restart() {
    let world = world(json!({ "via": ["smsru", "whatsapp"] })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    let world = world
        .restart(async |_, clock| {
            clock.advance(jiff::SignedDuration::from_mins(11));
        })
        .await;
    is(&world, &[("smsru", "done"), ("whatsapp", "done")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_and_a_webhook_tell_of_a_message_once() {
    let world = world(json!({ "via": ["smsru", "whatsapp"] })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "waiting")]).await;
    let id = provider_id(&world).await;
    world.control("smsru/states", &json!({ id.as_str(): 103 })).await;
    world.in_time("the poll", async || !events(&world, "message.delivered").await.is_empty()).await;
    is(&world, &[("smsru", "done"), ("whatsapp", "held")]).await;
    call_back(&world, &id, 103).await;
    assert_eq!(events(&world, "message.delivered").await.len(), 1);
    // A message of somebody else makes no event, and the journal says so.
    call_back(&world, "202647-9999999", 103).await;
    assert_eq!(events(&world, "message.delivered").await.len(), 1);
    let notes = world.newest("smsru").await["notes"].to_string();
    assert!(notes.contains("the hub knows no such message"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_cannot_be_is_refused_by_field() {
    let world = World::new(json!({})).await;
    for (rules, place, words) in [
        (json!({ "via": [] }), "/flow/0/via", "is missing"),
        (json!({ "via": ["smsru", "nobody"] }), "/flow/0/via/1", "no connection `nobody`"),
        (json!({ "via": ["smsru", "smsru"] }), "/flow/0/via/1", "twice"),
        (json!({ "via": ["smsru", "iiko"] }), "/flow/0/via/1", "sends no messages"),
        (json!({ "undelivered_after": "soon" }), "/flow/0/undelivered_after", "is no duration"),
        (json!({ "step": [{ "via": "smsru" }] }), "/flow/0/via", "beside `step`"),
        (json!({ "via": "", "step": [{ "via": "smsru", "text": "{{ name|shout }}" }] }), "/flow/0/step/0/text", "shout"),
        (
            json!({ "via": "", "step": [{ "via": "smsru", "undelivered_after": "x" }] }),
            "/flow/0/step/0/undelivered_after",
            "duration",
        ),
        (json!({ "via": "", "step": [{ "via": "smsru", "txt": "" }] }), "/flow/0/step/0/txt", "not known"),
        (
            json!({ "via": "", "step": [{ "via": "smsru", "template": { "name": "", "language": "ru" } }] }),
            "/flow/0/step/0/template/name",
            "is empty",
        ),
    ] {
        let (status, answer) = world.ask("/api/v1/apply", &json!({ "setup": chained(&world, &rules), "dry_run": true })).await;
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        let found = errors.iter().any(|error| {
            error["pointer"].as_str().unwrap().ends_with(place) && error["detail"].as_str().unwrap().contains(words)
        });
        assert!(status >= 400 && found, "{rules}: {status} {answer}");
    }
}
