//! The fuzz targets without a fuzzer: their corpora, and random changes of these.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use proptest::prelude::*;

#[path = "../../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, clippy::expect_used, reason = "a library of its own for the fuzzer, which looks for panics")]
mod harness;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn corpora_hold() {
    for (name, target) in harness::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name}");
        for input in inputs {
            target(&input);
        }
    }
}

/// One change of an input: `(where, how, with what)`; places are fractions of its length.
type Edit = (u16, u8, String);

fn edited(mut input: Vec<u8>, other: &[u8], edits: &[Edit]) -> Vec<u8> {
    for (at, how, text) in edits {
        let place = input.len() * usize::from(*at) / usize::from(u16::MAX);
        match how % 5 {
            0 => drop(input.splice(place..place, text.bytes())),
            1 => drop(input.drain(place..(place + text.len()).min(input.len()))),
            2 => drop(input.splice(place..(place + text.len()).min(input.len()), text.bytes())),
            3 => input.truncate(place),
            _ => input.extend_from_slice(&other[other.len() * usize::from(*at) / usize::from(u16::MAX)..]),
        }
    }
    input
}

/// What breaks readers.
const TOKENS: &[&str] =
    &["null", "{}", "[]", "\"\"", "1e400", "-1", "\"$patch\":", "\n", ",", "}", "metadata", "f:", "\0", "é"];

fn edit() -> impl Strategy<Value = Edit> {
    let text = prop_oneof![
        2 => prop::sample::select(TOKENS).prop_map(str::to_owned),
        1 => "[ -~]{1,4}",
        1 => Just("[".repeat(500)),
    ];
    (any::<u16>(), any::<u8>(), text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn variations_of_corpora_hold(target in 0..harness::TARGETS.len(), one in any::<prop::sample::Index>(),
        two in any::<prop::sample::Index>(), edits in prop::collection::vec(edit(), 1..4)) {
        let (name, target) = harness::TARGETS[target];
        let inputs = corpus(name);
        let [one, two] = [&inputs[one.index(inputs.len())], &inputs[two.index(inputs.len())]];
        target(&edited(one.clone(), two, &edits));
    }
}

/// `KUBETASK_CASES` is for long runs.
fn cases() -> u32 {
    std::env::var("KUBETASK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}
