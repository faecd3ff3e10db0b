//! The commands as a new user runs them, by the real binary.

use serde_json::{Value, json};
use uzel_sandbox::Sandbox;

use crate::{
    binary::Binary,
    world::{KEY, anywhere, until},
};

/// A café with a till and SMS.ru, whose texts go at once.
pub(crate) fn setup(sandbox: &str) -> String {
    format!(
        r#"
[[merchant]]
slug = "cafe"
name = "Кафе"

[[connection]]
merchant = "cafe"
slug = "till"
provider = "rkeeper"
webhook_keys = ["{KEY}"]

[[connection]]
merchant = "cafe"
slug = "salon"
provider = "yclients"
webhook_keys = ["{KEY}"]

[[connection]]
merchant = "cafe"
slug = "texts"
provider = "smsru"
settings = {{ api_id = "${{THE_KEY}}", base_url = "{sandbox}/smsru" }}

[[flow]]
merchant = "cafe"
slug = "review"
on = ["order.completed"]
ground = "service"
ground_by = "the owner"
via = "texts"
text = "{{{{ name }}}}, thank you"
"#
    )
}

pub(crate) async fn cafe() -> (Binary, Sandbox) {
    let sandbox = Sandbox::start(anywhere()).await.unwrap();
    let mut binary = Binary::new(&[("THE_KEY", "A1B2C3D4-1111-2222-3333-444455556666")]);
    binary.write("setup.toml", &setup(&sandbox.url()));
    binary.serve(&[]).await;
    assert_eq!(binary.uzel(&["apply", "setup.toml"]).code, 0);
    (binary, sandbox)
}

pub(crate) async fn post(binary: &Binary, provider: &str, body: &str) {
    let url = format!("{}/api/webhook/{provider}?key={KEY}", binary.url());
    let request = binary.web.post(url).header("content-type", "application/json").body(body.to_owned());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

fn order(id: u32) -> String {
    json!({ "order": { "id": id, "number": id, "status": "Выполнен", "customer": { "phone": format!("+7999888{id:04}"), "name": "Мария" } } })
        .to_string()
}

async fn settled(binary: &Binary, done: u64) {
    until("the texts", async || {
        let counts = binary.asked(&["counts"]);
        let state = |part: &str, state: &str| {
            counts[part].as_array().unwrap().iter().find(|pair| pair[0] == state).map_or(0, |pair| pair[1].as_u64().unwrap())
        };
        state("entries", "unread") == 0 && state("commands", "done") == done
    })
    .await;
}

/// The id of the newest row of this direction.
fn newest(binary: &Binary, direction: &str) -> String {
    let rows = binary.asked(&["journal", "list"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["direction"] == direction).expect("a row");
    row["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_may_be_applied_before_the_first_start_and_again_without_effect() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    for server in [None, Some(&*url)] {
        may_be_applied_before_the_first_start(server).await;
    }
}

/// On SQLite, or on this server.
async fn may_be_applied_before_the_first_start(server: Option<&str>) {
    let sandbox = Sandbox::start(anywhere()).await.unwrap();
    let mut binary = Binary::new(&[("THE_KEY", "A1B2C3D4-1111-2222-3333-444455556666")]);
    if let Some(url) = server {
        binary.set("UZEL_DATABASE", url);
    }
    binary.write("setup.toml", &setup(&sandbox.url()));

    // Only a look: nothing is made.
    for look in [&["apply", "setup.toml", "--dry-run"][..], &["flows", "check", "setup.toml"]] {
        let ran = binary.uzel(look);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("+ flow") && ran.out.contains("nothing was changed"), "{}", ran.out);
        assert!(!binary.path().join("uzel-data").exists());
        let steps = binary.uzel(&["migrate", "--json"]).json();
        assert!(steps.as_array().unwrap().iter().all(|step| step["applied"] == false), "{steps}");
    }
    let first = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    assert!(
        first.out.lines().filter(|line| line.starts_with('+')).count() == 5 && first.out.ends_with("applied\n"),
        "{}",
        first.out
    );
    let connections = binary.asked(&["connections", "list"]);
    assert_eq!(connections.as_array().unwrap().len(), 3);

    binary.serve(&[]).await;
    assert_eq!(binary.asked(&["connections", "list"]), connections, "the start adds nothing to what is set up");
    let second = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(second.code, 0);
    assert!(second.out.lines().all(|line| line.starts_with('=') || line == "applied"), "{}", second.out);
    let look = binary.asked(&["apply", "setup.toml", "--dry-run"]);
    assert!(look["differences"].as_array().unwrap().iter().all(|difference| difference["what"] == "same"), "{look}");

    let changed = setup(&sandbox.url()).replace("thank you", "thank you very much");
    binary.write("setup.toml", &changed);
    let look = binary.uzel(&["apply", "setup.toml", "--dry-run"]);
    assert!(look.out.contains("~ flow") && look.out.contains("text"), "{}", look.out);
    post(&binary, "rkeeper", &order(1)).await;
    settled(&binary, 1).await;
    assert!(
        binary.uzel(&["journal", "show", &newest(&binary, "IN")]).out.contains("Мария, thank you”"),
        "a look changes nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_file_are_all_told_at_once_and_nothing_is_made() {
    let binary = Binary::new(&[]);
    let faulty = setup("http://127.0.0.1:1").replace("Кафе\"", "Кафе\"\ncountry = \"Russia\"").replace("rkeeper", "rkiper");
    binary.write("setup.toml", &faulty);
    let ran = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("THE_KEY"), "the variable that is not set: {}", ran.out);
    let ran = Binary::new(&[("THE_KEY", "A1B2C3D4-1111-2222-3333-444455556666")]);
    ran.write("setup.toml", &faulty);
    let ran = ran.uzel(&["apply", "setup.toml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("setup.toml:5:1") && ran.out.contains("country"), "{}", ran.out);
    assert!(ran.out.contains("`rkiper` is not known"), "{}", ran.out);
    assert!(!binary.path().join("uzel-data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_listed_by_each_filter() {
    let (binary, _sandbox) = cafe().await;
    post(&binary, "rkeeper", &order(1)).await;
    settled(&binary, 1).await;
    // By the hub's own words for time, a moment between the two.
    let between = jiff::Timestamp::now().to_string();
    post(&binary, "rkeeper", &order(2)).await;
    post(&binary, "yclients", "{ no json").await;
    settled(&binary, 2).await;
    until("the dead letter", async || binary.asked(&["journal", "list", "--status", "dead"]) != json!([])).await;

    let count = |filter: &[&str]| binary.asked(&[&["journal", "list"], filter].concat()).as_array().unwrap().len();
    for (filter, rows) in [
        (&[][..], 5),
        (&["--merchant", "cafe"], 5),
        (&["--provider", "rkeeper"], 2),
        (&["--provider", "smsru"], 2),
        (&["--phone", "8 999 888-00-01"], 2),
        // The order, and the text that followed from it.
        (&["--order", "2"], 2),
        (&["--status", "error"], 1),
        (&["--status", "dead"], 1),
        (&["--status", "read"], 2),
        (&["--status", "duplicate"], 0),
        (&["--status", "ok"], 4),
        (&["--from", &between], 3),
        (&["--to", &between], 2),
        (&["--from", "2026-01-01"], 5),
        (&["--to", "2026-01-01"], 0),
        (&["--from", &between, "--provider", "rkeeper"], 1),
        (&["--limit", "3"], 3),
    ] {
        assert_eq!(count(filter), rows, "{filter:?}");
    }
    let all = binary.asked(&["journal", "list"]);
    let third = all[2]["id"].as_str().unwrap();
    let older = binary.asked(&["journal", "list", "--before", third]);
    assert!(
        older.as_array().unwrap().iter().all(|row| row["at"].as_str() <= all[2]["at"].as_str() && row["id"] != third),
        "{older}"
    );
    assert!(!older.as_array().unwrap().is_empty());

    for wrong in [&["--merchant", "nobody"][..], &["--phone", "x"], &["--from", "yesterday"], &["--before", "inb_1"]] {
        let ran = binary.uzel(&[&["journal", "list"], wrong].concat());
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{wrong:?}");
        assert!(ran.err.starts_with("uzel: "), "{}", ran.err);
        assert!(!ran.err.contains('"') && !ran.err.contains("null"), "words, not debug text: {}", ran.err);
    }
    let page = binary.uzel(&["journal", "list"]).out;
    assert!(page.lines().count() == 6 && page.starts_with("ID "), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_id_of_the_journal_shows_the_timeline_that_it_belongs_to() {
    let (binary, _sandbox) = cafe().await;
    post(&binary, "rkeeper", &order(1)).await;
    settled(&binary, 1).await;
    let (entry, attempt) = (newest(&binary, "IN"), newest(&binary, "OUT"));
    let timeline = binary.asked(&["journal", "show", &entry]);
    let (event, command) = (timeline["events"][0]["id"].as_str().unwrap(), timeline["commands"][0]["id"].as_str().unwrap());
    assert!(attempt.starts_with("att_"));
    for id in [&attempt[..], event, command] {
        assert_eq!(binary.asked(&["journal", "show", id]), timeline, "{id}");
    }
    let page = binary.uzel(&["journal", "show", &attempt]).out;
    for part in [&entry[..], "verdict   read", "order.completed", "Мария", "/sms/send", "\"status_code\":100", "on_the_way"]
    {
        assert!(page.contains(part), "{part} is missing: {page}");
    }
    assert!(!page.contains("79998880001") && !page.contains("A1B2C3D4"), "{page}");
    assert!(page.contains("=Мария, thank you"), "the form is readable: {page}");
    assert!(timeline["commands"][0]["exchanges"][0]["request"].as_str().unwrap().contains("%D0%9C"), "programs get it as it was");
    assert!(binary.uzel(&["journal", "show", &entry, "--unmasked"]).out.contains("79998880001"));
    for wrong in
        ["att_00000000000000000000000000", "inb_00000000000000000000000000", "cmd_00000000000000000000000000", "nonsense"]
    {
        let ran = binary.uzel(&["journal", "show", wrong]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_tells_the_count_first_and_reads_again_when_told_to() {
    let (binary, _sandbox) = cafe().await;
    post(&binary, "yclients", "{ no json").await;
    post(&binary, "rkeeper", "{ no json").await;
    post(&binary, "rkeeper", &order(1)).await;
    settled(&binary, 1).await;
    let asked = binary.uzel(&["replay", "--dead", "--provider", "rkeeper"]);
    assert_eq!((asked.code, asked.out.as_str()), (0, "1 dead letters would be read again; say --yes to do it\n"));
    let asked = binary.uzel(&["replay", "--dead", "--to", "2020-01-01T00:00:00Z"]);
    assert!(asked.out.starts_with("0 dead letters"), "{}", asked.out);
    let done = binary.uzel(&["replay", "--dead", "--yes"]);
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.out.contains("still dead: ") && done.out.ends_with("\n0 read again, 2 still dead\n"), "{}", done.out);
    assert_eq!(binary.uzel(&["replay", "--dead", "--yes", "--json"]).code, 1, "programs are told by the code, too");
    let none = binary.uzel(&["replay", "--dead", "--yes", "--to", "2020-01-01"]);
    assert_eq!((none.code, none.out.as_str()), (0, "0 read again\n"), "{}", none.err);
    let one = binary.uzel(&["replay", &newest(&binary, "IN")]);
    assert!(one.code == 0 && one.out.contains("0 new events, 1 known before, 0 commands queued"), "{}{}", one.out, one.err);
    assert_eq!(binary.uzel(&["replay"]).code, 1);
    assert_eq!(binary.uzel(&["replay", "inb_1", "--dead"]).code, 2, "one or all, not both");
}

/// Breaks the store's laws in a database that no hub has open.
fn damage(binary: &Binary) {
    let db = rusqlite::Connection::open(binary.database()).unwrap();
    db.execute_batch(
        "INSERT INTO slot VALUES (x'01', 1, x'00000000000000000000000000000001');
         INSERT INTO reference VALUES (x'00000000000000000000000000000001', 'nothing', x'00000000000000000000000000000002');
         UPDATE event SET pending = 1;
         UPDATE command SET state = 0, connection = x'00000000000000000000000000000003';",
    )
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fsck_finds_what_is_broken_and_mends_what_it_can() {
    let (mut binary, _sandbox) = cafe().await;
    post(&binary, "rkeeper", &order(1)).await;
    settled(&binary, 1).await;
    let clean = binary.uzel(&["fsck"]);
    assert_eq!((clean.code, clean.out.as_str()), (0, "all laws of the store hold\n"));
    binary.signal("-TERM");
    damage(&binary);
    let found = binary.uzel(&["fsck"]);
    assert_eq!(found.code, 1, "{}", found.out);
    for law in ["no connection", "slots", "references"] {
        assert!(
            found.out.lines().any(|line| line.contains(law) && line.ends_with("(can be mended by --repair)")),
            "{law}: {}",
            found.out
        );
    }
    assert_eq!(binary.uzel(&["fsck"]).out, found.out, "a look mends nothing");
    let mended = binary.uzel(&["fsck", "--repair"]);
    assert!(mended.code == 0 && mended.out.lines().all(|line| line.ends_with("(mended)")), "{}", mended.out);
    // What is mended may show what else is broken; in the end all laws hold, and the hub starts.
    until("all laws to hold", async || binary.uzel(&["fsck", "--repair"]).out == "all laws of the store hold\n").await;
    assert_eq!(binary.asked(&["counts"])["commands"], json!([["dead", 1]]), "nobody could ever have sent it, and that is said");
    binary.serve(&[]).await;
    assert_eq!(binary.uzel(&["fsck"]).code, 0);

    // An event without its entry is for a person to judge.
    binary.signal("-TERM");
    rusqlite::Connection::open(binary.database()).unwrap().execute("DELETE FROM inbox", []).unwrap();
    let found = binary.uzel(&["fsck", "--repair"]);
    assert!(found.code == 1 && found.out.contains("(a person must look)"), "{}", found.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_notices_and_consents_are_told_for_people_and_for_programs() {
    let (binary, sandbox) = cafe().await;
    assert_eq!(binary.asked(&["notices"]), json!([]));
    let consent = ["consent", "--merchant", "cafe", "8 (999) 888-00-02", "--revoke", "--proof", "told us at the desk"];
    assert_eq!(binary.uzel(&["notices"]).out, "nothing needs a person's look\n");
    let words = binary.uzel(&consent).out;
    assert!(words.starts_with("recorded: +7999***0002 wants no messages"), "{words}");
    let recorded = binary.asked(&consent);
    assert!(recorded["granted"] == false && !recorded.to_string().contains("9998880002"), "{recorded}");
    let fault = json!({ "kind": "token_expiry" });
    binary.web.put(format!("{}/_sandbox/smsru/faults", sandbox.url())).json(&fault).send().await.unwrap();
    post(&binary, "rkeeper", &order(1)).await;
    until("the notice", async || binary.asked(&["notices"]) != json!([])).await;
    let notices = binary.uzel(&["notices"]).out;
    assert!(notices.starts_with("con_") && notices.contains("SMS.ru"), "{notices}");
    post(&binary, "rkeeper", &order(2)).await;
    until("the opt-out", async || binary.asked(&["counts"])["held"] == json!([["opt_out", 1]])).await;
    let counts = binary.uzel(&["counts"]).out;
    for line in ["entries   read                2", "commands  waiting             1", "held      opt_out             1"] {
        assert!(counts.lines().any(|known| known == line), "{line}: {counts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_told_in_words_and_as_json_to_programs() {
    let (binary, _sandbox) = cafe().await;
    let list = binary.uzel(&["connections", "list"]).out;
    let words: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ID", "MERCHANT", "CONNECTION", "PROVIDER", "HOOK"]);
    assert!(words.iter().any(|line| line[1..4] == ["cafe", "till", "rkeeper"]), "{list}");

    for (command, part) in [
        (&["balance", "texts"][..], "left at the provider: "),
        (&["cost", "texts", "--to", "+79998880001", "--text", "Hello"], "RUB for 1 message; nothing was sent"),
        (&["subscribe", "texts", "--url", "https://hub.example/hook"], "our webhook is registered"),
    ] {
        let command = [&["connections"], command].concat();
        let told = binary.uzel(&command);
        assert!(told.code == 0 && told.out.contains(part) && !told.out.contains(['{', '"']), "{}{}", told.out, told.err);
        assert!(binary.asked(&command).is_object());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_flow_by_command_line_causes_nothing() {
    let (binary, _sandbox) = cafe().await;
    binary.write("body.json", &order(7));
    let ran = binary.asked(&["flows", "dry-run", "--connection", "till", "--body", "body.json"]);
    assert_eq!(ran["events"][0]["commands"][0]["job"]["text"], "Мария, thank you");
    assert_eq!(ran["events"][0]["event"]["phone"]["e164"], "+7999***0007");
    assert!(!ran.to_string().contains("9998880007"), "{ran}");
    assert_eq!(
        (binary.asked(&["counts"]), binary.asked(&["journal", "list"])),
        (json!({ "entries": [], "commands": [], "held": [] }), json!([]))
    );
    assert_eq!(binary.uzel(&["flows", "dry-run", "--connection", "nobody", "--body", "body.json"]).code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_end_with_a_code_that_scripts_can_use() {
    let binary = Binary::new(&[]);
    for (arguments, code) in [
        (&["counts"][..], 1),
        (&["journal", "list"], 1),
        (&["no-such-command"], 2),
        (&["apply"], 2),
        (&["apply", "no-such-file.toml"], 1),
        (&["providers", "schema", "nobody"], 1),
        (&["providers", "list"], 0),
        (&["completion", "bash"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let ran = binary.uzel(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}{}", ran.out, ran.err);
        assert_eq!(ran.out.is_empty(), code != 0, "what went wrong is told on the other stream: {arguments:?}");
    }
    let schema: Value = binary.uzel(&["providers", "schema", "smsru"]).json();
    assert_eq!(schema["properties"]["api_id"]["writeOnly"], true);
    // One folder, one hub.
    let mut first = Binary::new(&[]);
    first.serve(&[]).await;
    let second = first.uzel(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(second.code == 1 && second.err.contains("another hub works in"), "{}", second.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_can_be_sent_by_hand_and_goes_once_under_its_key() {
    let (binary, sandbox) = cafe().await;
    let send = |to: &str| {
        binary.uzel(&["send", "--merchant", "cafe", "--via", "texts", "--to", to, "--text", "Ready", "--key", "k", "--json"])
    };
    let first = send("8 999 111-00-01");
    assert_eq!((first.code, &first.json()["state"]), (0, &json!("waiting")), "{}", first.err);
    assert_eq!(send("8 999 111-00-01").json()["id"], first.json()["id"]);
    let other = send("8 999 111-00-02");
    assert!(other.code == 1 && other.err.contains("was used for another request"), "{}", other.err);
    let accepted = format!("{}/_sandbox/smsru/accepted", sandbox.url());
    let texts = async || binary.web.get(&accepted).send().await.unwrap().json::<Vec<Value>>().await.unwrap().len();
    until("the text to go", async || texts().await == 1).await;
}
