//! A set of indexes, written as Kubernetes writes the completed indexes of a Job: `0-3,7`.

use std::collections::BTreeSet;

/// A set of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(pub BTreeSet<usize>);

/// More than any BatchRun has; a hostile status must not fill the memory.
const MAX: usize = 1 << 16;

impl Indexes {
    /// Reads `0-3,7`; what makes no sense is left out.
    pub fn parse(text: &str) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
                set.extend((first..=last.min(MAX)).take(MAX));
            }
        }
        Self(set)
    }

    /// `0-3,7`, or nothing.
    pub fn text(&self) -> Option<String> {
        let mut parts: Vec<(usize, usize)> = Vec::new();
        for index in &self.0 {
            match parts.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => parts.push((*index, *index)),
            }
        }
        let written: Vec<String> = parts
            .into_iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        (!written.is_empty()).then(|| written.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn written_short() {
        assert_eq!(Indexes([0, 1, 2, 3, 7, 9, 10].into()).text().as_deref(), Some("0-3,7,9-10"));
        assert_eq!(Indexes::default().text(), None);
        assert_eq!(Indexes::parse("1, 3-4,x,9-"), Indexes([1, 3, 4].into()));
        assert!(Indexes::parse("0-99999999999").0.len() <= MAX + 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(set in proptest::collection::btree_set(0usize..500, 0..200)) {
            let indexes = Indexes(set);
            prop_assert_eq!(Indexes::parse(&indexes.text().unwrap_or_default()), indexes);
        }
    }
}
