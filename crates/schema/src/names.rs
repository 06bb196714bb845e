//! Rules for names, label keys and label values, with the sentences in which Kubernetes says that one is broken.
//!
//! Each function returns what is wrong; nothing means the text is good.

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// A name of letters, digits and dashes, at most 63 long.
#[must_use]
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, 63);
    if !is_dns_label(text) {
        wrong.push(DNS1123_LABEL.to_owned());
    }
    wrong
}

/// Labels joined by dots, at most 253 long: the name of most objects.
#[must_use]
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push("must be no more than 253 characters".to_owned());
    }
    if !text.split('.').all(is_dns_label) {
        wrong.push(DNS1123_SUBDOMAIN.to_owned());
    }
    wrong
}

/// A label that starts with a letter.
#[must_use]
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, 63);
    if !is_dns_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(DNS1035_LABEL.to_owned());
    }
    wrong
}

/// A label key or annotation key: `name` or `example.com/name`.
#[must_use]
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut parts = text.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let name = match (second, third) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(dns1123_subdomain(first).into_iter().map(|w| format!("prefix part {w}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED_NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else {
        wrong.extend(too_long(name, 63).into_iter().map(|w| format!("name part {w}")));
    }
    if !is_qualified_part(name) {
        wrong.push(format!("name part {QUALIFIED_NAME_PART}"));
    }
    wrong
}

/// The value of a label.
#[must_use]
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, 63);
    if !text.is_empty() && !is_qualified_part(text) {
        wrong.push(LABEL_VALUE.to_owned());
    }
    wrong
}

/// What may stand between two slashes of a URL path.
#[must_use]
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|part| text.contains(**part)).map(|part| format!("may not contain '{part}'")).collect()
}

fn too_long(text: &str, max: usize) -> Vec<String> {
    if text.len() > max { vec![format!("must be no more than {max} bytes")] } else { Vec::new() }
}

fn is_dns_label(text: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|b| is_alphanumeric(*b) || *b == b'-')
        && bytes.first().is_some_and(|b| is_alphanumeric(*b))
        && bytes.last().is_some_and(|b| is_alphanumeric(*b))
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_good_and_bad_ones_are_not() {
        let check = |rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]| {
            for text in good {
                assert_eq!(rule(text), Vec::<String>::new(), "{text}");
            }
            for text in bad {
                assert!(!rule(text).is_empty(), "{text}");
            }
        };
        check(dns1123_label, &["a", "a-1", "1a"], &["", "-a", "a.b", "A", "a_b"]);
        check(dns1123_subdomain, &["a.b", "a-1.c"], &["a..b", ".a", "A.b"]);
        check(dns1035_label, &["a-1"], &["1a", "THING"]);
        check(qualified_name, &["a", "example.com/A_b.c"], &["", "/a", "a/", "a/b/c", "bad key!"]);
        check(label_value, &["", "A_b.1"], &["-a", "a b"]);
        check(path_segment, &["Bad_Name"], &[".", "a/b", "%"]);
        assert!(dns1123_label(&"a".repeat(64)).contains(&"must be no more than 63 bytes".to_owned()));
    }
}
