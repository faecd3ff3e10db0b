//! Meta's rules that need no state: the form of errors, of messages and of what stands in templates.

use serde_json::{Value, json};

use crate::wire::Answer;

/// Why a call is refused.
pub(super) struct Failure {
    status: u16,
    code: i64,
    subcode: Option<i64>,
    message: String,
    details: Option<String>,
}

pub(super) fn fail(status: u16, code: i64, message: &str) -> Failure {
    Failure { status, code, subcode: None, message: message.to_owned(), details: None }
}

/// A message that is refused: with a code of its own and details.
pub(super) fn refuse(code: i64, title: &str, details: impl Into<String>) -> Failure {
    // A template that is not there is "not found".
    let status = if code == 132_001 { 404 } else { 400 };
    Failure { details: Some(details.into()), ..fail(status, code, &format!("(#{code}) {title}")) }
}

impl Failure {
    pub(super) fn with_subcode(self, subcode: i64) -> Failure {
        Failure { subcode: Some(subcode), ..self }
    }

    pub(super) fn write(&self) -> Answer {
        let mut error = json!({
            "message": self.message, "type": "OAuthException", "code": self.code, "fbtrace_id": "A1b2C3d4E5f6G7h8I9j0K1l",
        });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = json!(subcode);
        }
        if let Some(details) = &self.details {
            error["error_data"] = json!({"messaging_product": "whatsapp", "details": details});
        }
        Answer::json(self.status, &json!({"error": error}))
    }
}

/// What became of a message later, in the words of a status.
pub(super) fn title(code: i64) -> &'static str {
    match code {
        131_026 => "Message undeliverable",
        131_047 => "Re-engagement message",
        131_049 => "This message was not delivered to maintain healthy ecosystem engagement.",
        131_050 => "User has stopped marketing messages",
        _ => "Something went wrong",
    }
}

/// Whom a message is for, as digits: plus, blanks, brackets and hyphens are left out.
pub(super) fn phone(given: &str) -> Option<String> {
    let digits: String = given.chars().filter(|letter| !"+ ()-".contains(*letter)).collect();
    let well = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    well.then_some(digits)
}

/// The text of a free message, for people who look at the control.
pub(super) fn text(kind: &str, body: &Value) -> Result<String, Failure> {
    let content = &body[kind];
    if !content.is_object() {
        return Err(fail(400, 100, &format!("(#100) The parameter {kind} is required.")));
    }
    let text = match kind {
        "text" => content["body"].as_str(),
        "interactive" => content["body"]["text"].as_str(),
        _ => content["caption"].as_str().or(Some("")),
    };
    match text {
        Some(text) if kind == "text" && text.trim().is_empty() => {
            Err(refuse(131_008, "Required parameter is missing", "The parameter text['body'] is required."))
        }
        Some(text) if text.chars().count() > 4_096 => {
            Err(fail(400, 100, "(#100) Param text['body'] must be at most 4096 characters long."))
        }
        Some(text) => Ok(text.to_owned()),
        None => Err(refuse(131_008, "Required parameter is missing", format!("The parameter {kind} has no body."))),
    }
}

/// Fills a template; the approved one says how many places it has.
pub(super) fn fill(template: &Value, sent: &Value) -> Result<String, Failure> {
    let approved = template["components"].as_array().map_or(&[][..], Vec::as_slice);
    let given = sent["components"].as_array().map_or(&[][..], Vec::as_slice);
    let mut said = Vec::new();
    for place in approved {
        let kind = place["type"].as_str().unwrap_or_default().to_lowercase();
        let wanted = places(place);
        let of_kind =
            given.iter().find(|component| component["type"].as_str().is_some_and(|given| given.eq_ignore_ascii_case(&kind)));
        let parameters = of_kind.and_then(|component| component["parameters"].as_array()).map_or(&[][..], Vec::as_slice);
        if kind == "body" || kind == "header" {
            if parameters.len() != wanted {
                let details = format!(
                    "{kind}: number of localizable_params ({}) does not match the expected number of params ({wanted})",
                    parameters.len()
                );
                return Err(refuse(132_000, "Number of parameters does not match the expected number of params", details));
            }
            said.push(with(place["text"].as_str().unwrap_or_default(), parameters)?);
        }
    }
    Ok(said.join("\n"))
}

/// How many places a component has.
fn places(component: &Value) -> usize {
    let text = component["text"].as_str().unwrap_or_default();
    (1..).take_while(|number| text.contains(&format!("{{{{{number}}}}}"))).count()
}

fn with(text: &str, parameters: &[Value]) -> Result<String, Failure> {
    let mut text = text.to_owned();
    for (place, parameter) in parameters.iter().enumerate() {
        let value = match parameter["type"].as_str() {
            Some("text") => parameter["text"].as_str(),
            Some("currency") => parameter["currency"]["fallback_value"].as_str(),
            Some("date_time") => parameter["date_time"]["fallback_value"].as_str(),
            _ => None,
        };
        let value = value
            .ok_or_else(|| refuse(132_012, "Parameter format does not match format in the created template", "expected TEXT"))?;
        if value.contains(['\n', '\r', '\t']) || value.contains("     ") {
            let details = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces";
            return Err(refuse(132_018, "There's an issue with the parameters in your template", details));
        }
        text = text.replace(&format!("{{{{{}}}}}", place + 1), value);
    }
    Ok(text)
}
