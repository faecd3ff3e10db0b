//! What the providers send: the list of cases, and the raw requests behind them.
//!
//! The bodies are the samples that came with the dossiers, byte for byte, so that a reader of webhooks is tried
//! against what was seen and not against what somebody made of it.

use std::collections::BTreeMap;

use crate::wire;

/// A case that a provider can send.
pub struct CaseInfo {
    pub provider: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    file: &'static str,
    content: &'static str,
}

/// A request as the provider would send it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    pub method: String,
    /// Empty when there is no body.
    pub content_type: String,
    pub headers: Vec<(String, String)>,
    /// To be put behind the address, for the cases that are a browser's or a provider's GET.
    pub query: String,
    pub body: Vec<u8>,
}

macro_rules! cases {
    ($($provider:literal $name:literal $file:literal $description:literal;)*) => {
        &[$(CaseInfo {
            provider: $provider,
            name: $name,
            description: $description,
            file: $file,
            content: include_str!(concat!("../samples/", $provider, "/", $file)),
        }),*]
    };
}

/// All cases, by provider.
#[rustfmt::skip]
pub const CASES: &[CaseInfo] = cases! {
    "smsru" "callback" "callback_one.form" "statuses of the accepted messages, signed with the api_id of the settings; `sms_ids`, `status`, `check_id`, `check_status` choose others";
    "smsru" "callback_one" "callback_one.form" "one delivered message";
    "smsru" "callback_three" "callback_three.form" "a delivered and an expired message and a confirmed call check";
    "smsru" "callback_probe" "callback_probe.form" "the probe after registration: no data and no hash";
    "iiko" "webhook_delivery_delivered" "webhook_delivery_delivered.json" "a delivery that was delivered";
    "iiko" "webhook_delivery_closed_same_order" "webhook_delivery_closed_same_order.json" "the same order closed afterwards";
    "iiko" "webhook_delivery_closed_aggregator" "webhook_delivery_closed_aggregator.json" "a closed order of an aggregator, with a relay number";
    "iiko" "webhook_delivery_cancelled" "webhook_delivery_cancelled.json" "a cancelled delivery";
    "iiko" "webhook_delivery_inprogress" "webhook_delivery_inprogress.json" "an order still being created: no `order` inside";
    "iiko" "webhook_delivery_error" "webhook_delivery_error.json" "an order whose creation failed";
    "iiko" "webhook_delivery_item_status_repeat" "webhook_delivery_item_status_repeat.json" "the same status again, because an item changed";
    "iiko" "webhook_mixed_batch" "webhook_mixed_batch.json" "several kinds of events in one body";
    "iiko" "webhook_table_closed_no_phone" "webhook_table_closed_no_phone.json" "a closed table order without a guest";
    "iiko" "webhook_table_closed_regular_customer" "webhook_table_closed_regular_customer.json" "a closed table order of a known guest";
    "iiko" "webhook_reserve_update" "webhook_reserve_update.json" "a reservation";
    "iiko" "webhook_stop_list_update" "webhook_stop_list_update.json" "a hint that stop-lists changed";
    "iiko" "webhook_personal_shift" "webhook_personal_shift.json" "an employee's shift";
    "iiko" "webhook_soi_update" "webhook_soi_update.json" "the older order-source notification";
    "iiko" "webhook_seed_shape_bare_object" "webhook_seed_shape_bare_object.json" "a bare object instead of an array";
    "amocrm" "webhook_status_won" "webhook_status_won.form" "a deal won";
    "amocrm" "webhook_status_won_http" "webhook_status_won.http" "the same, with the headers of a captured request";
    "amocrm" "webhook_status_lost" "webhook_status_lost.form" "a deal lost";
    "amocrm" "webhook_status_other_stage" "webhook_status_other_stage.form" "a deal moved to some other stage";
    "amocrm" "webhook_status_two_leads" "webhook_status_two_leads.form" "two deals in one body";
    "amocrm" "webhook_contact_update" "webhook_contact_update.form" "a contact changed, with its phone";
    "amocrm" "webhook_company_as_contact_delete" "webhook_company_as_contact_delete.form" "a company deleted, sent as a contact";
    "amocrm" "webhook_lead_delete" "webhook_lead_delete.form" "a deal deleted";
    "amocrm" "webhook_responsible_price_empty" "webhook_responsible_price_empty.form" "another person responsible, with an empty price";
    "amocrm" "webhook_seed_shape" "webhook_seed_shape.json" "JSON instead of a form";
    "amocrm" "webhook_seed_shape_lead_and_contact" "webhook_seed_shape_lead_and_contact.form" "a deal and its contact in one form";
    "amocrm" "disable_hook" "disable_hook.http" "the integration was switched off; `client_uuid`, `account_id` and `client_secret` sign another";
    "amocrm" "oauth_redirect" "oauth_redirect.http" "the browser coming back with a code";
    "jowi" "event" "loyalty-webhook.http" "points were added; the signature is that of the first key";
    "yclients" "webhook_record_came" "webhook_record_came.json" "the client came";
    "yclients" "webhook_record_confirmed_2" "webhook_record_confirmed_2.json" "the client confirmed the booking";
    "yclients" "webhook_record_create_waiting" "webhook_record_create_waiting.json" "a new booking";
    "yclients" "webhook_record_did_not_come" "webhook_record_did_not_come.json" "the client did not come";
    "yclients" "webhook_record_delete" "webhook_record_delete.json" "a booking deleted";
    "yclients" "webhook_record_update_deleted_1" "webhook_record_update_deleted_1.json" "a booking deleted, sent as an update";
    "yclients" "webhook_record_client_null" "webhook_record_client_null.json" "a walk-in: the client is null";
    "yclients" "webhook_record_client_empty_array" "webhook_record_client_empty_array.json" "a walk-in: the client is an empty array";
    "yclients" "webhook_record_array_wrapped" "webhook_record_array_wrapped.json" "the event wrapped in an array";
    "yclients" "webhook_client_update" "webhook_client_update.json" "a client changed; the phone is a number";
    "yclients" "webhook_good_delete" "webhook_good_delete.json" "a product deleted";
    "yclients" "webhook_goods_operations_sale" "webhook_goods_operations_sale.json" "a product sold";
    "yclients" "webhook_schedule_empty_data" "webhook_schedule_empty_data.json" "a schedule event with an empty array as data";
    "yclients" "webhook_seed_shape" "webhook_seed_shape.json" "the shape with `resource` as an object";
    "yclients" "marketplace_uninstall" "marketplace_uninstall.json" "the application was removed";
    "yclients" "marketplace_freeze_event_type" "marketplace_freeze_event_type.json" "the application was frozen; the name is in `event_type`";
    "yclients" "marketplace_install_redirect" "marketplace_install_redirect.http" "the browser of a new customer; `salon_id`, `user_data` and `partner_token` sign another";
    "telegram" "start" "update_start_deeplink.json" "a person opened the chat by a link; `text`, `chat`, `update_id` choose others";
    "telegram" "contact" "update_contact.json" "a person shared their own number";
    "telegram" "blocked" "update_my_chat_member_blocked.json" "a person blocked the bot; `chat`, `update_id` choose others";
    "rkeeper" "push_seed_shape" "push_seed_shape.json" "an order done, the customer's phone inside";
    "rkeeper" "push_delivered_client" "push_delivered_client.json" "an order delivered, the phone under `client`";
    "rkeeper" "push_flat_template" "push_flat_template.json" "a flat template, the phone with brackets";
    "rkeeper" "push_like_delivery_api" "push_like_delivery_api.json" "a template in the shape of the delivery API";
    "rkeeper" "push_status_object" "push_status_object.json" "the status as an object";
    "rkeeper" "push_kitchen" "push_kitchen.json" "an order sent to the kitchen";
    "rkeeper" "push_cancelled" "push_cancelled.json" "an order cancelled";
    "rkeeper" "push_no_phone" "push_no_phone.json" "an order done, without a phone";
    "rkeeper" "push_no_status" "push_no_status.json" "a template without a status";
    "rkeeper" "push_form" "push_form.form" "a form instead of JSON";
    "rkeeper" "push_with_bearer" "push_with_bearer.http" "the secret in `Authorization`";
    "rkeeper" "push_with_x_api_key" "push_with_x_api_key.http" "the secret in `X-Api-Key`";
    "rkeeper" "carbis_status_callback" "carbis_status_callback.json" "the callback of a dealer's product";
    "rkeeper" "ws_event_order_status_changed" "ws_event_order_status_changed.json" "a White Server event";
    "rkeeper" "ws_v1_event" "ws_v1_event.xml" "an older White Server event, in XML";
    "poster" "webhook" "webhook_transaction_closed.json" "a webhook, signed; `object`, `object_id`, `action`, `time`, `data`, `account`, `secret`, `verify`, `more` choose others";
    "poster" "proxied" "proxied_quote_request.http" "a request of code on the till, signed; `url`, `body`, `time`, `secret`, `spot_id` choose others";
    "poster" "webhook_transaction_closed" "webhook_transaction_closed.json" "an order was closed";
    "poster" "webhook_transaction_changed" "webhook_transaction_changed.json" "a line was added to an order";
    "poster" "webhook_incoming_order_added" "webhook_incoming_order_added.json" "an order from outside the till";
    "poster" "webhook_client_added" "webhook_client_added.json" "a new client";
    "poster" "webhook_client_ewallet_changed" "webhook_client_ewallet_changed.json" "money of a client's wallet was spent";
    "poster" "webhook_stock_changed" "webhook_stock_changed.json" "an amount in stock changed";
    "poster" "webhook_application_added" "webhook_application_added.json" "an account connected the application: with its token";
    "evotor" "webhook" "webhook_receipt_sell.json" "a document told of; `id`, `as` (receipt, v1, v2), `more`, `token`, `scheme`, `method` choose others";
    "evotor" "login" "webhook_user_token.http" "what Evotor asks for the application; `what` (create, verify, token), `more`, `token`, `scheme` choose others";
    "evotor" "private" "seed_platform_webhook.json" "a receipt that another program passes on, signed; `type`, `data`, `secret`, `signature` choose others";
    "evotor" "webhook_receipt_sell" "webhook_receipt_sell.json" "the receipt of a sale";
    "evotor" "webhook_receipt_payback" "webhook_receipt_payback.json" "the receipt of a refund";
    "evotor" "webhook_document_put_v2" "webhook_document_put_v2.json" "a sale as a document";
    "evotor" "document_payback_v2" "document_payback_v2.json" "a refund as a document";
    "evotor" "webhook_documents_put_v1" "webhook_documents_put_v1.json" "a sale in the older shape";
    "evotor" "webhook_installation_event" "webhook_installation_event.json" "the application was installed";
    "evotor" "webhook_stores_put_v2" "webhook_stores_put_v2.json" "the stores changed";
    "evotor" "webhook_subscription_terminated" "webhook_subscription_terminated.json" "the subscription has ended";
    "modulkassa" "callback" "fn_callback_get.http" "a document was printed; `document`, `method`, `token`, `more`, `body` choose others";
    "modulkassa" "fn_callback_get" "fn_callback_get.http" "the same as a GET, with what some receivers saw";
    "modulkassa" "fn_callback_post" "fn_callback_post.http" "the same as a form";
    "modulkassa" "seed_webhook_example" "seed_webhook_example.json" "what a test of another platform sends";
    "resend" "webhook" "webhook_delivered.json" "what became of the last e-mail, signed; `event`, `email_id`, `data`, `created_at`, `age_s`, `svix_id`, `secret`, `old_secret`, `names` choose others";
    "resend" "webhook_bounced" "webhook_bounced.json" "a final bounce, without a signature";
    "resend" "webhook_complained" "webhook_complained.json" "a complaint, without a signature";
    "resend" "webhook_delivery_delayed" "webhook_delivery_delayed.json" "a delay, without a signature";
    "resend" "webhook_failed" "webhook_failed.json" "an e-mail that failed, without a signature";
    "resend" "webhook_received" "webhook_received.json" "an e-mail that came in, without a signature";
    "resend" "webhook_suppressed" "webhook_suppressed.json" "an e-mail to a suppressed address, without a signature";
    "exolvesms" "event" "event_outgoing_delivered.json" "what became of the messages that were accepted; `message_ids`, `state`, `without_date` choose others";
    "exolvesms" "event_outgoing_delivered" "event_outgoing_delivered.json" "a message delivered";
    "exolvesms" "event_outgoing_retries_exceeded" "event_outgoing_retries_exceeded.json" "a message that never arrived";
    "exolvesms" "event_incoming" "event_incoming.json" "a person wrote";
    "whatsappmeta" "webhook_verify" "webhook_verify.http" "the greeting of an address for webhooks";
    "whatsappmeta" "webhook_inbound_text" "webhook_inbound_text.json" "the documents' message, byte for byte";
    "whatsappmeta" "webhook_status_sent" "webhook_status_sent.json" "a message was sent";
    "whatsappmeta" "webhook_status_delivered" "webhook_status_delivered.json" "a message was delivered";
    "whatsappmeta" "webhook_status_read" "webhook_status_read.json" "a message was read";
    "whatsappmeta" "webhook_status_failed_131047" "webhook_status_failed_131047.json" "a message failed: the person has not written for a day";
    "whatsappmeta" "webhook_template_status_update" "webhook_template_status_update.json" "a template was paused";
    "whatsappmeta" "webhook_user_preferences_stop" "webhook_user_preferences_stop.json" "a person stopped marketing messages";
};

/// The request of a case; `None` when the provider has no such case.
pub fn case(provider: &str, case: &str) -> Option<Case> {
    let info = CASES.iter().find(|info| info.provider == provider && info.name == case)?;
    Some(info.request())
}

impl CaseInfo {
    /// The request of this case.
    pub fn request(&self) -> Case {
        let kind = self.file.rsplit('.').next().unwrap_or_default();
        let content_type = match kind {
            "http" => return raw(self.content),
            "form" => "application/x-www-form-urlencoded",
            "xml" => "application/xml; charset=utf-8",
            _ => "application/json; charset=utf-8",
        };
        Case {
            method: "POST".to_owned(),
            content_type: content_type.to_owned(),
            body: self.content.trim_end().as_bytes().to_vec(),
            ..Case::default()
        }
    }
}

/// Reads a request that is written down with its request line and headers.
fn raw(text: &str) -> Case {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let mut start = lines.next().unwrap_or_default().split(' ');
    let method = start.next().unwrap_or_default().to_owned();
    let target = start.next().unwrap_or_default();
    let mut case = Case { body: body.trim_end().as_bytes().to_vec(), ..Case::default() };
    // A POST brings the query of its own address; the key in the sample's is not the receiver's.
    if method == "GET" {
        let query = target.split_once('?').map(|(_, query)| query);
        case.query = query.unwrap_or_default().to_owned();
    }
    case.method = method;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            // These follow from where and what is sent.
            "host" | "content-length" => {}
            "content-type" => case.content_type = value.to_owned(),
            _ => case.headers.push((name.to_owned(), value.to_owned())),
        }
    }
    case
}

impl Case {
    /// The same request with texts replaced everywhere: in the body, the headers and the query. In a form the texts
    /// are also looked for in their percent-encoded writing.
    #[must_use]
    pub fn replaced(mut self, replace: &BTreeMap<String, String>) -> Case {
        let form = self.content_type.contains("urlencoded");
        for (old, new) in replace.iter().filter(|(old, _)| !old.is_empty()) {
            if let Ok(text) = std::str::from_utf8(&self.body) {
                let text = if form {
                    // Forms write a blank as a plus.
                    let encoded = |text: &str| wire::encode(text).replace("%20", "+");
                    text.replace(&encoded(old), &encoded(new))
                } else {
                    text.replace(old.as_str(), new)
                };
                self.body = text.into_bytes();
            }
            self.query = self.query.replace(&wire::encode(old), &wire::encode(new));
            for (_, value) in &mut self.headers {
                *value = value.replace(old.as_str(), new);
            }
        }
        self
    }
}
