//! JSON paths of printer columns, selectable fields and `/scale`: `.spec.size`, `.status.conditions[?(@.type=="Ready")].status`.
//!
//! The subset of kubectl's JSONPath that Kubernetes allows in CustomResourceDefinitions.

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    /// `[?(@.field op value)]`
    Filter(Vec<String>, Compare, Value),
    /// `[?(@.field)]`
    Exists(Vec<String>),
    Recursive(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Path {
    /// Parses a path; `None` when it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        rest = rest.strip_prefix('{').and_then(|r| r.strip_suffix('}')).unwrap_or(rest);
        rest = rest.strip_prefix('$').unwrap_or(rest);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix("..") {
                let (name, tail) = field(tail);
                steps.push(Step::Recursive(name));
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix('.') {
                if tail.is_empty() || tail.starts_with('[') {
                    rest = tail;
                    continue;
                }
                let (name, tail) = field(tail);
                steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix('[') {
                let end = closing(tail)?;
                steps.push(bracket(&tail[..end])?);
                rest = &tail[end + 1..];
            } else if steps.is_empty() {
                let (name, tail) = field(rest);
                if name.is_empty() {
                    return None;
                }
                steps.push(Step::Field(name));
                rest = tail;
            } else {
                return None;
            }
        }
        Some(Self(steps))
    }

    /// All values the path selects, in order.
    pub(crate) fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut current = vec![root];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in current {
                step.apply(value, &mut next);
            }
            current = next;
        }
        current
    }

    /// The first value the path selects.
    pub(crate) fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.find(root).into_iter().next()
    }

    /// Writes a value at the path, making objects on the way; false where the path is not made of plain members.
    pub(crate) fn set(&self, root: &mut Value, value: Value) -> bool {
        let mut slot = root;
        for step in &self.0 {
            let Step::Field(name) = step else { return false };
            if slot.is_null() {
                *slot = Value::Object(serde_json::Map::new());
            }
            let Value::Object(map) = slot else { return false };
            slot = map.entry(name.clone()).or_insert(Value::Null);
        }
        *slot = value;
        true
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match self {
            Self::Field(name) => out.extend(value.get(name.as_str())),
            Self::Wildcard => match value {
                Value::Array(items) => out.extend(items),
                Value::Object(map) => out.extend(map.values()),
                _ => {}
            },
            Self::Index(index) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                out.extend(position(*index, items.len()).and_then(|at| items.get(at)));
            }
            Self::Slice(from, to) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let from = from.map_or(Some(0), |i| position(i, items.len())).unwrap_or(0);
                let to = to.map_or(Some(items.len()), |i| position(i, items.len())).unwrap_or(items.len());
                out.extend(items.iter().take(to).skip(from));
            }
            Self::Filter(path, compare, wanted) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                out.extend(items.iter().filter(|item| walk(item, path).is_some_and(|v| compare.holds(v, wanted))));
            }
            Self::Exists(path) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                out.extend(items.iter().filter(|item| walk(item, path).is_some()));
            }
            Self::Recursive(name) => recurse(value, name, out),
        }
    }
}

impl Compare {
    fn holds(self, left: &Value, right: &Value) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (left, right) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            _ => left.as_f64().zip(right.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        };
        match self {
            Self::Equal => left == right || order == Some(Equal),
            Self::NotEqual => !(left == right || order == Some(Equal)),
            Self::Less => order == Some(Less),
            Self::LessEqual => matches!(order, Some(Less | Equal)),
            Self::Greater => order == Some(Greater),
            Self::GreaterEqual => matches!(order, Some(Greater | Equal)),
        }
    }
}

fn recurse<'a>(value: &'a Value, name: &str, out: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get(name));
            map.values().for_each(|v| recurse(v, name, out));
        }
        Value::Array(items) => items.iter().for_each(|v| recurse(v, name, out)),
        _ => {}
    }
}

fn walk<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name.as_str()))
}

/// An index from the end when negative.
fn position(index: i64, length: usize) -> Option<usize> {
    let at = if index < 0 { index.checked_add(i64::try_from(length).ok()?)? } else { index };
    usize::try_from(at).ok()
}

/// A member's name up to the next step; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Index of the `]` that ends a bracket, quotes and nested brackets considered.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::Wildcard);
    }
    if let Some(name) = unquote(inner) {
        return Some(Step::Field(name));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        return filter_step(filter.trim());
    }
    if let Some((from, to)) = inner.split_once(':') {
        let bound = |text: &str| if text.trim().is_empty() { Some(None) } else { text.trim().parse().ok().map(Some) };
        return Some(Step::Slice(bound(from)?, bound(to)?));
    }
    inner.parse().ok().map(Step::Index)
}

fn filter_step(filter: &str) -> Option<Step> {
    const OPERATORS: [(&str, Compare); 6] = [
        ("==", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<=", Compare::LessEqual),
        (">=", Compare::GreaterEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let rest = filter.strip_prefix('@')?;
    let split = OPERATORS.iter().filter_map(|(op, c)| rest.find(op).map(|at| (at, *op, *c))).min_by_key(|(at, ..)| *at);
    let path = |text: &str| -> Vec<String> {
        let mut out = Vec::new();
        let mut rest = text.trim();
        while let Some(tail) = rest.strip_prefix('.') {
            let (name, tail) = field(tail);
            out.push(name);
            rest = tail;
        }
        out
    };
    let Some((at, operator, compare)) = split else { return Some(Step::Exists(path(rest))) };
    let right = rest[at + operator.len()..].trim();
    let wanted = match unquote(right) {
        Some(text) => Value::String(text),
        None => serde_json::from_str(right).ok()?,
    };
    Some(Step::Filter(path(&rest[..at]), compare, wanted))
}

fn unquote(text: &str) -> Option<String> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return Some(inner.replace(&format!("\\{quote}"), &quote.to_string()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(path: &str, want: &[Value]) {
        let root = json!({
            "spec": {"size": 3, "a.b/c": "dotted", "list": [1, 2, 3]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "n": 2}, {"type": "Other", "status": "False", "n": 5}]}
        });
        let found = Path::parse(path).unwrap_or_default();
        assert_eq!(found.find(&root), want.iter().collect::<Vec<_>>(), "{path}");
    }

    #[test]
    fn paths() {
        check(".spec.size", &[json!(3)]);
        check("{.spec.size}", &[json!(3)]);
        check(".spec.a\\.b/c", &[json!("dotted")]);
        check(".spec['a.b/c']", &[json!("dotted")]);
        check(".spec.list[0]", &[json!(1)]);
        check(".spec.list[-1]", &[json!(3)]);
        check(".spec.list[1:]", &[json!(2), json!(3)]);
        check(".spec.list[*]", &[json!(1), json!(2), json!(3)]);
        check(".status.conditions[?(@.type==\"Ready\")].status", &[json!("True")]);
        check(".status.conditions[?(@.type=='Other')].status", &[json!("False")]);
        check(".status.conditions[?(@.n>3)].type", &[json!("Other")]);
        check(".status.conditions[*].type", &[json!("Ready"), json!("Other")]);
        check("..type", &[json!("Ready"), json!("Other")]);
        check(".missing.x", &[]);
    }

    #[test]
    fn sets_members() {
        let mut object = json!({"spec": {"x": 1}});
        let path = Path::parse(".spec.deep.replicas").unwrap_or_default();
        assert!(path.set(&mut object, json!(4)));
        assert_eq!(object, json!({"spec": {"x": 1, "deep": {"replicas": 4}}}));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[.\\[\\]?()@a='\":*$-9 ]{0,20}") {
            if let Some(path) = Path::parse(&text) {
                let _ = path.find(&json!({"a": [1, {"a": "b"}]}));
            }
        }
    }
}
