//! The string formats which Kubernetes checks; any other name is a comment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use crate::names;

/// A check of one format.
pub type Check = fn(&str) -> bool;

/// The check that a string format asks for; `None` for names that Kubernetes does not know. Dashes do not count.
#[must_use]
pub fn check(name: &str) -> Option<Check> {
    Some(match name {
        "date-time" | "datetime" => is_date_time,
        "date" => is_date,
        "duration" => is_duration,
        "byte" => is_base64,
        "uri" => is_uri,
        "email" => is_email,
        "hostname" => is_hostname,
        "ipv4" => |text| text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => |text| text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr,
        "mac" => is_mac,
        "uuid" => |text| is_uuid(text, None),
        "uuid3" => |text| is_uuid(text, Some('3')),
        "uuid4" => |text| is_uuid(text, Some('4')),
        "uuid5" => |text| is_uuid(text, Some('5')),
        "bsonobjectid" => |text| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "isbn" => |text| is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10,
        "isbn13" => is_isbn13,
        "creditcard" => is_credit_card,
        "ssn" => is_ssn,
        "hexcolor" => is_hex_color,
        "rgbcolor" => is_rgb_color,
        "password" => |_| true,
        "k8s-short-name" => |text| names::dns1123_label(text).is_empty(),
        "k8s-long-name" => |text| names::dns1123_subdomain(text).is_empty(),
        _ => return None,
    })
}

/// Whether the format is one for numbers that means something.
#[must_use]
pub fn is_number_format(name: &str) -> bool {
    matches!(name, "int32" | "int64" | "uint32" | "uint64" | "float" | "float32" | "double" | "float64")
}

/// `2014-12-15T19:30:20.000Z`, with offset, as RFC 3339 has it.
fn is_date_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once(['t', 'T']) else { return false };
    let bytes = time.as_bytes();
    if !is_date(date) || bytes.len() < 9 {
        return false;
    }
    let two = |at: usize, max: u8| {
        let digits = (bytes[at], bytes[at + 1]);
        digits.0.is_ascii_digit() && digits.1.is_ascii_digit() && (digits.0 - b'0') * 10 + (digits.1 - b'0') <= max
    };
    if !(two(0, 23) && bytes[2] == b':' && two(3, 59) && bytes[5] == b':' && two(6, 59)) {
        return false;
    }
    let Some(mut rest) = time.get(8..) else { return false };
    if !rest.starts_with(['z', 'Z', '+', '-']) {
        let fraction = rest.char_indices().nth(1).map_or("", |(at, _)| &rest[at..]);
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return false;
        }
        rest = &fraction[digits..];
    }
    let bytes = rest.as_bytes();
    match bytes.first() {
        Some(b'z' | b'Z') => bytes.len() == 1,
        Some(b'+' | b'-') => {
            bytes.len() == 6
                && bytes[3] == b':'
                && [1, 2, 4, 5].iter().all(|&at| bytes.get(at).is_some_and(u8::is_ascii_digit))
        }
        _ => false,
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() })
        && text.parse::<jiff::civil::Date>().is_ok()
}

/// Go's durations (`1h30m`), and the wordy ones (`22 ns`, `3 days`).
fn is_duration(text: &str) -> bool {
    static WORDY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"([0-9]+)\s*([A-Za-zµ]+)").ok());
    const UNITS: &[&[&str]] = &[
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    let is_unit = |unit: &str| {
        UNITS.iter().any(|names| names.contains(&unit) || names.last().is_some_and(|long| unit.starts_with(long)))
    };
    go_duration(text).is_some()
        || WORDY.as_ref().is_some_and(|wordy| {
            wordy.captures_iter(text).any(|found| is_unit(&found[2].to_lowercase()) && found[1].parse::<i64>().is_ok())
        })
}

/// Nanoseconds of a duration as Go's `time.ParseDuration` reads it.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "guarded by the range check")]
pub fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    let mut exact: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number = &rest[..digits];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return None;
        }
        rest = &rest[digits..];
        let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let nanos: i64 = match &rest[..unit_length] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_length..];
        if let Ok(whole) = number.parse::<i64>() {
            exact += i128::from(whole) * i128::from(nanos);
        } else {
            total += number.parse::<f64>().ok()? * nanos as f64;
        }
        if total > 9.3e18 || exact > i128::from(i64::MAX) {
            return None;
        }
    }
    let sum = i64::try_from(exact + total as i128).ok()?;
    Some(if negative { -sum } else { sum })
}

fn is_base64(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(4) {
        return false;
    }
    let padding = bytes.iter().rev().take_while(|b| **b == b'=').count();
    padding <= 2 && bytes[..bytes.len() - padding].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// What Go's `url.ParseRequestURI` takes: an absolute URI or an absolute path, without a fragment's meaning.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) || !percent_is_ok(text) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    {
        return false;
    }
    let Some(after) = rest.strip_prefix("//") else { return true };
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = match host.strip_prefix('[').map(|h| h.split_once(']')) {
        Some(None) => return false,
        Some(Some((_, port))) => port,
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    let is_host_byte = |b: u8| !matches!(b, b' ' | b'<' | b'>' | b'"' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
    host.bytes().all(is_host_byte)
        && (port.is_empty() || (port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit())))
}

fn percent_is_ok(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().all(|(i, b)| *b != b'%' || (is_hex(i + 1) && is_hex(i + 2)))
}

/// What Go's `mail.ParseAddress` takes, without comments and folding: `a@b` or `Name <a@b>`.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(inner) => match inner.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let is_atom_char = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let is_dotted = |part: &str| part.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom_char));
    let is_quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let is_literal = domain.starts_with('[') && domain.ends_with(']');
    (is_quoted || is_dotted(local)) && (is_literal || is_dotted(domain))
}

fn is_hostname(text: &str) -> bool {
    let is_char = |c: char| c.is_ascii_alphanumeric() || (!c.is_ascii() && !c.is_whitespace() && !c.is_control());
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| is_char(c) || c == '-')
            && label.starts_with(is_char)
            && label.ends_with(is_char)
    };
    if text.is_empty() || text.len() > 255 || !text.split('.').all(is_label) {
        return false;
    }
    match text.rsplit_once('.') {
        Some((_, last)) => last.chars().count() >= 2 && last.chars().all(char::is_alphabetic),
        None => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let bits = prefix.parse::<u8>().unwrap_or(u8::MAX);
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => bits <= 32,
        Ok(IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

/// EUI-48, EUI-64 or InfiniBand addresses with colons, dashes or dots.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, digits: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts.iter().all(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

/// 8-4-4-4-12 hexadecimal digits, each dash optional; `version` is the first digit of the third group.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut digits = String::with_capacity(32);
    for c in text.chars() {
        match c {
            '-' if matches!(digits.len(), 8 | 12 | 16 | 20) => {}
            c if c.is_ascii_hexdigit() => digits.push(c.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let dashes = text.len() - digits.len();
    let variant_is_ok =
        matches!(version, None | Some('3')) || matches!(digits.as_bytes().get(16), Some(b'8' | b'9' | b'a' | b'b'));
    digits.len() == 32
        && dashes <= 4
        && !text.contains("--")
        && variant_is_ok
        && version.is_none_or(|v| digits.as_bytes()[12] == v as u8)
}

fn without_separators(text: &str) -> Vec<u8> {
    text.bytes().filter(|b| !matches!(b, b' ' | b'-')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let bytes = without_separators(text);
    if bytes.len() != 10 {
        return false;
    }
    let mut sum = 0u32;
    for (index, byte) in bytes.iter().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b'X' | b'x' if index == 9 => 10,
            _ => return false,
        };
        sum += digit * u32::try_from(10 - index).unwrap_or_default();
    }
    sum.is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let bytes = without_separators(text);
    bytes.len() == 13
        && bytes.iter().all(u8::is_ascii_digit)
        && bytes
            .iter()
            .enumerate()
            .map(|(i, b)| u32::from(b - b'0') * if i % 2 == 0 { 1 } else { 3 })
            .sum::<u32>()
            .is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.bytes().filter(u8::is_ascii_digit).map(|b| u32::from(b - b'0')).collect();
    let luhn: u32 =
        digits.iter().rev().enumerate().map(|(i, d)| if i % 2 == 0 { *d } else { d * 2 / 10 + d * 2 % 10 }).sum();
    (13..=19).contains(&digits.len()) && luhn.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    static SSN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").ok());
    SSN.as_ref().is_some_and(|ssn| ssn.is_match(text))
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_rgb_color(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')')) else { return false };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|p| p.parse::<u8>().is_ok() && (p.len() == 1 || !p.starts_with(['0', '+'])))
}

#[cfg(test)]
mod tests {
    #[test]
    fn formats_tell_good_from_bad() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "date-time",
                &["2020-01-02T03:04:05Z", "2020-01-02t03:04:05.123+01:00", "2014-12-15T19:30:20.000Z"],
                &[
                    "yesterday",
                    "2020-13-02T03:04:05Z",
                    "2020-01-02T24:04:05Z",
                    "2020-01-02 03:04:05Z",
                    "2020-01-02T03:04:05",
                    "T",
                    "2020-01-02T03:04:05.Z",
                ],
            ),
            ("date", &["2020-02-29"], &["2019-02-29", "2020-2-9", "x"]),
            ("duration", &["1h30m", "22 ns", "3 days", "-1.5s", "0"], &["", "soon", "5", "1x"]),
            ("byte", &["YQ==", "YWI=", "YWJj"], &["", "YQ", "Y===", "Y Q="]),
            (
                "uri",
                &["http://a/b?c", "/x", "urn:a:b", "https://[::1]:80/"],
                &["", "a/b", "http://a:b/", "%zz", "http://a b/"],
            ),
            ("email", &["a@b.c", "Name <a@b>"], &["a", "@b", "a@", "a b@c"]),
            ("hostname", &["localhost", "a.example.com"], &["", "-a", "a..b", "a.1", "a_b"]),
            ("ipv4", &["1.2.3.4"], &["1.2.3", "::1", "256.1.1.1"]),
            ("ipv6", &["::1", "fe80::1"], &["1.2.3.4", ":::"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "x/8"]),
            ("mac", &["01:23:45:67:89:ab", "0123.4567.89ab"], &["01:23", "xx:23:45:67:89:ab"]),
            ("uuid", &["123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000"], &["123", ""]),
            ("uuid4", &["123e4567-e89b-42d3-a456-426614174000"], &["123e4567-e89b-12d3-a456-426614174000"]),
            ("isbn", &["0321751043", "978-0321751041"], &["0321751044", "1"]),
            ("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112", "1"]),
            ("ssn", &["111-22-3333"], &["111-2-3333"]),
            ("hexcolor", &["#FFF", "a0b1c2"], &["#FF", "ggg"]),
            ("rgbcolor", &["rgb(255, 0,1)"], &["rgb(256,0,1)", "rgb(1,2)"]),
            ("k8s-short-name", &["a-b"], &["A", "a.b"]),
            ("k8s-long-name", &["a.b"], &["A"]),
        ];
        for (format, good, bad) in table {
            let check = super::check(format).unwrap();
            for text in *good {
                assert!(check(text), "{format}: {text} is good");
            }
            for text in *bad {
                assert!(!check(text), "{format}: {text} is bad");
            }
        }
        assert!(super::check("semver").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_decided(text in "\\PC*") {
            for format in ["date-time", "date", "duration", "byte", "uri", "email", "hostname", "cidr", "mac", "uuid4",
                "isbn", "creditcard", "ssn", "hexcolor", "rgbcolor"] {
                if let Some(check) = super::check(format) {
                    check(&text);
                }
            }
        }
    }
}
