//! The query string: percent-decoded pairs, in order, with Kubernetes' ways of reading numbers and booleans.

use std::borrow::Cow;

use crate::status::{Failure, Result};

/// Decoded query parameters.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what follows the `?`.
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        let pairs = raw
            .unwrap_or_default()
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                (decode(key, true).into_owned(), decode(value, true).into_owned())
            })
            .collect();
        Self(pairs)
    }

    /// The first value of `key`; empty when missing.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str())
    }

    /// Whether `key` occurs at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// All values of `key`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A boolean: missing is `None`; present and not `false` or `0` is true (Kubernetes' conversion from strings).
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        if !self.has(key) {
            return None;
        }
        Some(!matches!(self.get(key).to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// An integer; missing or empty is `None`.
    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Failure::bad_request(format!("strconv.ParseInt: parsing {}: {why}", crate::text::quote(text)))
        })
    }
}

/// Percent-decodes; invalid escapes stay as they are, invalid UTF-8 is replaced.
pub(crate) fn decode(text: &str, plus: bool) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'+' if plus => out.push(b' '),
            b'%' => match (bytes.get(i + 1).and_then(hex), bytes.get(i + 2).and_then(hex)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    i += 2;
                }
                _ => out.push(b'%'),
            },
            byte => out.push(byte),
        }
        i += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_pairs() {
        let query = Query::parse(Some("labelSelector=a%3Db%2Cc+in+%28d%29&watch&limit=5&x=%zz&dryRun=All&dryRun=All"));
        assert_eq!(query.get("labelSelector"), "a=b,c in (d)");
        assert_eq!(query.flag("watch"), Some(true));
        assert_eq!(query.flag("nope"), None);
        assert_eq!(query.get("x"), "%zz");
        assert_eq!(query.all("dryRun").count(), 2);
        assert_eq!(query.int("limit").ok().flatten(), Some(5));
        assert!(query.int("x").is_err());
    }
}
