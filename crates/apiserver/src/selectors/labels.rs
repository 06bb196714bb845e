//! [`Labels`]: the labels of a stored object as they are kept beside it. There may be hundreds of thousands of them.

use std::collections::BTreeMap;

/// Labels in one piece of text: a map of them has room for eleven at once, and each key and value of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Box<str>);

impl Labels {
    /// The value of a label.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let mut parts = self.0.split('\0');
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            if name == key {
                return Some(value);
            }
        }
        None
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        // No label can have the separator in it: neither keys nor values of an object that was accepted do.
        let whole = labels.iter().filter(|(key, value)| !key.contains('\0') && !value.contains('\0'));
        let parts: Vec<&str> = whole.flat_map(|(key, value)| [key.as_str(), value.as_str()]).collect();
        Self(parts.join("\0").into_boxed_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_label_is_found(labels in prop::collection::btree_map("[a-z./]{0,3}", "[a-z]{0,3}", 0..6), other in "[a-z]{0,3}") {
            let kept = Labels::from(labels.clone());
            for key in labels.keys().chain([&other]) {
                prop_assert_eq!(kept.get(key), labels.get(key).map(String::as_str));
            }
        }
    }

    #[test]
    fn what_is_no_label_is_left_out() {
        let labels = [("a\0b", "c"), ("d", "e\0f"), ("g", "h")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let kept = Labels::from(BTreeMap::from(labels));
        assert_eq!([kept.get("a"), kept.get("b"), kept.get("f"), kept.get("g")], [None, None, None, Some("h")]);
    }
}
