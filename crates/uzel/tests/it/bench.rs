//! The benchmarks themselves: what they measure is for people, that they work and judge is tested.

use std::process::Command;

use serde_json::Value;

fn uzel() -> Command {
    Command::new(env!("CARGO_BIN_EXE_uzel"))
}

/// A run that is as short as can be.
fn bench(arguments: &[&str]) -> Value {
    let out = uzel().arg("bench").args(arguments).arg("--json").output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn intake_is_measured_beside_the_ceiling_and_all_that_was_answered_is_journalled() {
    let told = bench(&["intake", "--seconds", "1", "--connections", "8"]);
    assert!(told["answered_2xx"].as_u64().unwrap() > 0 && told["journalled"].as_u64() >= told["answered_2xx"].as_u64());
    for part in ["one_connection", "all_connections", "open_loop_at_70_percent_of_the_hub"] {
        for whose in ["ceiling", "hub"] {
            assert!(told[part][whose]["per_s"].as_f64().unwrap() > 0.0, "{part}: {told}");
            assert_eq!(told[part][whose]["refused"], 0, "{part}: {told}");
        }
        assert!(told[part]["hub_to_ceiling"]["per_s"].as_f64().unwrap() > 0.0, "{part}: {told}");
    }
}

#[test]
fn delivery_is_measured_from_the_webhook_to_the_provider() {
    let told = bench(&["delivery", "--events", "300", "--seconds", "1", "--connections", "8"]);
    assert_eq!(told["events"], 300);
    for figure in ["delivered_per_s", "bare_per_s", "hub_to_bare"] {
        assert!(told[figure].as_f64().unwrap() > 0.0, "{told}");
    }
    assert!(told["open_loop_at_70_percent"]["end_to_end_p99_ms"].as_f64().unwrap() > 0.0, "{told}");
}

#[test]
fn an_expiry_is_booked_for_everybody_while_others_buy() {
    let told = bench(&["expiry", "--customers", "100", "--seconds", "1", "--connections", "8"]);
    assert!(
        told["wallets_per_s"].as_f64().unwrap() > 0.0 && told["quotes_meanwhile"]["p99_ms"].as_f64().unwrap() > 0.0,
        "{told}"
    );
}

#[test]
fn torture_kills_and_finds_nothing_lost() {
    let told = bench(&["torture", "--kills", "3", "--events", "1500", "--connections", "8", "--seed", "7"]);
    assert_eq!((&told["seed"], &told["kills"], &told["fsck"]), (&7.into(), &3.into(), &"clean".into()));
    assert!(told["verdict"]["answered_2xx"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["verdict"]["sent_twice"], 0);
}

#[test]
fn a_backlog_waits_and_survives_a_kill() {
    let told = bench(&["backlog", "--events", "500", "--connections", "8"]);
    assert_eq!((&told["waiting"], told["events_per_s_by_part"].as_array().unwrap().len()), (&500.into(), 10));
    assert!(told["start_to_first_2xx_ms"].as_f64().unwrap() > 0.0, "{told}");
}

#[test]
fn several_nodes_on_postgresql_are_measured_beside_pgbench() {
    let on = ["--store", "postgres", "--nodes", "2", "--seconds", "1", "--connections", "8"];
    let told = bench(&[&["intake"], &on[..]].concat());
    assert_eq!((&told["store"], &told["nodes"]), (&"postgres".into(), &2.into()));
    assert!(told["journalled"].as_u64() >= told["answered_2xx"].as_u64(), "{told}");
    assert!(told["all_connections"]["hub_to_ceiling"]["per_s"].as_f64().unwrap() > 0.0, "{told}");
    let told = bench(&[&["delivery", "--events", "200"], &on[..]].concat());
    assert!(told["events"] == 200 && told["hub_to_pgbench"].as_f64().unwrap() > 0.0, "{told}");
}

#[test]
fn a_backlog_waits_on_postgresql_too() {
    let told = bench(&["backlog", "--store", "postgres", "--events", "300", "--connections", "8"]);
    assert_eq!((&told["waiting"], &told["store"]), (&300.into(), &"postgres".into()));
}

/// A journal of four months is generated, looked at, and used again.
fn journal(store: &str, folder: &std::path::Path) {
    // Where a server's own user may come.
    let keep = folder.join("journal");
    let arguments = ["journal", "--store", store, "--rows", "20000", "--seconds", "2", "--connections", "8", "--keep"];
    let arguments = [&arguments[..], &[keep.to_str().unwrap()]].concat();
    let told = bench(&arguments);
    assert_eq!((&told["store"], &told["waiting"]), (&store.into(), &200.into()), "{told}");
    assert!(told["entries"].as_u64().unwrap() > 20_000, "{told}");
    for figure in
        [&told["look_up"]["phone"], &told["look_up"]["order"], &told["look_up"]["provider_id"], &told["newest_page"]["all"]]
    {
        assert!(figure["p99_ms"].as_f64().unwrap() > 0.0, "{told}");
    }
    assert!(told["accept"]["forgotten_meanwhile"].as_u64().unwrap() > 0, "{told}");
    let again = bench(&arguments);
    assert!(again["generated_s"].is_null() && again["entries"].as_u64().unwrap() > 10_000, "{again}");
    let out = uzel()
        .args(["bench", "journal", "--store", store, "--rows", "30000", "--keep", keep.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("--rows 20000"));
}

#[test]
fn a_journal_of_many_months_is_generated_measured_and_used_again() {
    journal("sqlite", tempfile::tempdir().unwrap().path());
}

#[test]
fn a_journal_of_many_months_is_generated_measured_and_used_again_on_postgresql() {
    let folder = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    journal("postgres", folder.path());
}

#[test]
fn a_hub_that_knows_an_earlier_runs_orders_is_given_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let port = uzel_servers::free_port().unwrap();
    let address = format!("127.0.0.1:{port}");
    let mut hub = uzel()
        .current_dir(folder.path())
        .args(["serve", "--listen", &address])
        .env("UZEL_ALLOW_NETWORKS", "127.0.0.0/8")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let file = folder.path().join("uzel-data/owner.key");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::net::TcpStream::connect(&address).is_err() || !file.exists() {
        assert!(std::time::Instant::now() < deadline, "the hub does not answer");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let key = std::fs::read_to_string(file).unwrap();
    for _ in 0..2 {
        let hub = ["--hub", &address, "--key", key.trim(), "--events", "50", "--seconds", "1", "--connections", "4"];
        let told = bench(&[&["delivery"], &hub[..]].concat());
        assert_eq!(told["events"], 50, "{told}");
    }
    hub.kill().unwrap();
    hub.wait().unwrap();
}

#[test]
fn quotes_and_commits_are_measured_of_one_merchant_and_of_many() {
    let run = ["loyalty", "--seconds", "1", "--connections", "8", "--customers", "1000", "--merchants", "10"];
    let told = bench(&run);
    for merchants in ["one_merchant", "many_merchants"] {
        for call in ["quote", "commit"] {
            assert!(told[merchants][call]["hub_to_ceiling"]["per_s"].as_f64().unwrap() > 0.0, "{told}");
        }
    }
}

#[test]
fn tills_sell_while_the_hub_is_killed_and_no_point_is_lost_or_made() {
    let told = bench(&["purchases", "--kills", "3", "--orders", "600", "--seed", "7"]);
    assert_eq!((&told["kills"], &told["fsck"]), (&3.into(), &"clean".into()));
    assert!(told["commits"].as_u64().unwrap() > 0, "{told}");
}

#[test]
fn tills_sell_while_nodes_on_postgresql_are_killed_and_no_point_is_lost_or_made() {
    let told = bench(&["purchases", "--store", "postgres", "--nodes", "3", "--kills", "3", "--orders", "300", "--seed", "7"]);
    assert_eq!((&told["nodes"], &told["fsck"]), (&3.into(), &"clean".into()));
    assert!(told["commits"].as_u64().unwrap() > 0, "{told}");
}
