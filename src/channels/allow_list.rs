//! The staging wall: a driver that lets through only the recipients that the operator lists.
//!
//! Refuses the others for good, before the real driver hears of them; it never rewrites an address.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Driver, Found, LookUp, Outbound, PrepareError, Prepared, callback::Callbacks};
use crate::domain::{
    channel::Channel,
    delivery::{AttemptError, ErrorClass},
};

/// The driver behind `allow_recipients`: patterns such as `*@example.com`, `+3361234*`, `+33612345678`.
pub fn only_to(driver: Arc<dyn Driver>, patterns: &[String]) -> Arc<dyn Driver> {
    Arc::new(AllowList { driver, patterns: patterns.iter().map(|p| p.to_lowercase()).collect() })
}

#[derive(Debug)]
struct AllowList {
    driver: Arc<dyn Driver>,
    patterns: Vec<String>,
}

#[async_trait]
impl Driver for AllowList {
    fn name(&self) -> &str {
        self.driver.name()
    }

    fn channels(&self) -> &[Channel] {
        self.driver.channels()
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.driver.send_timeout_seconds()
    }

    fn credential(&self) -> &str {
        self.driver.credential()
    }

    fn enforces_service_window(&self) -> bool {
        self.driver.enforces_service_window()
    }

    fn services_of(&self, number: &str) -> Vec<String> {
        self.driver.services_of(number)
    }

    async fn look_up(&self, attempt: &LookUp) -> Found {
        self.driver.look_up(attempt).await
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        self.driver.callbacks()
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let address = outbound.to.as_str().to_lowercase();
        if self.patterns.iter().any(|pattern| matches(pattern.as_bytes(), address.as_bytes())) {
            return self.driver.prepare(outbound).await;
        }
        Err(PrepareError {
            error: AttemptError {
                class: ErrorClass::Permanent,
                code: Some("not_allowed".into()),
                detail: "the recipient is not in allow_recipients of orchestrator.toml: nothing was sent"
                    .into(),
            },
            retry_after_seconds: None,
        })
    }
}

/// Whether `text` has the shape of `pattern`, in which `*` stands for anything.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((star_p, star_t)) = star {
            // The star takes one more character.
            (p, t) = (star_p + 1, star_t + 1);
            star = Some((star_p, star_t + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*@example.com", "ada@example.com", true),
            ("*@example.com", "ada@example.com.evil.org", false),
            ("*@example.com", "ada@notexample.org", false),
            ("+3361234*", "+33612345678", true),
            ("+3361234*", "+33712345678", false),
            ("+33612345678", "+33612345678", true),
            ("+33612345678", "+336123456789", false),
            ("*", "anything", true),
            ("", "anything", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
