//! Kubernetes quantities (`250m`, `64Mi`, `1e3`) as numbers.
//!
//! Everything is computed in thousandths, exactly, and rounded up where a unit is coarser: Kubernetes never
//! promises less than was asked for.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths; `None` where the text is not a quantity (the API server refuses those).
pub(crate) fn milli(quantity: &Quantity) -> Option<i128> {
    parse(&quantity.0)
}

/// A quantity in whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> Option<i128> {
    milli(quantity).map(|milli| div_ceil(milli, 1000))
}

/// `value / divisor`, rounded up; a divisor that is missing or zero is one.
pub(crate) fn divided(value: i128, divisor: Option<&Quantity>) -> i128 {
    let divisor = divisor.and_then(milli).filter(|divisor| *divisor > 0);
    div_ceil(value, divisor.unwrap_or(1000))
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || !(whole.to_owned() + fraction).chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let (factor, divisor) = scale(suffix)?;
    // Thousandths of one: `whole.fraction * 1000 * factor / divisor`, with the fraction's own power of ten.
    let mantissa: i128 = format!("{whole}{fraction}").trim_start_matches('0').parse().unwrap_or(0);
    if format!("{whole}{fraction}").len() > 30 {
        return None;
    }
    let tens = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let numerator = mantissa.checked_mul(1000)?.checked_mul(factor)?;
    let value = div_ceil(numerator, tens.checked_mul(divisor)?);
    Some(if negative { -value } else { value })
}

/// Multiplier and divisor of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<i128>) {
        assert_eq!(milli(&Quantity(text.to_owned())), expect, "{text}");
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        check("1", Some(1000));
        check("0", Some(0));
        check("250m", Some(250));
        check("0.5", Some(500));
        check(".5", Some(500));
        check("1.5Gi", Some(1_610_612_736_000));
        check("64Mi", Some(67_108_864_000));
        check("1e3", Some(1_000_000));
        check("1E3", Some(1_000_000));
        check("2E", Some(2_000_000_000_000_000_000_000));
        check("100u", Some(1));
        check("-2", Some(-2000));
        check("", None);
        check("m", None);
        check("1x", None);
        check("1.2.3", None);
        check("99999999999999999999999999999999999999999", None);
    }

    #[test]
    fn division_rounds_up() {
        let divided = |value: &str, by: Option<&str>| {
            let by = by.map(|by| Quantity(by.to_owned()));
            super::divided(milli(&Quantity(value.to_owned())).unwrap_or(-1), by.as_ref())
        };
        assert_eq!(divided("300m", Some("1m")), 300);
        assert_eq!(divided("300m", None), 1);
        assert_eq!(divided("300m", Some("0")), 1);
        assert_eq!(divided("64Mi", None), 67_108_864);
        assert_eq!(divided("65Mi", Some("1Gi")), 1);
    }
}
