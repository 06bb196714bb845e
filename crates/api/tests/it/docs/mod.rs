//! The reference documentation is generated from the types: `UPDATE_DOCS=1 cargo test -p kubetask-api` writes it.

mod constraints;
mod reference;
mod words;

use std::path::Path;

/// Compares a generated text with the committed file, or writes it.
fn check(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(generated.lines()).find(|(a, b)| a != b);
    assert!(
        committed == generated,
        "docs/{name} is not what the types say; UPDATE_DOCS=1 cargo test -p kubetask-api writes it anew\n{differs:#?}"
    );
}

#[test]
fn api_reference_is_what_the_types_say() {
    check("api.md", &reference::render());
}

#[test]
fn reasons_are_what_the_words_say() {
    check("reasons.md", &words::render());
}
