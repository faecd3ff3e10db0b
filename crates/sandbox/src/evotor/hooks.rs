//! What Evotor sends, and what programs of others pass on in a form of their own.

use serde_json::{Value, json};

use super::Settings;
use crate::cases::Case;
use crate::token::hmac_sha256;
use crate::wire;

/// A request with the token as the options want it: `token` (another one; null: none), `scheme` (`Bearer`, `Basic` or "" for none).
fn sent(method: &str, body: &Value, token: &str, options: &Value) -> Case {
    let token = match options.get("token") {
        Some(Value::Null) => None,
        Some(other) => Some(other.as_str().unwrap_or_default().to_owned()),
        None => Some(token.to_owned()),
    };
    let scheme = options["scheme"].as_str().unwrap_or("Bearer");
    let header = token.map(|token| ("Authorization".to_owned(), format!("{scheme} {token}").trim().to_owned()));
    Case {
        method: options["method"].as_str().unwrap_or(method).to_owned(),
        content_type: "application/json;charset=UTF-8".to_owned(),
        headers: header.into_iter().collect(),
        body: body.to_string().into_bytes(),
        ..Case::default()
    }
}

/// A document told of. Options: `id` (which one; the first), `as` (`receipt`, `v1` or `v2`), `more` (members to put into the body),
/// and those of the token.
pub(super) fn told(settings: &Settings, documents: &[Value], options: &Value) -> Result<Case, String> {
    let wanted = options["id"].as_str();
    let document = documents.iter().find(|document| wanted.is_none_or(|id| document["id"] == *id));
    let document = document.ok_or("there is no such document")?;
    let (method, mut body) = match options["as"].as_str().unwrap_or("receipt") {
        "receipt" => ("POST", receipt(settings, document)),
        "v2" => ("PUT", document.clone()),
        "v1" => ("PUT", json!([older(document)])),
        _ => return Err("as is receipt, v1 or v2".to_owned()),
    };
    let place = if body.is_array() { &mut body[0] } else { &mut body };
    if let (Some(place), Some(Value::Object(more))) = (place.as_object_mut(), options.get("more")) {
        place.extend(more.clone());
    }
    Ok(sent(method, &body, &settings.user_token, options))
}

/// The receipt of a document: without the buyer and without the sale of a refund.
fn receipt(settings: &Settings, document: &Value) -> Value {
    let body = &document["body"];
    let positions = body["positions"].as_array().map_or(&[][..], Vec::as_slice);
    let items: Vec<Value> = positions
        .iter()
        .map(|line| {
            json!({"id": line["product_id"], "name": line["product_name"], "itemType": line["product_type"], "measureName": line["measure_name"],
                "quantity": line["quantity"], "price": line["price"], "sumPrice": line["sum"], "tax": 0.0, "taxPercent": 0})
        })
        .collect();
    json!({
        "id": wire::uuid(), "timestamp": wire::now_ms(), "userId": settings.user_id, "type": "ReceiptCreated", "version": 2,
        "data": {
            "id": document["id"], "deviceId": document["device_id"], "storeId": document["store_id"], "dateTime": document["close_date"],
            "type": document["type"], "shiftId": document["session_number"].to_string(), "employeeId": document["close_user_id"],
            "paymentSource": "PAY_CARD", "infoCheck": false, "egais": false, "items": items,
            "totalTax": 0.0, "totalAmount": body["result_sum"], "extras": document["extras"],
        },
    })
}

/// The same document in the older shape: sums of documents as texts, refunds below zero.
fn older(document: &Value) -> Value {
    let body = &document["body"];
    let sign = if document["type"] == "PAYBACK" { -1.0 } else { 1.0 };
    let sum = sign * body["result_sum"].as_f64().unwrap_or_default();
    let end = |kind: &str| {
        json!({"type": kind, "clientName": null, "clientPhone": body["customer_phone"],
            "baseDocumentUUID": body["base_document_id"], "baseDocumentNumber": body["base_document_number"]})
    };
    let mut done = vec![end("DOCUMENT_OPEN")];
    for line in body["positions"].as_array().map_or(&[][..], Vec::as_slice) {
        done.push(json!({"type": "REGISTER_POSITION", "commodityUuid": line["product_id"], "commodityName": line["product_name"],
            "quantity": line["quantity"].as_f64().map(|count| sign * count), "resultSum": line["result_sum"].as_f64().map(|sum| sign * sum)}));
    }
    done.push(json!({"type": "PAYMENT", "sum": sum, "paymentType": "CASH"}));
    done.push(end("DOCUMENT_CLOSE"));
    json!({
        "uuid": document["id"], "type": document["type"], "number": document["number"], "closeDate": document["close_date"],
        "deviceUuid": document["device_id"], "storeUuid": document["store_id"], "closeUserUuid": document["close_user_id"],
        "sessionNumber": document["session_number"].to_string(), "closeSum": sum.to_string(), "closeResultSum": sum.to_string(),
        "extras": document["extras"], "version": "V1", "transactions": done,
    })
}

/// What Evotor asks in the name of the application. Options: `what` (`create`, `verify` or `token`), `more`, and those of the token.
pub(super) fn login(settings: &Settings, options: &Value) -> Result<Case, String> {
    let mut body = json!({"userId": settings.user_id});
    match options["what"].as_str().unwrap_or("token") {
        "create" => body["customField"] = json!(""),
        "verify" => {
            body["username"] = json!("shop1");
            body["password"] = json!("not-a-real-one");
        }
        "token" => body["token"] = json!(settings.cloud_token),
        _ => return Err("what is create, verify or token".to_owned()),
    }
    if let (Some(body), Some(Value::Object(more))) = (body.as_object_mut(), options.get("more")) {
        body.extend(more.clone());
    }
    Ok(sent("POST", &body, &settings.application_token, options))
}

/// A receipt that another program passes on, signed. Options: `type`, `data`, `secret`, `signature` (another one).
pub(super) fn private(settings: &Settings, options: &Value) -> Result<Case, String> {
    let data =
        options.get("data").cloned().unwrap_or_else(|| json!({"uuid": "5f0c7d1e-1111-4222-8333-444455556666", "total": 1000}));
    let secret = options["secret"].as_str().unwrap_or(&settings.bridge_secret);
    let signature = hex::encode(hmac_sha256(secret.as_bytes(), data.to_string().as_bytes()));
    let signature = options.get("signature").cloned().unwrap_or_else(|| json!(signature));
    let kind = options["type"].as_str().unwrap_or("receipt.sell");
    let body = json!({"id": wire::uuid(), "timestamp": wire::now_ms(), "type": kind, "data": data, "signature": signature});
    Ok(sent("POST", &body, &settings.user_token, options))
}
