//! What can be wrong with YAML text.

/// Text that is not YAML, or YAML that is not a Kubernetes document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct Error {
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// The kinds of wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The parser's complaint.
    #[error("{0}")]
    Syntax(String),
    /// Aliases expand to more than the limit.
    #[error("aliases expand to more than {0} values; write the values out")]
    TooManyNodes(usize),
    /// Aliases expand to more text than the limit.
    #[error("aliases expand to more than {0} bytes; write the values out")]
    TooManyBytes(usize),
    /// Nested deeper than the limit.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// A key that JSON cannot have.
    #[error("a key must be a plain value, not a list or a map")]
    ComplexKey,
    /// A key without text.
    #[error("a key must not be null")]
    NullKey,
    /// Infinity or not-a-number.
    #[error("{0} has no JSON form; quote it if it is text")]
    NotFinite(String),
    /// A tag such as `!!binary` or `!custom`.
    #[error("unsupported tag {0}")]
    Tag(String),
    /// A scalar does not fit its explicit tag.
    #[error("{value:?} is not {tag}")]
    TagMismatch {
        /// The text.
        value: String,
        /// The tag.
        tag: &'static str,
    },
    /// `<<` with something that is not a map.
    #[error("`<<` merges a map or a list of maps")]
    BadMerge,
    /// An alias inside its own anchor.
    #[error("an alias refers to the value that contains it")]
    RecursiveAlias,
    /// More documents than one where one is expected.
    #[error("expected one document, found another")]
    SecondDocument,
}
