//! Names and label values: deterministic, within Kubernetes' limits, never colliding by being cut.

use sha2::{Digest, Sha256};

/// The longest label value, and the longest name that fits into one.
pub const LABEL_MAX: usize = 63;
/// The longest name of an object.
pub const NAME_MAX: usize = 253;

/// The first `len` hexadecimal digits of the SHA-256 of a text.
pub fn short_hash(text: &str, len: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut hex = String::with_capacity(len + 1);
    for byte in digest.iter() {
        if hex.len() >= len {
            break;
        }
        hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    hex.truncate(len);
    hex
}

/// A name of at most `max` bytes: as it is where it fits, else its beginning and a hash of the whole.
pub fn shorten(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let hash = short_hash(name, 8);
    let mut end = max.saturating_sub(hash.len() + 1);
    while end > 0 && !name.is_char_boundary(end) {
        end -= 1;
    }
    let kept = name.get(..end).unwrap_or("").trim_end_matches(['-', '.', '_']);
    if kept.is_empty() { hash } else { format!("{kept}-{hash}") }
}

/// A label value for a name; see [`full_name_annotation`] for names that do not fit.
pub fn label_value(name: &str) -> String {
    shorten(name, LABEL_MAX)
}

/// The annotation that keeps the full name where the label holds a shortened one.
pub fn full_name_annotation(label: &str, name: &str) -> Option<(String, String)> {
    (name.len() > LABEL_MAX).then(|| (format!("{label}{}", kubetask_api::labels::FULL_NAME_SUFFIX), name.to_owned()))
}

/// The Job of a Task: its name, shortened, and six characters of its UID. A Task created again under the same name
/// never meets the old Job.
pub fn job_name(task: &str, uid: &str) -> String {
    let mut suffix: String = uid.chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    suffix.make_ascii_lowercase();
    if suffix.len() < 6 {
        suffix = short_hash(uid, 6);
    }
    format!("{}-{suffix}", shorten(&task.replace('.', "-"), LABEL_MAX - 7))
}

/// The ConfigMap and the Secret with a Task's files.
pub fn files_name(job: &str) -> String {
    format!("{job}-files")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn job_names() {
        let uid = "3F2504E0-4f89-11d3-9a0c-0305e82c3301";
        assert_eq!(job_name("update-service-a", uid), "update-service-a-3f2504");
        assert_eq!(job_name("a.b", uid), "a-b-3f2504");
        assert_eq!(job_name(&"x".repeat(253), uid).len(), LABEL_MAX);
        assert_eq!(job_name("t", "u-1"), format!("t-{}", short_hash("u-1", 6)));
    }

    #[test]
    fn long_labels_keep_the_full_name_in_an_annotation() {
        let long = "n".repeat(64);
        assert_eq!(label_value(&long).len(), LABEL_MAX);
        assert_eq!(full_name_annotation("kubetask.io/task", &long), Some(("kubetask.io/task-name".to_owned(), long)));
        assert_eq!(full_name_annotation("kubetask.io/task", "short"), None);
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just('a'), Just('z'), Just('0'), Just('-'), Just('.')], 0..300)
            .prop_map(|chars| format!("a{}a", chars.into_iter().collect::<String>()))
    }

    proptest! {
        #[test]
        fn shortened_names_are_valid_and_distinct(a in name(), b in name(), max in 12usize..=63) {
            let (x, y) = (shorten(&a, max), shorten(&b, max));
            prop_assert!(x.len() <= max);
            prop_assert!(x.starts_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert!(x.ends_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert_eq!(a == b, x == y);
        }
    }
}
