//! Timestamps as Kubernetes reads and writes them, and what Go says about malformed ones.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Canonical form of a `metav1.Time`: UTC, whole seconds.
///
/// # Errors
/// Go's words for what cannot be parsed.
pub fn seconds(text: &str) -> Result<String, String> {
    let timestamp = parse(text, "2006-01-02T15:04:05Z07:00", false)?;
    Ok(timestamp.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Canonical form of a `metav1.MicroTime`: UTC, six digits of fraction, which must be given.
///
/// # Errors
/// Go's words for what cannot be parsed.
pub(crate) fn microseconds(text: &str) -> Result<String, String> {
    let timestamp = parse(text, "2006-01-02T15:04:05.000000Z07:00", true)?;
    Ok(timestamp.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

/// Walks the text along Go's layout, so that the error names the same element.
fn parse(text: &str, layout: &str, micro: bool) -> Result<Timestamp, String> {
    let fail = |rest: &str, element: &str| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")
    };
    let mut rest = text;
    for (digits, element, separator) in
        [(4, "2006", "-"), (2, "01", "-"), (2, "02", "T"), (2, "15", ":"), (2, "04", ":"), (2, "05", "")]
    {
        let ok = rest.len() >= digits && rest.bytes().take(digits).all(|b| b.is_ascii_digit());
        if !ok {
            return Err(fail(rest, element));
        }
        rest = &rest[digits..];
        match rest.strip_prefix(separator) {
            Some(after) => rest = after,
            None => return Err(fail(rest, separator)),
        }
    }
    let fraction = rest.strip_prefix('.').map(|after| after.bytes().take_while(u8::is_ascii_digit).count());
    match fraction {
        Some(n) if n > 0 && (!micro || n == 6) => rest = &rest[n + 1..],
        None if !micro => {}
        _ if micro => return Err(fail(rest, ".000000")),
        _ => return Err(fail(rest, "Z07:00")),
    }
    let zone = rest.as_bytes();
    let offset = zone.len() == 6
        && matches!(zone.first(), Some(b'+' | b'-'))
        && zone.iter().enumerate().skip(1).all(|(i, b)| if i == 3 { *b == b':' } else { b.is_ascii_digit() });
    if rest != "Z" && !offset {
        if let Some(extra) = rest.strip_prefix('Z') {
            return Err(format!("parsing time {text:?}: extra text: {extra:?}"));
        }
        return Err(fail(rest, "Z07:00"));
    }
    text.parse::<Timestamp>().map_err(|_| format!("parsing time {text:?}: day out of range"))
}

#[cfg(test)]
mod tests {
    use super::{microseconds, seconds};

    #[test]
    fn seconds_are_utc() {
        assert_eq!(seconds("2020-01-01T00:00:00Z").unwrap(), "2020-01-01T00:00:00Z");
        assert_eq!(seconds("2020-01-01T00:00:00.9Z").unwrap(), "2020-01-01T00:00:00Z");
        assert_eq!(seconds("2020-01-01T02:00:00+02:00").unwrap(), "2020-01-01T00:00:00Z");
        for bad in ["", "soon", "2020-01-01", "2020-01-01 00:00:00Z", "2020-02-31T00:00:00Z", "2020-01-01T00:00:00"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn microseconds_as_go_says() {
        assert_eq!(microseconds("2020-01-01T00:00:05.123456Z").unwrap(), "2020-01-01T00:00:05.123456Z");
        assert_eq!(
            microseconds("2020-01-01T00:00:05Z").unwrap_err(),
            r#"parsing time "2020-01-01T00:00:05Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
        );
        assert_eq!(
            microseconds("soon").unwrap_err(),
            r#"parsing time "soon" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "soon" as "2006""#
        );
    }
}
