//! The benchmarks themselves: what they measure is for people, that they work and judge is tested.

use std::process::Command;

use serde_json::Value;

/// A run that is as short as can be.
fn bench(arguments: &[&str]) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_uzel")).arg("bench").args(arguments).arg("--json").output().unwrap();
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
