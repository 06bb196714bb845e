//! What a Job's `podFailurePolicy` makes of a failed Pod: the first rule that matches decides.

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyRule};

use crate::pods::{Facts, Phase};

/// What to do about a failed Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Count it as usual.
    Count,
    /// Do not count it.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The Job has failed, with this message.
    FailJob(String),
}

/// Judges a failed Pod.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Facts) -> Verdict {
    // A Pod that is only being deleted has no exit code yet, and none of the conditions can be final.
    if pod.phase != Phase::Failed {
        return Verdict::Count;
    }
    let rules = policy.map(|p| p.rules.as_slice()).unwrap_or_default();
    let matched = rules.iter().enumerate().find_map(|(i, rule)| matches(rule, pod).map(|what| (i, rule, what)));
    match matched {
        None => Verdict::Count,
        Some((i, rule, what)) => match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {i}")),
            _ => Verdict::Count,
        },
    }
}

/// What of the Pod matches the rule.
fn matches(rule: &PodFailurePolicyRule, pod: &Facts) -> Option<String> {
    if let Some(codes) = &rule.on_exit_codes {
        let asked = |name: &str| codes.container_name.as_deref().is_none_or(|wanted| wanted == name);
        let fits = |code: i32| match codes.operator.as_str() {
            "In" => codes.values.contains(&code),
            "NotIn" => !codes.values.contains(&code),
            _ => false,
        };
        let found = pod.exits.iter().find(|(name, code)| *code != 0 && asked(name) && fits(*code));
        return found.map(|(name, code)| {
            format!("Container {name} for pod {}/{} failed with exit code {code}", pod.namespace, pod.name)
        });
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let mut found = patterns.filter(|pattern| {
        let status = pattern.status.as_deref().unwrap_or("True");
        pod.conditions.iter().any(|(type_, s)| *type_ == pattern.type_ && s == status)
    });
    found.next().map(|pattern| format!("Pod {}/{} has condition {}", pod.namespace, pod.name, pattern.type_))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let pod = Facts {
            namespace: "ns".into(),
            name: "j-abc".into(),
            phase: Phase::Failed,
            exits: vec![("main".into(), 42), ("side".into(), 0)],
            conditions: vec![("DisruptionTarget".into(), "True".into()), ("Ready".into(), "False".into())],
            ..Facts::default()
        };
        let check = |rules: Value, expected: Verdict| {
            let policy = serde_json::from_value(json!({ "rules": rules })).unwrap();
            assert_eq!(judge(Some(&policy), &pod), expected, "{rules}");
        };
        let fail = |text: &str| Verdict::FailJob(text.to_owned());
        let exit = |action: &str, operator: &str, values: &[i32], container: Option<&str>| json!({ "action": action, "onExitCodes": { "operator": operator, "values": values, "containerName": container } });
        let condition = |action: &str, type_: &str, status: &str| json!({ "action": action, "onPodConditions": [{ "type": type_, "status": status }] });
        let message = "Container main for pod ns/j-abc failed with exit code 42 matching FailJob rule at index";
        check(json!([]), Verdict::Count);
        check(json!([exit("FailJob", "In", &[42], Some("main"))]), fail(&format!("{message} 0")));
        check(json!([exit("FailJob", "In", &[42], Some("side"))]), Verdict::Count);
        check(json!([exit("FailJob", "NotIn", &[1, 2], None)]), fail(&format!("{message} 0")));
        check(json!([exit("FailJob", "NotIn", &[42], None)]), Verdict::Count);
        check(
            json!([exit("Ignore", "In", &[1], None), exit("FailJob", "In", &[42], None)]),
            fail(&format!("{message} 1")),
        );
        check(json!([exit("Ignore", "In", &[42], None), exit("FailJob", "In", &[42], None)]), Verdict::Ignore);
        check(json!([exit("Count", "In", &[42], None), exit("FailJob", "In", &[42], None)]), Verdict::Count);
        check(json!([exit("FailIndex", "In", &[42], None)]), Verdict::FailIndex);
        check(
            json!([condition("FailJob", "DisruptionTarget", "True")]),
            fail("Pod ns/j-abc has condition DisruptionTarget matching FailJob rule at index 0"),
        );
        check(json!([condition("FailJob", "DisruptionTarget", "False")]), Verdict::Count);
        check(json!([condition("Ignore", "Ready", "False")]), Verdict::Ignore);

        let running = Facts { phase: Phase::Running, ..pod.clone() };
        let policy = serde_json::from_value(json!({ "rules": [exit("FailJob", "In", &[42], None)] })).unwrap();
        assert_eq!(judge(Some(&policy), &running), Verdict::Count);
        assert_eq!(judge(None, &pod), Verdict::Count);
    }
}
