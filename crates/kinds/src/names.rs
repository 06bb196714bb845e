//! Formats of names: DNS labels and subdomains, label keys and values, and what each says when it is not met.

/// What `metadata.name` of a kind must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, at most 253 characters.
    Subdomain,
    /// RFC 1123 label, at most 63 characters.
    Label,
    /// RFC 1035 label, at most 63 characters (Services).
    Label1035,
    /// Anything that can be one segment of a path (RBAC).
    PathSegment,
}

impl NameRule {
    /// What is wrong with `name`, in Kubernetes' words; empty when it is fine. With `prefix`, `name` is a
    /// `generateName` to which a suffix will be added.
    #[must_use]
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        let masked;
        let name = if prefix && self != Self::PathSegment {
            masked = mask_trailing_dash(name);
            masked.as_str()
        } else {
            name
        };
        match self {
            Self::Subdomain => dns1123_subdomain(name),
            Self::Label => dns1123_label(name),
            Self::Label1035 => dns1035_label(name),
            Self::PathSegment => path_segment(name, prefix),
        }
    }
}

/// A prefix may end in `-`, since something will follow it.
fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(head) if name.len() > 1 => format!("{head}a"),
        _ => name.to_owned(),
    }
}

const ALNUM_EDGES: &str = "must start and end with an alphanumeric character";

/// Label keys and values are limited in bytes, DNS names in characters: the words differ.
fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn max_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn regex_message(text: &str, pattern: &str, examples: &[&str]) -> String {
    let examples = examples.iter().map(|e| format!("'{e}'")).collect::<Vec<_>>().join(",  or ");
    if examples.is_empty() {
        format!("{text} (regex used for validation is '{pattern}')")
    } else {
        format!("{text} (e.g. {examples}, regex used for validation is '{pattern}')")
    }
}

fn is_label(s: &str) -> bool {
    let b = s.as_bytes();
    let alnum = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    b.first().is_some_and(alnum) && b.last().is_some_and(alnum) && b.iter().all(|c| alnum(c) || *c == b'-')
}

/// RFC 1123 label.
#[must_use]
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_characters(63));
    }
    if !is_label(value) {
        if is_subdomain(value) {
            // It differs from a subdomain only by its dots.
            out.push("must not contain dots".to_owned());
        } else {
            out.push(regex_message(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
                &["my-name", "123-abc"],
            ));
        }
    }
    out
}

fn is_subdomain(s: &str) -> bool {
    s.split('.').all(is_label)
}

/// RFC 1123 subdomain.
#[must_use]
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_characters(253));
    }
    if !is_subdomain(value) {
        out.push(regex_message(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    out
}

/// RFC 1123 subdomain whose labels may also have underscores, at their beginning too.
#[must_use]
pub(crate) fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_characters(253));
    }
    let is_label = |label: &str| {
        let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let label = label.strip_prefix('_').unwrap_or(label);
        label.starts_with(alnum) && label.ends_with(alnum) && label.chars().all(|c| alnum(c) || "-_".contains(c))
    };
    if !value.split('.').all(is_label) {
        out.push(regex_message(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    out
}

/// RFC 1035 label.
#[must_use]
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_characters(63));
    }
    if !is_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.push(regex_message(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// A name that can be one segment of a URL path.
#[must_use]
pub fn path_segment(value: &str, prefix: bool) -> Vec<String> {
    if !prefix {
        if value == "." {
            return vec!["may not be '.'".to_owned()];
        }
        if value == ".." {
            return vec!["may not be '..'".to_owned()];
        }
    }
    ["/", "%"].iter().filter(|c| value.contains(*c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn is_qualified_part(s: &str) -> bool {
    let b = s.as_bytes();
    b.first().is_some_and(u8::is_ascii_alphanumeric)
        && b.last().is_some_and(u8::is_ascii_alphanumeric)
        && b.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

/// A qualified name such as a label key: `[prefix/]name`.
#[must_use]
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut parts = value.splitn(3, '/');
    let name = match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        (name, None, _) => name,
        (prefix, Some(name), None) => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        _ => {
            out.push(format!(
                "{} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_message(
                    &format!(
                        "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and {ALNUM_EDGES}"
                    ),
                    "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
                    &["MyName", "my.name", "123-abc"],
                )
            ));
            return out;
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes(63)));
    }
    if !is_qualified_part(name) {
        out.push(format!(
            "name part {}",
            regex_message(
                &format!("must consist of alphanumeric characters, '-', '_' or '.', and {ALNUM_EDGES}"),
                "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
                &["MyName", "my.name", "123-abc"],
            )
        ));
    }
    out
}

/// `domain.example/path`, as fields name who is in charge of something.
pub(crate) fn domain_prefixed_path(
    value: &str,
    field: &kubetask_schema::field::Path,
    errors: &mut Vec<kubetask_schema::field::Error>,
) {
    use kubetask_schema::field::Error;
    if value.is_empty() {
        errors.push(Error::required(field, ""));
        return;
    }
    let (domain, path) = value.split_once('/').unwrap_or_default();
    if domain.is_empty() || path.is_empty() {
        errors.push(Error::invalid(field, value, "must be a domain-prefixed path (such as \"acme.io/foo\")"));
        return;
    }
    errors.extend(dns1123_subdomain(domain).into_iter().map(|why| Error::invalid(field, domain, why)));
    if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let why = "Invalid path (e.g. '/foo', or '/foo/bar', regex used for validation is '^[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+$')";
        errors.push(Error::invalid(field, path, why));
    }
}

/// A label value: empty, or at most 63 characters.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_bytes(63));
    }
    if !value.is_empty() && !is_qualified_part(value) {
        out.push(regex_message(
            &format!("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and {ALNUM_EDGES}"),
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

/// A key of a ConfigMap or Secret.
#[must_use]
pub fn config_key(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push(max_characters(253));
    }
    let ok = !value.is_empty() && value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    if !ok {
        out.push(regex_message(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    if value == "." || value == ".." {
        out.push(format!("must not be '{value}'"));
    } else if value.starts_with("..") {
        out.push("must not start with '..'".to_owned());
    }
    out
}

/// A name of an environment variable: printable ASCII without `=`.
#[must_use]
pub fn env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value.bytes().all(|c| (0x20..=0x7e).contains(&c) && c != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// The name of a port: at most 15 lower case letters, digits and dashes, with a letter.
#[must_use]
pub fn port_name(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 15 {
        out.push("must be no more than 15 characters".to_owned());
    }
    if value.is_empty() || !value.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|c| c.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}
