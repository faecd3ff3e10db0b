//! A hub without any SMS key: texts go to the journal, the log says so, and nobody's phone stands in it.

use crate::{
    binary::Binary,
    world::{KEY, until},
};

const SETUP: &str = r#"
[[merchant]]
slug = "cafe"
name = "Кафе"

[[connection]]
merchant = "cafe"
slug = "till"
provider = "rkeeper"
webhook_keys = ["test-key-of-twenty-four-characters"]

[[connection]]
merchant = "cafe"
slug = "texts"
provider = "log"

[[flow]]
merchant = "cafe"
slug = "review"
on = ["order.completed"]
ground = "service"
ground_by = "the owner"
via = "texts"
text = "{{ name }}, thank you for coming"
"#;

const BODY: &str = r#"{"order":{"id":1,"status":"Выполнен","customer":{"phone":"+79991234567","name":"Мария"}}}"#;

async fn told(binary: &Binary) {
    binary.write("setup.toml", SETUP);
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    let url = format!("{}/api/webhook/rkeeper?key={KEY}", binary.url());
    assert_eq!(binary.web.post(url).body(BODY).send().await.unwrap().status(), 200);
    until("the line in the log", async || binary.log().contains("journal.id")).await;
}

/// The value of a field of the log, as it is printed.
fn field(log: &str, name: &str) -> String {
    let (_, after) = log.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {log}"));
    after.split_whitespace().next().unwrap().trim_matches('"').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_text_goes_to_the_journal_and_the_log_says_where() {
    let mut binary = Binary::new(&[]);
    binary.serve(&[]).await;
    until("the warning at the start", async || binary.log().contains("no SMS key is set")).await;
    told(&binary).await;
    let log = binary.log();
    assert!(log.contains("no messages are sent"), "{log}");
    assert!(!log.contains('\u{1b}'), "no colours where nobody sees them: {log}");
    for secret in ["79991234567", "9991234567", "Мария", "thank you", KEY] {
        assert!(!log.contains(secret), "{secret} stands in the log: {log}");
    }
    assert!(field(&log, "to").starts_with("+7999") && field(&log, "to").contains('*'), "{log}");
    let id = field(&log, "journal.id");
    until("the text to be settled", async || binary.asked(&["counts"])["commands"][0][0] == "done").await;
    let shown = binary.uzel(&["journal", "show", &id]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.contains("Мария, thank you for coming") && shown.out.contains("dev_logged"), "{}", shown.out);
    let listed = binary.asked(&["journal", "list"]);
    assert_eq!((&listed[0]["id"], &listed[0]["direction"]), (&serde_json::json!(id), &serde_json::json!("OUT")));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_development_the_text_is_printed_and_only_on_loopback() {
    let mut binary = Binary::new(&[]);
    for (arguments, variable) in
        [(&["serve", "--dev", "--listen", "0.0.0.0:0"][..], "false"), (&["serve", "--listen", "0.0.0.0:0"], "true")]
    {
        let refused = Binary::new(&[("UZEL_DEV", variable)]).uzel(arguments);
        assert_eq!(refused.code, 1, "{arguments:?}");
        assert!(refused.err.contains("loopback"), "{}", refused.err);
    }
    binary.serve(&["--dev"]).await;
    told(&binary).await;
    let log = binary.log();
    assert!(log.contains("Мария, thank you for coming") && log.contains("NOT sent"), "{log}");
    assert!(!log.contains("79991234567"), "the phone stays masked: {log}");
    assert!(field(&log, "journal.id").starts_with("att_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requirements_own_variables_make_a_connection_that_sends() {
    let mut binary = Binary::new(&[("SMSRU_API_KEY", "key-of-the-account"), ("SMSRU_SENDER", "Kofeynya")]);
    binary.serve(&[]).await;
    let connections = binary.asked(&["connections", "list"]);
    assert_eq!((&connections[0]["provider"], &connections[0]["slug"]), (&serde_json::json!("smsru"), &serde_json::json!("sms")));
    assert!(!binary.log().contains("no SMS key"), "{}", binary.log());
    assert!(!(binary.log() + &connections.to_string()).contains("key-of-the-account"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stays_after_its_variable_is_gone_is_told_at_each_start_until_it_is_changed() {
    const TOLD: &str = "SMSRU_API_KEY is not set, but connection default/sms still holds a key";
    let mut binary = Binary::new(&[("SMSRU_API_KEY", "key-of-the-account")]);
    binary.serve(&[]).await;
    binary.signal("-TERM");
    assert!(!binary.log().contains(TOLD), "{}", binary.log());
    binary.unset("SMSRU_API_KEY");
    for starts in 1..3 {
        binary.serve(&[]).await;
        assert_eq!(binary.log().matches(TOLD).count(), starts, "{}", binary.log());
        if starts < 2 {
            binary.signal("-TERM");
        }
    }
    assert!(!binary.log().contains("key-of-the-account"));
    // As the line says.
    binary.write("setup.toml", "[[connection]]\nmerchant = \"default\"\nslug = \"sms\"\nprovider = \"log\"\n");
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    binary.signal("-TERM");
    binary.serve(&[]).await;
    assert_eq!(binary.log().matches(TOLD).count(), 2, "{}", binary.log());
}
