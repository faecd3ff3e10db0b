//! The shape of a setup file: what stands where, what is misspelt, and what can be read all the same.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use uzel_model::check::{self, Fault};

use super::{ConnectionPart, EndpointPart, FlowPart, MerchantPart, OutletPart, ProgrammePart, RecipientPart, SetupFile};

/// Every fault of a file that was read as JSON.
pub(super) fn shape_faults(file: &Value) -> Vec<Fault> {
    let mut schema = schemars::schema_for!(SetupFile).to_value();
    // A flattened part cannot deny unknown names by itself: say it here, so that a misspelt name is found.
    for part in ["FlowPart", "EndpointPart", "RecipientPart", "ProgrammePart"] {
        if let Some(part) = schema.pointer_mut(&format!("/$defs/{part}")) {
            part["additionalProperties"] = json!(false);
        }
    }
    let mut faults = check::faults(&schema, file);
    for fault in &mut faults {
        if fault.pointer.starts_with("/flow/") && fault.pointer.ends_with("/ground") && fault.detail == "is missing" {
            fault.detail =
                "is missing: say on what ground people are written to: `consent` (only those with recorded consent) or \
                            `service` (the merchant's own decision; then also ground_by)"
                    .to_owned();
        }
    }
    faults
}

/// The file with every single table as a list of one.
pub(super) fn listed(file: &Value) -> Value {
    let mut file = file.clone();
    for rows in file.as_object_mut().into_iter().flat_map(|parts| parts.values_mut()).filter(|rows| rows.is_object()) {
        *rows = json!([rows.take()]);
    }
    file
}

/// What of a file can be read.
pub(super) struct Parts {
    pub(super) merchant: Vec<Placed<MerchantPart>>,
    pub(super) outlet: Vec<Placed<OutletPart>>,
    pub(super) connection: Vec<Placed<ConnectionPart>>,
    pub(super) flow: Vec<Placed<FlowPart>>,
    pub(super) endpoint: Vec<Placed<EndpointPart>>,
    pub(super) recipient: Vec<Placed<RecipientPart>>,
    pub(super) programme: Vec<Placed<ProgrammePart>>,
}

impl Parts {
    pub(super) fn of(file: &Value, shape: &HashSet<Field>) -> Self {
        Self {
            merchant: readable(file, "merchant", shape),
            outlet: readable(file, "outlet", shape),
            connection: readable(file, "connection", shape),
            flow: readable(file, "flow", shape),
            endpoint: readable(file, "endpoint", shape),
            recipient: readable(file, "recipient", shape),
            programme: readable(file, "programme", shape),
        }
    }
}

/// A part of the file and its place there.
#[derive(Debug, Clone)]
pub(super) struct Placed<T>(pub(super) usize, pub(super) T);

/// The parts of one kind that can be read, each by itself and without its fields of the wrong shape.
fn readable<T: serde::de::DeserializeOwned>(file: &Value, name: &str, shape: &HashSet<Field>) -> Vec<Placed<T>> {
    let parts = file[name].as_array().into_iter().flatten().enumerate();
    parts
        .filter_map(|(place, part)| {
            let mut part = part.clone();
            if let Some(members) = part.as_object_mut() {
                let wrong = shape.iter().filter(|(kind, row, _)| kind == name && row.parse() == Ok(place));
                for (_, _, field) in wrong {
                    match stand_in(name, field) {
                        Some(value) => members.insert(field.clone(), value),
                        None => members.remove(field),
                    };
                }
            }
            serde_json::from_value(part).ok().map(|part| Placed(place, part))
        })
        .collect()
}

/// What stands in for a field that must be there. A flow without a ground is read as the strictest one.
fn stand_in(kind: &str, field: &str) -> Option<Value> {
    match (kind, field) {
        ("flow", "ground") => Some(json!("consent")),
        ("flow", "on") => Some(json!([])),
        ("outlet", "zone")
        | ("connection", "provider")
        | ("endpoint", "url")
        | ("flow", "via" | "text")
        | (_, "slug" | "merchant") => Some(json!("")),
        _ => None,
    }
}

/// Kind, row and name of a field of the file.
pub(super) type Field = (String, String, String);

/// The field in which a pointer ends.
pub(super) fn field(pointer: &str) -> Option<Field> {
    let mut steps = pointer.split('/').skip(1).map(str::to_owned);
    Some((steps.next()?, steps.next()?, steps.next()?))
}

pub(super) fn places(faults: &[Fault]) -> HashSet<Field> {
    faults.iter().filter_map(|fault| field(&fault.pointer)).collect()
}

/// Rows of one kind and merchant with the same name.
pub(super) fn doubles(file: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    for kind in ["merchant", "outlet", "connection", "flow", "endpoint", "recipient"] {
        let mut names = HashMap::new();
        for (place, row) in file[kind].as_array().into_iter().flatten().enumerate() {
            let Some(slug) = row["slug"].as_str() else { continue };
            if let Some(first) = names.get(&(row["merchant"].as_str(), slug)) {
                let detail = format!("`{slug}` stands twice: {kind}[{first}] has this name already");
                faults.push(Fault::new(format!("/{kind}/{place}/slug"), detail));
            } else {
                names.insert((row["merchant"].as_str(), slug), place);
            }
        }
    }
    faults
}
