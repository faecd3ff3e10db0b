//! Updates: what people write and do in chats with the bot.

use jiff::Timestamp;
use serde_json::{Value, json};
use uzel_model::{
    Address, Happening, Malformed, Person, Reading,
    connector::{ChatNews, ChatTurn},
    event::kind,
};

use crate::tree;

/// What ends messages, beside `/stop`.
const STOP_WORDS: [&str; 4] = ["стоп", "stop", "отписаться", "bekor qilish"];
/// A link's code has at most 64 of `A-Za-z0-9_-`.
const CODE_MAX: usize = 64;

pub(super) fn read(update: &Value) -> Result<Reading, Malformed> {
    let Some(id) = update["update_id"].as_i64() else {
        return Err(Malformed::new("update_id is missing, or no number"));
    };
    let mut reading = Reading::default();
    match update {
        update if update["message"].is_object() => message(id, &update["message"], &mut reading),
        update if update["my_chat_member"].is_object() => member(id, &update["my_chat_member"], &mut reading),
        _ => {
            let names = update.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
            let what: Vec<&str> = names.filter(|name| *name != "update_id").take(3).collect();
            reading.skip(format!(
                "nothing follows from {}",
                if what.is_empty() { "an empty update".to_owned() } else { what.join(", ") }
            ));
        }
    }
    Ok(reading)
}

/// Numbers of updates start anew after a quiet week: the time tells them apart.
fn key(id: i64, of: &Value) -> String {
    format!("update/{id}/{}", of["date"].as_i64().unwrap_or_default())
}

fn at(of: &Value) -> Option<Timestamp> {
    Timestamp::from_second(of["date"].as_i64()?).ok()
}

fn message(id: i64, message: &Value, reading: &mut Reading) {
    let Some(chat) = message["chat"]["id"].as_i64() else {
        return reading.skip("message.chat.id is missing, or no number");
    };
    if message["from"]["is_bot"] == true {
        return reading.skip("another bot's message");
    }
    let turn = |turn| ChatNews { key: key(id, message), of: Address::Chat(chat), turn, at: at(message) };
    if let Some(to) = message["migrate_to_chat_id"].as_i64() {
        return reading.chats.push(turn(ChatTurn::Moved { to: Address::Chat(to) }));
    }
    if message["migrate_from_chat_id"].is_i64() {
        return reading.skip("the new chat of a group that moved: the old one tells it too");
    }
    let text = message["text"].as_str().unwrap_or_default().trim();
    if let Some(code) = command(text, "/start") {
        let well = |code: &&str| {
            code.len() <= CODE_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        // A code that cannot be one of ours is answered as a wrong one.
        let code = (!code.is_empty()).then(|| Some(code).filter(well).unwrap_or("-").to_owned());
        return reading.chats.push(turn(ChatTurn::Came { code }));
    }
    if command(text, "/stop").is_some() || STOP_WORDS.contains(&text.to_lowercase().as_str()) {
        return reading.chats.push(turn(ChatTurn::Stopped));
    }
    let contact = &message["contact"];
    // Somebody else's card is no word of this person's.
    let own = contact["user_id"].is_i64() && contact["user_id"] == message["from"]["id"];
    if text.is_empty() && !own {
        return reading.skip("a message without text");
    }
    let phones = if own { vec![with_plus(&contact["phone_number"])] } else { Vec::new() };
    reading.happenings.push(Happening {
        key: Some(key(id, message)),
        kind: kind::MESSAGE_RECEIVED,
        subject: format!("chat/{chat}"),
        at: at(message),
        person: Person { name: tree::text(&message["from"]["first_name"]), phones, ..Person::default() },
        refs: Vec::new(),
        data: json!({ "chat": chat, "text": text, "message_id": message["message_id"] }),
        look_up: None,
    });
}

/// A number comes in full, with or without its plus.
fn with_plus(phone: &Value) -> Value {
    match tree::text(phone) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_digit()) => json!(format!("+{digits}")),
        _ => phone.clone(),
    }
}

/// What follows a command: `/start code`, `/start@HubBot   code`.
fn command<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (word, _bot) = first.split_once('@').unwrap_or((first, ""));
    (word == name).then(|| rest.trim())
}

fn member(id: i64, news: &Value, reading: &mut Reading) {
    let Some(chat) = news["chat"]["id"].as_i64() else {
        return reading.skip("my_chat_member.chat.id is missing, or no number");
    };
    match news["new_chat_member"]["status"].as_str() {
        Some("kicked" | "left") => {
            let of = Address::Chat(chat);
            reading.chats.push(ChatNews { key: key(id, news), of, turn: ChatTurn::Left, at: at(news) });
        }
        Some(status) => reading.skip(format!("the bot is {} in this chat", status.chars().take(20).collect::<String>())),
        None => reading.skip("my_chat_member.new_chat_member.status is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        json!({ "update_id": 1, "message": { "message_id": 7, "date": 1_795_338_800, "from": { "id": 5, "first_name": "Анна" },
            "chat": { "id": 4_503_599_627_370_497_i64, "type": "private" }, "text": text } })
    }

    fn turn(update: &Value) -> Option<ChatTurn> {
        read(update).unwrap().chats.pop().map(|news| news.turn)
    }

    #[test]
    fn commands_are_read_with_the_bot_s_name_and_several_spaces() {
        let came = |code: &str| Some(ChatTurn::Came { code: Some(code.to_owned()) });
        assert_eq!(turn(&text("/start own_01JD9X5ZP4")), came("own_01JD9X5ZP4"));
        assert_eq!(turn(&text(" /start@Hub_bot    abc ")), came("abc"));
        assert_eq!(turn(&text("/start")), Some(ChatTurn::Came { code: None }));
        assert_eq!(turn(&text("/start two words")), came("-"));
        assert_eq!(turn(&text(&format!("/start {}", "x".repeat(65)))), came("-"));
        for stop in ["/stop", "/stop@Hub_bot now", "СТОП", "Stop"] {
            assert_eq!(turn(&text(stop)), Some(ChatTurn::Stopped), "{stop}");
        }
        for other in ["/started", "start", "please stop", "/help"] {
            let reading = read(&text(other)).unwrap();
            assert_eq!((reading.chats.len(), reading.happenings.len()), (0, 1), "{other}");
        }
        let news = read(&text("/stop")).unwrap().chats.remove(0);
        assert_eq!(news.of, Address::Chat(4_503_599_627_370_497));
    }

    #[test]
    fn only_a_person_s_own_card_gives_a_phone() {
        let card = |user: i64| {
            json!({ "update_id": 2, "message": { "date": 1, "from": { "id": 5 }, "chat": { "id": 5 },
                "contact": { "phone_number": "998901234567", "user_id": user } } })
        };
        assert_eq!(read(&card(5)).unwrap().happenings[0].person.phones, [json!("+998901234567")]);
        let other = read(&card(6)).unwrap();
        assert_eq!((other.happenings.len(), other.skipped.len()), (0, 1));
    }

    #[test]
    fn a_blocked_bot_is_left_and_a_group_that_moves_is_followed() {
        let member = |status: &str| json!({ "update_id": 3, "my_chat_member": { "date": 1, "chat": { "id": -5 }, "new_chat_member": { "status": status } } });
        assert_eq!(turn(&member("kicked")), Some(ChatTurn::Left));
        assert_eq!(turn(&member("member")), None);
        let moved = json!({ "update_id": 4, "message": { "chat": { "id": -5 }, "migrate_to_chat_id": -1_001_234_567_890_i64 } });
        assert_eq!(turn(&moved), Some(ChatTurn::Moved { to: Address::Chat(-1_001_234_567_890) }));
    }

    #[test]
    fn what_is_no_update_is_a_dead_letter_and_what_is_odd_is_noted() {
        for wrong in [json!({}), json!([]), json!(null), json!({ "update_id": "1" })] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        for odd in [
            json!({ "update_id": 1 }),
            json!({ "update_id": 1, "message": [] }),
            json!({ "update_id": 1, "message": { "chat": { "id": "5" }, "text": "/stop" } }),
            json!({ "update_id": 1, "poll": {} }),
        ] {
            let reading = read(&odd).unwrap();
            assert_eq!((reading.chats.len(), reading.happenings.len(), reading.skipped.len()), (0, 0, 1), "{odd}");
        }
    }
}
