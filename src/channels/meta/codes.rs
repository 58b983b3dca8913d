//! Meta's error codes and what each means for a message (Cloud API error reference of May 2026).
//!
//! Data only. A code that is not here is read by its HTTP status (`classify`).

use crate::domain::delivery::ErrorClass::{self, Misconfigured, Permanent, Temporary, Unknown};

/// A range of codes, its class, and words for people where Meta's own do not say what to do.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    pub from: i64,
    pub to: i64,
    pub class: ErrorClass,
    pub advice: &'static str,
}

const fn one(code: i64, class: ErrorClass, advice: &'static str) -> Code {
    Code { from: code, to: code, class, advice }
}

const TOKEN: &str = "renew access_token of this driver";
const PERMISSION: &str = "give the token's system user the permission whatsapp_business_messaging";
const REGISTER: &str = "register or verify the phone number in WhatsApp Manager";
const TEMPLATE: &str =
    "mend the approved template, or what fills it, in WhatsApp Manager and in the policies";
const RATE: &str = "";

/// Every code that we know, in order.
#[rustfmt::skip]
pub const CODES: &[Code] = &[
    one(0, Misconfigured, TOKEN),
    // "Invalid request or possible server error": the one answer that leaves open whether it was done.
    one(1, Unknown, ""),
    one(2, Unknown, ""),
    one(3, Misconfigured, PERMISSION),
    one(4, Temporary, RATE),
    one(10, Misconfigured, PERMISSION),
    one(33, Misconfigured, "phone_number_id names no number of this account"),
    one(100, Permanent, ""),
    one(190, Misconfigured, TOKEN),
    Code { from: 200, to: 299, class: Misconfigured, advice: PERMISSION },
    one(368, Misconfigured, "Meta blocked the account for a breach of its policies: see WhatsApp Manager"),
    one(80_007, Temporary, RATE),
    one(130_429, Temporary, RATE),
    one(130_472, Permanent, "the person is in an experiment of Meta's that receives no marketing"),
    one(130_497, Permanent, "the account may not write to that country"),
    one(131_000, Unknown, ""),
    one(131_005, Misconfigured, PERMISSION),
    one(131_008, Permanent, ""),
    one(131_009, Permanent, ""),
    one(131_016, Unknown, ""),
    one(131_021, Permanent, "the recipient is the sender"),
    one(131_026, Permanent, "the number is not on WhatsApp, or cannot receive from businesses"),
    one(131_030, Permanent, "add the number to the test number's recipients in the app's dashboard"),
    one(131_031, Misconfigured, "Meta locked the account: see WhatsApp Manager"),
    one(131_037, Misconfigured, "get the number's display name approved in WhatsApp Manager"),
    one(131_042, Misconfigured, "mend the account's payment method in WhatsApp Manager"),
    one(131_045, Misconfigured, REGISTER),
    one(131_047, Permanent, "the person has not written within 24 hours: send an approved template"),
    one(131_048, Temporary, "too many people blocked this number or reported it as spam"),
    one(131_049, Permanent, "Meta kept this marketing message from a person who receives too many"),
    one(131_050, Permanent, "the person turned this business's marketing off in WhatsApp"),
    one(131_051, Permanent, ""),
    one(131_052, Permanent, ""),
    one(131_053, Permanent, "WhatsApp does not take a file of this type or size"),
    one(131_056, Temporary, RATE),
    one(131_057, Temporary, "the account is in maintenance"),
    Code { from: 132_000, to: 132_014, class: Permanent, advice: TEMPLATE },
    one(132_015, Permanent, "the template is paused for its quality: edit it in WhatsApp Manager"),
    one(132_016, Permanent, "the template is disabled for good: make another"),
    Code { from: 132_017, to: 132_068, class: Permanent, advice: TEMPLATE },
    one(132_069, Temporary, RATE),
    one(133_000, Misconfigured, REGISTER),
    one(133_004, Temporary, ""),
    one(133_005, Misconfigured, REGISTER),
    one(133_006, Misconfigured, REGISTER),
    one(133_008, Temporary, RATE),
    one(133_009, Temporary, RATE),
    one(133_010, Misconfigured, REGISTER),
    one(133_015, Temporary, RATE),
    one(133_016, Temporary, RATE),
    one(135_000, Permanent, ""),
];

/// What is known of a code.
pub fn find(code: i64) -> Option<&'static Code> {
    CODES.iter().find(|known| (known.from..=known.to).contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_no_two_rows_claim_one_code() {
        for pair in CODES.windows(2) {
            assert!(pair[0].to < pair[1].from, "{pair:?}");
        }
        assert!(CODES.iter().all(|code| code.from <= code.to));
    }
}
