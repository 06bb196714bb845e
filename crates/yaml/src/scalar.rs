//! Plain scalars by the rules of YAML 1.1, as the Go library behind kubectl resolves them.
//!
//! Timestamps stay text, as `sigs.k8s.io/yaml` keeps them.

use serde_json::{Number, Value};

/// What a plain (unquoted, untagged) scalar means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    /// A JSON value.
    Value(Value),
    /// Infinity or not-a-number.
    NotFinite,
    /// The merge key `<<`.
    Merge,
}

/// Resolves a plain scalar.
pub(crate) fn resolve(text: &str) -> Scalar {
    if text == "<<" {
        return Scalar::Merge;
    }
    if is_null(text) {
        return Scalar::Value(Value::Null);
    }
    if let Some(value) = boolean(text) {
        return Scalar::Value(Value::Bool(value));
    }
    if is_not_finite(text) {
        return Scalar::NotFinite;
    }
    match number(text) {
        Some(number) => Scalar::Value(Value::Number(number)),
        None => Scalar::Value(Value::String(text.to_owned())),
    }
}

/// Whether the text is one of YAML's nulls.
pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The boolean which the text spells, if it does.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn is_not_finite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// The number which the text spells, if it does: integers in any base that Go accepts, then decimals.
pub(crate) fn number(text: &str) -> Option<Number> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    integer(&plain).or_else(|| if looks_decimal(&plain) { decimal(&plain) } else { None })
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` takes a sign of its own; the text has had its one.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        let value = i64::try_from(-i128::from(magnitude)).ok()?;
        Some(Number::from(value))
    } else {
        Some(Number::from(magnitude))
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_decimal(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = &rest[whole..];
    if let Some(after) = rest.strip_prefix('.') {
        let fraction = after.bytes().take_while(u8::is_ascii_digit).count();
        if whole == 0 && fraction == 0 {
            return false;
        }
        rest = &after[fraction..];
    } else if whole == 0 {
        return false;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    }
    rest.is_empty()
}

fn decimal(text: &str) -> Option<Number> {
    let value: f64 = text.parse().ok()?;
    // Go prints a float without a fraction as an integer, so that is what reaches the decoder.
    if value.fract() == 0.0 && value.abs() < 1e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expect: Value) {
        assert_eq!(resolve(text), Scalar::Value(expect), "{text}");
    }

    #[test]
    fn scalars_of_yaml_1_1() {
        for text in ["", "~", "null", "Null", "NULL"] {
            check(text, Value::Null);
        }
        for text in ["y", "Yes", "ON", "true"] {
            check(text, json!(true));
        }
        for text in ["n", "No", "off", "FALSE"] {
            check(text, json!(false));
        }
        check("0", json!(0));
        check("12", json!(12));
        check("+12", json!(12));
        check("-7", json!(-7));
        check("0400", json!(256));
        check("0o400", json!(256));
        check("0x1F", json!(31));
        check("0b11", json!(3));
        check("1_000", json!(1000));
        check("08", json!(8));
        check("9223372036854775807", json!(i64::MAX));
        check("-9223372036854775808", json!(i64::MIN));
        check("18446744073709551615", json!(u64::MAX));
        check("1.5", json!(1.5));
        check(".5", json!(0.5));
        check("1e3", json!(1000));
        check("1.0", json!(1));
    }

    #[test]
    fn what_stays_text() {
        for text in
            ["nul", "yep", "1.2.3", "1h", "2001-01-01", "0x", "0xg", "-", "+", ".", "1e", "v1", "--1", "4Gi", "0b2"]
        {
            check(text, json!(text));
        }
    }

    #[test]
    fn infinities_have_no_json_form() {
        for text in [".inf", "-.INF", "+.Inf", ".nan"] {
            assert_eq!(resolve(text), Scalar::NotFinite, "{text}");
        }
    }
}
