//! Callbacks: forms of news about messages.

use jiff::Timestamp;
use serde_json::json;
use uzel_model::{Happening, Person, Reading, Request, connector::StatusNews, event::kind, port::CallCheckState};

use super::{callcheck, wire::state};

/// A callback carries up to 100 items; fields beyond this are nobody's.
const FIELDS: usize = 1_000;

/// Reads one item of a callback: its type, an id, a code and a time, each on a line.
pub(super) fn read(item: &str, reading: &mut Reading) {
    if let Err(why) = add(item, reading) {
        reading.skip(why);
    }
}

fn add(item: &str, reading: &mut Reading) -> Result<(), String> {
    let mut lines = item.lines().map(str::trim);
    let is_check = match lines.next() {
        Some("sms_status") => false,
        Some("callcheck_status") => true,
        Some(other) => {
            let start: String = other.chars().take(40).collect();
            return Err(format!("«{start}» is no news of a message"));
        }
        None => return Err("an empty item".to_owned()),
    };
    let id = lines.next().filter(|id| !id.is_empty() && id.len() <= 100);
    let code = lines.next().and_then(|code| code.parse::<i64>().ok());
    let Some((id, code)) = id.zip(code) else {
        return Err("news of a message or a call without its id or a code".to_owned());
    };
    let time = lines.next().and_then(|time| time.parse().ok());
    let at = time.and_then(|time| Timestamp::from_second(time).ok());
    if is_check {
        reading.happenings.push(check(id, code, at)?);
    } else {
        reading.statuses.push(StatusNews { at, ..StatusNews::new(id, state(code), code) });
    }
    Ok(())
}

/// How a call check ended. Whose phone it was about only whoever began it knows.
fn check(id: &str, code: i64, at: Option<Timestamp>) -> Result<Happening, String> {
    let confirmed = match callcheck::state(code) {
        Some(CallCheckState::Confirmed) => true,
        Some(CallCheckState::Ended) => false,
        Some(CallCheckState::Waiting) | None => return Err(format!("a call check with code {code}, which ends nothing")),
    };
    Ok(Happening {
        key: Some(format!("call_check/{id}/{code}")),
        kind: kind::CALL_CHECK_ENDED,
        subject: format!("call_check/{id}"),
        at,
        person: Person::default(),
        refs: vec![id.to_owned()],
        data: json!({ "check": id, "confirmed": confirmed }),
        look_up: None,
    })
}

/// The fields of a callback.
#[derive(Default)]
pub(super) struct Callback {
    /// What stands in the brackets of `data[…]`, and the item, in order of arrival.
    pub(super) items: Vec<(String, String)>,
    pub(super) hash: Option<String>,
}

impl Callback {
    pub(super) fn of(request: &Request) -> Self {
        let kind = request.header("content-type").unwrap_or_default();
        let fields = match boundary(kind) {
            Some(boundary) => multipart(&request.body, &boundary),
            None => serde_urlencoded::from_bytes(&request.body).unwrap_or_default(),
        };
        let mut callback = Self::default();
        for (name, value) in fields.into_iter().take(FIELDS) {
            let index = name.strip_prefix("data[").and_then(|name| name.strip_suffix(']'));
            match index {
                Some(index) => callback.items.push((index.to_owned(), value)),
                None if name == "data" => callback.items.push((String::new(), value)),
                None if name == "hash" && !value.is_empty() => callback.hash = Some(value),
                None => {}
            }
        }
        callback
    }

    /// SMS.ru tries an address out before it uses it.
    pub(super) fn is_probe(&self) -> bool {
        self.items.is_empty() && self.hash.is_none()
    }

    /// The items in the ways in which they may have been signed.
    pub(super) fn readings(&self) -> Vec<Vec<String>> {
        let came: Vec<String> = self.items.iter().map(|(_, item)| item.clone()).collect();
        let mut sorted = self.items.clone();
        sorted.sort_by_key(|(index, _)| index.parse::<u64>().unwrap_or(u64::MAX));
        let sorted: Vec<String> = sorted.into_iter().map(|(_, item)| item).collect();
        let plain = |items: &[String]| items.iter().map(|item| item.replace("\r\n", "\n")).collect();
        vec![plain(&came), plain(&sorted), came, sorted]
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let mut words = content_type.split(';').map(str::trim);
    if !words.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let (_, boundary) = words.filter_map(|word| word.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let boundary = boundary.trim_matches('"');
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

/// The named texts of a multipart form; parts that are no such thing are left out.
fn multipart(body: &[u8], boundary: &str) -> Vec<(String, String)> {
    let body = String::from_utf8_lossy(body);
    let parts = body.split(&format!("--{boundary}")).map(str::to_owned).collect::<Vec<_>>();
    parts
        .iter()
        .filter_map(|part| {
            let part = part.strip_prefix("\r\n").or_else(|| part.strip_prefix('\n'))?;
            let (head, value) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
            let (_, name) = head.split_once(" name=\"")?;
            let (name, _) = name.split_once('"')?;
            let value = value.strip_suffix("\r\n").or_else(|| value.strip_suffix('\n')).unwrap_or(value);
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}
