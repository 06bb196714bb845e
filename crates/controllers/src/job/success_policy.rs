//! Whether an Indexed Job has done enough by its `successPolicy`.

use k8s_openapi::api::batch::v1::SuccessPolicy;

use super::indexes::Indexes;

/// The first rule that is met, as the message that Kubernetes writes.
pub(super) fn met(policy: Option<&SuccessPolicy>, succeeded: &Indexes, completions: u32) -> Option<String> {
    let rules = policy.map(|p| p.rules.as_slice()).unwrap_or_default();
    let position = rules.iter().position(|rule| {
        let (found, all) = match rule.succeeded_indexes.as_deref() {
            None => (succeeded.len(), None),
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                (wanted.shared(succeeded), Some(wanted.len()))
            }
        };
        match (rule.succeeded_count, all) {
            (Some(count), _) => found >= usize::try_from(count).unwrap_or(0),
            (None, Some(all)) => found == all,
            (None, None) => false,
        }
    });
    position.map(|i| format!("Matched rules at index {i}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rules() {
        let check = |rules: Value, succeeded: &str, expected: Option<&str>| {
            let policy = serde_json::from_value(json!({ "rules": rules })).unwrap();
            let found = met(Some(&policy), &Indexes::parse(succeeded, 10), 10);
            assert_eq!(found.as_deref(), expected, "{rules} {succeeded}");
        };
        let first = Some("Matched rules at index 0");
        check(json!([{ "succeededCount": 2 }]), "1,7", first);
        check(json!([{ "succeededCount": 2 }]), "7", None);
        check(json!([{ "succeededIndexes": "0-2" }]), "0-2", first);
        check(json!([{ "succeededIndexes": "0-2" }]), "0,1,5", None);
        check(json!([{ "succeededIndexes": "0-2", "succeededCount": 1 }]), "1", first);
        check(json!([{ "succeededIndexes": "0" }, { "succeededCount": 1 }]), "3", Some("Matched rules at index 1"));
        assert_eq!(met(None, &Indexes::parse("0-9", 10), 10), None);
    }
}
