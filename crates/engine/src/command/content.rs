//! What a message that is asked for may say, by its channel. Every fault is told with its field.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use uzel_model::{
    Channel, Content,
    check::Fault,
    message::{Attachment, Template},
};

use super::{CommandRequest, TEXT_BYTES_MAX};

/// Of an e-mail.
const LONG_TEXT_BYTES_MAX: usize = 256 << 10;
/// What a line of a mail's head may have (RFC 5322).
const SUBJECT_BYTES_MAX: usize = 998;
const ATTACHMENTS_MAX: usize = 10;
const NAME_BYTES_MAX: usize = 200;
const COMPONENTS_MAX: usize = 20;

/// What it says; faults of all its fields are added.
pub(super) fn content(request: &CommandRequest, channel: Channel, faults: &mut Vec<Fault>) -> Content {
    let text = request.text.trim();
    let most = if channel == Channel::Email { LONG_TEXT_BYTES_MAX } else { TEXT_BYTES_MAX };
    if text.len() > most {
        faults.push(Fault::new("/text", format!("may have {most} bytes at the most, not {}", text.len())));
    }
    let goes_without = request.html.is_some() || request.template.is_some();
    if text.is_empty() && !goes_without {
        faults.push(Fault::new("/text", "is empty"));
    }
    let mut only = |given: bool, place: &str, channels: &[Channel]| {
        if given && !channels.contains(&channel) {
            let names: Vec<String> = channels.iter().map(|channel| format!("`{}`", channel.name())).collect();
            faults.push(Fault::new(place, format!("goes by {} only, not by `{}`", names.join(" and "), channel.name())));
        }
    };
    only(request.template.is_some(), "/template", &[Channel::Whatsapp]);
    only(request.subject.is_some(), "/subject", &[Channel::Email, Channel::Push]);
    only(request.html.is_some(), "/html", &[Channel::Email, Channel::Telegram]);
    only(!request.attachments.is_empty(), "/attachments", &[Channel::Email, Channel::Telegram]);
    if channel == Channel::Email && request.subject.as_deref().is_none_or(|subject| subject.trim().is_empty()) {
        faults.push(Fault::new("/subject", "is missing: an e-mail needs one"));
    }
    faults.extend(request.subject.as_deref().and_then(subject_fault));
    if let Some(html) = &request.html {
        if html.trim().is_empty() {
            faults.push(Fault::new("/html", "is empty"));
        } else if html.len() > LONG_TEXT_BYTES_MAX {
            faults.push(Fault::new("/html", format!("may have {LONG_TEXT_BYTES_MAX} bytes at the most, not {}", html.len())));
        }
    }
    faults.extend(request.template.iter().flat_map(template_faults));
    if request.attachments.len() > ATTACHMENTS_MAX {
        faults.push(Fault::new("/attachments", format!("may be {ATTACHMENTS_MAX} at the most")));
    }
    for (place, file) in request.attachments.iter().enumerate() {
        faults.extend(attachment_faults(&format!("/attachments/{place}"), file));
    }
    Content {
        template: request.template.clone(),
        subject: request.subject.as_ref().map(|subject| subject.trim().to_owned()),
        html: request.html.clone(),
        attachments: request.attachments.clone(),
        ..Content::text(text)
    }
}

pub(crate) fn subject_fault(subject: &str) -> Option<Fault> {
    if subject.contains(char::is_control) {
        return Some(Fault::new("/subject", "is one line, without control characters"));
    }
    let too_long = subject.len() > SUBJECT_BYTES_MAX;
    too_long.then(|| Fault::new("/subject", format!("may have {SUBJECT_BYTES_MAX} bytes at the most, not {}", subject.len())))
}

pub(crate) fn template_faults(template: &Template) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (place, text) in [("/template/name", &template.name), ("/template/language", &template.language)] {
        if text.trim().is_empty() {
            faults.push(Fault::new(place, "is empty"));
        } else if text.len() > NAME_BYTES_MAX {
            faults.push(Fault::new(place, format!("may have {NAME_BYTES_MAX} bytes at the most")));
        }
    }
    if template.components.len() > COMPONENTS_MAX {
        faults.push(Fault::new("/template/components", format!("may be {COMPONENTS_MAX} at the most")));
    }
    for (place, part) in template.components.iter().enumerate() {
        if part["type"].as_str().is_none_or(str::is_empty) {
            let why = "must be an object with a `type`, for instance `body`";
            faults.push(Fault::new(format!("/template/components/{place}"), why));
        }
    }
    faults
}

fn attachment_faults(place: &str, file: &Attachment) -> Vec<Fault> {
    let mut faults = Vec::new();
    let odd = |sign: char| sign.is_control() || "/\\\"".contains(sign);
    if file.name.trim().is_empty() || file.name.len() > NAME_BYTES_MAX || file.name.contains(odd) {
        faults.push(Fault::new(format!("{place}/name"), "must be a file's name, without folders"));
    }
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|sign| sign.is_ascii_graphic() && sign != b'/');
    if !file.media_type.split_once('/').is_some_and(|(kind, part)| plain(kind) && plain(part)) {
        faults.push(Fault::new(format!("{place}/media_type"), "must be a media type, for instance `image/png`"));
    }
    if file.content.is_empty() || STANDARD.decode(&file.content).is_err() {
        faults.push(Fault::new(format!("{place}/content"), "must be padded base64"));
    }
    faults
}
