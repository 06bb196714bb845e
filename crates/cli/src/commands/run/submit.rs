//! From the command line to Tasks on the server.

use std::collections::HashSet;

use kube::Resource;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kubetask_api::agent::Agent;
use kubetask_api::{Task, TaskSpec};
use serde_json::Value;

use super::RunArgs;
use super::adhoc::AdHoc;
use super::repository;
use crate::args::GlobalArgs;
use crate::commands::agent::catalog;
use crate::commands::apply::FIELD_MANAGER;
use crate::connect::Connection;
use crate::error::{CommandError, CommandResult, chain, ends};
use crate::manifest::{Manifest, check, load, order};
use crate::output::Output;

/// What is to be run, read and understood, but not sent yet.
#[derive(Debug)]
pub(super) enum Request {
    /// Manifests.
    Manifests(Vec<Manifest>),
    /// A prompt for an Agent.
    Prompt {
        /// The Task's name.
        name: String,
        /// The prompt.
        prompt: String,
    },
    /// A command.
    Command {
        /// The Task's name, and its Agent's.
        name: String,
        /// The command.
        adhoc: AdHoc,
    },
}

/// What an earlier try of the same command may have created before its server went away.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// Seconds since the epoch when the command first sent something.
    since: Option<i64>,
    /// Tasks of manifests for which room was made, and which were sent then.
    sent: HashSet<(String, String)>,
}

impl Earlier {
    /// From here on what is found may be this command's own.
    fn begin(&mut self) -> bool {
        let again = self.since.is_some();
        self.since.get_or_insert_with(|| jiff::Timestamp::now().as_second());
        again
    }

    /// Creates an object; one that an earlier try made is as good.
    pub(super) async fn create<K>(&self, api: &Api<K>, again: bool, object: &K) -> Result<K, kube::Error>
    where
        K: Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let refused = match api.create(&params, object).await {
            Err(kube::Error::Api(status)) if again && status.code == 409 => kube::Error::Api(status),
            answer => return answer,
        };
        let found = api.get_opt(object.meta().name.as_deref().unwrap_or_default()).await?;
        let made = |found: &K| found.meta().creation_timestamp.as_ref().map(|time| time.0.as_second());
        found.filter(|found| made(found) >= self.since).ok_or(refused)
    }
}

/// A Task that was submitted.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Request {
    /// Reads what the command line names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn from_args(args: &RunArgs) -> CommandResult<Self> {
        if !args.command.is_empty() {
            return Ok(Self::Command { name: name(args), adhoc: AdHoc::from_args(args)? });
        }
        if let Some(prompt) = &args.prompt {
            if prompt.trim().is_empty() {
                return Err(CommandError::usage("the prompt is empty"));
            }
            return Ok(Self::Prompt { name: name(args), prompt: prompt.clone() });
        }
        let mut manifests = load::load(&args.filename)?;
        if !manifests.iter().any(|m| m.is("Task")) {
            return Err(CommandError::usage(format!("{}: there is no Task in it", args.filename.join(", ")))
                .hint("`kubetask apply` creates objects of other kinds"));
        }
        if let Some(timeout) = args.timeout {
            for task in manifests.iter_mut().filter(|m| m.is("Task")) {
                if let Some(spec) = task.object.get_mut("spec").and_then(Value::as_object_mut) {
                    spec.insert("timeoutSeconds".to_owned(), Value::from(seconds(timeout)));
                }
            }
        }
        if let Some(annotations) = trace_annotation() {
            for task in manifests.iter_mut().filter(|m| m.is("Task")) {
                let metadata = task.object.get_mut("metadata").and_then(Value::as_object_mut);
                let all = metadata
                    .map(|metadata| metadata.entry("annotations").or_insert_with(|| Value::Object(Default::default())));
                if let Some(all) = all.and_then(Value::as_object_mut) {
                    for (key, value) in &annotations {
                        all.entry(key.clone()).or_insert_with(|| Value::from(value.clone()));
                    }
                }
            }
        }
        order::sort(&mut manifests);
        Ok(Self::Manifests(manifests))
    }
}

/// Creates everything. After an error that says that the server was lost it may be called again, with another connection.
///
/// # Errors
/// When the server says no; manifests are checked as a whole first.
pub(super) async fn submit(
    request: &Request,
    args: &RunArgs,
    connection: &Connection,
    global: &GlobalArgs,
    earlier: &mut Earlier,
    output: Output,
) -> CommandResult<Vec<Submitted>> {
    let namespace = connection.namespace.clone();
    let timeout = args.timeout.map(seconds);
    let again = earlier.begin();
    match request {
        Request::Manifests(manifests) => submit_manifests(manifests.clone(), connection, global, earlier, output).await,
        Request::Command { name, adhoc } => {
            let task = adhoc.submit(&connection.client, &namespace, name, timeout, (&*earlier, again)).await?;
            Ok(vec![submitted(&task)])
        }
        Request::Prompt { name, prompt } => {
            let agent = agent(connection, args).await?;
            if let (None, Some(name)) = (&agent, args.agent.as_deref().filter(|name| catalog::is_known(name))) {
                output.warn(format!("there is no Agent {name:?} yet: `kubetask agent add {name}` makes one"));
            }
            let mut contexts = Vec::new();
            let mut bundle = None;
            if let Some(directory) = &args.repo {
                let checkout = repository::look(directory)?;
                let resolved = if connection.cluster || agent.is_some_and(|agent| agent.spec.cluster.is_some()) {
                    checkout.elsewhere(args.carry, name)?
                } else {
                    checkout.here(args.carry.is_some())?
                };
                resolved.warnings.iter().for_each(|warning| output.warn(warning));
                contexts.push(resolved.context);
                bundle = resolved.bundle;
            }
            let task = Task {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    annotations: trace_annotation(),
                    ..ObjectMeta::default()
                },
                spec: TaskSpec {
                    contexts,
                    prompt: Some(prompt.clone()),
                    agent_ref: args.agent.clone(),
                    timeout_seconds: timeout,
                    ..TaskSpec::default()
                },
                status: None,
            };
            let client = &connection.client;
            let task = if let Some(bundle) = bundle {
                repository::bundle::submit(client, &namespace, bundle, &task, (&*earlier, again)).await?
            } else {
                earlier.create(&Api::namespaced(client.clone(), &namespace), again, &task).await?
            };
            Ok(vec![submitted(&task)])
        }
    }
}

/// The Agent that will do it, where it is there already. One for another cluster sees nothing of this machine.
async fn agent(connection: &Connection, args: &RunArgs) -> CommandResult<Option<Agent>> {
    let agents: Api<Agent> = Api::namespaced(connection.client.clone(), &connection.namespace);
    Ok(agents.get_opt(args.agent.as_deref().unwrap_or(kubetask_api::DEFAULT_NAME)).await?)
}

async fn submit_manifests(
    manifests: Vec<Manifest>,
    connection: &Connection,
    global: &GlobalArgs,
    earlier: &mut Earlier,
    output: Output,
) -> CommandResult<Vec<Submitted>> {
    let client = &connection.client;
    let checked =
        check::check(client, manifests, &connection.namespace, global.namespace.is_some(), FIELD_MANAGER).await?;
    let mut tasks = Vec::new();
    for item in checked {
        let is_task = item.manifest.is("Task");
        let key = (item.namespace.clone(), item.manifest.metadata("name").to_owned());
        if is_task && !earlier.sent.contains(&key) {
            make_room(&item, connection, output).await?;
            if !key.1.is_empty() {
                earlier.sent.insert(key);
            }
        }
        let object = match check::send(client, &item, FIELD_MANAGER, false).await? {
            Ok(object) => object,
            Err(status) => {
                let said = CommandError::failure(format!("{}: {}", item.title(), status.message));
                return Err(CommandError { lost: ends(&status), ..said });
            }
        };
        if is_task {
            tasks.push(submitted(&serde_json::from_value(object)?));
        }
    }
    Ok(tasks)
}

/// A Task runs once. Running a manifest again means a new run: the Task of that name that has ended makes room.
async fn make_room(item: &check::Checked, connection: &Connection, output: Output) -> CommandResult<()> {
    let name = item.manifest.metadata("name");
    if name.is_empty() {
        return Ok(());
    }
    let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &item.namespace);
    let Some(old) = tasks.get_opt(name).await? else { return Ok(()) };
    if !old.phase().is_finished() {
        return Err(CommandError::failure(format!(
            "task {name:?} is there already and has not ended ({})",
            old.phase()
        ))
        .hint(format!("`kubetask logs -f {name}` follows it, `kubetask stop {name}` ends it")));
    }
    output.say(format!("replacing task {name:?}, which has ended ({})", old.phase()));
    tasks.delete(name, &DeleteParams::background()).await?;
    let uid = old.metadata.uid.unwrap_or_default();
    let gone = await_condition(tasks, name, conditions::is_deleted(&uid));
    gone.await.map_err(|e| CommandError::failure(chain(&e)))?;
    Ok(())
}

/// The trace that this command is part of, where it is part of one: its Tasks become part of it.
pub(super) fn trace_annotation() -> Option<std::collections::BTreeMap<String, String>> {
    let given = std::env::var("TRACEPARENT").ok()?;
    kubetask_core::task::trace::TraceContext::parse(&given)?;
    Some([(kubetask_api::labels::TRACEPARENT.to_owned(), given)].into())
}

fn submitted(task: &Task) -> Submitted {
    Submitted {
        namespace: task.metadata.namespace.clone().unwrap_or_default(),
        name: task.metadata.name.clone().unwrap_or_default(),
    }
}

fn seconds(timeout: std::time::Duration) -> i64 {
    i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX).max(1)
}

fn name(args: &RunArgs) -> String {
    args.name.clone().unwrap_or_else(|| format!("run-{}", random_suffix()))
}

/// Five characters, in the alphabet of Kubernetes' generated names.
pub(crate) fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).filter_map(|_| ALPHABET.get(rand::random_range(0..ALPHABET.len())).map(|b| char::from(*b))).collect()
}
