//! Two hubs on one database.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel::hub::{Hub, Parts};
use uzel_engine::setup::Leniency;
use uzel_model::Secret;
use uzel_sandbox::Sandbox;

use crate::{
    binary::Binary,
    logins, oauth,
    world::{KEY, World, anywhere, free_port, setup, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_what_is_set_up_and_send_each_text_once() {
    let world = World::on_postgres().await;
    let other = Hub::start(&world.beside(), Parts::default()).await.unwrap();
    let order =
        |id: u32| json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } });
    for id in 0..40 {
        // The repeat of an order comes to the other node.
        let mut urls = [world.hub.url(), other.url()];
        urls.rotate_left(id as usize % 2);
        for url in urls {
            let answer = world.web.post(format!("{url}/api/webhook/rkeeper?key={KEY}")).json(&order(id)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    }
    world.quiet().await;
    let mut texts = world.texts().await;
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), world.texts().await.len()), (40, 40));
    // What is set up on one node is used by the other, without a start.
    let text = json!({ "text": "Changed: {{ name or 'guest' }}" });
    world.apply(&setup(&world.sandbox.url(), &text)).await;
    until("the other node to hear of it", async || {
        other.engine.world().flows.values().any(|flow| flow.doc.text.starts_with("Changed"))
    })
    .await;
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_master_key_does_not_start_and_harms_nothing() {
    let world = World::on_postgres().await;
    let mut settings = world.beside();
    settings.master_key_file = None;
    let start = async || format!("{:#}", Hub::start(&settings, Parts::default()).await.err().unwrap());
    let file = settings.data.join("master.key");
    assert!(start().await.contains(&format!("{} is missing", file.display())) && !file.exists());
    std::fs::write(&file, uzel_engine::Master::make().expose()).unwrap();
    let error = start().await;
    assert!(error.contains("the master key is not the one that sealed what is stored"), "{error}");
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Completed", "customer": { "phone": "+79990000001" } } })).await;
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_start_together_on_an_empty_database_one_makes_what_is_made_once() {
    let world = World::on_postgres().await;
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let node = |name: &str| {
        let mut settings = world.beside();
        settings.data = settings.data.join(name);
        settings.database = Some(uzel_model::Secret::new(url.clone()));
        settings
    };
    let (one, other) = (node("one"), node("other"));
    let (one, other) = tokio::join!(Hub::start(&one, Parts::default()), Hub::start(&other, Parts::default()));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!([one.owner_key().is_ok(), other.owner_key().is_ok()].iter().filter(|made| **made).count(), 1);
    assert_eq!(one.engine.world().merchants.len(), 1);
    one.stop().await.unwrap();
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_both_nodes_find_refused_is_renewed_by_one_of_them() {
    let world = World::on_postgres().await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][0]["settings"] =
        json!({ "base_url": format!("{}/iiko", world.sandbox.url()), "api_login": "login-of-the-cafe", "calls_per_s": 1_000 });
    world.apply(&setup).await;
    let orders: Vec<Value> = (0..60).map(|id| logins::order(id, &json!(format!("+7999333{id:04}")))).collect();
    world.control("iiko/orders", &json!(orders)).await;
    let other = Hub::start(&world.beside(), Parts::default()).await.unwrap();
    let tell = async |hub: &Hub, ids: std::ops::Range<u32>| {
        let url = format!("{}/api/webhook/iiko?key={KEY}", hub.url());
        assert_eq!(world.web.post(url).json(&logins::told(ids)).send().await.unwrap().status(), 200);
    };
    // Both find no login yet, and then both find theirs refused.
    for (round, ids) in [(1, [0..15, 15..30]), (2, [30..45, 45..60])] {
        let [one, two] = ids;
        tokio::join!(tell(&world.hub, one), tell(&other, two));
        world.quiet().await;
        assert_eq!(world.shown("iiko/summary").await["tokens"], round);
        world.control("iiko/faults", &json!({ "kind": "token_expiry", "latency_ms": 300 })).await;
    }
    assert_eq!(world.texts().await.len(), 60);
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_together_keep_a_limit_that_one_would_keep() {
    const PER_S: usize = 10;
    let world = World::on_postgres().await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["calls_per_s"] = json!(PER_S);
    world.apply(&setup).await;
    let other = Hub::start(&world.beside(), Parts::default()).await.unwrap();
    for id in 0..50 {
        let order = json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } });
        let url = if id % 2 == 0 { world.hub.url() } else { other.url() };
        world.web.post(format!("{url}/api/webhook/rkeeper?key={KEY}")).json(&order).send().await.unwrap();
    }
    world.quiet().await;
    let calls = world.calls("smsru", "/sms/send").await;
    let mut at_ms: Vec<i64> = calls.iter().map(|call| call["at_ms"].as_i64().unwrap()).collect();
    at_ms.sort_unstable();
    assert_eq!(at_ms.len(), 50);
    // As the provider counts: in no second more than there may be, but for a call that was a little longer on its way.
    let most = at_ms.iter().map(|from| at_ms.iter().filter(|at| (*from..from + 980).contains(*at)).count()).max().unwrap();
    assert!(most <= PER_S, "{most} calls in a second: {at_ms:?}");
    other.stop().await.unwrap();
}

/// A second node, with the same clock.
async fn beside(world: &World) -> Hub {
    let settings = uzel::settings::Settings { listen: anywhere(), ..world.beside() };
    Hub::start(&settings, Parts { clock: world.clock.clone(), ..Parts::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_works_once_is_spent_by_one_of_two_nodes() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let world = World::bare(Parts::default(), |settings| {
        settings.database = Some(Secret::new(url));
        settings.listen.set_port(free_port());
        settings.public_url = Some(format!("http://{}", settings.listen));
    })
    .await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][3]["settings"] = oauth::settings(&world.sandbox.url());
    world.apply(&setup).await;
    oauth::log_in(&world, "the-code").await;
    let other = beside(&world).await;
    for (round, first) in [(1, 9_000), (2, 9_100)] {
        // The login that both hold is over.
        world.pass(25 * 60);
        for id in first..first + 16 {
            oauth::deal(&world, id).await;
        }
        for id in first..first + 16 {
            let url = if id % 2 == 0 { world.hub.url() } else { other.url() };
            oauth::won_at(&world, &url, id).await;
        }
        world.quiet().await;
        assert_eq!(world.shown("amocrm/summary").await["refreshes"], round);
    }
    assert!(world.calls("amocrm", "/").await.iter().all(|call| call["status"].as_u64().unwrap() < 400));
    assert_eq!(world.texts().await.len(), 32);
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_one_node_pointed_elsewhere_takes_no_old_login_there_on_the_other() {
    let world = World::on_postgres().await;
    let elsewhere = Sandbox::start(anywhere()).await.unwrap();
    let at = |sandbox: &Sandbox| {
        let mut setup = setup(&world.sandbox.url(), &json!({}));
        setup["connection"][0]["settings"] =
            json!({ "base_url": format!("{}/iiko", sandbox.url()), "api_login": "login-of-the-cafe", "calls_per_s": 1_000 });
        setup
    };
    world.apply(&at(&world.sandbox)).await;
    let other = beside(&world).await;
    let orders: Vec<Value> = (0..20).map(|id| logins::order(id, &json!(format!("+7999333{id:04}")))).collect();
    world.control("iiko/orders", &json!(orders)).await;
    let answer = world.web.put(format!("{}/_sandbox/iiko/orders", elsewhere.url())).json(&orders).send().await.unwrap();
    assert!(answer.status().is_success());
    let tell = async |ids: std::ops::Range<u32>| {
        let url = format!("{}/api/webhook/iiko?key={KEY}", other.url());
        assert_eq!(world.web.post(url).json(&logins::told(ids)).send().await.unwrap().status(), 200);
        world.quiet().await;
    };
    tell(0..10).await;
    world.apply(&at(&elsewhere)).await;
    tell(10..20).await;
    let calls: Vec<Value> =
        world.web.get(format!("{}/_sandbox/iiko/calls", elsewhere.url())).send().await.unwrap().json().await.unwrap();
    assert!(calls.iter().all(|call| call["status"] == 200), "a login of another place is refused here: {calls:?}");
    assert_eq!(world.texts().await.len(), 20);
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_set_the_same_up_at_the_same_time_make_it_once() {
    let world = World::on_postgres().await;
    let other = beside(&world).await;
    let leniency = Leniency { short_keys: true };
    for round in 0..5 {
        let shop = |name: &str| json!({ "merchant": [{ "slug": format!("shop-{round}"), "name": name }] });
        let (one, two) = (shop("one"), shop("two"));
        let (one, two) = tokio::join!(world.hub.apply(&one, leniency), other.apply(&two, leniency));
        one.unwrap();
        two.unwrap();
    }
    let setup = world.hub.engine.store.setup().await.unwrap();
    let shops: Vec<&str> = setup.rows.iter().map(|row| row.slug.as_str()).filter(|slug| slug.starts_with("shop-")).collect();
    assert_eq!(shops.len(), 5, "{shops:?}");
    until("both to use it", async || {
        [&world.hub, &other]
            .iter()
            .all(|hub| hub.engine.world().merchants.len() == setup.rows.iter().filter(|row| row.merchant.is_none()).count())
    })
    .await;
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_polls_when_it_is_time() {
    let world = World::on_postgres().await;
    let other = beside(&world).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][0]["settings"] = json!({ "base_url": format!("{}/iiko", world.sandbox.url()), "api_login": "login-of-the-cafe",
        "organization_id": "7bc05553-4b68-44e8-b7bc-37be63c6d9e9", "poll_every_s": 30 });
    setup["connection"][0]["poll"] = json!(true);
    world.apply(&setup).await;
    let begun = world.clock.now();
    world
        .in_steps(SignedDuration::from_secs(10), "some polls", async || {
            world.calls("iiko", "/api/1/deliveries/by_revision").await.len() >= 6
        })
        .await;
    // Half a minute between two polls, whoever makes them; the turns of the two do not begin together.
    let passed = world.clock.now().duration_since(begun).as_secs();
    assert!(passed >= 5 * 27, "six polls in {passed} s");
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_end_within_its_lease_is_not_sent_and_waits() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let world = World::bare(Parts::default(), |settings| {
        settings.database = Some(Secret::new(url));
        // Whatever is leased comes too late to be sent.
        settings.lease_margin_ms = 0;
    })
    .await;
    world.apply(&setup(&world.sandbox.url(), &json!({}))).await;
    let order = json!({ "order": { "id": 1, "status": "Completed", "customer": { "phone": "+79990000001" } } });
    assert_eq!(world.post("rkeeper", &order).await.status(), 200);
    let reason = async || {
        let entry = world.newest("rkeeper").await;
        entry["commands"][0]["reason"].as_str().unwrap_or_default().to_owned()
    };
    until("the text to come back", async || reason().await.contains("came too late to its turn: nothing was sent")).await;
    assert!(world.calls("smsru", "/sms/send").await.is_empty());
    assert_eq!((world.commands("unknown").await, world.commands("dead").await), (0, 0));
    // A node with time enough sends it.
    let settings = uzel::settings::Settings { lease_margin_ms: 30_000, ..world.beside() };
    let other = Hub::start(&settings, Parts { clock: world.clock.clone(), ..Parts::default() }).await.unwrap();
    world.in_time("the text", async || world.texts().await.len() == 1).await;
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_that_fails_is_told_once_and_so_is_its_end() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let mut binary = Binary::new(&[("UZEL_DATABASE", url.as_str()), ("RUST_LOG", "info,uzel_store=debug")]);
    binary.serve(&[]).await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("ALTER TABLE node RENAME TO hidden").await.unwrap();
    let told = |words: &str| binary.log().matches(words).count();
    until("two beats to fail", async || told("beat still fails") > 1).await;
    client.batch_execute("ALTER TABLE hidden RENAME TO node").await.unwrap();
    until("the beat to be back", async || told("this node's beat is back") > 0).await;
    assert_eq!((told("this node's beat fails"), told("this node's beat is back")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_nothing_to_do_leaves_the_server_in_peace_however_much_is_set_up() {
    const WATCHED: Duration = Duration::from_secs(15);
    let server = uzel_servers::Postgres::shared().unwrap();
    let url = server.database().await.unwrap();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let mut binary = Binary::new(&[("UZEL_DATABASE", url.as_str())]);
    binary.serve(&[]).await;
    let log = |number: u32| format!("[[connection]]\nmerchant = \"m\"\nslug = \"log-{number}\"\nprovider = \"log\"\n");
    let setup = "[[merchant]]\nslug = \"m\"\nname = \"M\"\n".to_owned() + &(0..200).map(log).collect::<String>();
    binary.write("setup.toml", &setup);
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    // Sessions tell what they did when they have nothing to do for ten seconds, at the latest.
    let transactions = async || {
        let sql = format!("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'");
        server.govern(&sql).await.unwrap()[0][0].as_ref().unwrap().parse::<u64>().unwrap()
    };
    tokio::time::sleep(WATCHED).await;
    let before = transactions().await;
    tokio::time::sleep(WATCHED).await;
    let per_s = (transactions().await - before) as f64 / WATCHED.as_secs_f64();
    println!("{per_s:.1} transactions a second");
    assert!(per_s < 20.0, "{per_s:.1} transactions a second");
    binary.signal("-TERM");
}
