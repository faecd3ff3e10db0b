//! Whether the texts of one ordering key went in their order.
//!
//! What the hub promises of the commands of one key: they go one after another. Of those that wait the one that is due first goes
//! first, and of two that are due at the same moment the one with the smaller id. Only one that has been taken up already
//! (it is being sent, or has been tried) keeps its place before what is queued later, and so does the first before one that
//! is due at the very same moment. What is queued on two nodes at once has the order in which they committed it.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Value, json};

use super::{
    history::{Key, Step, What},
    judge::{DEAD, DONE},
    provider::Answer,
};

/// One command that waits.
#[derive(Default)]
struct Waiting {
    due_us: i64,
    attempts: i32,
    behind: bool,
    leased: bool,
    lease_ended_us: i64,
    /// Who kept its place before it when it came.
    goes_after: Option<String>,
}

/// What the run put to the test.
#[derive(Default)]
struct Tally {
    leases: u64,
    stepped_back: u64,
    kept_place: u64,
    put_off: u64,
}

pub(crate) fn judge(keys: &BTreeMap<u64, Key>) -> anyhow::Result<Value> {
    let mut tally = Tally::default();
    for (guest, key) in keys {
        let broken = steps(key, &mut tally).or_else(|| arrivals(key));
        if let Some(broken) = broken {
            bail!("guest {guest}: {broken}\n{key}");
        }
    }
    Ok(json!({
        "keys": keys.len(), "leases": tally.leases, "put_off": tally.put_off, "stepped_back": tally.stepped_back,
        "kept_their_place": tally.kept_place,
    }))
}

/// The first thing that is wrong with who was taken up when.
fn steps(key: &Key, tally: &mut Tally) -> Option<String> {
    let mut waiting: BTreeMap<&str, Waiting> = BTreeMap::new();
    for step in &key.steps {
        let order = key.texts.get(&step.command).map_or(0, |text| text.order.0);
        let id = step.command.as_str();
        match step.what {
            What::Queued => {
                let due_us = key.texts.get(id)?.due_us;
                let goes_after = keeps_place(&waiting, step, due_us).map(str::to_owned);
                tally.kept_place += u64::from(goes_after.is_some());
                let lease_ended_us = i64::MIN;
                let place = Waiting { due_us, behind: step.behind, goes_after, lease_ended_us, ..Waiting::default() };
                waiting.insert(id, place);
            }
            What::Changed => match waiting.get_mut(id) {
                Some(place) => {
                    tally.stepped_back += u64::from(step.behind && !place.behind);
                    tally.put_off += u64::from(step.attempts > place.attempts);
                    (place.attempts, place.behind) = (step.attempts, step.behind);
                }
                None => return Some(format!("step {}: order {order} changes and does not wait", step.number)),
            },
            What::Leased => {
                tally.leases += 1;
                if let Some(why) = wrong_lease(&waiting, id) {
                    return Some(format!("step {}: order {order} was taken up, and {why}", step.number));
                }
                if let Some(place) = waiting.get_mut(id) {
                    place.leased = true;
                }
            }
            What::Ended => {
                if let Some(place) = waiting.get_mut(id) {
                    (place.leased, place.lease_ended_us) = (false, step.at_us);
                }
            }
            What::Left => {
                if waiting.remove(id).is_none_or(|place| place.leased) {
                    return Some(format!("step {}: order {order} left without waiting, or while it was being sent", step.number));
                }
            }
        }
        if waiting.values().filter(|place| !place.behind).count() > 1 {
            return Some(format!("step {}: two are first", step.number));
        }
    }
    waiting.keys().next().map(|command| format!("{command} waits for ever"))
}

/// Who was taken up already when this one came, so that it goes before it though it is due later.
fn keeps_place<'a>(waiting: &BTreeMap<&'a str, Waiting>, step: &Step, due_us: i64) -> Option<&'a str> {
    let kept = |place: &Waiting| {
        // A lease may have been given back between the look at it and this step.
        let held = place.leased || place.lease_ended_us >= step.began_us;
        !place.behind && (place.attempts > 0 || held || place.due_us == due_us)
    };
    waiting.iter().find(|(_, place)| kept(place)).map(|(id, _)| *id)
}

/// Why this one may not be taken up now.
fn wrong_lease(waiting: &BTreeMap<&str, Waiting>, id: &str) -> Option<String> {
    let Some(own) = waiting.get(id) else { return Some("it does not wait".to_owned()) };
    if own.behind {
        return Some("it stands behind another".to_owned());
    }
    waiting.iter().find_map(|(other, place)| {
        let due_before = (place.due_us, *other) < (own.due_us, id);
        match () {
            () if place.leased => Some(format!("{other} was being sent")),
            () if *other == id => None,
            () if place.attempts > 0 => Some(format!("{other} had been tried and was to go first")),
            () if due_before && place.goes_after.as_deref() != Some(id) => Some(format!("{other} was due before it")),
            () => None,
        }
    })
}

/// Whether the provider got the texts in another order than that in which they ended; those of which nobody knows how they
/// ended may have come at any time.
fn arrivals(key: &Key) -> Option<String> {
    let known: BTreeMap<u64, &str> = key
        .texts
        .iter()
        .filter(|(_, text)| matches!(text.state, DONE | DEAD))
        .map(|(command, text)| (text.order.0, command.as_str()))
        .collect();
    let left = key.steps.iter().filter(|step| step.what == What::Left).map(|step| step.command.as_str());
    let ended: Vec<&str> = left.filter(|command| known.values().any(|known| known == command)).collect();
    let last = key.arrivals.iter().filter(|(_, answer)| *answer != Answer::PutOff);
    let came: Vec<&str> = last.filter_map(|(order, _)| known.get(&order.0).copied()).collect();
    (ended != came).then(|| format!("the texts ended as {ended:?}, and came as {came:?}"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{history::Text, orders::Order},
        *,
    };

    /// What happened to which order, its attempts, and whether it stands behind another.
    type Move = (What, u64, i32, bool);

    /// An order is due at the second of its `due`, all end as done and came as they
    /// ended.
    fn key(due: &[i64], steps: &[Move]) -> Key {
        let mut key = Key::default();
        for (order, due) in due.iter().enumerate() {
            let text = Text { order: Order(order as u64), due_us: *due, state: DONE };
            key.texts.insert(format!("c{order}"), text);
        }
        for (number, (what, order, attempts, behind)) in steps.iter().enumerate() {
            let number = number as i64;
            let (command, lease, node) = (format!("c{order}"), 0, String::new());
            let (attempts, behind) = (*attempts, *behind);
            key.steps.push(Step { number, what: *what, command, attempts, behind, lease, began_us: number, at_us: number, node });
            if *what == What::Left {
                key.arrivals.push((Order(*order), Answer::Taken));
            }
        }
        key
    }

    fn verdict(key: Key) -> Result<Value, String> {
        judge(&BTreeMap::from([(0, key)])).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }

    fn sent(order: u64) -> [Move; 3] {
        [What::Leased, What::Ended, What::Left].map(|what| (what, order, 0, false))
    }

    #[test]
    fn what_is_due_first_goes_first_and_may_step_in_before_what_nobody_has_taken_up() {
        let mut steps = vec![(What::Queued, 0, 0, false), (What::Changed, 0, 0, true), (What::Queued, 1, 0, false)];
        steps.extend(sent(1));
        steps.push((What::Changed, 0, 0, false));
        steps.extend(sent(0));
        assert_eq!(verdict(key(&[20, 10], &steps)).unwrap()["stepped_back"], 1);
    }

    #[test]
    fn one_that_goes_before_another_that_was_due_first_is_seen() {
        let mut steps = vec![(What::Queued, 0, 0, false), (What::Queued, 1, 0, true)];
        steps.extend(sent(0));
        assert!(verdict(key(&[20, 10], &steps)).unwrap_err().contains("c1 was due before it"));
        // Had it been tried before the other came, that would be right.
        steps.splice(1..1, [(What::Changed, 0, 1, false)]);
        steps.push((What::Changed, 1, 0, false));
        steps.extend(sent(1));
        assert_eq!(verdict(key(&[20, 10], &steps)).unwrap()["kept_their_place"], 1);
    }

    #[test]
    fn two_that_are_sent_at_once_are_seen() {
        let mut steps = vec![(What::Queued, 0, 0, false), (What::Queued, 1, 0, true), (What::Leased, 0, 0, false)];
        assert!(verdict(key(&[1, 2], &[steps.clone(), vec![(What::Leased, 1, 0, false)]].concat())).is_err());
        steps.extend([(What::Changed, 0, 1, true), (What::Ended, 0, 0, false), (What::Changed, 1, 0, false)]);
        steps.extend(sent(1));
        assert!(verdict(key(&[1, 2], &steps)).unwrap_err().contains("c0 had been tried"));
    }

    #[test]
    fn texts_that_come_in_another_order_than_they_ended_are_seen() {
        let mut steps = vec![(What::Queued, 0, 0, false), (What::Queued, 1, 0, true)];
        steps.extend(sent(0));
        steps.push((What::Changed, 1, 0, false));
        steps.extend(sent(1));
        let mut swapped = key(&[1, 2], &steps);
        assert!(verdict(key(&[1, 2], &steps)).is_ok());
        swapped.arrivals.swap(0, 1);
        assert!(verdict(swapped).unwrap_err().contains("came as"));
    }
}
