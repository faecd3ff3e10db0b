//! `backup`, `restore` and `migrate`, by the real binary.

use serde_json::{Value, json};

use crate::{
    binary::Binary,
    commands::{cafe, post},
    world::until,
};

fn order(id: u32) -> String {
    json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } }).to_string()
}

async fn settled(binary: &Binary) {
    until("everything to be sent", async || {
        let counts = binary.asked(&["counts"]);
        let open = ["waiting", "sending"].map(|state| json!(state));
        let none = |part: &str, states: &[Value]| {
            counts[part].as_array().unwrap().iter().all(|pair| pair[1] == 0 || !states.contains(&pair[0]))
        };
        none("entries", &[json!("unread")]) && none("commands", &open)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_taken_under_load_is_whole_and_a_hub_starts_on_it() {
    let (mut binary, _sandbox) = cafe().await;
    for id in 0..20 {
        post(&binary, "rkeeper", &order(id)).await;
    }
    settled(&binary).await;
    // Webhooks come while the copy is taken.
    let load = async {
        for id in 20..60 {
            post(&binary, "rkeeper", &order(id)).await;
        }
    };
    let copied = async { tokio::task::block_in_place(|| binary.asked(&["backup", "copy.db"])) };
    let ((), copied) = tokio::join!(load, copied);
    assert!(copied["holds"]["entries"].as_u64().unwrap() >= 20, "{copied}");
    assert!(!binary.path().join("copy.db.part").exists());

    let again = binary.uzel(&["backup", "copy.db"]);
    assert!(again.code == 1 && again.err.contains("is there already"), "{}", again.err);
    let busy = binary.uzel(&["restore", "copy.db"]);
    assert!(busy.code == 1 && busy.err.contains("another hub works in"), "{}", busy.err);

    settled(&binary).await;
    binary.signal("-TERM");
    let key = binary.path().join("uzel-data/master.key");
    let kept_key = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let restored = binary.uzel(&["restore", "copy.db"]);
    assert_eq!(restored.code, 0, "{}", restored.err);
    assert!(restored.out.contains("Put the master key back"), "{}", restored.out);
    let mut files = std::fs::read_dir(binary.path().join("uzel-data")).unwrap().map(|file| file.unwrap().file_name());
    assert!(files.any(|name| name.to_string_lossy().starts_with("uzel.db.before-")), "what was there is kept");

    std::fs::write(&key, kept_key).unwrap();
    binary.serve(&[]).await;
    settled(&binary).await;
    assert_eq!(binary.uzel(&["fsck"]).code, 0);
    let held = binary.asked(&["journal", "list", "--status", "read", "--limit", "200"]).as_array().unwrap().len();
    assert_eq!(copied["holds"]["entries"], held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_hub_holds_what_the_copy_held_and_goes_on() {
    let (mut binary, sandbox) = cafe().await;
    for id in 0..3 {
        post(&binary, "rkeeper", &order(id)).await;
    }
    settled(&binary).await;
    let told = binary.uzel(&["backup", "copy.db"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.contains("3 entries, 3 events, 3 commands (0 still to go out)"), "{}", told.out);
    assert!(told.out.contains("The master key is not in it"), "{}", told.out);
    post(&binary, "rkeeper", &order(9)).await;
    settled(&binary).await;
    binary.signal("-TERM");

    assert_eq!(binary.asked(&["restore", "copy.db"])["holds"]["entries"], 3);
    binary.serve(&[]).await;
    assert_eq!(binary.asked(&["journal", "list", "--status", "read"]).as_array().unwrap().len(), 3);
    assert_eq!(binary.uzel(&["fsck"]).code, 0);
    // What it did before the copy it knows; what came after it does not.
    post(&binary, "rkeeper", &order(1)).await;
    settled(&binary).await;
    let sent = binary.web.get(format!("{}/_sandbox/smsru/accepted", sandbox.url())).send().await.unwrap();
    assert_eq!(sent.json::<Vec<Value>>().await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_copy_is_refused_and_changes_nothing() {
    let (mut binary, _sandbox) = cafe().await;
    binary.signal("-TERM");
    let before = std::fs::read(binary.database()).unwrap();
    binary.write("no.db", "this is no database at all, whatever its name says");
    std::fs::write(binary.path().join("half.db"), &before[..before.len() / 2]).unwrap();
    for file in ["no.db", "half.db", "nowhere.db"] {
        let refused = binary.uzel(&["restore", file]);
        assert_eq!(refused.code, 1, "{file}: {}", refused.out);
        assert!(refused.err.contains(file), "{}", refused.err);
        assert!(std::fs::read(binary.database()).unwrap() == before, "{file}");
        assert!(!binary.path().join("uzel-data/uzel.db.part").exists(), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_steps_of_the_schema_are_shown_and_applied_without_a_hub() {
    let binary = Binary::new(&[]);
    let shown = binary.uzel(&["migrate"]);
    assert_eq!(shown.code, 1);
    assert!(shown.out.contains("first") && shown.out.contains("missing"), "{}", shown.out);
    assert!(!binary.database().exists(), "a look makes nothing");
    let applied = binary.uzel(&["migrate", "--apply"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    assert!(applied.out.ends_with("The database is up to date.\n"), "{}", applied.out);
    assert!(binary.asked(&["migrate"]).as_array().unwrap().iter().all(|step| step["applied"] == true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_may_not_migrate_starts_only_where_no_step_is_missing_and_says_which() {
    let server = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    for variables in [&[("UZEL_MIGRATE", "false")][..], &[("UZEL_MIGRATE", "false"), ("UZEL_DATABASE", &server)]] {
        let mut binary = Binary::new(variables);
        let refused = binary.uzel(&["serve"]);
        assert_eq!(refused.code, 1, "{}", refused.out);
        let why = "the database lacks step 1 (first): run `uzel migrate --apply` first, or set `migrate = true`";
        assert!(refused.err.contains(why), "{}", refused.err);
        assert!(!binary.database().exists(), "nothing is made");
        assert_eq!(binary.uzel(&["migrate", "--apply"]).code, 0);
        binary.serve(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_server_are_shown_and_applied_and_no_password_is() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let binary = Binary::new(&[("UZEL_DATABASE", &url)]);
    let shown = binary.uzel(&["migrate"]);
    assert_eq!(shown.code, 1, "{}", shown.err);
    assert!(shown.out.contains("missing"), "{}", shown.out);
    let applied = binary.uzel(&["migrate", "--apply", "--json"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    assert!(applied.json().as_array().unwrap().iter().all(|step| step["applied_at"].is_string()), "{}", applied.out);
    let refused = binary.uzel(&["backup", "copy.db"]);
    assert!(refused.code == 1 && refused.err.contains("pg_dump"), "{}", refused.err);

    let nobody = Binary::new(&[("UZEL_DATABASE", "postgres://u:hidden-word@127.0.0.1:1/d")]);
    for command in ["migrate", "counts", "serve"] {
        let failed = nobody.uzel(&[command]);
        assert_eq!(failed.code, 1, "{command}");
        assert!(!failed.err.contains("hidden-word") && failed.err.contains("database"), "{command}: {}", failed.err);
    }
}
