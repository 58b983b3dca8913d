//! Money: whole millionths of a euro, exact.
//!
//! Floats appear at the edges only (a TOML price, a JSON answer); sums and comparisons are whole numbers.

use std::{fmt, iter::Sum, ops};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in millionths of a euro: exact, and small enough for an email's price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroEuros(pub i64);

impl MicroEuros {
    pub const ZERO: MicroEuros = MicroEuros(0);

    /// The amount nearest to `euros`; `None` where it is not a finite number of 0 to 1,000,000,000 euros.
    pub fn from_euros(euros: f64) -> Option<Self> {
        (euros.is_finite() && (0.0..=1e9).contains(&euros)).then(|| Self((euros * 1e6).round() as i64))
    }

    /// Euros, for estimates shown to people and scripts.
    pub fn euros(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// `count` times the amount, capped instead of wrapped.
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(i64::from(count)))
    }
}

impl ops::Add for MicroEuros {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MicroEuros {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, ops::Add::add)
    }
}

/// Euros with two to six decimals: `0.05`, `0.0006`, `0.15`.
impl fmt::Display for MicroEuros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:06}", (self.0 % 1_000_000).unsigned_abs());
        let kept = digits.trim_end_matches('0').len().max(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{}", (self.0 / 1_000_000).unsigned_abs(), &digits[..kept])
    }
}

/// JSON carries euros as a number with at most six decimals (details.md section 3).
impl Serialize for MicroEuros {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.euros())
    }
}

impl<'de> Deserialize<'de> for MicroEuros {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let euros = f64::deserialize(from)?;
        Self::from_euros(euros)
            .ok_or_else(|| serde::de::Error::custom("expected an amount in euros, 0 or more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_readable() {
        let sms = MicroEuros::from_euros(0.05).unwrap();
        assert_eq!(sms.times(3), MicroEuros(150_000));
        assert_eq!(sms.times(3).to_string(), "0.15");
        assert_eq!(MicroEuros::from_euros(0.0006).unwrap().to_string(), "0.0006");
        assert_eq!(MicroEuros(1_500_000).to_string(), "1.50");
        assert_eq!(MicroEuros::ZERO.to_string(), "0.00");
        assert_eq!(MicroEuros(-50_000).to_string(), "-0.05");
        assert_eq!(serde_json::to_string(&sms).unwrap(), "0.05");
        for bad in [f64::NAN, f64::INFINITY, -0.01, 1e12] {
            assert_eq!(MicroEuros::from_euros(bad), None);
        }
    }
}
