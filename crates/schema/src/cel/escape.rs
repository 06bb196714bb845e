//! Names of members as CEL identifiers: what is no identifier, or is a keyword, is escaped as Kubernetes does.

const KEYWORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
const ESCAPES: &[(&str, &str)] = &[("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")];

/// The identifier under which a rule reaches the member `name`; `None` when no rule can.
pub(super) fn escape(name: &str) -> Option<String> {
    if KEYWORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((escaped, plain)) = ESCAPES.iter().find(|(_, plain)| rest.starts_with(plain)) {
            out.push_str(escaped);
            rest = &rest[plain.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            out.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    (!out.is_empty() && !out.starts_with(|c: char| c.is_ascii_digit())).then_some(out)
}

/// The member that an identifier of a rule means.
pub(super) fn unescape(identifier: &str) -> String {
    if let Some(keyword) = identifier.strip_prefix("__").and_then(|i| i.strip_suffix("__"))
        && KEYWORDS.contains(&keyword)
    {
        return keyword.to_owned();
    }
    let mut out = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(c) = rest.chars().next() {
        if let Some((escaped, plain)) = ESCAPES.iter().find(|(escaped, _)| rest.starts_with(escaped)) {
            out.push_str(plain);
            rest = &rest[escaped.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_both_ways() {
        let check = |name: &str, identifier: &str| {
            assert_eq!(escape(name).as_deref(), Some(identifier));
            assert_eq!(unescape(identifier), name);
        };
        check("size", "size");
        check("my_field", "my_field");
        check("namespace", "__namespace__");
        check("a-b.c/d", "a__dash__b__dot__c__slash__d");
        check("a__b", "a__underscores__b");
        assert_eq!(escape("ä"), None);
        assert_eq!(escape("1a"), None);
        assert_eq!(unescape("default"), "default");
    }
}
