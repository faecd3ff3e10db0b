//! Tries a flow's condition and text on a sample event, so that what can never work is told when a file is checked
//! and not only when the first guest has come.

use cel::{
    Context, ExecutionError, IdedExpr, Program,
    common::ast::{EntryExpr, Expr},
};
use jiff::Timestamp;
use minijinja::{Environment, ErrorKind};
use serde_json::{Value, json};
use uzel_model::{
    Event, Id,
    id::Kind,
    phone::{Kind as PhoneKind, Phone},
};

use crate::{flow, review::Links};

/// An event of this type. Its data are empty, since every provider fills them differently.
pub(crate) fn sample(kind: &str) -> Event {
    Event {
        id: Id::new(Kind::Event),
        merchant: Id::new(Kind::Merchant),
        connection: Id::new(Kind::Connection),
        provider: "sample".to_owned(),
        outlet: Some(Id::new(Kind::Outlet)),
        kind: kind.to_owned(),
        subject: "order/5001".to_owned(),
        key: "order/5001".to_owned(),
        weak_key: false,
        at: Timestamp::UNIX_EPOCH,
        name: Some("Anna".to_owned()),
        phone: Some(Phone {
            e164: "+79991234567".to_owned(),
            region: "RU".to_owned(),
            kind: PhoneKind::Mobile,
            ext: None,
            repaired: false,
        }),
        phone_error: None,
        refs: vec!["5001".to_owned()],
        data: json!({}),
        history: false,
        entry: Id::new(Kind::Entry),
        trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
    }
}

/// What makes this condition fail for every event of these types.
pub(crate) fn condition(program: &Program, kinds: &[String]) -> Result<(), String> {
    let fields = serde_json::to_value(sample("")).map_err(|error| error.to_string())?;
    names(program.expression(), &mut vec!["event"], &fields)?;
    for kind in kinds {
        match flow::judge(program, &sample(kind)) {
            Ok(cel::Value::Bool(_)) => {}
            Ok(other) => return Err(format!("gives {other:?} for an event `{kind}`, not true or false")),
            Err(error @ ExecutionError::UndeclaredReference(_)) => return Err(error.to_string()),
            // What else goes wrong may hang on the data, which differ from event to event.
            Err(_) => {}
        }
    }
    Ok(())
}

/// What makes this text fail for every event of these types.
pub(crate) fn text(texts: &Environment<'_>, kinds: &[String]) -> Result<(), String> {
    for kind in kinds {
        let Err(error) = flow::render(texts, &sample(kind), "Café", &Links::sample()) else { continue };
        // The other kinds of error may hang on the data.
        let unknown = matches!(
            error.kind(),
            ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction | ErrorKind::UnknownMethod
        );
        if unknown {
            return Err(format!("cannot be made: {error}"));
        }
    }
    Ok(())
}

/// Looks for names that nothing stands behind. A run alone does not find them all: `&&`, `||` and `?:` leave parts out.
fn names<'a>(expression: &'a IdedExpr, scope: &mut Vec<&'a str>, event: &Value) -> Result<(), String> {
    match &expression.expr {
        Expr::Ident(name) if name.starts_with('@') || scope.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) if undeclared(name) => Err(format!("names `{name}`, which nothing is called here: `event` is")),
        Expr::Select(select) => {
            let of_event = matches!(&select.operand.expr, Expr::Ident(name) if name == "event");
            if of_event && event.get(&select.field).is_none() {
                let known: Vec<&str> = event.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                return Err(format!("names `event.{}`, which no event has: {} are", select.field, known.join(", ")));
            }
            if declared_path(expression) { Ok(()) } else { names(&select.operand, scope, event) }
        }
        Expr::Call(call) => {
            let path = call.target.as_deref().and_then(path).map(|path| format!("{path}.{}()", call.func_name));
            let qualified = path.is_some_and(|path| !undeclared(&path));
            // Operators are calls too, by names that nobody can write.
            let written = call.func_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if written && !call.func_name.starts_with('_') && !qualified && no_function(&call.func_name) {
                return Err(format!("calls `{}`, and there is no such function", call.func_name));
            }
            let target = call.target.as_deref().filter(|_| !qualified);
            target.into_iter().chain(&call.args).try_for_each(|part| names(part, scope, event))
        }
        Expr::Comprehension(fold) => {
            names(&fold.iter_range, scope, event)?;
            names(&fold.accu_init, scope, event)?;
            let outside = scope.len();
            scope.push(&fold.accu_var);
            names(&fold.result, scope, event)?;
            scope.push(&fold.iter_var);
            scope.extend(fold.iter_var2.as_deref());
            names(&fold.loop_cond, scope, event)?;
            names(&fold.loop_step, scope, event)?;
            scope.truncate(outside);
            Ok(())
        }
        Expr::List(list) => list.elements.iter().try_for_each(|part| names(part, scope, event)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| entries(&entry.expr, scope, event)),
        Expr::Struct(made) => made.entries.iter().try_for_each(|entry| entries(&entry.expr, scope, event)),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Ok(()),
    }
}

fn entries<'a>(entry: &'a EntryExpr, scope: &mut Vec<&'a str>, event: &Value) -> Result<(), String> {
    match entry {
        EntryExpr::StructField(field) => names(&field.value, scope, event),
        EntryExpr::MapEntry(entry) => {
            names(&entry.key, scope, event)?;
            names(&entry.value, scope, event)
        }
    }
}

/// Whether CEL itself knows nothing by this name. It is asked, so that no list of its functions has to be kept here.
fn undeclared(source: &str) -> bool {
    let tried = Program::compile(source).map(|program| program.execute(&Context::default()).map(drop));
    matches!(tried, Ok(Err(ExecutionError::UndeclaredReference(_))))
}

/// Some functions are only called on something: `name.startsWith('A')`.
fn no_function(name: &str) -> bool {
    undeclared(&format!("{name}()")) && undeclared(&format!("''.{name}()"))
}

/// `a.b.c` as it is written, if it is nothing but names.
fn path(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", path(&select.operand)?, select.field)),
        _ => None,
    }
}

/// A name of CEL's own with dots in it, such as a type's.
fn declared_path(expression: &IdedExpr) -> bool {
    path(expression).is_some_and(|path| !path.starts_with("event.") && !undeclared(&path))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::flow::FlowDoc;

    fn faulty(changes: &Value) -> Vec<(&'static str, String)> {
        let mut doc = json!({
            "on": ["order.completed", "visit.completed"], "ground": "service", "ground_by": "Anna", "via": "sms", "text": "{{ name }}"
        });
        doc.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value::<FlowDoc>(doc).unwrap().faults()
    }

    #[track_caller]
    fn refused(changes: Value, field: &str, words: &str) {
        let faults = faulty(&changes);
        let named = matches!(&faults[..], [(place, why)] if *place == field && why.contains(words));
        assert!(named, "{changes}: {faults:?}");
    }

    #[track_caller]
    fn accepted(changes: Value) {
        assert_eq!(faulty(&changes), [], "{changes}");
    }

    #[test]
    fn a_text_that_calls_what_does_not_exist_is_refused() {
        refused(json!({ "text": "{{ name|shout }}" }), "text", "shout");
        refused(json!({ "text": "{% if name is rude %}x{% endif %}" }), "text", "rude");
        refused(json!({ "text": "{{ greet(name) }}" }), "text", "greet");
        refused(json!({ "text": "{{ name.upper() }}" }), "text", "upper");
    }

    #[test]
    fn a_text_may_show_what_the_sample_event_does_not_have() {
        accepted(json!({ "text": "{{ name|upper }}: {{ event.data.sum * 2 }}, {{ event.data.guest.name|default('-') }}" }));
    }

    #[test]
    fn a_condition_that_can_never_be_judged_is_refused() {
        refused(json!({ "when": "evnt.data.sum > 500" }), "when", "`evnt`");
        refused(json!({ "when": "event.kind == 'deal.won' && evnt.history" }), "when", "`evnt`");
        refused(json!({ "when": "event.sum > 500.0" }), "when", "`event.sum`");
        refused(json!({ "when": "sum(event.data.items) > 500" }), "when", "`sum`");
        refused(json!({ "when": "event.data.items.exists(item, item.shout() == name)" }), "when", "`shout`");
        refused(json!({ "when": "event.data.items.exists(item, item.price > price)" }), "when", "`price`");
        refused(json!({ "when": "event.data.at.getFullYear() > 2025" }), "when", "`getFullYear`");
        refused(json!({ "when": "event.kind" }), "when", "not true or false");
        refused(json!({ "when": "event.kind == 'visit.completed' ? 1 : true" }), "when", "`visit.completed`");
    }

    #[test]
    fn a_condition_may_ask_for_what_the_sample_event_does_not_have() {
        for when in [
            "double(event.data.sum) > 500.0",
            "has(event.data.sum) && event.data.sum > 500.0",
            "event.data.items.exists(item, item.price > 5.0 && item.name.startsWith('a'))",
            "event.data.items.map(item, item.price).size() > 1",
            "type(event.data.sum) == int",
            "event.name == 'Anna' || size(event.refs) > 0 || event.provider in ['iiko', 'rkeeper']",
            "event.name.endsWith('a') && event.name.contains('n') && string(event.data.sum) != '' && int(event.data.sum) > 1",
            "event.data.tags.size() > 1 && event.at > '2026-11-24'",
            "!event.history && event.phone.kind == 'mobile'",
        ] {
            accepted(json!({ "when": when }));
        }
    }

    #[test]
    fn times_that_leave_no_room_for_a_message_are_refused() {
        refused(json!({ "delay": "2d" }), "latest", "shorter than the delay");
        refused(json!({ "quiet_from": "21:00", "quiet_to": "21:00:00" }), "quiet_from", "the same");
        accepted(json!({ "delay": "24h", "latest": "1d", "quiet_from": "21:00", "quiet_to": "10:00" }));
    }

    #[test]
    fn the_moment_of_a_decision_is_a_date_or_a_time() {
        refused(json!({ "ground_at": "last week" }), "ground_at", "no date");
        for at in ["2026-11-24", "2026-11-24T10:00:00Z", "2026-11-24T10:00:00+05:00", "2026-11-24T10:00:00"] {
            accepted(json!({ "ground_at": at }));
        }
    }
}
