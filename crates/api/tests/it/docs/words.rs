//! `docs/reasons.md`: condition types, reasons, labels.

use std::fmt::Write as _;

use kubetask_api::{conditions, reasons};

const HEAD: &str = "\
# Conditions and reasons

Generated from the words themselves. They are an API: scripts may rely on them. A Task's phase is derived from its
conditions, and `status.reason` and `status.message` repeat the condition that decides. The same words are the reasons
of events.

## Conditions

| condition | True means |
|---|---|
";

/// The whole text.
pub(super) fn render() -> String {
    let mut out = HEAD.to_owned();
    for (name, meaning) in conditions::ALL {
        writeln!(out, "| `{name}` | {} |", meaning.trim()).unwrap();
    }
    out.push_str("\n## Reasons\n\n| reason | meaning |\n|---|---|\n");
    let mut all: Vec<_> = reasons::ALL.to_vec();
    all.sort_unstable();
    for (name, meaning) in all {
        writeln!(out, "| `{name}` | {} |", meaning.trim()).unwrap();
    }
    out
}

#[test]
fn words_are_camel_case_and_unique() {
    let mut seen = std::collections::BTreeSet::new();
    for (word, meaning) in reasons::ALL {
        assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
        assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
        assert!(seen.insert(word), "{word} twice");
        assert!(meaning.trim().ends_with('.'), "{word}: {meaning}");
    }
}
