//! `doctor`, by the real binary.

use std::os::unix::fs::PermissionsExt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    binary::Binary,
    commands::{cafe, post},
    nats_server::{Nats, Sync},
    oauth,
    world::{World, setup, until},
};

/// The page with what differs from machine to machine and from run to run taken out.
fn masked(page: &str) -> String {
    let mut plain = String::new();
    for line in page.lines() {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let number = |word: &str| word.parse::<f64>().is_ok();
        let shown = words.iter().enumerate().map(|(at, word)| {
            let next = words.get(at + 1).map_or("", |next| next.trim_end_matches([',', ';']));
            if at > 0 && matches!(words[at - 1], "Uzel" | "SQLite") {
                word.replace(|sign: char| sign.is_ascii_digit(), "0")
            } else if number(word) && matches!(next, "MiB" | "MB" | "files" | "s") {
                "N".to_owned()
            } else {
                (*word).to_owned()
            }
        });
        plain += &shown.collect::<Vec<_>>().join(" ");
        plain.push('\n');
    }
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_well_says_so_of_every_part() {
    let (binary, _sandbox) = cafe().await;
    let looked = binary.uzel(&["doctor", "--strict"]);
    assert_eq!(looked.code, 0, "{}{}", looked.out, looked.err);
    assert!(looked.out.lines().all(|line| line.chars().count() <= 80), "{}", looked.out);
    insta::assert_snapshot!(masked(&looked.out), @r"
    ok    program     Uzel 0.0.0; a hub of it runs here
    ok    settings    no file; defaults and variables
    ok    folder      uzel-data, N MiB free on its disk
    ok    key         uzel-data/master.key, mode 600
    ok    key         uzel-data/owner.key, mode 600
    ok    files       the hub may open N files
    ok    store       SQLite 0.00.0, schema 15 of 15, N MB; it can be written
    ok    setup       merchants 2, connections 4, flows 1
    ok    work        unread 0, waiting 0, being sent 0; the oldest has waited N s
    All is well.
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_well_is_told_with_what_to_do_and_the_exit_status_says_so() {
    let (mut binary, _sandbox) = cafe().await;
    post(&binary, "rkeeper", "{\"no\": \"order\"").await;
    until("the request to be given up", async || binary.asked(&["counts"]).to_string().contains("[\"dead\",1]")).await;
    let warned = binary.uzel(&["doctor"]);
    assert_eq!(warned.code, 0, "{}", warned.out);
    assert!(warned.out.contains("-> uzel journal list --status dead"), "{}", warned.out);
    assert_eq!(binary.uzel(&["doctor", "--strict"]).code, 2);

    let key = binary.path().join("uzel-data/master.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let failed = binary.uzel(&["doctor", "--json"]);
    assert_eq!(failed.code, 1, "{}", failed.out);
    let answer = failed.json();
    assert_eq!(answer["worst"], "fail");
    let finding = answer["findings"].as_array().unwrap().iter().find(|finding| finding["verdict"] == "fail").unwrap();
    assert_eq!(finding["advice"], "chmod 600 uzel-data/master.key");

    // Without a hub it looks by itself; a wrong key is told and nothing more is looked at.
    binary.signal("-TERM");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let alone = binary.uzel(&["doctor"]);
    assert!(alone.code == 0 && alone.out.contains("no hub runs in uzel-data"), "{}{}", alone.out, alone.err);
    std::fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let wrong = binary.uzel(&["doctor"]);
    assert!(wrong.code == 1 && wrong.out.contains("the master key is not the one"), "{}{}", wrong.out, wrong.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_start_there_is_little_to_find_and_nothing_is_made() {
    let binary = Binary::new(&[]);
    let looked = binary.uzel(&["doctor", "--json"]);
    assert_eq!((looked.code, &looked.json()["worst"]), (0, &Value::from("warn")), "{}", looked.err);
    assert!(!binary.path().join("uzel-data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_asked_only_where_that_is_wanted() {
    let (binary, sandbox) = cafe().await;
    let calls = async || {
        let url = format!("{}/_sandbox/smsru/calls", sandbox.url());
        binary.web.get(url).send().await.unwrap().json::<Vec<Value>>().await.unwrap().len()
    };
    let before = calls().await;
    binary.asked(&["doctor"]);
    assert_eq!(calls().await, before);
    let asked = binary.uzel(&["doctor", "--calls"]);
    assert!(asked.out.contains("cafe/texts (smsru)"), "{}", asked.out);
    assert!(calls().await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_on_a_server_tells_of_its_nodes_and_its_clock_and_one_that_is_away_fails() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let mut binary = Binary::new(&[("UZEL_DATABASE", &url)]);
    binary.serve(&[]).await;
    let looked = binary.uzel(&["doctor"]);
    assert_eq!(looked.code, 0, "{}{}", looked.out, looked.err);
    assert!(looked.out.contains("PostgreSQL") && looked.out.contains("nodes at work 1"), "{}", looked.out);
    assert!(looked.out.contains("ms from the database's"), "{}", looked.out);
    binary.signal("-TERM");
    binary.set("UZEL_DATABASE", "postgres://u:hidden-word@127.0.0.1:1/d");
    let failed = binary.uzel(&["doctor"]);
    assert!(failed.code == 1 && failed.out.contains("fail  hub"), "{}{}", failed.out, failed.err);
    assert!(!failed.out.contains("hidden-word"), "{}", failed.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_under_a_hub_is_told_by_it_and_nats_is_looked_at_all_the_same() {
    let server = uzel_servers::Postgres::start().unwrap();
    let nats = Nats::start(Sync::Default);
    let mut binary = Binary::new(&[("UZEL_DATABASE", &server.url()), ("UZEL_NATS", &nats.url())]);
    binary.serve(&[]).await;
    until("all to be well", async || binary.uzel(&["doctor"]).code == 0).await;
    server.stop(uzel_servers::Stop::Immediate).unwrap();
    let looked = binary.uzel(&["doctor", "--json"]);
    let answer = looked.json();
    let verdict = |about: &str| {
        let list = answer["findings"].as_array().unwrap();
        list.iter().find(|finding| finding["about"] == about).map(|finding| finding["verdict"].as_str().unwrap())
    };
    let verdicts = ["program", "store", "nats", "work"].map(verdict);
    assert_eq!((looked.code, verdicts), (1, [Some("ok"), Some("fail"), Some("ok"), Some("fail")]), "{answer}");
    server.start_again().unwrap();
    until("all to be well again", async || binary.uzel(&["doctor"]).code == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_that_lets_nobody_in_is_told_from_one_that_is_away() {
    let nats = Nats::with(Sync::Default, "authorization { token: \"right-word\" }");
    let url = nats.url().replace("nats://", "nats://wr0ng-word@");
    let mut binary = Binary::new(&[("UZEL_NATS", &url)]);
    binary.serve(&[]).await;
    let failed = binary.uzel(&["doctor"]);
    let words = failed.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(failed.code == 1 && words.contains("authorization violation"), "{}", failed.out);
    assert!(words.contains("not those that the server wants") && !words.contains("wr0ng-word"), "{}", failed.out);
    until("the log to say so", async || binary.log().contains("authorization violation: user, password, token")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_that_is_away_is_told_and_nothing_hangs() {
    let mut binary = Binary::new(&[("UZEL_NATS", "nats://u:hidden-word@127.0.0.1:1")]);
    binary.serve(&[]).await;
    let failed = binary.uzel(&["doctor"]);
    let words = failed.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(failed.code == 1 && words.contains("127.0.0.1:1: IO error: Connection refused"), "{}{}", failed.out, failed.err);
    assert!(!failed.out.contains("hidden-word"), "{}", failed.out);
}

/// What the hub finds of its amoCRM connection: the verdict, and the words behind its name.
async fn of_amocrm(world: &World) -> (String, String) {
    let found = world.api("/api/v1/doctor").await;
    let list = found["findings"].as_array().unwrap().iter();
    let mut told = list.filter(|finding| finding["found"].as_str().unwrap().contains("(amocrm): "));
    let (finding, None) = (told.next().expect("a finding"), told.next()) else { panic!("{found}") };
    let words = finding["found"].as_str().unwrap().split_once("(amocrm): ").unwrap().1;
    (finding["verdict"].as_str().unwrap().to_owned(), words.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_token_is_told_before_it_comes() {
    let world = World::new(json!({})).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    let now_s = world.clock.now().as_second();
    for (days, verdict, words) in [(400, "ok", "ends on"), (10, "warn", "ends on"), (-1, "fail", "ended on")] {
        let end_s = now_s + days * 86_400 + 60;
        let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({ "exp": end_s }).to_string());
        let settings = &mut setup["connection"][3]["settings"];
        settings["long_lived_token"] = json!(format!("head.{claims}.hidden-word"));
        world.apply(&setup).await;
        let (found, said) = of_amocrm(&world).await;
        let end = jiff::Timestamp::from_second(end_s).unwrap();
        assert_eq!((found.as_str(), said), (verdict, format!("the token in its settings {words} {end}")), "{days}");
    }
    // A token that says nothing of itself is no fault.
    setup["connection"][3]["settings"]["long_lived_token"] = json!("opaque");
    world.apply(&setup).await;
    let all = world.api("/api/v1/doctor").await.to_string();
    assert!(!all.contains("the token in its settings") && !all.contains("hidden-word"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_ends_soon_is_told_of() {
    let world = World::new(json!({})).await;
    let told = async || {
        let found = world.api("/api/v1/doctor").await;
        let findings = found["findings"].as_array().unwrap().clone();
        findings.into_iter().filter(|finding| finding["about"] == "key").collect::<Vec<Value>>()
    };
    let in_days = |days: i64| (world.clock.now() + jiff::SignedDuration::from_hours(24 * days)).to_string();
    for days in [10, 100] {
        let key = json!({ "merchant": "m", "role": "till", "expires_at": in_days(days) });
        assert_eq!(world.ask("/api/v1/keys", &key).await.0, 201);
    }
    let soon = told().await;
    assert_eq!((soon.len(), &soon[0]["verdict"]), (1, &json!("warn")), "{soon:?}");
    assert!(soon[0]["found"].as_str().unwrap().contains("(till) ends on"), "{soon:?}");
    world.pass(11 * 24 * 60);
    let ended = told().await;
    assert!(ended[0]["found"].as_str().unwrap().contains("(till) has ended on"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_renewed_is_told_before_it_dies() {
    let world = oauth::authorized().await;
    assert_eq!(of_amocrm(&world).await, ("ok".to_owned(), "its login was made or renewed 0 days ago".to_owned()));
    world.control("amocrm/faults", &json!({ "kind": "status", "status": 503, "for_ms": 600_000 })).await;
    world.pass(61 * 24 * 60);
    let said = |days: u32| format!("its login was made or renewed {days} days ago, and lasts 90");
    assert_eq!(of_amocrm(&world).await, ("warn".to_owned(), said(61)));
    world.pass(30 * 24 * 60);
    assert_eq!(of_amocrm(&world).await, ("fail".to_owned(), said(91)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_is_told_with_its_version_and_its_stream_and_when_it_stops_that_is_told() {
    let nats = Nats::start(Sync::Default);
    let mut binary = Binary::new(&[("UZEL_NATS", &nats.url())]);
    binary.serve(&[]).await;
    let look = || {
        let looked = binary.uzel(&["doctor", "--json"]);
        let answer = looked.json();
        let about = answer["findings"].as_array().unwrap().iter().find(|finding| finding["about"] == "nats").unwrap();
        (looked.code, about["verdict"].as_str().unwrap().to_owned(), about["found"].as_str().unwrap().to_owned())
    };
    // The hub makes the stream a moment after its start.
    until("the stream to be there", async || look().0 == 0).await;
    let (_, verdict, found) = look();
    let told = found.strip_prefix(&nats.url()).unwrap();
    let (version, stream) = told.strip_prefix(": NATS ").unwrap().split_once(' ').unwrap();
    assert_eq!((verdict.as_str(), stream), ("ok", "answers; stream UZEL holds 0 messages"));
    assert!(version.split('.').count() == 3 && version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
    nats.kill();
    let (code, verdict, found) = look();
    assert!(code == 1 && verdict == "fail" && found.contains("Connection refused"), "{code} {verdict} {found}");
}
