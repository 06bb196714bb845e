//! From text to documents.
//!
//! The parser's events are folded into JSON values with an explicit stack (no recursion, so depth is a number to
//! compare and not a crash). Aliases copy the value they name; every copy counts against [`Limits`].

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::scalar::{self, Scalar};

/// How much a text may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Greatest number of values after aliases are expanded.
    pub nodes: usize,
    /// Greatest number of bytes of text after aliases are expanded.
    pub bytes: usize,
    /// Greatest depth.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 500_000, bytes: 16 << 20, depth: 128 }
    }
}

/// Where something stands in the text; both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Where the fields of a document stand, by field path (`spec.contexts[0].type`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<String, Position>);

impl Positions {
    /// Position of a field; of the nearest enclosing one where the field itself is not in the text.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.0.get(path) {
                return Some(*position);
            }
            if path.is_empty() {
                return None;
            }
            // Cut the last segment: `.name` or `[…]`.
            let cut = path.rfind(['.', '[']).unwrap_or(0);
            path = &path[..cut];
        }
    }

    /// The positions below `path`, with paths counted from there.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        let inner = self.0.range(path.to_owned()..).take_while(|(field, _)| field.starts_with(path));
        Self(
            inner
                .filter_map(|(field, at)| match &field.as_bytes()[path.len()..] {
                    [] => Some((String::new(), *at)),
                    [b'.', ..] => Some((field[path.len() + 1..].to_owned(), *at)),
                    [b'[', ..] => Some((field[path.len()..].to_owned(), *at)),
                    _ => None,
                })
                .collect(),
        )
    }
}

/// One document of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its value.
    pub value: Value,
    /// Where it starts.
    pub start: Position,
    /// Where its fields stand.
    pub positions: Positions,
    /// Keys that stand twice in one map (the last one won), as field paths.
    pub duplicates: Vec<(String, Position)>,
}

/// Reads all documents of a text; documents without any content are left out.
///
/// # Errors
/// The first thing that is wrong, with its position.
pub fn read_all(text: &str, limits: Limits) -> Result<Vec<Document>, Error> {
    let mut reader = Reader::new(limits);
    for item in Parser::new_from_str_with_options(text, options(limits)) {
        let (event, span) = item.map_err(|e| {
            let marker = e.marker();
            Error { line: marker.line(), column: marker.col() + 1, kind: ErrorKind::Syntax(e.info().to_owned()) }
        })?;
        reader.event(event, span)?;
    }
    Ok(reader.documents)
}

/// Reads a text of one document; `Null` for a text without content.
///
/// # Errors
/// As [`read_all`], and a second document.
pub fn read_one(text: &str, limits: Limits) -> Result<Document, Error> {
    let mut documents = read_all(text, limits)?.into_iter();
    let start = Position { line: 1, column: 1 };
    let first = documents.next().unwrap_or(Document {
        value: Value::Null,
        start,
        positions: Positions::default(),
        duplicates: Vec::new(),
    });
    match documents.next() {
        None => Ok(first),
        Some(second) => {
            Err(Error { line: second.start.line, column: second.start.column, kind: ErrorKind::SecondDocument })
        }
    }
}

fn options(limits: Limits) -> Options {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = options.flow_nesting_limit.min(limits.depth + 1);
    options.block_nesting_limit = options.block_nesting_limit.min(limits.depth + 1);
    options
}

/// A value under construction.
enum Frame {
    List { anchor: usize, path: String, items: Vec<Value> },
    Map { anchor: usize, path: String, members: Map<String, Value>, key: Option<Key>, merges: Vec<Value> },
}

enum Key {
    Name(String),
    Merge,
}

/// An anchored value and what copying it costs.
struct Anchored {
    value: Value,
    nodes: usize,
    bytes: usize,
    depth: usize,
}

struct Reader {
    limits: Limits,
    documents: Vec<Document>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    positions: BTreeMap<String, Position>,
    duplicates: Vec<(String, Position)>,
    start: Position,
    nodes: usize,
    bytes: usize,
}

impl Reader {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            documents: Vec::new(),
            stack: Vec::new(),
            anchors: HashMap::new(),
            positions: BTreeMap::new(),
            duplicates: Vec::new(),
            start: Position { line: 1, column: 1 },
            nodes: 0,
            bytes: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Error> {
        let at = Position { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.positions.clear();
                self.duplicates.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), at)?;
                self.count(1, text.len(), at)?;
                match value {
                    Scalar::Value(value) => {
                        self.remember(anchor, &value);
                        self.push(value, at)?;
                    }
                    Scalar::Merge => match self.stack.last_mut() {
                        Some(Frame::Map { key: key @ None, .. }) => *key = Some(Key::Merge),
                        _ => self.push(Value::String("<<".to_owned()), at)?,
                    },
                    Scalar::NotFinite => return Err(error(at, ErrorKind::NotFinite(text.into_owned()))),
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", at)?;
                let path = self.open(at)?;
                self.stack.push(Frame::List { anchor, path, items: Vec::new() });
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", at)?;
                let path = self.open(at)?;
                self.stack.push(Frame::Map { anchor, path, members: Map::new(), key: None, merges: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at)?,
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    return Err(error(at, ErrorKind::RecursiveAlias));
                };
                let (nodes, bytes, depth) = (anchored.nodes, anchored.bytes, anchored.depth);
                self.count(nodes, bytes, at)?;
                if self.stack.len() + depth > self.limits.depth {
                    return Err(error(at, ErrorKind::TooDeep(self.limits.depth)));
                }
                // Counted first: the copy is what costs.
                let value = self.anchors.get(&id).map(|a| a.value.clone()).unwrap_or_default();
                self.push(value, at)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Result<Scalar, Error> {
        let Some(tag) = tag else {
            return Ok(match style {
                ScalarStyle::Plain => scalar::resolve(text),
                _ => Scalar::Value(Value::String(text.to_owned())),
            });
        };
        let mismatch = |tag| error(at, ErrorKind::TagMismatch { value: text.to_owned(), tag });
        let value = match core_tag(tag) {
            Some("str") => Value::String(text.to_owned()),
            Some("int") => match scalar::number(text) {
                Some(number) if !number.is_f64() => Value::Number(number),
                _ => return Err(mismatch("an integer")),
            },
            Some("float") => Value::Number(scalar::number(text).ok_or_else(|| mismatch("a number"))?),
            Some("bool") => Value::Bool(scalar::boolean(text).ok_or_else(|| mismatch("a boolean"))?),
            Some("null") if scalar::is_null(text) => Value::Null,
            _ => return Err(error(at, ErrorKind::Tag(tag.to_string()))),
        };
        Ok(Scalar::Value(value))
    }

    fn count(&mut self, nodes: usize, bytes: usize, at: Position) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes > self.limits.nodes {
            return Err(error(at, ErrorKind::TooManyNodes(self.limits.nodes)));
        }
        if self.bytes > self.limits.bytes {
            return Err(error(at, ErrorKind::TooManyBytes(self.limits.bytes)));
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, value: &Value) {
        if anchor != 0 {
            let (nodes, bytes, depth) = weigh(value);
            self.anchors.insert(anchor, Anchored { value: value.clone(), nodes, bytes, depth });
        }
    }

    /// Checks depth for a list or map that begins, and returns its path.
    fn open(&mut self, at: Position) -> Result<String, Error> {
        self.count(1, 0, at)?;
        if self.stack.len() >= self.limits.depth {
            return Err(error(at, ErrorKind::TooDeep(self.limits.depth)));
        }
        match self.stack.last() {
            Some(Frame::Map { key: None, .. }) => return Err(error(at, ErrorKind::ComplexKey)),
            None => self.start = at,
            _ => {}
        }
        let path = self.child_path();
        self.positions.entry(path.clone()).or_insert(at);
        Ok(path)
    }

    /// Path of the value that comes next.
    fn child_path(&self) -> String {
        match self.stack.last() {
            None => String::new(),
            Some(Frame::List { path, items, .. }) => format!("{path}[{}]", items.len()),
            Some(Frame::Map { path, key, .. }) => match key {
                Some(Key::Name(name)) => join(path, name),
                _ => path.clone(),
            },
        }
    }

    fn close(&mut self, at: Position) -> Result<(), Error> {
        let (anchor, value) = match self.stack.pop() {
            Some(Frame::List { anchor, items, .. }) => (anchor, Value::Array(items)),
            Some(Frame::Map { anchor, mut members, merges, .. }) => {
                for merge in merges {
                    merge_into(&mut members, merge, at)?;
                }
                (anchor, Value::Object(members))
            }
            None => return Ok(()),
        };
        self.remember(anchor, &value);
        self.push(value, at)
    }

    /// Puts a finished value where it belongs.
    fn push(&mut self, value: Value, at: Position) -> Result<(), Error> {
        match self.stack.last_mut() {
            None => {
                if !self.positions.contains_key("") {
                    self.start = at;
                }
                let positions = Positions(std::mem::take(&mut self.positions));
                let duplicates = std::mem::take(&mut self.duplicates);
                if !value.is_null() {
                    self.documents.push(Document { value, start: self.start, positions, duplicates });
                }
            }
            Some(Frame::List { path, items, .. }) => {
                self.positions.entry(format!("{path}[{}]", items.len())).or_insert(at);
                items.push(value);
            }
            Some(Frame::Map { path, members, key, merges, .. }) => match key.take() {
                Some(Key::Merge) => merges.push(value),
                Some(Key::Name(name)) => {
                    members.insert(name, value);
                }
                None => {
                    let name = key_name(value).map_err(|kind| error(at, kind))?;
                    let path = join(path, &name);
                    if members.contains_key(&name) {
                        self.duplicates.push((path.clone(), at));
                    }
                    self.positions.insert(path, at);
                    *key = Some(Key::Name(name));
                }
            },
        }
        Ok(())
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn key_name(value: Value) -> Result<String, ErrorKind> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(ErrorKind::NullKey),
        Value::Array(_) | Value::Object(_) => Err(ErrorKind::ComplexKey),
    }
}

/// `<<`: members that the map does not have itself.
fn merge_into(members: &mut Map<String, Value>, merge: Value, at: Position) -> Result<(), Error> {
    match merge {
        Value::Object(other) => {
            for (key, value) in other {
                members.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(list) => list.into_iter().try_for_each(|item| match item {
            Value::Object(_) => merge_into(members, item, at),
            _ => Err(error(at, ErrorKind::BadMerge)),
        }),
        _ => Err(error(at, ErrorKind::BadMerge)),
    }
}

/// Number of values, bytes of text, and depth of a value.
fn weigh(value: &Value) -> (usize, usize, usize) {
    let (mut nodes, mut bytes, mut deepest) = (0, 0, 0);
    let mut todo = vec![(value, 0)];
    while let Some((value, depth)) = todo.pop() {
        nodes += 1;
        deepest = deepest.max(depth);
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(items) => todo.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => {
                bytes += members.keys().map(String::len).sum::<usize>();
                todo.extend(members.values().map(|member| (member, depth + 1)));
            }
            _ => {}
        }
    }
    (nodes, bytes, deepest)
}

fn error(at: Position, kind: ErrorKind) -> Error {
    Error { line: at.line, column: at.column, kind }
}

fn core_tag(tag: &Tag) -> Option<&str> {
    let text = tag.to_string();
    ["str", "int", "float", "bool", "null", "seq", "map"].into_iter().find(|name| {
        text == format!("!!{name}")
            || text == format!("tag:yaml.org,2002:{name}")
            || text == format!("tag:yaml.org,2002:!{name}")
    })
}

fn check_tag(tag: Option<&Tag>, expect: &str, at: Position) -> Result<(), Error> {
    match tag {
        Some(tag) if core_tag(tag) != Some(expect) => Err(error(at, ErrorKind::Tag(tag.to_string()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        read_one(text, Limits::default()).unwrap().value
    }

    fn fails(text: &str) -> String {
        read_all(text, Limits::default()).unwrap_err().to_string()
    }

    #[test]
    fn documents() {
        assert_eq!(one("a: 1\nb: [x, 'y', {c: ~}]\n"), json!({"a": 1, "b": ["x", "y", {"c": null}]}));
        assert_eq!(one("mode: 0400\nq: \"0400\"\n"), json!({"mode": 256, "q": "0400"}));
        assert_eq!(one("a: |\n  x\n  y\nb: >-\n  x\n  y\n"), json!({"a": "x\ny\n", "b": "x y"}));
        assert_eq!(one("on: 1\n2: x\n"), json!({"true": 1, "2": "x"}));
        assert_eq!(one("{\"a\": {\"b\": [1, 2.5, true, null]}}"), json!({"a": {"b": [1, 2.5, true, null]}}));
        let all = read_all("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n", Limits::default()).unwrap();
        assert_eq!(all.iter().map(|d| d.start.line).collect::<Vec<_>>(), [2, 7]);
        assert_eq!(read_all("", Limits::default()).unwrap(), []);
    }

    #[test]
    fn anchors_and_merge_keys() {
        assert_eq!(
            one("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x\n"),
            json!({"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 2}})
        );
        assert_eq!(one("a: '<<'\n"), json!({"a": "<<"}));
    }

    #[test]
    fn explicit_tags() {
        assert_eq!(one("a: !!str 12\nb: !!int '12'\n"), json!({"a": "12", "b": 12}));
        assert!(fails("a: !!binary aGk=\n").contains("unsupported tag"));
        assert!(fails("a: !!int x\n").contains("not an integer"));
    }

    #[test]
    fn positions_of_fields() {
        let doc = read_one("spec:\n  list:\n  - type: File\n    file: {path: /x}\n", Limits::default()).unwrap();
        let at = |path: &str| doc.positions.find(path).map(|p| (p.line, p.column));
        assert_eq!(at("spec.list[0].type"), Some((3, 5)));
        assert_eq!(at("spec.list[0].file.path"), Some((4, 12)));
        assert_eq!(at("spec.list[0].missing.deep"), Some((3, 5)));
        assert_eq!(at("nowhere"), Some((1, 1)));
        let below = doc.positions.below("spec.list[0]");
        assert_eq!(below.find("file.path").map(|p| (p.line, p.column)), Some((4, 12)));
    }

    #[test]
    fn duplicate_keys_are_told() {
        let doc = read_one("a: 1\nb: {c: 1, c: 2}\na: 3\n", Limits::default()).unwrap();
        assert_eq!(doc.value, json!({"a": 3, "b": {"c": 2}}));
        let found: Vec<_> = doc.duplicates.iter().map(|(p, at)| (p.as_str(), at.line)).collect();
        assert_eq!(found, [("b.c", 2), ("a", 3)]);
    }

    #[test]
    fn errors_have_positions() {
        assert!(fails("a: [1, 2\nb: 3\n").starts_with("line "));
        assert!(fails("a: .inf\n").starts_with("line 1, column 4: .inf has no JSON form"));
        assert!(fails("? [a]\n: 1\n").contains("a key must be a plain value"));
        assert!(fails("~: 1\n").contains("a key must not be null"));
        assert!(fails("a: &x [*x]\n").contains("contains it"));
        assert!(read_one("a: 1\n---\nb: 1\n", Limits::default()).unwrap_err().to_string().starts_with("line 3"));
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let p = i - 1;
            text.push_str(&format!(
                "a{i}: &a{i} [*a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}]\n"
            ));
        }
        assert!(fails(&text).contains("aliases expand to more than 500000 values"));
        let mut chain = format!("a0: &a0 {}x{}\n", "[".repeat(100), "]".repeat(100));
        for i in 1..50 {
            chain.push_str(&format!("a{i}: &a{i} [[[*a{}]]]\n", i - 1));
        }
        assert!(fails(&chain).contains("nested deeper than 128 levels"));
        let deep = "[".repeat(100_000);
        assert!(read_all(&deep, Limits::default()).is_err());
        let deep = format!("{}x{}", "[".repeat(127), "]".repeat(127));
        assert!(read_all(&deep, Limits::default()).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = read_all(&text, Limits::default());
        }

        #[test]
        fn yaml_like_text_never_panics(text in "[a-c0-9:\\-\\[\\]{}&*!|>'\", \n]{0,120}") {
            let _ = read_all(&text, Limits::default());
        }

        #[test]
        fn json_reads_as_itself(keys in proptest::collection::btree_map("[a-z]{1,8}", "\\PC{0,20}", 0..6)) {
            let value = serde_json::to_value(&keys).unwrap();
            if !keys.is_empty() {
                prop_assert_eq!(one(&value.to_string()), value);
            }
        }
    }
}
