//! Manifests: from files, directories, URLs and standard input to objects, with positions for errors.
//!
//! Data flow: [`source::read`] → text → [`load::load`] → [`Manifest`]s → [`check`] (a dry run of everything on the
//! server, so that nothing is created when anything is wrong) → the commands.

pub mod check;
pub mod load;
pub mod order;
pub mod relative;
pub mod source;

use kubetask_yaml::{Position, Positions};
use serde_json::Value;

/// One object of a manifest file.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file, URL or `<stdin>` it comes from.
    pub origin: String,
    /// The object.
    pub object: Value,
    /// Where it starts in the file.
    pub start: Position,
    /// Where its fields stand.
    pub positions: Positions,
}

impl Manifest {
    /// An object that stands in no file; `origin` says where it comes from.
    #[must_use]
    pub fn made(origin: &str, object: Value) -> Self {
        let start = Position { line: 1, column: 1 };
        Self { origin: origin.to_owned(), object, start, positions: Positions::default() }
    }

    /// `apiVersion` of the object.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.text("apiVersion")
    }

    /// `kind` of the object.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    /// A member of `metadata`, empty when absent.
    #[must_use]
    pub fn metadata(&self, member: &str) -> &str {
        self.object.pointer(&format!("/metadata/{member}")).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the object is of our own API group and of this kind.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind() == kind && self.api_version().starts_with("kubetask.io/")
    }

    /// `file:line:column` of a field, or of what encloses it.
    #[must_use]
    pub fn locate(&self, field: &str) -> String {
        let at = self.positions.find(field).unwrap_or(self.start);
        format!("{}:{}:{}", self.origin, at.line, at.column)
    }

    fn text(&self, member: &str) -> &str {
        self.object.get(member).and_then(Value::as_str).unwrap_or_default()
    }
}
