//! The program is killed, the disk is full, the file is torn.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    hub::{Hub, Mood},
    world::{Bridge, commit, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_under_load_nothing_is_lost_and_nothing_is_done_twice() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "commit_timeout_ms = 1000").await;
    let promised: Arc<Mutex<HashSet<String>>> = Arc::default();
    let numbers = Arc::new(AtomicUsize::new(0));
    for round in 0..8 {
        // The line comes and goes as well.
        match round % 4 {
            0 => hub.mood(Mood::Lost),
            1 => hub.mood(Mood::Well),
            2 => hub.stop().await,
            _ => {
                hub.mood(Mood::Slow(Duration::from_millis(30)));
                hub.listen().await;
            }
        }
        let mut tills = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (web, url, promised, numbers) = (bridge.web.clone(), bridge.url(), promised.clone(), numbers.clone());
            tills.spawn(async move {
                loop {
                    let order = format!("O-{}", numbers.fetch_add(1, Ordering::SeqCst));
                    let asked = web.post(format!("{url}/commit")).body(commit(&order).to_string()).send();
                    let Ok(answer) = asked.await else { return };
                    if matches!(answer.status().as_u16(), 201 | 202) {
                        promised.lock().insert(order);
                    }
                }
            });
        }
        let before = promised.lock().len();
        until("tills to be promised something", async || promised.lock().len() > before + 10 + round * 3).await;
        bridge.kill();
        while tills.join_next().await.is_some() {}
        bridge.start().await;
    }
    hub.mood(Mood::Well);
    bridge.drained().await;
    let state = hub.state.lock();
    for order in promised.lock().iter() {
        assert!(state.committed.contains_key(order), "{order} was promised and is lost");
    }
    assert!(state.committed.values().all(|times| *times == 1), "something was done twice");
    let log = bridge.log();
    assert!(!log.contains("cannot be read"), "{log}");
    println!("{} commits promised, {} calls", promised.lock().len(), state.seen.len());
}

#[tokio::test]
async fn a_file_cut_at_any_place_keeps_what_was_whole() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    let mut ends = vec![std::fs::metadata(bridge.queue_file()).unwrap().len()];
    for order in ["O-1", "O-2", "O-3"] {
        assert_eq!(bridge.post("/commit", &commit(order)).await.0, 202);
        ends.push(std::fs::metadata(bridge.queue_file()).unwrap().len());
    }
    bridge.kill();
    let whole = std::fs::read(bridge.queue_file()).unwrap();
    for cut in [ends[2] + 1, ends[2] + 30, ends[3] - 1] {
        std::fs::write(bridge.queue_file(), &whole[..usize::try_from(cut).unwrap()]).unwrap();
        let listed = bridge.run(&["queue", "list", "--json"]);
        let items = serde_json::from_str::<Value>(&listed.out).unwrap()["items"].clone();
        assert_eq!(items.as_array().unwrap().len(), 2, "cut at {cut}: {items}");
    }
    // A byte of a line that was whole is another matter.
    let mut content = whole.clone();
    content[usize::try_from(ends[1]).unwrap() + 60] ^= 1;
    std::fs::write(bridge.queue_file(), &content).unwrap();
    hub.listen().await;
    bridge.start().await;
    let troubled = bridge.troubled(1).await;
    assert!(troubled[0]["reason"].as_str().unwrap().contains("cannot be read"), "{troubled:?}");
    until("the other two to be sent", async || hub.state.lock().committed.len() == 2).await;
    bridge.restart().await;
    assert_eq!(bridge.get("/queue/status").await["person"], 1, "it stays until a person has seen it");
    assert_eq!(bridge.run(&["queue", "drop", "damage"]).code, 0);
    bridge.restart().await;
    assert_eq!(bridge.get("/queue/status").await["person"], 0);
}

#[tokio::test]
async fn another_key_or_none_opens_no_queue_and_spoils_none() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202);
    bridge.kill();
    let (file, key) = (bridge.path().join("bridge.key"), std::fs::read(bridge.path().join("bridge.key")).unwrap());
    let content = std::fs::read(bridge.queue_file()).unwrap();
    assert!(!String::from_utf8_lossy(&content).contains("O-1"), "what is kept is sealed");
    std::fs::remove_file(&file).unwrap();
    let ran = bridge.run(&["run"]);
    assert!(ran.code == 1 && ran.err.contains("is gone"), "{ran:?}");
    std::fs::write(&file, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let ran = bridge.run(&["run"]);
    assert!(ran.code == 1 && ran.err.contains("not the key that sealed it"), "{ran:?}");
    std::fs::write(&file, "what?").unwrap();
    assert_eq!(bridge.run(&["run"]).code, 1);
    assert_eq!(std::fs::read(bridge.queue_file()).unwrap(), content);
    std::fs::write(&file, key).unwrap();
    hub.listen().await;
    bridge.start().await;
    bridge.drained().await;
    assert_eq!(hub.state.lock().committed["O-1"], 1);
}

/// The limit on the size of files stands for a full disk: a write ends half-way.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_is_told_to_the_till_and_what_was_kept_before_is_safe() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::new(&hub, "");
    // In blocks of 512 bytes; without the signal, writing beyond is an error.
    bridge.start_within("trap '' XFSZ; ulimit -f 8").await;
    hub.stop().await;
    let (mut kept, mut refused) = (0, 0);
    for number in 0..12 {
        let mut sale = commit(&format!("O-{number}"));
        if number == 2 {
            // It does not fit, and what was written of it must not lie behind the shorter one that does.
            sale["provider"] = json!("p".repeat(4_000));
        }
        match bridge.post("/commit", &sale).await {
            (202, _) => kept += 1,
            (503, answer) => {
                refused += 1;
                assert!(answer["message"].as_str().unwrap().contains("Nothing was kept"), "{answer}");
            }
            other => panic!("{other:?}"),
        }
        if number == 3 {
            bridge.kill();
            bridge.start_within("trap '' XFSZ; ulimit -f 8").await;
            assert_eq!(bridge.get("/queue/status").await["person"], 0);
        }
    }
    assert!(kept >= 3 && refused >= 1, "{kept} kept, {refused} refused");
    bridge.kill();
    bridge.start().await;
    assert_eq!(bridge.get("/queue/status").await["waiting"], kept);
    hub.listen().await;
    bridge.drained().await;
    let committed = hub.state.lock().committed.clone();
    assert_eq!(committed.len(), kept);
    assert!(committed.values().all(|times| *times == 1));
    assert_eq!(bridge.get("/queue/status").await["person"], json!(0));
}

#[tokio::test]
async fn a_queue_that_has_seen_much_does_not_grow_for_ever() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "").await;
    for round in 0..3 {
        hub.stop().await;
        for number in 0..40 {
            let mut sale = commit(&format!("O-{round}-{number}"));
            sale["provider"] = json!("p".repeat(4_000));
            assert_eq!(bridge.post("/commit", &sale).await.0, 202);
        }
        hub.listen().await;
        bridge.drained().await;
        bridge.restart().await;
        assert!(std::fs::metadata(bridge.queue_file()).unwrap().len() < 1_000);
    }
}
