//! Sums of rows, by which damage on the disk is noticed before it is believed (reliability.md F14).
//!
//! Of messages and attempts the database keeps them itself, in a generated column; here is the same sum once more, to be
//! compared when a row is read. Of bodies the writer computes them. Nothing is mended: what does not add up is refused,
//! and quarantined where it was to be sent.

use crc::{CRC_64_XZ, Crc, Table};

/// What a row of `messages` adds up to (migration 7).
pub(super) const MESSAGE: &str = "(CASE status WHEN 'queued' THEN 1 WHEN 'held' THEN 2 WHEN 'retrying' THEN 3 WHEN 'sending' \
             THEN 4 WHEN 'sent' THEN 5 WHEN 'delivered' THEN 6 WHEN 'unknown' THEN 7 WHEN 'failed' THEN 8 WHEN \
             'expired' THEN 9 WHEN 'skipped' THEN 10 WHEN 'cancelled' THEN 11 WHEN 'unresolved' THEN 12 WHEN \
             'quarantined' THEN 13 ELSE 0 END * 1000003 + CASE sent_via WHEN 'sms' THEN 1 WHEN 'email' \
             THEN 2 WHEN 'whatsapp' THEN 3 WHEN 'telegram' THEN 4 ELSE 0 END * 100003 + CASE \
             escalated_from WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 ELSE 0 END * 10007 + CASE \
             class WHEN 'marketing' THEN 1 ELSE 0 END * 20011 + CASE WHEN open_attempt IS NULL \
             THEN 0 ELSE 30011 END + accepted_at * 3 + COALESCE(due_at, -1) * 5 + \
             COALESCE(deadline, -1) * 7 + COALESCE(lease_until, -1) * 11 + hop * 13 + \
             attempts * 17 + hop_attempts * 19 + waived * 23 + resend_used * \
             29 + resent_by_hand * 31 + possible_duplicate * 37 + fence * 41 + \
             crashes * 43 + polls * 47 + engaged * 53 + corrected * 59)";

/// What a row of `attempts` adds up to.
pub(super) const ATTEMPT: &str = "(CASE status WHEN 'intent' THEN 1 WHEN 'accepted' THEN 2 WHEN 'refused_permanent' THEN 3 WHEN \
             'refused_temporary' THEN 4 WHEN 'not_sent' THEN 5 WHEN 'unknown' THEN 6 ELSE 0 END * 1000003 + CASE \
             channel WHEN 'sms' THEN 1 WHEN 'email' THEN 2 WHEN 'whatsapp' THEN 3 WHEN 'telegram' THEN 4 ELSE 0 \
             END * 100003 + CASE receipt WHEN 'accepted' THEN 1 WHEN 'sent' THEN 2 WHEN 'delivered' THEN 3 WHEN \
             'read' THEN 4 WHEN 'undelivered' THEN 5 ELSE 0 END * 10007 + COALESCE(LENGTH(provider_message_id), \
             -1) * 20011 + started_at * 3 + COALESCE(finished_at, -1) * 5 + number * 7 + hop * 11 + fence * 13 + \
             estimate * 17 + cost * 19 + waived * 23 + receipt_conflict * 29)";

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

/// What a body adds up to, part by part; never 0, which stands for a body that was written before there were sums.
pub(super) fn body<'t>(parts: impl IntoIterator<Item = &'t str>) -> i64 {
    let mut digest = CRC.digest();
    for part in parts {
        digest.update(part.as_bytes());
        // No text holds it: what moves from one part to the next is noticed.
        digest.update(&[0xff]);
    }
    match digest.finalize().cast_signed() {
        0 => 1,
        sum => sum,
    }
}

/// Whether a body is as it was written, as far as that is known.
pub(super) fn is_whole<'t>(kept: i64, parts: impl IntoIterator<Item = &'t str>) -> bool {
    kept == 0 || kept == body(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_which_a_bit_changed_is_not_whole() {
        let (request, plan) = ("{\"text\":\"Rendez-vous\"}", "{\"hops\":[]}");
        let kept = body([request, plan]);
        assert!(is_whole(kept, [request, plan]) && is_whole(0, [request, plan]));
        assert!(!is_whole(kept, [request]) && !is_whole(kept, [plan, request]));
        let joined = format!("{request}{plan}");
        assert!(!is_whole(kept, [joined.as_str(), ""]));
        for at in 0..request.len() {
            for bit in 0..7 {
                let mut bytes = request.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(!is_whole(kept, [changed.as_str(), plan]), "{changed}");
            }
        }
    }
}
