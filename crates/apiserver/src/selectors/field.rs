//! Field selectors: `metadata.name=a,status.phase!=Running`, with backslash escapes for `,`, `=` and `\`.

/// All terms must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Term {
    field: String,
    value: String,
    negated: bool,
}

impl Selector {
    /// Parses the value of `fieldSelector`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in split(text) {
            if part.is_empty() {
                continue;
            }
            let Some((field, negated, value)) = operator(part) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(Term { field: field.to_owned(), value: unescape(value)?, negated });
        }
        Ok(Self(terms))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names of the fields that occur.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|term| term.field.as_str())
    }

    /// The value which a field must have, if one term says so.
    pub(crate) fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|t| t.field == field && !t.negated).map(|t| t.value.as_str())
    }

    pub(crate) fn matches(&self, read: impl Fn(&str) -> String) -> bool {
        self.0.iter().all(|term| (read(&term.field) == term.value) != term.negated)
    }
}

/// Splits at commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                out.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// The first operator of a term: `(field, negated, value)`.
fn operator(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        let rest = &term[index..];
        for (symbol, negated) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = rest.strip_prefix(symbol) {
                return Some((&term[..index], negated, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {c}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, name: &str, want: bool) {
        let parsed = Selector::parse(selector).unwrap_or_default();
        let read = |field: &str| if field == "metadata.name" { name.to_owned() } else { String::new() };
        assert_eq!(parsed.matches(read), want, "{selector}");
    }

    #[test]
    fn matching() {
        check("metadata.name=a", "a", true);
        check("metadata.name==a", "b", false);
        check("metadata.name!=a", "b", true);
        check("metadata.name=a,metadata.name=b", "a", false);
        check("metadata.name=a\\,b", "a,b", true);
        check("metadata.name=", "a", false);
    }

    #[test]
    fn messages() {
        let check = |text: &str, want: &str| assert_eq!(Selector::parse(text), Err(want.to_owned()));
        check("nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'");
        check(
            "metadata.name in (a)",
            "invalid selector: 'metadata.name in (a)'; can't understand 'metadata.name in (a)'",
        );
    }
}
