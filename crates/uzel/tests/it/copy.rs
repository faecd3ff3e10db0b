//! `copy`, by the real binary: a business moves to a server and back, and nothing of it is lost or done twice.

use std::path::Path;

use serde_json::{Value, json};
use uzel::hub::{Hub, Parts};
use uzel_model::Secret;

use crate::{
    binary::{Binary, Ran},
    commands::{cafe, post},
    logins,
    world::{World, setup, until},
};

async fn database() -> String {
    uzel_servers::Postgres::shared().unwrap().database().await.unwrap()
}

fn copy(from: &str, to: &str, more: &[&str]) -> Ran {
    Binary::new(&[]).uzel(&[&["copy", "--from", from, "--to", to], more].concat())
}

/// A copy that must come out equal.
fn copied(from: &str, to: &str) -> Value {
    let ran = copy(from, to, &["--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("From now on nothing may change at the source"), "{}", ran.err);
    let report = ran.json();
    assert_eq!((&report["report"]["equal"], &report["report"]["found"]), (&json!(true), &json!([])), "{report}");
    report
}

/// Runs SQL of a test's own on a server.
async fn govern(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn served(id: u32, status: &str) -> Value {
    json!({ "order": { "id": id, "status": status, "customer": { "phone": format!("+7999111{id:04}"), "name": "Иван" } } })
}

async fn ask(world: &World, key: &str) -> Value {
    let url = format!("{}/api/v1/commands", world.hub.url());
    let text = json!({ "merchant": "m", "via": "smsru", "to": "+79992220001", "text": "Ваш заказ готов", "ground": "service" });
    let request = world.web.post(url).bearer_auth(world.hub.owner_key().unwrap()).header("Idempotency-Key", key).json(&text);
    request.send().await.unwrap().json().await.unwrap()
}

async fn consent(world: &World, phone: &str, granted: bool) {
    let record = json!({ "merchant": "m", "phone": phone, "granted": granted, "proof": "a form" });
    assert!(world.ask("/api/v1/consents", &record).await.0 < 300);
}

async fn read(world: &World) {
    until("everything to be read", async || {
        let counts = world.api("/api/v1/counts").await;
        counts["entries"].as_array().unwrap().iter().all(|pair| pair[0] != "unread" || pair[1] == 0)
    })
    .await;
}

/// A hub on SQLite with all kinds of things in it.
async fn lived_in() -> World {
    let world = World::bare(Parts::default(), |settings| settings.database = None).await;
    let mut setup = setup(&world.sandbox.url(), &json!({ "delay": "1h", "once_in_days": 14 }));
    setup["connection"][0]["settings"] =
        json!({ "base_url": format!("{}/iiko", world.sandbox.url()), "api_login": "login-of-the-cafe", "calls_per_s": 1_000 });
    world.apply(&setup).await;
    // A text that went, and one of which nobody knows.
    world.post("rkeeper", &served(1, "Выполнен")).await;
    read(&world).await;
    world.pass(61);
    world.quiet().await;
    world.post("rkeeper", &served(7, "Выполнен")).await;
    read(&world).await;
    world.control("smsru/faults", &json!([{ "kind": "cut_after", "path": "/sms/send" }])).await;
    world.pass(61);
    until("the text of unknown fate", async || world.commands("unknown").await == 1).await;
    // A login, and a look-up whose text waits.
    world.control("iiko/orders", &json!([logins::order(1, &json!("+79993330001"))])).await;
    world.post("iiko", &logins::told(1..2)).await;
    until("the look-up", async || world.commands("done").await == 2).await;
    // A dead letter with a sign that PostgreSQL takes in no text, a stranger, and a repeat.
    let bad = world.web.post(format!("{}/api/webhook/rkeeper?key={}&x=%00", world.hub.url(), crate::world::KEY));
    assert_eq!(bad.header("content-type", "application/json").body("{\"no\u{0}\": ").send().await.unwrap().status(), 200);
    let stranger = world.web.post(format!("{}/api/webhook/rkeeper?key=wrong", world.hub.url())).json(&json!({}));
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    world.post("rkeeper", &served(1, "Выполнен")).await;
    // What was agreed to, and what was not.
    consent(&world, "+79994440001", true).await;
    consent(&world, "+79991110002", false).await;
    world.post("rkeeper", &served(2, "Выполнен")).await;
    // What was asked for under a key.
    ask(&world, "the-key").await;
    until("the asked text", async || world.commands("done").await == 3).await;
    // What is called off, and what waits.
    world.post("rkeeper", &served(3, "Выполнен")).await;
    world.post("rkeeper", &served(3, "Отменен")).await;
    world.post("rkeeper", &served(4, "Выполнен")).await;
    read(&world).await;
    until("what waits", async || world.commands("held").await >= 1).await;
    world
}

/// All that the API tells of what a hub holds; of the journal only what was there `before`, since a hub goes on.
async fn told(world: &World, before: Option<&Value>) -> Value {
    let mut journal = world.api("/api/v1/journal?limit=1000").await;
    if let Some(before) = before {
        let ids: Vec<&Value> = before["journal"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
        journal.as_array_mut().unwrap().retain(|row| ids.contains(&&row["id"]));
    }
    let mut timelines = Vec::new();
    for row in journal.as_array().unwrap() {
        timelines.push(world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await);
    }
    let mut all = json!({ "journal": journal, "timelines": timelines });
    for path in
        ["counts", "notices", "providers/rkeeper/refusals?unmasked=true", "journal?phone=%2B79991110001", "journal?status=dead"]
    {
        all[path] = world.api(&format!("/api/v1/{path}")).await;
    }
    let mut links = world.api("/api/v1/connections").await;
    links.as_array_mut().unwrap().iter_mut().for_each(|link| drop(link.as_object_mut().unwrap().remove("last_webhook_at")));
    all["connections"] = links;
    all
}

fn moment_ms(value: &Value) -> Option<i64> {
    value.as_str()?.parse().ok().map(|at: jiff::Timestamp| at.as_millisecond())
}

/// Like `assert_eq`, but says only what differs.
fn same(one: &Value, other: &Value, place: &str) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.len() == other.len() => {
            one.iter().for_each(|(name, value)| same(value, other.get(name).unwrap_or(&Value::Null), &format!("{place}/{name}")));
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).enumerate().for_each(|(at, (one, other))| same(one, other, &format!("{place}/{at}")));
        }
        // SQLite keeps times to the millisecond.
        // A hub goes on asking for the fate of what it sent; the sums of the copy tell that it came along.
        _ if place.ends_with("/delivery") && one == "on_the_way" || place.ends_with("/delivery_code") => {}
        _ if moment_ms(one).is_some() => assert_eq!(moment_ms(one), moment_ms(other), "at {place}"),
        _ => assert_eq!(one, other, "at {place}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_business_moves_to_a_server_and_back_and_nothing_is_lost_or_done_twice() {
    let world = lived_in().await;
    let url = database().await;
    let before = told(&world, None).await;
    let asked = ask(&world, "the-key").await;
    let sent = world.texts().await.len();
    let old = world.data();

    let world = world
        .moved(
            |settings| settings.database = Some(Secret::new(&*url)),
            async |data| {
                let report = copied(&format!("sqlite://{}", text(data)), &url);
                assert!(report["report"]["rows"].as_u64().unwrap() > 50, "{report}");
            },
        )
        .await;
    same(&before, &told(&world, Some(&before)).await, "");
    // A known order is a duplicate, a known key its command, and known people are known.
    world.post("rkeeper", &served(1, "Выполнен")).await;
    assert_eq!(ask(&world, "the-key").await["id"], asked["id"]);
    read(&world).await;
    assert_eq!(world.newest("rkeeper").await["state"], "duplicate");
    // The login came along: another look-up needs no new one.
    let (tokens, done) = (world.shown("iiko/summary").await["tokens"].clone(), world.commands("done").await);
    world.control("iiko/orders", &json!([logins::order(2, &json!("+79993330002"))])).await;
    world.post("iiko", &logins::told(2..3)).await;
    until("the look-up", async || world.commands("done").await == done + 1).await;
    assert_eq!(world.shown("iiko/summary").await["tokens"], tokens);
    // What waited goes once; what was called off, or not wanted, does not.
    world.post("rkeeper", &served(5, "Выполнен")).await;
    read(&world).await;
    world.pass(61);
    world.quiet().await;
    let mut phones: Vec<String> = world.texts().await.into_iter().skip(sent).map(|(phone, _)| phone).collect();
    phones.sort();
    assert_eq!(phones, ["79991110004", "79991110005", "79993330001", "79993330002"]);
    world.post("rkeeper", &served(6, "Выполнен")).await;
    read(&world).await;
    assert_eq!(world.ask("/api/v1/fsck", &json!({})).await.1, json!({ "found": [] }));

    // And back, with what was done there.
    let before = told(&world, None).await;
    let sent = world.texts().await.len();
    let new = old.with_file_name("back");
    let world = world
        .moved(
            |settings| (settings.database, settings.data) = (None, new.clone()),
            async |_| {
                let ran = copy(&url, text(&new), &[]);
                assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
                assert!(ran.out.contains("master.key is missing") && !ran.out.contains("NOT"), "{}", ran.out);
                for key in ["master.key", "owner.key"] {
                    std::fs::copy(old.join(key), new.join(key)).unwrap();
                }
            },
        )
        .await;
    same(&before, &told(&world, Some(&before)).await, "");
    world.post("rkeeper", &served(5, "Выполнен")).await;
    read(&world).await;
    assert_eq!(world.newest("rkeeper").await["state"], "duplicate");
    world.pass(61);
    world.quiet().await;
    assert_eq!(world.texts().await.len(), sent + 1);
    assert_eq!(world.ask("/api/v1/fsck", &json!({})).await.1, json!({ "found": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_there_and_back_gives_the_same_answers() {
    let world = lived_in().await;
    let url = database().await;
    let before = told(&world, None).await;
    let new = world.data().with_file_name("back");
    let world = world
        .moved(
            |settings| settings.data.clone_from(&new),
            async |data| {
                let there = copied(text(&data.join("uzel.db")), &url);
                let back = copied(&url, &format!("sqlite://{}", text(&new)));
                assert_eq!(there["report"], back["report"], "also every sum is the same");
                for key in ["master.key", "owner.key"] {
                    std::fs::copy(data.join(key), new.join(key)).unwrap();
                }
            },
        )
        .await;
    same(&before, &told(&world, Some(&before)).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_the_master_key_does_not_start_on_what_was_copied() {
    let world = lived_in().await;
    let url = database().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let world = world.moved(|_| {}, async |data| drop(copied(text(data), &url))).await;
    let mut settings = world.beside();
    settings.database = Some(Secret::new(&*url));
    (settings.data, settings.master_key_file) = (elsewhere.path().join("data"), None);
    let error = format!("{:#}", Hub::start(&settings, Parts::default()).await.err().unwrap());
    assert!(error.contains("without the key that sealed them the stored secrets cannot be opened"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_copied_while_a_hub_works_or_over_what_is_there() {
    let (mut binary, _sandbox) = cafe().await;
    post(&binary, "rkeeper", &json!({ "order": { "id": 1, "status": "Completed" } }).to_string()).await;
    let url = database().await;
    let data = binary.path().join("uzel-data");
    let busy = binary.uzel(&["copy", "--to", &url]);
    assert!(busy.code == 1 && busy.err.contains("another hub works in"), "{}", busy.err);
    assert!(busy.err.contains("rows are copied: about 1 s"), "{}", busy.err);
    binary.signal("-TERM");
    binary.set("UZEL_DATABASE", &url);
    // The end that is not named is the one that the settings name.
    let first = binary.uzel(&["copy", "--from", text(&data)]);
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    assert!(first.out.contains("Start no hub on the old one any more"), "{}", first.out);
    let password = url.split(':').nth(2).unwrap().split('@').next().unwrap();
    assert!(password.is_empty() || !format!("{}{}", first.out, first.err).contains(password));

    let full = binary.uzel(&["copy", "--from", text(&data)]);
    assert!(full.code == 1 && full.err.contains("it is not empty") && full.err.contains("setup 7"), "{}", full.err);
    let full = binary.uzel(&["copy", "--from", text(&data), "--again"]);
    assert!(full.code == 1 && full.err.contains("it is not empty"), "{}", full.err);

    binary.serve(&[]).await;
    let busy = copy(&url, text(&binary.path().join("new")), &[]);
    assert!(busy.code == 1 && busy.err.contains("hubs work on it"), "{}", busy.err);
    assert!(!binary.path().join("new/uzel.db").exists());
    binary.signal("-TERM");
    for (from, to, why) in [
        (text(&data), "elsewhere", "both are SQLite"),
        (&*url, &*url, "both are PostgreSQL"),
        ("nowhere", &*url, "no hub in nowhere"),
        ("mysql://x", &*url, "name a data folder"),
    ] {
        let refused = copy(from, to, &[]);
        assert!(refused.code != 0 && refused.err.contains(why), "{why}: {}", refused.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_broken_off_is_never_worked_on_and_can_be_made_again() {
    let (mut binary, _sandbox) = cafe().await;
    for id in 0..5 {
        let order = json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } });
        post(&binary, "rkeeper", &order.to_string()).await;
    }
    until("the texts", async || binary.asked(&["counts"]).to_string().contains("[\"done\",5]")).await;
    binary.signal("-TERM");
    let data = binary.path().join("uzel-data");
    let url = database().await;
    binary.set("UZEL_DATABASE", &url);
    assert_eq!(binary.uzel(&["migrate", "--apply"]).code, 0);
    govern(
        &url,
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the disk is full'; END $$;
         CREATE TRIGGER stop BEFORE INSERT ON exchange FOR EACH ROW EXECUTE FUNCTION stop();",
    )
    .await;
    let broken = copy(text(&data), &url, &[]);
    assert!(broken.code == 1 && broken.err.contains("the target:") && broken.err.contains("the disk is full"), "{}", broken.err);
    let never = |ran: Ran| assert!(ran.code == 1 && ran.err.contains("it is half of a copy"), "{}", ran.err);
    never(binary.uzel(&["serve"]));
    never(binary.uzel(&["counts"]));
    never(copy(text(&data), &url, &[]));
    never(copy(&url, text(&binary.path().join("new")), &[]));

    // Nor is one that did not come out equal.
    govern(
        &url,
        "DROP TRIGGER stop ON exchange;
         CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.answer := NEW.answer || '!'; RETURN NEW; END $$;
         CREATE TRIGGER spoil BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION spoil();",
    )
    .await;
    let spoilt = copy(text(&data), &url, &["--again", "--json"]);
    assert_eq!(spoilt.code, 1, "{}", spoilt.err);
    assert!(spoilt.err.contains("the target does not hold what the source holds"), "{}", spoilt.err);
    let unequal = |ran: &Ran| -> Vec<Value> {
        let tables = ran.json()["report"]["tables"].as_array().unwrap().clone();
        tables.into_iter().filter(|table| table["equal"] == false).map(|table| table["table"].clone()).collect()
    };
    assert_eq!(unequal(&spoilt), [json!("inbox")]);
    never(binary.uzel(&["serve"]));

    govern(&url, "DROP TRIGGER spoil ON inbox").await;
    let whole = copy(text(&data), &url, &["--again", "--json"]);
    assert_eq!((whole.code, unequal(&whole)), (0, vec![]), "{}", whole.err);
    binary.serve(&[]).await;
    assert_eq!(binary.asked(&["journal", "list", "--status", "read"]).as_array().unwrap().len(), 5);
    assert_eq!(binary.uzel(&["fsck"]).code, 0);
    binary.signal("-TERM");

    // The same the other way round.
    let back = binary.path().join("back");
    assert_eq!(copy(&url, text(&back), &["--json"]).code, 0);
    std::fs::copy(data.join("master.key"), back.join("master.key")).unwrap();
    rusqlite::Connection::open(back.join("uzel.db"))
        .unwrap()
        .execute("INSERT INTO claim VALUES ('copy', CAST('begun' AS BLOB))", [])
        .unwrap();
    never(Binary::new(&[]).uzel(&["counts", "--data", text(&back)]));
    never(copy(&url, text(&back), &[]));
    let whole = copy(&url, text(&back), &["--again", "--json"]);
    assert_eq!((whole.code, unequal(&whole)), (0, vec![]), "{}", whole.err);
}
