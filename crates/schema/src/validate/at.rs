//! A place inside a value, kept as a chain on the stack and written out only when there is an error to report.

use std::fmt;

use crate::field::Path;

/// A place: where the walk started, or a step from another place.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    /// Where the walk started; may be empty.
    Start(&'a str),
    /// A member of an object.
    Member(&'a At<'a>, &'a str),
    /// An entry of a map, written as a key in brackets.
    Key(&'a At<'a>, &'a str),
    /// An item of a list.
    Index(&'a At<'a>, usize),
}

impl At<'_> {
    pub(crate) fn path(&self) -> Path {
        Path::new(&self.to_string())
    }

    /// Whether this is the object itself.
    pub(crate) fn is_root(&self) -> bool {
        matches!(self, At::Start(""))
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Start(text) => f.write_str(text),
            At::Member(parent, name) if parent.is_root() => f.write_str(name),
            At::Member(parent, name) => write!(f, "{parent}.{name}"),
            At::Key(parent, key) => write!(f, "{parent}[{key}]"),
            At::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
