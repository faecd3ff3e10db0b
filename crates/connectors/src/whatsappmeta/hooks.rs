//! Webhooks: entries of changes of messages and statuses, each level a list that may hold several.

use serde_json::{Map, Value, json};
use uzel_model::{
    Address, Happening, Malformed, Person, Reading, Refusal, Timestamp,
    connector::{Choice, StatusNews, Warning},
    event::kind,
    port::Delivery,
    signature,
};

use super::errors;
use crate::tree;

/// What is told of the account, and is for a person to read.
const OF_ACCOUNT: [&str; 5] =
    ["account_alerts", "account_review_update", "account_update", "phone_number_name_update", "phone_number_quality_update"];
/// Texts that end up in a notice are cut to this.
const SHOWN_CHARS: usize = 200;

/// Reads a webhook as the owner of this number.
pub(super) fn read(body: &Value, number_id: &str) -> Result<Reading, Malformed> {
    let Some(entries) = body["entry"].as_array() else { return Err(Malformed::new("`entry` is no list")) };
    let mut reading = Reading::default();
    for change in entries.iter().flat_map(|entry| items(&entry["changes"])) {
        read_change(change, number_id, &mut reading);
    }
    Ok(reading)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn read_change(change: &Value, number_id: &str, reading: &mut Reading) {
    let (field, value) = (change["field"].as_str().unwrap_or_default(), &change["value"]);
    match field {
        "messages" | "user_preferences" => {
            let number = tree::text(&value["metadata"]["phone_number_id"]);
            if number.as_deref().is_some_and(|number| number != number_id) {
                return reading.skip("it is about another number of the account");
            }
            items(&value["statuses"]).iter().for_each(|status| read_status(status, reading));
            items(&value["messages"]).iter().for_each(|message| read_message(message, items(&value["contacts"]), reading));
            items(&value["user_preferences"]).iter().for_each(|preference| read_preference(preference, reading));
            for error in items(&value["errors"]) {
                let text = format!("an error of the account: {}", errors::says(error));
                reading.skip(short(&text));
                reading.warnings.push(Warning { kind: "account".to_owned(), text: short(&text) });
            }
        }
        "message_template_status_update" => read_template(value, reading),
        _ if OF_ACCOUNT.contains(&field) => {
            let words = ["event", "alert_type", "alert_severity", "alert_info", "current_limit", "decision", "reason"];
            let told: Vec<String> = words.iter().filter_map(|word| told(word, &value[*word])).collect();
            let text = short(&format!("{field}: {}", told.join(", ")));
            reading.skip(format!("about the account, for people: {text}"));
            reading.warnings.push(Warning { kind: format!("account/{field}"), text });
        }
        _ => reading.skip(format!("«{}» is nothing that the hub follows", short(field))),
    }
}

fn told(word: &str, value: &Value) -> Option<String> {
    let value = tree::text(value).or_else(|| value.is_object().then(|| value.to_string()))?;
    Some(format!("{word} {value}"))
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// A moment as text or number: both come.
fn moment(value: &Value) -> Option<Timestamp> {
    tree::integer(value).and_then(|seconds| Timestamp::from_second(seconds).ok())
}

/// Digits with the country's code, without a plus.
fn phone(value: &Value) -> Option<String> {
    let digits = tree::text(value)?;
    let well = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    well.then(|| format!("+{digits}"))
}

fn read_status(status: &Value, reading: &mut Reading) {
    let word = tree::text(&status["status"]).unwrap_or_default();
    let state = match word.as_str() {
        "sent" => Delivery::OnTheWay,
        "delivered" => Delivery::Delivered,
        "read" | "played" => Delivery::Read,
        "failed" => Delivery::Failed,
        other => return reading.skip(format!("«{}» is no status that the hub knows", short(other))),
    };
    let Some(id) = tree::text(&status["id"]) else { return reading.skip("a status without the id of its message") };
    let failure = items(&status["errors"]).iter().find_map(errors::failure).filter(|_| state == Delivery::Failed);
    let code = failure.map_or(word, |(_, code)| code.to_string());
    let (at, key) = (moment(&status["timestamp"]), tree::text(&status["biz_opaque_callback_data"]));
    if let (Some((Refusal::OptOut, code)), Some(person)) = (failure, phone(&status["recipient_id"])) {
        let how = format!("WhatsApp refused a message: the person has stopped such messages ({code})");
        reading.choices.push(Choice { who: Address::Phone(person), wants: false, how, at });
    }
    let refusal = failure.map(|(refusal, _)| refusal);
    reading.statuses.push(StatusNews { at, key, refusal, ..StatusNews::new(id, state, code) });
}

fn read_preference(preference: &Value, reading: &mut Reading) {
    let wants = match preference["value"].as_str() {
        Some("stop") => false,
        Some("resume") => true,
        _ => return reading.skip("a preference that is neither stop nor resume"),
    };
    let Some(person) = phone(&preference["wa_id"]) else {
        return reading.skip("a preference of a person whose phone is not told");
    };
    let word = if wants { "resume" } else { "stop" };
    let about = tree::text(&preference["category"]).unwrap_or_else(|| "messages".to_owned());
    let how = format!("the person's own setting in WhatsApp: {word} ({})", short(&about));
    reading.choices.push(Choice { who: Address::Phone(person), wants, how, at: moment(&preference["timestamp"]) });
}

fn read_message(message: &Value, contacts: &[Value], reading: &mut Reading) {
    let Some(id) = tree::text(&message["id"]) else { return reading.skip("a message without an id") };
    let form = tree::text(&message["type"]).unwrap_or_else(|| "unknown".to_owned());
    match form.as_str() {
        "reaction" => return reading.skip("a reaction to a message"),
        "system" => {
            return reading.skip(format!("WhatsApp tells: {}", short(message["system"]["type"].as_str().unwrap_or("nothing"))));
        }
        _ => {}
    }
    if message.get("group_id").is_some_and(|group| !group.is_null()) {
        return reading.skip("a message in a group");
    }
    let (from, user) = (tree::text(&message["from"]), tree::text(&message["from_user_id"]));
    let same = |contact: &&Value| {
        let (wa_id, user_id) = (tree::text(&contact["wa_id"]), tree::text(&contact["user_id"]));
        from.is_some() && wa_id == from || user.is_some() && user_id == user
    };
    let name = contacts.iter().find(same).and_then(|contact| tree::text(&contact["profile"]["name"]));
    let body = &message[form.as_str()];
    let (text, payload) = match form.as_str() {
        "text" => (tree::text(&body["body"]), None),
        "button" => (tree::text(&body["text"]), tree::text(&body["payload"])),
        "interactive" => {
            let reply = ["button_reply", "list_reply"].into_iter().map(|kind| &body[kind]).find(|reply| reply.is_object());
            let reply = reply.unwrap_or(&Value::Null);
            (tree::text(&reply["title"]), tree::text(&reply["id"]))
        }
        _ => (tree::text(&body["caption"]), None),
    };
    let mut data = Map::new();
    let reply_to = tree::text(&message["context"]["id"]);
    for (name, value) in
        [("type", Some(form)), ("text", text), ("payload", payload), ("reply_to", reply_to), ("user_id", user.clone())]
    {
        data.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    // Subjects are shown where phones are masked.
    let hashed = || from.map(|from| signature::sha256_hex([from.as_bytes()])[..16].to_owned());
    let who = user.or_else(hashed).unwrap_or_else(|| "unknown".to_owned());
    reading.happenings.push(Happening {
        key: Some(format!("message/{id}")),
        kind: kind::MESSAGE_RECEIVED,
        subject: format!("chat/{who}"),
        at: moment(&message["timestamp"]),
        person: Person { name, phones: phone(&message["from"]).map(Value::String).into_iter().collect(), ..Person::default() },
        refs: vec![id],
        data: Value::Object(data),
        look_up: None,
    });
}

fn read_template(value: &Value, reading: &mut Reading) {
    let part = |name: &str| tree::text(&value[name]).map(|text| short(&text)).unwrap_or_else(|| "?".to_owned());
    let (name, language, event) = (part("message_template_name"), part("message_template_language"), part("event"));
    let mut text = format!("the template {name} ({language}) is {event}");
    if let Some(reason) = tree::text(&value["reason"]).filter(|reason| reason != "NONE") {
        text.push_str(&format!(": {}", short(&reason)));
    }
    // What can be used again is no reason to bother anybody.
    if matches!(event.as_str(), "APPROVED" | "REINSTATED" | "PENDING" | "IN_APPEAL") {
        return reading.skip(text);
    }
    reading.skip(format!("for people: {text}"));
    reading.warnings.push(Warning { kind: format!("template/{name}/{language}"), text });
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: &str = "106540352242922";

    fn about(number: &str, part: &str, items: Value) -> Value {
        json!({ "field": "messages", "value": { "metadata": { "phone_number_id": number }, part: items } })
    }

    fn read_all(changes: Value) -> Reading {
        read(&json!({ "object": "whatsapp_business_account", "entry": [{ "id": "1", "changes": changes }] }), NUMBER).unwrap()
    }

    fn status(status: &str, code: Option<i64>) -> StatusNews {
        let errors: Vec<Value> = code.map(|code| json!({ "code": code, "title": "t" })).into_iter().collect();
        let status = json!({ "id": "wamid.1", "status": status, "timestamp": "1795338904", "recipient_id": "79990001122",
            "biz_opaque_callback_data": "cmd_1", "errors": errors });
        read_all(json!([about(NUMBER, "statuses", json!([status]))])).statuses.remove(0)
    }

    #[test]
    fn every_entry_change_status_and_message_is_read() {
        let statuses = json!([{ "id": "a", "status": "sent" }, { "id": "b", "status": "delivered" }]);
        let messages = json!([{ "id": "m", "from": "79990001122", "type": "text", "text": { "body": "да" } }, { "id": "n", "type": "image" }]);
        let changes = json!([
            about(NUMBER, "statuses", statuses),
            about(NUMBER, "messages", messages),
            about("7", "statuses", json!([{}]))
        ]);
        let entry = json!({ "changes": changes });
        let reading = read(&json!({ "entry": [entry, { "changes": [] }, entry, null, {}] }), NUMBER).unwrap();
        assert_eq!((reading.statuses.len(), reading.happenings.len(), reading.skipped.len()), (4, 4, 2));
    }

    #[test]
    fn a_status_tells_how_far_the_message_is_and_why_it_will_not_come() {
        for (word, state) in [
            ("sent", Delivery::OnTheWay),
            ("delivered", Delivery::Delivered),
            ("read", Delivery::Read),
            ("played", Delivery::Read),
        ] {
            let news = status(word, None);
            assert_eq!((news.state, news.code.as_str(), news.refusal, news.key.as_deref()), (state, word, None, Some("cmd_1")));
            assert_eq!(news.at, Some("2026-11-22T09:15:04Z".parse().unwrap()));
        }
        for (code, refusal) in [
            (131_047, Refusal::NotHere),
            (131_026, Refusal::NotHere),
            (131_056, Refusal::NotHere),
            (131_049, Refusal::Command),
            (131_050, Refusal::OptOut),
            (131_042, Refusal::Account),
            (190, Refusal::Account),
            (132_001, Refusal::Content),
        ] {
            let news = status("failed", Some(code));
            assert_eq!((news.state, news.refusal, news.code), (Delivery::Failed, Some(refusal), code.to_string()));
        }
        assert_eq!((status("failed", None).refusal, status("sent", Some(131_047)).refusal), (None, None));
    }

    #[test]
    fn a_message_that_was_refused_since_the_person_wants_none_is_the_persons_word() {
        let failed = json!([{ "id": "w", "status": "failed", "recipient_id": "79990001122", "errors": [{ "code": 131050 }] }]);
        let reading = read_all(json!([about(NUMBER, "statuses", failed)]));
        assert_eq!(reading.choices.len(), 1);
        assert_eq!((&reading.choices[0].who, reading.choices[0].wants), (&Address::Phone("+79990001122".to_owned()), false));
    }

    #[test]
    fn replies_of_every_form_are_read() {
        let from = |form: &str, body: Value| {
            let message = json!({ "id": "wamid.2", "from": "998901234567", "from_user_id": "UZ.1", "timestamp": "1795339200",
                "type": form, form: body, "context": { "id": "wamid.1" } });
            let value = json!({ "metadata": { "phone_number_id": NUMBER }, "messages": [message],
                "contacts": [{ "profile": { "name": "Олим" }, "user_id": "UZ.1" }] });
            read_all(json!([{ "field": "messages", "value": value }]))
        };
        let reply = json!({ "type": "list_reply", "list_reply": { "id": "RATE_5", "title": "Отлично" } });
        for (form, body, text, payload) in [
            ("text", json!({ "body": "Спасибо" }), json!("Спасибо"), Value::Null),
            ("button", json!({ "payload": "RATE_5", "text": "5" }), json!("5"), json!("RATE_5")),
            ("interactive", reply, json!("Отлично"), json!("RATE_5")),
            ("image", json!({ "id": "1", "caption": "вот" }), json!("вот"), Value::Null),
            ("audio", json!({ "id": "1" }), Value::Null, Value::Null),
            ("text", json!("odd"), Value::Null, Value::Null),
        ] {
            let happening = from(form, body).happenings.remove(0);
            assert_eq!(
                (&happening.data["text"], &happening.data["payload"], &happening.data["type"]),
                (&text, &payload, &json!(form))
            );
            assert_eq!((happening.key.as_deref(), happening.kind), (Some("message/wamid.2"), kind::MESSAGE_RECEIVED));
            assert_eq!(
                (happening.person.name.as_deref(), &happening.person.phones[..]),
                (Some("Олим"), &[json!("+998901234567")][..])
            );
            assert_eq!((happening.subject.as_str(), &happening.data["reply_to"]), ("chat/UZ.1", &json!("wamid.1")));
        }
        for (form, body) in [("reaction", json!({ "emoji": "x" })), ("system", json!({ "type": "user_changed_number" }))] {
            let reading = from(form, body);
            assert_eq!((reading.happenings.len(), reading.skipped.len()), (0, 1));
        }
    }

    #[test]
    fn a_person_without_a_phone_is_a_person() {
        let message = json!([{ "id": "w", "from_user_id": "RU.1", "type": "text", "text": { "body": "да" } }]);
        let happening = read_all(json!([about(NUMBER, "messages", message)])).happenings.remove(0);
        assert_eq!((happening.subject.as_str(), happening.person.phones.len()), ("chat/RU.1", 0));
        let message = json!([{ "id": "w", "from": "79990001122", "type": "text" }]);
        let happening = read_all(json!([about(NUMBER, "messages", message)])).happenings.remove(0);
        assert!(happening.subject.len() == 21 && !happening.subject.contains("9990001122"), "{}", happening.subject);
    }

    #[test]
    fn a_persons_setting_is_their_word_and_templates_and_accounts_are_for_the_merchant() {
        let word = |value: &str| json!({ "wa_id": "79990001122", "category": "marketing_messages", "value": value, "timestamp": 1795339300 });
        let reading = read_all(json!([{ "field": "user_preferences", "value": {
            "user_preferences": [word("stop"), word("resume"), word("odd"), { "user_id": "RU.1", "value": "stop" }, 7] } }]));
        assert_eq!(reading.choices.iter().map(|choice| choice.wants).collect::<Vec<_>>(), [false, true]);
        assert_eq!((reading.choices[0].at.map(Timestamp::as_second), reading.skipped.len()), (Some(1_795_339_300), 3));

        let template = |event: &str| {
            json!({ "field": "message_template_status_update", "value": { "event": event, "message_template_name": "review",
                "message_template_language": "ru", "reason": "INVALID_FORMAT" } })
        };
        let reading = read_all(
            json!([template("PAUSED"), template("APPROVED"), { "field": "account_update", "value": { "event": "DISABLED_UPDATE" } },
            { "field": "flows", "value": {} }, about(NUMBER, "errors", json!([{ "code": 131031, "message": "locked" }])), 7]),
        );
        let told: Vec<(&str, &str)> = reading.warnings.iter().map(|told| (told.kind.as_str(), told.text.as_str())).collect();
        assert_eq!(
            told,
            [
                ("template/review/ru", "the template review (ru) is PAUSED: INVALID_FORMAT"),
                ("account/account_update", "account_update: event DISABLED_UPDATE"),
                ("account", "an error of the account: 131031: locked"),
            ]
        );
        assert_eq!(reading.skipped.len(), 6);
    }

    #[test]
    fn what_is_no_list_is_not_read() {
        for body in [json!({}), json!([]), json!(null), json!({ "entry": {} }), json!({ "entry": "x" })] {
            assert!(read(&body, NUMBER).is_err(), "{body}");
        }
        for body in
            [json!({ "entry": [7] }), json!({ "entry": [{ "changes": {} }] }), json!({ "entry": [{ "changes": [null] }] })]
        {
            assert!(read(&body, NUMBER).is_ok(), "{body}");
        }
    }
}
