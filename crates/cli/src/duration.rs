//! Durations as people type them: `90s`, `10m`, `1h30m`, or seconds.

use std::time::Duration;

/// Parses a duration.
///
/// # Errors
/// A message for the user.
pub fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let wrong = || format!("{text:?} is not a duration; write for example 90s, 10m or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest.get(..digits).and_then(|d| d.parse().ok()).ok_or_else(wrong)?;
        rest = rest.get(digits..).unwrap_or_default();
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, after) = rest.split_at(unit_len);
        let seconds = match unit {
            "ms" => {
                total = total.checked_add(Duration::from_millis(number)).ok_or_else(wrong)?;
                rest = after;
                continue;
            }
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86400,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(seconds).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_secs(part)).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, seconds: Option<f64>| {
            assert_eq!(parse(text).ok().map(|d| d.as_secs_f64()), seconds, "{text}");
        };
        check("5", Some(5.0));
        check("90s", Some(90.0));
        check("1h30m", Some(5400.0));
        check("250ms", Some(0.25));
        check("1d", Some(86400.0));
        for wrong in ["", "x", "5x", "s", "-1s", "1.5h", "99999999999999999999s", "9999999999999999999h"] {
            check(wrong, None);
        }
    }
}
