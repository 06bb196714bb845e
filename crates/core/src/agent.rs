//! What is told of an Agent: how many Tasks it carries out, how many wait for it, and what it lacks.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubetask_api::{Agent, AgentStatus, conditions, reasons};

use crate::task::{RefKind, Reference};

/// An Agent's new status; `None` when it is as it should be. `counts` are the Tasks that it carries out and those that
/// wait; `missing` is what it refers to and is not there.
pub fn status(now: Timestamp, agent: &Agent, counts: (usize, usize), missing: &[Reference]) -> Option<AgentStatus> {
    let old = agent.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let count = |n: usize| Some(i32::try_from(n).unwrap_or(i32::MAX));
    (new.active_tasks, new.queued_tasks) = (count(counts.0), count(counts.1));
    new.observed_generation = agent.metadata.generation;
    let (ready, reason, message) = match missing.first() {
        None => (true, reasons::READY, "all it needs is there".to_owned()),
        Some(first) => {
            let all: Vec<String> = missing.iter().map(|r| format!("{} \"{}\"", word(r.kind), r.name)).collect();
            (false, reason(first.kind), format!("{} missing; its Tasks wait until it is created", all.join(", ")))
        }
    };
    conditions::set(
        &mut new.conditions,
        &Time(now),
        agent.metadata.generation,
        (conditions::READY, ready, reason),
        message,
    );
    (agent.status.is_none() || new != old).then_some(new)
}

fn word(kind: RefKind) -> &'static str {
    match kind {
        RefKind::Agent => "Agent",
        RefKind::ConfigMap => "ConfigMap",
        RefKind::Secret => "Secret",
        RefKind::ServiceAccount => "service account",
    }
}

fn reason(kind: RefKind) -> &'static str {
    match kind {
        RefKind::Agent => reasons::AGENT_NOT_FOUND,
        RefKind::ConfigMap => reasons::CONFIG_MAP_NOT_FOUND,
        RefKind::Secret => reasons::SECRET_NOT_FOUND,
        RefKind::ServiceAccount => reasons::SERVICE_ACCOUNT_NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use kubetask_api::AgentSpec;

    use super::*;

    #[test]
    fn what_is_missing_is_named_and_nothing_is_told_twice() {
        let mut agent = Agent::new("a", AgentSpec::default());
        let missing = |kind, name: &str| Reference { kind, name: name.to_owned(), optional: false, data: false };
        let lacks = [missing(RefKind::Secret, "token"), missing(RefKind::ServiceAccount, "robot")];
        let told = status(Timestamp::UNIX_EPOCH, &agent, (2, 7), &lacks).unwrap();
        assert_eq!((told.active_tasks, told.queued_tasks), (Some(2), Some(7)));
        assert_eq!(
            (told.conditions[0].status.as_str(), told.conditions[0].reason.as_str()),
            ("False", "SecretNotFound")
        );
        assert!(told.conditions[0].message.starts_with("Secret \"token\", service account \"robot\" missing"));
        agent.status = Some(told);
        let later = Timestamp::from_second(60).unwrap();
        assert_eq!(status(later, &agent, (2, 7), &lacks), None);
        let healed = status(later, &agent, (0, 0), &[]).unwrap();
        assert_eq!(
            (healed.conditions[0].status.as_str(), healed.conditions[0].last_transition_time.0),
            ("True", later)
        );
    }
}
