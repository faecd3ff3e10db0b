//! Templates that flows and messages name: they must be among those that their connection lists, where it lists any.

use uzel_model::{Id, id::Kind, port::Messages};

use super::{FlowPart, Planner};

/// What is wrong with a template, and in which of its fields.
pub(crate) fn fault(listed: &[String], name: &str, language: &str) -> Option<(&'static str, String)> {
    if listed.iter().any(|known| known.split_once('/') == Some((name, language))) {
        return None;
    }
    let languages: Vec<&str> =
        listed.iter().filter_map(|known| known.split_once('/')).filter(|(known, _)| *known == name).map(|(_, of)| of).collect();
    Some(if languages.is_empty() {
        (
            "name",
            format!(
                "is not among the approved templates that its connection lists as name and language (`thanks/ru`): {}",
                listed.join(", ")
            ),
        )
    } else {
        ("language", format!("`{name}` is approved in {} only, as its connection says", languages.join(", ")))
    })
}

impl Planner<'_> {
    pub(super) fn templates(&mut self, at: &str, part: &FlowPart, merchant: Id) {
        for (place, step) in part.rule.step.iter().enumerate() {
            let Some(template) = &step.template else { continue };
            let Some(link) = self.find(Kind::Connection, Some(merchant), &step.via).map(|row| row.id) else { continue };
            let listed = self.listed.get(&link).cloned().unwrap_or_else(|| {
                let world = self.engine.world();
                let link = world.links.get(&link).and_then(|link| link.connector.messages());
                link.and_then(Messages::templates).map(<[String]>::to_vec)
            });
            if let Some((field, why)) = listed.and_then(|listed| fault(&listed, &template.name, &template.language)) {
                self.fault(&format!("{at}/step/{place}/template/{field}"), why);
            }
        }
    }
}
