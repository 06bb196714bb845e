//! Quantities such as `1500m` or `2Gi`: parsing, comparison and canonical form.
//!
//! Main type: [`Quantity`], an exact decimal number (in nano units) and the suffix family in which it was written.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Which suffixes a quantity was written with, and is printed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `m`, none, `k`, `M`, …
    DecimalSi,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `e3`, `E6`, …
    DecimalExponent,
}

/// An amount: exact to 10⁻⁹, capped at 2⁶³-1.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is not a quantity, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is none of the known ones.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// 2⁶³-1 whole units: larger amounts are capped, as Kubernetes does.
const MAX: i128 = (i64::MAX as i128) * NANO;

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// Ten to the power `n`, for `n` up to 38.
fn pow10(n: u32) -> Option<i128> {
    10_i128.checked_pow(n)
}

/// `digits` (an optional point inside) times 10^`exponent` times `factor` in nano units, rounded up; `None`: too large.
fn scale(digits: &str, exponent: i32, factor: i128) -> Option<i128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let mut mantissa: i128 = 0;
    let mut shift = exponent + 9;
    let mut lost = false;
    for digit in whole.bytes() {
        mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    for digit in fraction.bytes() {
        // Digits far below 10⁻⁹ only matter for rounding up.
        if mantissa > i128::MAX / 100 || shift < -30 {
            lost |= digit != b'0';
            continue;
        }
        mantissa = mantissa * 10 + i128::from(digit - b'0');
        shift -= 1;
    }
    mantissa = mantissa.checked_mul(factor)?;
    if mantissa == 0 {
        return Some(i128::from(lost));
    }
    if shift >= 0 {
        let result = mantissa.checked_mul(pow10(u32::try_from(shift).ok()?)?)?;
        return result.checked_add(i128::from(lost));
    }
    let Some(divisor) = u32::try_from(-shift).ok().and_then(pow10) else { return Some(1) };
    Some(mantissa / divisor + i128::from(mantissa % divisor != 0 || lost))
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(rest.len());
        let (digits, suffix) = rest.split_at(end);
        let points = digits.bytes().filter(|b| *b == b'.').count();
        if points > 1 || digits.len() == points {
            return Err(QuantityError::Format);
        }
        let suffix_ok = {
            let tail = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
            let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
            tail.bytes().all(|b| b.is_ascii_digit())
        };
        if !suffix_ok {
            return Err(QuantityError::Format);
        }
        let (format, exponent, factor) = if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
            (Format::DecimalSi, *exponent, 1)
        } else if let Some((_, bits)) = BINARY.iter().find(|(s, _)| *s == suffix) {
            (Format::BinarySi, 0, 1_i128 << bits)
        } else {
            let number = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i32 = number.parse().map_err(|_| QuantityError::Suffix)?;
            if exponent.abs() > 1000 {
                return Err(QuantityError::Suffix);
            }
            (Format::DecimalExponent, exponent, 1)
        };
        let nano = scale(digits, exponent, factor).unwrap_or(MAX).min(MAX);
        let nano = if negative { -nano } else { nano };
        Ok(Self { nano, format })
    }
}

impl Quantity {
    /// The amount in units of 10⁻⁹.
    #[must_use]
    pub fn nano(&self) -> i128 {
        self.nano
    }

    /// The amount in whole units, rounded up.
    #[must_use]
    pub fn value(&self) -> i64 {
        i64::try_from(self.nano.div_euclid(NANO) + i128::from(self.nano.rem_euclid(NANO) != 0)).unwrap_or(i64::MAX)
    }

    /// Whether the amount is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether the amount is a whole number of units.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// The sum, printed in the first one's suffix family.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_add(other.nano).clamp(-MAX, MAX), format: self.format }
    }

    /// The difference, in the format of the first.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_sub(other.nano).clamp(-MAX, MAX), format: self.format }
    }

    /// The canonical form of a quantity in text, or what is wrong with it.
    ///
    /// # Errors
    /// See [`QuantityError`].
    pub fn canonical(text: &str) -> Result<String, QuantityError> {
        text.parse::<Self>().map(|q| q.to_string())
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let magnitude = self.nano.unsigned_abs();
        let sign = if self.nano < 0 { "-" } else { "" };
        let nano = NANO.unsigned_abs();
        // Below 1024, and for fractions, binary suffixes say less than decimal ones.
        if self.format == Format::BinarySi && magnitude >= 1024 * nano && magnitude.is_multiple_of(nano) {
            let units = magnitude / nano;
            let (suffix, amount) = BINARY
                .iter()
                .rev()
                .find(|(_, bits)| units.is_multiple_of(1_u128 << bits))
                .map_or(("", units), |(suffix, bits)| (*suffix, units >> bits));
            return write!(f, "{sign}{amount}{suffix}");
        }
        let mut amount = magnitude;
        let mut exponent = -9;
        while amount.is_multiple_of(1000) && exponent < 18 {
            amount /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { write!(f, "{sign}{amount}") } else { write!(f, "{sign}{amount}e{exponent}") };
        }
        let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(s, _)| *s);
        write!(f, "{sign}{amount}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(input: &str, expect: &str) {
        assert_eq!(Quantity::canonical(input).unwrap(), expect, "{input}");
    }

    #[test]
    fn canonical_form() {
        check("1000m", "1");
        check("1024Mi", "1Gi");
        check("1.5", "1500m");
        check("1.5Gi", "1536Mi");
        check("0.1m", "100u");
        check("0", "0");
        check("0Gi", "0");
        check("-0.5", "-500m");
        check("512", "512");
        check("1000", "1k");
        check("1e3", "1e3");
        check("1000e0", "1e3");
        check("100Ki", "100Ki");
        check("0.5Ki", "512");
        check("1.", "1");
        check(".5", "500m");
        check("+1", "1");
        check("9223372036854775807", "9223372036854775807");
        check("99999999999999999999999999999999999999999999999", "9223372036854775807");
    }

    #[test]
    fn refuses() {
        for (input, expect) in [
            ("lots", QuantityError::Format),
            ("", QuantityError::Format),
            (".", QuantityError::Format),
            ("1.1.1", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1Gb", QuantityError::Format),
            ("1K", QuantityError::Suffix),
            ("1mi", QuantityError::Suffix),
        ] {
            assert_eq!(input.parse::<Quantity>(), Err(expect), "{input}");
        }
    }

    #[test]
    fn compares_across_suffixes() {
        let q = |s: &str| s.parse::<Quantity>().unwrap();
        assert!(q("2") > q("1"));
        assert_eq!(q("1"), q("1000m"));
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("1Ki").plus(q("1Ki")).to_string(), "2Ki");
    }

    proptest! {
        #[test]
        fn never_panics_and_is_idempotent(text in "[-+]?[0-9.]{0,24}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,3}") {
            if let Ok(once) = Quantity::canonical(&text) {
                prop_assert_eq!(Quantity::canonical(&once).unwrap(), once);
            }
        }

        #[test]
        fn any_text(text in ".*") {
            let _ = Quantity::canonical(&text);
        }
    }
}
