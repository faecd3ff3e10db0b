//! The command line.

use serde_json::{Value, json};

use crate::{
    hub::{Hub, Mood},
    world::{Bridge, commit},
};

#[tokio::test]
async fn setup_writes_one_file_that_only_its_owner_reads_and_changes_what_it_is_told() {
    let hub = Hub::start().await;
    let bridge = Bridge::new(&hub, "");
    let file = bridge.path().join("bridge.toml");
    std::fs::remove_file(&file).unwrap();
    let ran = bridge.run(&["run"]);
    assert!(ran.code == 1 && ran.err.contains("setup"), "{ran:?}");
    let ran = bridge.run(&["setup", "--hub", &hub.url()]);
    assert!(ran.code == 1 && ran.err.contains("--merchant"), "{ran:?}");
    let ran = bridge.run(&["setup", "--hub", "http://hub.example", "--merchant", "M-1", "--secret", "brg_hidden"]);
    assert!(ran.code == 1 && ran.err.contains("https") && !ran.err.contains("hidden"), "{ran:?}");
    assert!(!file.exists());
    let whole = ["setup", "--hub", &hub.url(), "--merchant", "M-1", "--outlet", "O'1\"", "--secret", "brg_hidden", "--json"];
    let ran = bridge.run(&whole);
    assert_eq!(ran.code, 0, "{ran:?}");
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((told["secret"].clone(), told["staffKey"].clone()), (json!(true), json!(false)));
    assert!(!ran.out.contains("hidden"));
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
    let ran = bridge.run(&["setup", "--offline", "earn", "--language", "uz", "--staff-key", "stf", "--outlet", ""]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    for line in ["secret = \"brg_hidden\"", "staff_key = \"stf\"", "quotes = \"earn\"", "language = \"uz\"", "merchant = \"M-1\""]
    {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("outlet"), "{text}");
}

/// `script` gives the program a terminal.
#[cfg(unix)]
#[tokio::test]
async fn setup_asks_at_a_terminal() {
    use std::io::Write;
    let hub = Hub::start().await;
    let bridge = Bridge::new(&hub, "");
    std::fs::remove_file(bridge.path().join("bridge.toml")).unwrap();
    let asked = std::process::Command::new("script")
        .args(["-qec", &format!("{} setup", env!("CARGO_BIN_EXE_uzel-bridge")), "/dev/null"])
        .env("UZEL_BRIDGE", bridge.path())
        .current_dir(bridge.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut asked) = asked else {
        println!("no `script` on this machine: the questions were not asked");
        return;
    };
    let answers = format!("ru\n{}\ncafe\n\nbrg_typed\n\nearn\n", hub.url());
    asked.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let out = asked.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("Адрес узла") && said.contains("Без связи"), "{said}");
    let text = std::fs::read_to_string(bridge.path().join("bridge.toml")).unwrap();
    for line in ["merchant = \"cafe\"", "secret = \"brg_typed\"", "quotes = \"earn\""] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("outlet") && !text.contains("staff_key"), "{text}");
}

// The command asks the hub of this process while the test waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_is_wrong_and_says_what_to_do() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "").await;
    let checked = |bridge: &Bridge| {
        let ran = bridge.run(&["check", "--json"]);
        (ran.code, serde_json::from_str::<Value>(&ran.out).unwrap())
    };
    let bad = |found: &Value| -> Vec<String> {
        let lines = found["checks"].as_array().unwrap();
        lines.iter().filter(|line| line["ok"] == false).map(|line| line["what"].as_str().unwrap().to_owned()).collect()
    };
    let (code, found) = checked(&bridge);
    assert_eq!((code, bad(&found)), (0, vec![]), "{found}");
    assert_eq!(hub.state.lock().cancelled.len(), 1, "the hold of the test is let go");

    hub.state.lock().secret = "another".into();
    let (code, found) = checked(&bridge);
    assert_eq!((code, bad(&found)), (1, vec!["signed call".into()]), "{found}");
    hub.state.lock().secret = "brg_test_secret_0001".into();
    hub.state.lock().clock_offset_s = 4_000;
    assert_eq!(bad(&checked(&bridge).1), ["clock"]);
    hub.state.lock().clock_offset_s = 0;
    hub.mood(Mood::Page(200));
    assert_eq!(bad(&checked(&bridge).1), ["signed call"]);
    hub.mood(Mood::Well);

    hub.stop().await;
    assert_eq!(bridge.post("/commit", &json!({ "orderId": "O-1", "holdId": "gone" })).await.0, 202);
    assert_eq!(bad(&checked(&bridge).1), ["hub", "signed call"]);
    hub.listen().await;
    bridge.troubled(1).await;
    assert_eq!(bad(&checked(&bridge).1), ["queue"]);
    bridge.kill();
    assert_eq!(bad(&checked(&bridge).1), ["bridge", "queue"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let file = bridge.path().join("bridge.toml");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(bad(&checked(&bridge).1), ["settings", "bridge", "queue"]);
    }
}

#[tokio::test]
async fn two_bridges_do_not_work_in_one_folder() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    let ran = bridge.run(&["run"]);
    assert!(ran.code == 1 && ran.err.contains("another process works in"), "{ran:?}");
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 201);
}

#[tokio::test]
async fn the_list_reads_well() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    assert_eq!(bridge.run(&["queue", "list"]).out, "nothing waits\n");
    hub.stop().await;
    bridge.post("/commit", &json!({ "orderId": "O-1", "holdId": "gone" })).await;
    hub.listen().await;
    bridge.troubled(1).await;
    hub.stop().await;
    bridge.post("/refund", &json!({ "orderId": "O-1", "refundTotal": 5 })).await;
    let out = bridge.run(&["queue", "list"]).out;
    for words in ["Needs a person", "commit of order O-1", "Hold not found", "Waits for the line", "behind an earlier call"] {
        assert!(out.contains(words), "{out}");
    }
}
