//! Call checks: a person proves a phone by calling a number of SMS.ru, which drops the call.

use async_trait::async_trait;
use uzel_model::{
    CallError, Client,
    port::{CallCheck, CallCheckState, CallChecks},
};

use super::{SmsRu, wire::digits};
use crate::tree;

/// SMS.ru waits five minutes for the call.
const VALID_S: u32 = 300;

#[async_trait]
impl CallChecks for SmsRu {
    async fn begin(&self, client: &Client<'_>, phone: &str) -> Result<CallCheck, CallError> {
        let answer = self.call(client, "/callcheck/add", &[("phone", &*digits(phone))], false).await?;
        let (id, number) = (tree::text(&answer["check_id"]), tree::text(&answer["call_phone"]));
        let Some((id, number)) = id.zip(number).filter(|(_, number)| !digits(number).is_empty()) else {
            return Err(CallError::Unreadable("the answer has no check_id or no call_phone".to_owned()));
        };
        let call = format!("+{}", digits(&number));
        let call_pretty = tree::text(&answer["call_phone_pretty"]).unwrap_or_else(|| call.clone());
        Ok(CallCheck { id, call, call_pretty, valid_s: VALID_S })
    }

    async fn state(&self, client: &Client<'_>, id: &str) -> Result<CallCheckState, CallError> {
        let answer = self.call(client, "/callcheck/status", &[("check_id", id)], true).await?;
        let code = tree::integer(&answer["check_status"]);
        code.and_then(state).ok_or_else(|| CallError::Unreadable("check_status is none that is known".to_owned()))
    }
}

/// 402 is also said of an id that SMS.ru does not know.
pub(super) fn state(code: i64) -> Option<CallCheckState> {
    match code {
        400 => Some(CallCheckState::Waiting),
        401 => Some(CallCheckState::Confirmed),
        402 => Some(CallCheckState::Ended),
        _ => None,
    }
}
