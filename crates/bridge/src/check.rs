//! `check`: everything that could be wrong, and what to do about it.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::{
    cli::say,
    client::{self, Wish},
    files,
    place::Place,
    remote::{Ask, Came, Remote},
    settings::Settings,
    wire::{self, Cancel, Mode, Quote},
};

/// Buyer and order of the quote that is asked to see whether the hub takes the signature.
const PROBE: &str = "bridge-check";

struct Finding {
    what: &'static str,
    is_fine: bool,
    note: String,
}

pub(crate) async fn run(place: &Place, as_json: bool) -> anyhow::Result<ExitCode> {
    let findings = find(place).await?;
    let fine = findings.iter().all(|finding| finding.is_fine);
    if as_json {
        let lines: Vec<Value> =
            findings.iter().map(|found| json!({ "what": found.what, "ok": found.is_fine, "note": found.note })).collect();
        say(&serde_json::to_string_pretty(&json!({ "ok": fine, "checks": lines }))?)?;
    } else {
        for found in &findings {
            say(&format!("{}  {}: {}", if found.is_fine { "ok " } else { "BAD" }, found.what, found.note))?;
        }
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn find(place: &Place) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut put = |what, is_fine, note: String| findings.push(Finding { what, is_fine, note });
    let file = place.settings();
    let settings = match Settings::load(&file) {
        Ok(settings) => settings,
        Err(error) => {
            put("settings", false, format!("{error:#}"));
            return Ok(findings);
        }
    };
    match files::is_open_to_others(&file) {
        Ok(false) => put("settings", true, file.display().to_string()),
        Ok(true) => put("settings", false, format!("others may read {}, and it holds secrets: chmod 600", file.display())),
        Err(error) => put("settings", false, error.to_string()),
    }
    let remote = Remote::new(&settings)?;
    match remote.health(settings.commit_timeout()).await {
        Ok(took_ms) => put("hub", true, format!("{} answers within {took_ms} ms", settings.hub)),
        Err(why) => put("hub", false, format!("{}: {why}. Look at `hub` and at the line", settings.hub)),
    }
    let offset = remote.clock_offset_s();
    let clock = match offset {
        0 => "as the hub's".to_owned(),
        _ => format!("the hub's clock shows {offset} s more. Calls are signed by the hub's; set this machine's all the same"),
    };
    put("clock", offset.abs() <= 300, clock);
    let (is_fine, note) = signed_call(&remote, &settings).await;
    put("signed call", is_fine, note);
    let running = place.lock()?.is_none();
    let note = if running {
        format!("it runs and listens on {}", settings.listen)
    } else {
        "it does not run: `run`, or `install`".into()
    };
    put("bridge", running, note);
    match client::ask(place, &settings, &Wish::List).await {
        Ok(list) => {
            let count = |state: &str| {
                list["items"].as_array().map_or(0, |items| items.iter().filter(|item| item["state"] == state).count())
            };
            let (waiting, person) = (count("waiting"), count("person"));
            put("queue", person == 0, format!("{waiting} wait for the line, {person} need a person (`queue list`)"));
        }
        Err(error) => put("queue", false, format!("{error:#}")),
    }
    Ok(findings)
}

/// A quote over nothing: it moves no points, and its hold, if there is one, is let go.
async fn signed_call(remote: &Remote, settings: &Settings) -> (bool, String) {
    let quote = Quote {
        mode: Mode::Earn,
        merchant_id: settings.merchant.clone(),
        user_token: PROBE.into(),
        order_id: PROBE.into(),
        total: 0,
        eligible_total: 0,
        outlet_id: settings.outlet.clone(),
        staff_id: None,
        request_id: None,
        category: None,
        promo_code: None,
    };
    let body = wire::bytes(&quote);
    let ask = |call, body| Ask { call, body, key: None, staff_key: None, language: settings.language.tag(), request_id: None };
    match remote.call(&ask("quote", &body), settings.commit_timeout()).await {
        Came::Failed(failure) => (false, failure.reason),
        Came::Answer(reply) => {
            let answer = reply.json();
            if let Some(hold) = answer["holdId"].as_str() {
                let cancel = wire::bytes(&Cancel { hold_id: hold.to_owned(), merchant_id: settings.merchant.clone() });
                // A hold that stays moves nothing and runs out.
                drop(remote.call(&ask("cancel", &cancel), settings.commit_timeout()).await);
            }
            let said = answer["message"].as_str().unwrap_or_default().to_owned();
            match reply.status {
                200..300 if remote.uses_next_secret() => {
                    (true, "the hub takes `next_secret` and not `secret`: put it in the place of `secret`".into())
                }
                200..300 => (true, "the hub takes it".into()),
                401 => (false, format!("the hub refuses it ({said}): look at `secret`, `staff_key`, `merchant` and `outlet`")),
                403 => (false, format!("the hub refuses it ({said}): the merchant's loyalty desk or the key's role")),
                // A hub that knows the caller may still not know the buyer of this test.
                400 | 404 | 409 | 422 => (true, format!("the hub takes the signature, and answers: {said}")),
                status => (false, format!("the hub answers {status}: {said}")),
            }
        }
    }
}
