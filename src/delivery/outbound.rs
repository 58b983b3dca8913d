//! A message as its driver gets it: the plan's hop, the content in that hop's form, dressed with what tells of it.
//!
//! Made anew for each attempt, and the same again where the attempt is looked for. It decides nothing.

use chrono::TimeDelta;

use super::worker::Worker;
use crate::{
    channels::Outbound,
    domain::{
        delivery::{Hop, Next},
        ids::AttemptId,
    },
    store::Claimed,
};

/// How long a message waits where it could not be dressed, in seconds.
const UNDRESSED_SECONDS: i64 = 10;

impl Worker {
    pub(super) fn outbound(claimed: &Claimed, hop: &Hop, attempt: AttemptId, number: u16) -> Outbound {
        let mut content = claimed.request.content.clone();
        if let Some(rendered) = &hop.rendered {
            content.subject.clone_from(&rendered.subject);
            content.body.clone_from(&rendered.body);
            content.html.clone_from(&rendered.html);
        }
        Outbound {
            message: claimed.id,
            attempt,
            attempt_number: number,
            channel: hop.channel,
            to: hop.address.clone(),
            to_name: claimed.request.recipient_name.clone(),
            from: hop.from.clone(),
            from_name: hop.from_name.clone(),
            reply_to: hop.reply_to.clone(),
            content,
            class: claimed.plan.class,
            locale: claimed.request.locale.clone(),
            tenant: claimed.request.tenant.clone(),
            deadline: claimed.plan.deadline,
            status_callback: None,
            return_token: None,
            unsubscribe: None,
            approved_template: hop.rendered.as_ref().and_then(|rendered| rendered.approved_template.clone()),
            in_service_window: claimed.in_service_window,
        }
    }

    /// Adds what the public listener needs; where that fails, nothing is sent now.
    pub(super) async fn dress(
        &self,
        claimed: &Claimed,
        driver: &str,
        outbound: &mut Outbound,
    ) -> Result<(), Next> {
        let Some(dress) = &self.dress else { return Ok(()) };
        dress.dress(driver, &claimed.plan.tracking, outbound).await.map_err(|why| {
            tracing::warn!(message_id = %claimed.id, why, "its links could not be made: nothing was sent");
            let at = self.clock.now() + TimeDelta::seconds(UNDRESSED_SECONDS);
            Next::HoldUntil { at, reason: "its links could not be made".to_owned() }
        })
    }
}
