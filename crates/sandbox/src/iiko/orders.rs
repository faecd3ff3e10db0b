//! iiko's orders: by id, as a feed of revisions, by date, and the command that makes one go on.

use serde_json::{Value, json};

use super::{Refusal, State, invalid, organization, organizations, same, texts};
use crate::wire;

const REACH_MS: i64 = 3 * 3600 * 1000;

/// Orders of these organisations whose id, or id at the till, is asked for.
pub(super) fn by_id(orders: &[Value], body: &Value, organizations: &[String]) -> Result<Vec<Value>, Refusal> {
    let asked = (texts(body, "orderIds"), texts(body, "posOrderIds"));
    let (field, ids) = match asked {
        (Some(ids), None) => ("id", ids),
        (None, Some(ids)) => ("posId", ids),
        _ => return Err(invalid("Either orderIds or posOrderIds must be specified.")),
    };
    if ids.len() > 200 {
        return Err(invalid("Too many order ids, at most 200 are allowed."));
    }
    let found = orders.iter().filter(|order| same(&order["organizationId"], organizations) && same(&order[field], &ids));
    Ok(found.cloned().collect())
}

/// The body of list methods: orders grouped by organisation, with the newest revision of all.
pub(super) fn grouped(state: &State, organizations: &[String], least: i64, keep: impl Fn(&Value) -> bool) -> Value {
    let newest = state.orders.iter().filter_map(|order| order["timestamp"].as_i64()).max();
    let groups: Vec<Value> = organizations
        .iter()
        .map(|id| {
            let ids = [id.clone()];
            let own = state.orders.iter().filter(|order| same(&order["organizationId"], &ids));
            let orders: Vec<&Value> = own.filter(|order| keep(order)).collect();
            json!({"organizationId": id, "orders": orders})
        })
        .collect();
    json!({"maxRevision": newest.unwrap_or(0).max(least), "ordersByOrganizations": groups})
}

impl State {
    pub(super) fn by_revision(&self, body: &Value) -> Result<Value, Refusal> {
        let Some(start) = body["startRevision"].as_i64() else {
            return Err(invalid("Required property 'startRevision' not found in JSON."));
        };
        if start < wire::now_ms() - REACH_MS {
            return Err(invalid("startRevision is older than 3 hours."));
        }
        let newer = |order: &Value| order["timestamp"].as_i64().is_some_and(|at| at > start);
        Ok(grouped(self, &organizations(body)?, start, newer))
    }

    pub(super) fn by_date(&self, body: &Value) -> Result<Value, Refusal> {
        let Some(from) = body["deliveryDateFrom"].as_str() else {
            return Err(invalid("Required property 'deliveryDateFrom' not found in JSON."));
        };
        let to = body["deliveryDateTo"].as_str();
        let statuses = texts(body, "statuses").filter(|list| !list.is_empty());
        // Dates are local texts of one form, so that their order is the order of the texts.
        let fits = |order: &Value| {
            let when = order["order"]["completeBefore"].as_str().unwrap_or_default();
            let status = &order["order"]["status"];
            when >= from && to.is_none_or(|to| when <= to) && statuses.as_ref().is_none_or(|list| same(status, list))
        };
        Ok(grouped(self, &organizations(body)?, 0, fits))
    }

    /// A command that makes a real order go on, as a test of a hub does.
    pub(super) fn update_status(&mut self, body: &Value) -> Result<Value, Refusal> {
        organization(body)?;
        let status = body["deliveryStatus"].as_str().unwrap_or_default();
        if !["Waiting", "OnWay", "Delivered"].contains(&status) {
            return Err(invalid("Error converting value to type 'DeliveryStatus'."));
        }
        let id = body["orderId"].as_str().unwrap_or_default().to_lowercase();
        let order = self.orders.iter_mut().find(|order| same(&order["id"], std::slice::from_ref(&id)));
        let Some(order) = order.filter(|order| order["order"].is_object()) else {
            return Err((400, "Order not found.".to_owned(), Some("OrderNotFound")));
        };
        order["order"]["status"] = json!(status);
        order["timestamp"] = json!(wire::now_ms());
        Ok(json!({}))
    }
}
