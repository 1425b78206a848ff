//! Money: integer minor units with a currency.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount in a currency's minor unit (cents), as it stands in every request and answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units, never negative in what Evently sells.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64, example = 4500)]
    pub amount: i64,
    /// ISO 4217, three capital letters.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    pub currency: String,
}

impl Money {
    /// The largest amount of one price: 10 billion in a currency with cents. Sums of 1,000 of them fit an i64.
    pub const MAX_AMOUNT: i64 = 1_000_000_000_000;

    pub fn new(amount: i64, currency: &str) -> Self {
        Self { amount, currency: currency.to_owned() }
    }

    /// Whether the amount is in range and the currency looks like one.
    pub fn is_valid(&self) -> bool {
        (0..=Self::MAX_AMOUNT).contains(&self.amount)
            && self.currency.len() == 3
            && self.currency.bytes().all(|b| b.is_ascii_uppercase())
    }
}

/// How many decimals a currency's amounts have, by ISO 4217.
fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// As people read it: `EUR 1,234.50`, `JPY 4,500`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = decimals(&self.currency);
        let digits = format!("{:0>width$}", self.amount.unsigned_abs(), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let sign = if self.amount < 0 { "-" } else { "" };
        write!(f, "{} {sign}", self.currency)?;
        for (index, digit) in whole.char_indices() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        if decimals > 0 { write!(f, ".{fraction}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_minor_units_as_each_currency_counts_them() {
        for (amount, currency, shown) in [
            (4_500, "EUR", "EUR 45.00"),
            (123_450, "USD", "USD 1,234.50"),
            (7, "EUR", "EUR 0.07"),
            (0, "EUR", "EUR 0.00"),
            (4_500, "JPY", "JPY 4,500"),
            (1_000_000, "KRW", "KRW 1,000,000"),
            (1_234_567, "KWD", "KWD 1,234.567"),
            (-250, "GBP", "GBP -2.50"),
            (Money::MAX_AMOUNT, "EUR", "EUR 10,000,000,000.00"),
        ] {
            assert_eq!(Money::new(amount, currency).to_string(), shown);
        }
    }
}
