//! A command line as an Agent, made for one Task and deleted with it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kubetask_api::agent::{Agent, AgentSpec, Workspace};
use kubetask_api::{Task, TaskSpec};
use serde_json::json;

use super::RunArgs;
use super::submit::Earlier;
use crate::commands::apply::FIELD_MANAGER;
use crate::error::{CommandError, CommandResult};

/// What the ad-hoc Agent runs.
#[derive(Debug)]
pub(super) struct AdHoc {
    command: Vec<String>,
    workspace: Option<String>,
    env: Vec<(String, String)>,
}

impl AdHoc {
    /// From the command line.
    ///
    /// # Errors
    /// When the workspace is no directory, or a variable is malformed.
    pub(super) fn from_args(args: &RunArgs) -> CommandResult<Self> {
        let workspace = args
            .workspace
            .as_ref()
            .map(|path| {
                let wrong =
                    |why: &dyn std::fmt::Display| CommandError::usage(format!("--workspace {}: {why}", path.display()));
                let absolute = path.canonicalize().map_err(|e| wrong(&e))?;
                if !absolute.is_dir() {
                    return Err(wrong(&"not a directory"));
                }
                absolute.to_str().map(str::to_owned).ok_or_else(|| wrong(&"not UTF-8"))
            })
            .transpose()?;
        let env = args.env.iter().map(|entry| variable(entry)).collect::<CommandResult<_>>()?;
        Ok(Self { command: args.command.clone(), workspace, env })
    }

    /// Creates the Agent and the Task that uses it.
    ///
    /// # Errors
    /// When the server says no.
    pub(super) async fn submit(
        &self,
        client: &kube::Client,
        namespace: &str,
        name: &str,
        timeout: Option<i64>,
        (earlier, again): (&Earlier, bool),
    ) -> CommandResult<Task> {
        let agents: Api<Agent> = Api::namespaced(client.clone(), namespace);
        let tasks: Api<Task> = Api::namespaced(client.clone(), namespace);
        let agent = earlier.create(&agents, again, &self.agent(name)?).await?;
        let task = Task {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                annotations: super::submit::trace_annotation(),
                ..ObjectMeta::default()
            },
            spec: TaskSpec { agent_ref: Some(name.to_owned()), timeout_seconds: timeout, ..TaskSpec::default() },
            status: None,
        };
        let task = match earlier.create(&tasks, again, &task).await {
            Ok(task) => task,
            Err(error) => {
                let error = CommandError::from(error);
                if !error.lost {
                    // The Agent was made for nothing; what matters to the user is why.
                    let _ = agents.delete(name, &kube::api::DeleteParams::default()).await;
                }
                return Err(error);
            }
        };
        // The Agent goes when the Task goes.
        let owner = OwnerReference {
            api_version: kubetask_api::API_VERSION.to_owned(),
            kind: "Task".to_owned(),
            name: name.to_owned(),
            uid: task.uid().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        agents.patch(&agent.name_any(), &params, &patch).await?;
        Ok(task)
    }

    fn agent(&self, name: &str) -> CommandResult<Agent> {
        // Through JSON, so that env and workspace are read exactly as from a manifest.
        let env: Vec<_> = self.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let mut spec = json!({"command": self.command, "serviceAccountName": "default", "env": env});
        if let Some(path) = &self.workspace {
            let workspace: Workspace =
                serde_json::from_value(json!({"hostPath": {"path": path, "type": "Directory"}}))?;
            spec["workspace"] = serde_json::to_value(workspace)?;
        }
        let spec: AgentSpec = serde_json::from_value(spec)?;
        Ok(Agent { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, spec, status: None })
    }
}

/// `NAME=VALUE`, or `NAME` for this process's own value.
///
/// # Errors
/// When there is no such variable.
pub(crate) fn variable(entry: &str) -> CommandResult<(String, String)> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = std::env::var(entry)
                .map_err(|_| CommandError::usage(format!("--env {entry}: this variable is not set, or not UTF-8")))?;
            (entry, value)
        }
    };
    if name.is_empty() {
        return Err(CommandError::usage(format!("--env {entry}: a variable needs a name")));
    }
    Ok((name.to_owned(), value))
}
