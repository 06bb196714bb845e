//! Sets of field paths, and their `FieldsV1` JSON form.
//!
//! Main type: [`Set`], a tree whose nodes are path [`Element`]s in sorted order. A path may be in the set while its
//! parents are not, and the other way round: an object and its members are owned separately.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Map, Value};

pub use crate::element::Element;

/// A set of paths below one point of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    nodes: Vec<(Element, Node)>,
}

/// What a set says of one path and of those below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    /// Whether the path itself is in the set.
    pub(crate) owned: bool,
    /// The paths below it.
    pub(crate) children: Set,
}

impl Node {
    pub(crate) fn is_empty(&self) -> bool {
        !self.owned && self.children.is_empty()
    }
}

impl Set {
    /// Whether there is no path in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes, sorted by element.
    pub(crate) fn nodes(&self) -> &[(Element, Node)] {
        &self.nodes
    }

    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut (Element, Node)> {
        self.nodes.iter_mut()
    }

    /// The node of one element.
    pub(crate) fn get(&self, element: &Element) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|(e, _)| e.cmp(element)).ok()?;
        self.nodes.get(at).map(|(_, node)| node)
    }

    /// The node of a member.
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|(e, _)| compare_field(e, name)).ok()?;
        self.nodes.get(at).map(|(_, node)| node)
    }

    /// Adds a node that has no equal in the set yet; empty nodes are left out. Cheapest in sorted order.
    pub(crate) fn push(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        if self.nodes.last().is_none_or(|(last, _)| *last < element) {
            self.nodes.push((element, node));
            return;
        }
        match self.nodes.binary_search_by(|(e, _)| e.cmp(&element)) {
            Ok(at) => {
                if let Some((_, existing)) = self.nodes.get_mut(at) {
                    existing.owned |= node.owned;
                    existing.children.union(node.children);
                }
            }
            Err(at) => self.nodes.insert(at, (element, node)),
        }
    }

    /// Adds all paths of `other`.
    pub fn union(&mut self, other: Self) {
        if self.nodes.is_empty() {
            *self = other;
            return;
        }
        if other.nodes.is_empty() {
            return;
        }
        let mut out = Vec::with_capacity(self.nodes.len() + other.nodes.len());
        let mut left = std::mem::take(&mut self.nodes).into_iter().peekable();
        let mut right = other.nodes.into_iter().peekable();
        while let (Some((l, _)), Some((r, _))) = (left.peek(), right.peek()) {
            match l.cmp(r) {
                Ordering::Less => out.extend(left.next()),
                Ordering::Greater => out.extend(right.next()),
                Ordering::Equal => {
                    if let (Some((element, mut node)), Some((_, more))) = (left.next(), right.next()) {
                        node.owned |= more.owned;
                        node.children.union(more.children);
                        out.push((element, node));
                    }
                }
            }
        }
        out.extend(left);
        out.extend(right);
        self.nodes = out;
    }

    /// Removes exactly the paths of `other`: a parent stays when only its children are named, and the other way
    /// round. Returns whether the set changed.
    pub fn subtract(&mut self, other: &Self) -> bool {
        let mut changed = false;
        let mut rest = other.nodes.as_slice();
        self.nodes.retain_mut(|(element, node)| {
            let Some(less) = seek(&mut rest, element) else {
                return true;
            };
            if node.owned && less.owned {
                node.owned = false;
                changed = true;
            }
            changed |= node.children.subtract(&less.children);
            !node.is_empty()
        });
        changed
    }

    /// The paths that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        let mut rest = other.nodes.as_slice();
        for (element, node) in &self.nodes {
            if let Some(more) = seek(&mut rest, element) {
                let both =
                    Node { owned: node.owned && more.owned, children: node.children.intersection(&more.children) };
                if !both.is_empty() {
                    out.nodes.push((element.clone(), both));
                }
            }
        }
        out
    }

    /// Whether every path of this set is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        let mut rest = other.nodes.as_slice();
        self.nodes.iter().all(|(element, node)| {
            seek(&mut rest, element)
                .is_some_and(|more| (!node.owned || more.owned) && node.children.is_subset(&more.children))
        })
    }

    /// Whether the sets share a path.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        let mut rest = other.nodes.as_slice();
        self.nodes.iter().any(|(element, node)| {
            seek(&mut rest, element)
                .is_some_and(|more| (node.owned && more.owned) || node.children.intersects(&more.children))
        })
    }

    /// Removes the member at `path` and everything below it. Returns whether the set changed.
    pub fn remove_below(&mut self, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else {
            return false;
        };
        let Ok(at) = self.nodes.binary_search_by(|(e, _)| compare_field(e, first)) else {
            return false;
        };
        if rest.is_empty() {
            self.nodes.remove(at);
            return true;
        }
        let Some((_, node)) = self.nodes.get_mut(at) else {
            return false;
        };
        let changed = node.children.remove_below(rest);
        if node.is_empty() {
            self.nodes.remove(at);
        }
        changed
    }

    /// Removes exactly the path of members `path`, not what is below it.
    pub(crate) fn disown(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let Ok(at) = self.nodes.binary_search_by(|(e, _)| compare_field(e, first)) else {
            return;
        };
        if let Some((_, node)) = self.nodes.get_mut(at) {
            if rest.is_empty() {
                node.owned = false;
            } else {
                node.children.disown(rest);
            }
            if node.is_empty() {
                self.nodes.remove(at);
            }
        }
    }

    /// Every path as text, `.spec.parts[name="p"].count`, parents' own paths before those below them.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths("", &mut out);
        out
    }

    fn collect_paths(&self, prefix: &str, out: &mut Vec<String>) {
        let join = |element: &Element| {
            let mut path = prefix.to_owned();
            let _ = write!(path, "{element}");
            path
        };
        out.extend(self.nodes.iter().filter(|(_, node)| node.owned).map(|(element, _)| join(element)));
        for (element, node) in &self.nodes {
            if !node.children.is_empty() {
                node.children.collect_paths(&join(element), out);
            }
        }
    }

    /// The `FieldsV1` form.
    #[must_use]
    pub fn to_fields_v1(&self) -> Value {
        Value::Object(self.members(false))
    }

    fn members(&self, itself: bool) -> Map<String, Value> {
        let mut out = Map::new();
        if itself {
            out.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, node) in &self.nodes {
            let below = if node.children.is_empty() { Map::new() } else { node.children.members(node.owned) };
            out.insert(element.encode(), Value::Object(below));
        }
        out
    }

    /// Reads the `FieldsV1` form.
    ///
    /// # Errors
    /// What is not a set: a path element that cannot be read, or a value that is no object.
    pub fn from_fields_v1(fields: &Value) -> Result<Self, String> {
        match fields {
            Value::Object(members) => Self::from_members(members),
            Value::Null => Ok(Self::default()),
            _ => Err("fieldsV1 must be an object".to_owned()),
        }
    }

    fn from_members(members: &Map<String, Value>) -> Result<Self, String> {
        let mut out = Self { nodes: Vec::with_capacity(members.len()) };
        for (name, below) in members {
            if name == "." {
                continue;
            }
            let Some(below) = below.as_object() else {
                return Err(format!("fieldsV1: {name:?} must be an object"));
            };
            let Some(element) = Element::decode(name)? else {
                continue;
            };
            let owned = below.is_empty() || below.contains_key(".");
            out.push(element, Node { owned, children: Self::from_members(below)? });
        }
        Ok(out)
    }
}

/// Compares an element with the member `name`, without making one.
fn compare_field(element: &Element, name: &str) -> Ordering {
    match element {
        Element::Field(field) => field.as_ref().cmp(name),
        _ => Ordering::Greater,
    }
}

/// Advances a sorted slice to `element`; both walks go in the same order, so nothing is looked at twice.
fn seek<'a>(rest: &mut &'a [(Element, Node)], element: &Element) -> Option<&'a Node> {
    while let Some(((candidate, node), tail)) = rest.split_first() {
        match candidate.cmp(element) {
            Ordering::Less => *rest = tail,
            Ordering::Equal => {
                *rest = tail;
                return Some(node);
            }
            Ordering::Greater => return None,
        }
    }
    None
}
