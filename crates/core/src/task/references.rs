//! What a Task refers to, for the operator's index: whose arrival or change concerns which Task.

use std::collections::BTreeMap;

use kubetask_api::context::{Context, FileSource};
use kubetask_api::{Agent, DEFAULT_NAME, Task};

/// A kind of object that a Task may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKind {
    /// The Task's Agent.
    Agent,
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A service account.
    ServiceAccount,
}

/// An object that a Task refers to, in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: RefKind,
    /// Its name.
    pub name: String,
    /// The Task goes on without it.
    pub optional: bool,
    /// The plan looks at its data; else it is enough to know that it exists.
    pub data: bool,
}

/// The name of the Task's Agent.
pub fn agent_name(task: &Task) -> &str {
    task.spec.agent_ref.as_deref().unwrap_or(DEFAULT_NAME)
}

/// Everything the Task refers to, each object once, sorted. Call it again when the Agent changes.
pub fn references(task: &Task, agent: Option<&Agent>) -> Vec<Reference> {
    let mut found = Found::default();
    found.add(RefKind::Agent, agent_name(task), task.spec.agent_ref.is_none(), true);
    if let Some(agent) = agent {
        found.agent(agent);
    }
    task.spec.contexts.iter().for_each(|c| found.context(c));
    found.into_references()
}

/// Everything the Agent refers to, each object once, sorted.
pub fn agent_references(agent: &Agent) -> Vec<Reference> {
    let mut found = Found::default();
    found.agent(agent);
    found.into_references()
}

#[derive(Default)]
struct Found<'a>(BTreeMap<(RefKind, &'a str), (bool, bool)>);

impl<'a> Found<'a> {
    fn into_references(self) -> Vec<Reference> {
        self.0
            .into_iter()
            .map(|((kind, name), (optional, data))| Reference { kind, name: name.to_owned(), optional, data })
            .collect()
    }

    fn agent(&mut self, agent: &'a Agent) {
        agent.spec.default_contexts.iter().for_each(|c| self.context(c));
        for credential in &agent.spec.credentials {
            self.add(RefKind::Secret, &credential.secret_ref.name, false, credential.secret_ref.key.is_some());
        }
        let cluster = agent.spec.cluster.as_ref();
        if let Some(secret) = cluster.and_then(|cluster| cluster.kubeconfig_secret_ref.as_ref()) {
            self.add(RefKind::Secret, &secret.name, false, true);
        }
        // On another cluster the service account is that cluster's.
        if cluster.is_none() && agent.spec.service_account_name != DEFAULT_NAME {
            self.add(RefKind::ServiceAccount, &agent.spec.service_account_name, false, false);
        }
    }

    fn add(&mut self, kind: RefKind, name: &'a str, optional: bool, data: bool) {
        let entry = self.0.entry((kind, name)).or_insert((true, false));
        entry.0 &= optional;
        entry.1 |= data;
    }

    fn context(&mut self, context: &'a Context) {
        if let Some(file) = &context.file {
            self.source(&file.source);
        }
        if let Some(repository) = &context.repository {
            let credentials = repository.credentials.as_ref().map(|credentials| &credentials.secret_ref);
            for secret in credentials.into_iter().chain(repository.work.as_ref().map(|work| &work.secret_ref)) {
                self.add(RefKind::Secret, &secret.name, false, false);
            }
        }
        for header in context.remote_file.iter().flat_map(|r| &r.headers) {
            if let Some(from) = &header.value_from {
                let key = &from.secret_key_ref;
                self.add(RefKind::Secret, &key.name, key.optional.unwrap_or(false), true);
            }
        }
    }

    fn source(&mut self, source: &'a FileSource) {
        if let Some(key) = &source.config_map_key_ref {
            self.add(RefKind::ConfigMap, &key.name, key.optional.unwrap_or(false), true);
        }
        if let Some(key) = &source.secret_key_ref {
            self.add(RefKind::Secret, &key.name, key.optional.unwrap_or(false), true);
        }
        if let Some(whole) = &source.config_map_ref {
            self.add(RefKind::ConfigMap, &whole.name, whole.optional.unwrap_or(false), false);
        }
        if let Some(whole) = &source.secret_ref {
            self.add(RefKind::Secret, &whole.name, whole.optional.unwrap_or(false), false);
        }
    }
}
