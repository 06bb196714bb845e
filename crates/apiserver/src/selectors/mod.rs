//! Label and field selectors: the text of a query parameter → a predicate over what [`Decoded`](crate::object::Facts)
//! keeps of an object.

pub(crate) mod field;
pub(crate) mod label;
pub(crate) mod labels;

use labels::Labels;

/// Both selectors of a list, watch or deletecollection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    pub(crate) labels: label::Selector,
    pub(crate) fields: field::Selector,
}

impl Selection {
    /// Whether everything matches, so that nothing has to be decoded.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object with these labels and this way to read fields matches.
    pub(crate) fn matches(&self, labels: &Labels, field: impl Fn(&str) -> String) -> bool {
        self.labels.matches(labels) && self.fields.matches(field)
    }
}
