//! Answers as people read them.

use serde_json::Value;

use super::replay::still_dead;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn line(page: &mut String, words: std::fmt::Arguments<'_>) {
    page.push_str(&words.to_string());
    page.push('\n');
}

pub(super) fn journal(rows: &Value) -> String {
    let mut page = String::new();
    line(
        &mut page,
        format_args!("{:<31}{:<25}{:<4}{:<10}{:<10}{:<36}{}", "ID", "TIME", "DIR", "PROVIDER", "STATE", "ENDPOINT", "ERROR"),
    );
    for row in rows.as_array().into_iter().flatten() {
        let endpoint: String = text(row, "endpoint").chars().take(34).collect();
        let at: String = text(row, "at").chars().take(23).collect();
        line(
            &mut page,
            format_args!(
                "{:<31}{:<25}{:<4}{:<10}{:<10}{:<36}{}",
                text(row, "id"),
                at,
                text(row, "direction"),
                text(row, "provider"),
                text(row, "state"),
                endpoint,
                text(row, "error").lines().next().unwrap_or_default()
            ),
        );
    }
    page.trim_end().to_owned()
}

pub(super) fn asked(command: &Value) -> String {
    let dev = if command["dev"] == true { "  NOT sent to anybody: only the journal stands for a provider" } else { "" };
    format!("{}  {}{dev}", text(command, "id"), text(command, "state"))
}

pub(super) fn unpublished(answer: &Value) -> String {
    format!("events are kept for NATS no more; forgotten: {}", answer["forgotten"])
}

pub(super) fn timeline(entry: &Value) -> String {
    let mut page = String::new();
    if entry["exchange"].is_object() {
        line(&mut page, format_args!("{}  {}", text(&entry["exchange"], "id"), text(&entry["exchange"], "provider")));
        exchange(&mut page, &entry["exchange"]);
        return page.trim_end().to_owned();
    }
    line(&mut page, format_args!("{}  {}  {}", text(entry, "entry"), text(entry, "received_at"), text(entry, "provider")));
    line(&mut page, format_args!("  request   {} {}", text(entry, "method"), text(entry, "target")));
    line(
        &mut page,
        format_args!("  verified  {}", if entry["proof"].is_null() { "by the connector" } else { text(entry, "proof") }),
    );
    line(&mut page, format_args!("  trace     {}", text(entry, "trace")));
    line(&mut page, format_args!("  body      {}", text(entry, "body")));
    if let Some(answer) = entry["answer"].as_str().filter(|answer| !answer.is_empty()) {
        line(&mut page, format_args!("  answer    {answer}"));
    }
    line(&mut page, format_args!("  verdict   {}", text(entry, "state")));
    for note in list(entry, "notes") {
        line(&mut page, format_args!("            {}", note.as_str().unwrap_or_default()));
    }
    for event in list(entry, "events") {
        line(&mut page, format_args!("  event     {}  {}  {}", text(event, "id"), text(event, "kind"), text(event, "subject")));
        let phone = event["phone"]["e164"].as_str().or(event["phone_error"].as_str()).unwrap_or("-");
        line(&mut page, format_args!("            phone {phone}  key {}", text(event, "key")));
    }
    for command in list(entry, "commands") {
        line(
            &mut page,
            format_args!("  command   {}  {}  {}", text(command, "id"), text(&command["job"], "job"), text(command, "state")),
        );
        if let Some(words) = command["job"]["text"].as_str() {
            line(&mut page, format_args!("            “{words}”"));
        }
        if let Some(reason) = command["reason"].as_str() {
            line(&mut page, format_args!("            because {reason}"));
        }
        line(&mut page, format_args!("            due {}  attempts {}", text(command, "due_at"), command["attempts"]));
        list(command, "exchanges").for_each(|of_it| exchange(&mut page, of_it));
        if let Some(delivery) = command["delivery"].as_str() {
            let code = command["delivery_code"].as_str().map_or(String::new(), |code| format!("  code {code}"));
            line(&mut page, format_args!("            message {}  {delivery}{code}", text(command, "provider_id")));
        }
    }
    page.trim_end().to_owned()
}

fn exchange(page: &mut String, exchange: &Value) {
    let (at, endpoint) = (text(exchange, "at"), text(exchange, "endpoint"));
    line(page, format_args!("    attempt {at}  {} ms  {endpoint}", exchange["duration_ms"]));
    line(page, format_args!("            > {}", readable(text(exchange, "request"))));
    line(page, format_args!("            < {}", text(exchange, "response")));
    if let Some(error) = exchange["error"].as_str() {
        line(page, format_args!("            ! {error}"));
    }
}

/// A form as people read it. Signs that would steer a terminal stay as they came.
fn readable(request: &str) -> String {
    let form = !request.starts_with(['{', '[', '<']) && request.contains('=') && !request.contains(char::is_whitespace);
    let pairs: Vec<(String, String)> = if form { serde_urlencoded::from_str(request).unwrap_or_default() } else { Vec::new() };
    let plain = |text: &str| {
        text.chars()
            .map(|sign| if sign.is_control() { sign.escape_default().to_string() } else { sign.to_string() })
            .collect::<String>()
    };
    match pairs.as_slice() {
        [] => request.to_owned(),
        pairs => pairs.iter().map(|(name, value)| format!("{}={}", plain(name), plain(value))).collect::<Vec<_>>().join("&"),
    }
}

pub(super) fn plan(plan: &Value, dry_run: bool) -> String {
    let mut page = String::new();
    for difference in list(plan, "differences") {
        let sign = match text(difference, "what") {
            "new" => "+",
            "changed" => "~",
            _ => "=",
        };
        let words = |name: &str| list(difference, name).filter_map(Value::as_str).collect::<Vec<_>>();
        let (kind, name, fields) = (text(difference, "kind"), text(difference, "name"), words("fields").join(", "));
        let ends = match words("ends").as_slice() {
            [] => String::new(),
            ends => format!("; ends its {}", ends.join(" and ")),
        };
        line(&mut page, format_args!("{sign} {kind:<11}{name:<24}{fields}{ends}"));
    }
    for key in list(plan, "keys") {
        let (connection, key) = (key[0].as_str().unwrap_or_default(), key[1].as_str().unwrap_or_default());
        line(&mut page, format_args!("webhook key of {connection}, shown this once: {key}"));
    }
    // Of what is not kept nothing is worth writing down.
    for secret in list(plan, "secrets").filter(|_| !dry_run) {
        let (endpoint, secret) = (secret[0].as_str().unwrap_or_default(), secret[1].as_str().unwrap_or_default());
        line(&mut page, format_args!("signing secret of endpoint {endpoint}, shown this once: {secret}"));
    }
    line(&mut page, format_args!("{}", if dry_run { "nothing was changed (dry run)" } else { "applied" }));
    page.trim_end().to_owned()
}

pub(super) fn replay(answer: &Value) -> String {
    let mut page = String::new();
    for outcome in list(answer, "outcomes") {
        let did = &outcome["outcome"];
        let words = match did["dead"].as_str() {
            Some(why) => format!("still dead: {why}"),
            None => format!(
                "{} new events, {} known before, {} commands queued",
                did["new_events"], did["known_events"], did["queued"]
            ),
        };
        line(&mut page, format_args!("{}  {words}", text(outcome, "entry")));
    }
    let dead = still_dead(answer);
    let again = list(answer, "outcomes").count() - dead;
    let rest = if dead == 0 { String::new() } else { format!(", {dead} still dead") };
    line(&mut page, format_args!("{again} read again{rest}"));
    page.trim_end().to_owned()
}

pub(super) fn fsck(answer: &Value) -> String {
    let found: Vec<&str> = list(answer, "found").filter_map(Value::as_str).collect();
    if found.is_empty() { "all laws of the store hold".to_owned() } else { found.join("\n") }
}

pub(super) fn connections(answer: &Value) -> String {
    let mut page = String::new();
    line(&mut page, format_args!("{:<31}{:<16}{:<16}{:<12}{}", "ID", "MERCHANT", "CONNECTION", "PROVIDER", "HOOK"));
    for link in answer.as_array().into_iter().flatten() {
        line(
            &mut page,
            format_args!(
                "{:<31}{:<16}{:<16}{:<12}{}",
                text(link, "id"),
                text(link, "merchant_slug"),
                text(link, "slug"),
                text(link, "provider"),
                text(link, "hook")
            ),
        );
        if let Some(since) = link["breaker"]["since"].as_str() {
            line(&mut page, format_args!("    calls fail since {since}: {}", text(&link["breaker"], "reason")));
        }
    }
    page.trim_end().to_owned()
}

pub(super) fn counts(answer: &Value) -> String {
    let mut page = String::new();
    for part in ["entries", "commands", "held"] {
        for pair in list(answer, part) {
            line(&mut page, format_args!("{part:<10}{:<20}{}", pair[0].as_str().unwrap_or_default(), pair[1]));
        }
    }
    page.trim_end().to_owned()
}

pub(super) fn health(answer: &Value) -> String {
    let mut page = String::new();
    line(&mut page, format_args!("{}  {}", if answer["healthy"] == true { "well" } else { "ILL" }, text(answer, "detail")));
    let traffic = &answer["webhooks"];
    if let Some(last) = traffic["last_at"].as_str() {
        line(&mut page, format_args!("last webhook {last}, usually every {} s", traffic["usual_gap_s"]));
    }
    if let Some(since) = answer["breaker"]["since"].as_str() {
        line(&mut page, format_args!("calls fail since {since}: {}", text(&answer["breaker"], "reason")));
    }
    page.trim_end().to_owned()
}

pub(super) fn refusals(answer: &Value) -> String {
    let mut page = String::new();
    for refusal in answer.as_array().into_iter().flatten() {
        let peer = refusal["peer"].as_str().unwrap_or("-");
        line(&mut page, format_args!("{}  {peer}  {} /{}", text(refusal, "at"), text(refusal, "method"), text(refusal, "path")));
        line(&mut page, format_args!("  because  {}", text(refusal, "reason")));
        for key in list(refusal, "keys") {
            line(&mut page, format_args!("  key      {} characters, hash {}", key["length"], text(key, "hash")));
        }
        let query: Vec<&str> = list(refusal, "query").filter_map(Value::as_str).collect();
        line(&mut page, format_args!("  query    {}", query.join(", ")));
        for header in list(refusal, "headers") {
            let name = header[0].as_str().unwrap_or_default();
            line(&mut page, format_args!("  header   {name}: {}", header[1].as_str().unwrap_or("(not kept)")));
        }
        let more = if refusal["cut"] == true { " …" } else { "" };
        line(&mut page, format_args!("  body     {}{more}", text(refusal, "body")));
    }
    if page.is_empty() { "nothing was refused".to_owned() } else { page.trim_end().to_owned() }
}

pub(super) fn login(answer: &Value) -> String {
    format!(
        "open this in a browser within {} minutes; it works once:\n{}",
        answer["valid_s"].as_u64().unwrap_or_default() / 60,
        text(answer, "url")
    )
}

pub(super) fn balance(answer: &Value) -> String {
    format!("left at the provider: {}", text(answer, "balance"))
}

pub(super) fn cost(answer: &Value) -> String {
    let messages = if answer["segments"] == 1 { "message" } else { "messages" };
    format!("{} {} for {} {messages}; nothing was sent", text(answer, "cost"), text(answer, "currency"), answer["segments"])
}

pub(super) fn subscribed(answer: &Value) -> String {
    let done = answer["subscribed"] == true;
    if done { "our webhook is registered at the provider" } else { "our webhook is not registered at the provider" }.to_owned()
}

pub(super) fn consent(answer: &Value) -> String {
    let words = if answer["granted"] == true { "agrees to messages" } else { "wants no messages" };
    let who = if answer["email"].is_string() { "email" } else { "phone" };
    format!("recorded: {} {words} (record {})", text(answer, who), text(answer, "record"))
}

pub(super) fn keys(answer: &Value) -> String {
    let mut page = String::new();
    for key in answer.as_array().into_iter().flatten() {
        let until = key["expires_at"].as_str().map_or_else(String::new, |at| format!("  until {at}"));
        let used = key["last_used_at"].as_str().map_or_else(String::new, |at| format!("  used {at}"));
        let of = key["merchant"].as_str().unwrap_or_default();
        line(
            &mut page,
            format_args!("{:<31}{:<10}{of:<31}{}{until}{used}", text(key, "id"), text(key, "role"), text(key, "label")),
        );
    }
    if page.is_empty() { "no keys".to_owned() } else { page.trim_end().to_owned() }
}

pub(super) fn new_key(answer: &Value) -> String {
    format!("{}\nThis is shown once: keep it now. Its id is {}", text(answer, "key"), text(answer, "id"))
}

pub(super) fn paused(answer: &Value) -> String {
    let words = if answer["paused"] == true { "makes no calls for now" } else { "makes calls" };
    format!("{} {words}", text(answer, "slug"))
}

pub(super) fn audit(answer: &Value) -> String {
    let mut page = String::new();
    for row in answer.as_array().into_iter().flatten() {
        let detail = if row["detail"] == serde_json::json!({}) { String::new() } else { row["detail"].to_string() };
        line(
            &mut page,
            format_args!(
                "{}  {:<31}{:<24}{:<31}{detail}",
                text(row, "at"),
                text(row, "by"),
                text(row, "action"),
                text(row, "object")
            ),
        );
    }
    if page.is_empty() { "nothing was changed".to_owned() } else { page.trim_end().to_owned() }
}

pub(super) fn notices(answer: &Value) -> String {
    let mut page = String::new();
    for notice in answer.as_array().into_iter().flatten() {
        line(&mut page, format_args!("{:<31}{:<16}{}", text(notice, "connection"), text(notice, "kind"), text(notice, "text")));
    }
    if page.is_empty() { "nothing needs a person's look".to_owned() } else { page.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_people_write_and_steers_no_terminal() {
        let form = "to=7999***4567&msg=%D0%9C%D0%B0%D1%80%D0%B8%D1%8F%2C+thank+you%0A%1B%5B2J&json=1";
        assert_eq!(readable(form), "to=7999***4567&msg=Мария, thank you\\n\\u{1b}[2J&json=1");
        for other in ["", "{\"a\":\"50%25=x\"}", "[1]", "GET a=b%20c d", "plain"] {
            assert_eq!(readable(other), other);
        }
    }
}
