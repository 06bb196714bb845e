//! [`Indexes`]: a set of completion indexes, written the way Job statuses write them: `0,2-4`.

use std::collections::BTreeSet;
use std::fmt;

/// A set of indexes below a Job's completions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<u32>);

impl Indexes {
    /// Reads `0,2-4`; what is not understood, or not below `completions`, is left out.
    pub(super) fn parse(text: &str, completions: u32) -> Indexes {
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
                set.extend(first..last.saturating_add(1).min(completions));
            }
        }
        Indexes(set)
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.0.contains(&index)
    }

    pub(super) fn insert(&mut self, index: u32) {
        self.0.insert(index);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of these are also in the other.
    pub(super) fn shared(&self, other: &Indexes) -> usize {
        self.0.intersection(&other.0).count()
    }
}

impl fmt::Display for Indexes {
    /// Two in a row are written `1,2`, more as a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for &index in &self.0 {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == index => *last = index,
                _ => runs.push((index, index)),
            }
        }
        let texts: Vec<_> = runs
            .into_iter()
            .map(|(first, last)| match last - first {
                0 => first.to_string(),
                1 => format!("{first},{last}"),
                _ => format!("{first}-{last}"),
            })
            .collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes() {
        let check = |text: &str, written: &str| assert_eq!(Indexes::parse(text, 10).to_string(), written);
        check("", "");
        check("0", "0");
        check("0,1", "0,1");
        check("0,1,2", "0-2");
        check("2-4,0", "0,2-4");
        check("7-4294967295", "7-9");
        check("x,3,-,5-", "3");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(set in prop::collection::btree_set(0u32..50, 0..30)) {
            let indexes = Indexes(set);
            prop_assert_eq!(Indexes::parse(&indexes.to_string(), 50), indexes);
        }
    }
}
