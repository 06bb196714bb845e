//! `kubetask describe`: one object with everything that explains it, events included.

use clap::Args;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use kubetask_api::{Agent, Task};
use serde_json::Value;

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::follow::summary;
use crate::output::{Output, plain_text, print_table};
use crate::resources::{self, Resource};

/// Arguments of `kubetask describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Kind and name, `task NAME` or `task/NAME`
    #[arg(value_name = "KIND NAME", required = true)]
    pub targets: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// When the object is not there.
pub async fn run(args: DescribeArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let connection = connect::connect(global, Need::Store).await?;
    let result = describe(&args, &connection, output).await;
    connection.close().await;
    result
}

async fn describe(args: &DescribeArgs, connection: &Connection, output: Output) -> CommandResult {
    let mut first = true;
    for (kind, names) in super::get::parse_targets(&args.targets)? {
        let resource = resources::by_name(&connection.client, &kind).await?;
        if names.is_empty() {
            return Err(CommandError::usage(format!("which {kind}? Give a name")));
        }
        for name in names {
            if !std::mem::take(&mut first) {
                output.data("");
            }
            let object = resource.objects(&connection.client, &connection.namespace).get(&name).await?;
            let value = serde_json::to_value(&object)?;
            let lines = match resource.api.kind.as_str() {
                "Task" if resource.api.group == kubetask_api::GROUP => task(&serde_json::from_value(value)?),
                "Agent" if resource.api.group == kubetask_api::GROUP => agent(&serde_json::from_value(value)?),
                _ => generic(value)?,
            };
            for line in lines {
                output.data(&plain_text(&line));
            }
            for line in events(connection, &resource, &name).await? {
                output.data(&plain_text(&line));
            }
        }
    }
    Ok(exit_codes::OK)
}

fn field(label: &str, value: impl std::fmt::Display) -> String {
    format!("{:<13}{value}", format!("{label}:"))
}

/// What explains a Task.
#[must_use]
pub fn task(task: &Task) -> Vec<String> {
    let mut out = vec![
        field("Task", task.metadata.name.as_deref().unwrap_or_default()),
        field("Namespace", task.metadata.namespace.as_deref().unwrap_or_default()),
        field("Phase", task.phase()),
    ];
    let status = task.status.clone().unwrap_or_default();
    if let Some(message) = &status.message {
        out.push(field("Why", message.replace('\n', "\n             ")));
    }
    let agent = status.agent.as_deref().or(task.spec.agent_ref.as_deref()).unwrap_or("default");
    out.push(field("Agent", agent));
    let optional = [("Job", &status.job_name), ("Pod", &status.pod_name)];
    out.extend(optional.iter().filter_map(|(label, value)| value.as_ref().map(|v| field(label, v))));
    if let Some(position) = status.queue_position {
        out.push(field("Queue", format!("number {position}")));
    }
    if let Some(start) = &status.start_time {
        out.push(field("Started", start.0));
    }
    if let Some(end) = &status.completion_time {
        out.push(field("Finished", end.0));
    }
    if let Some(duration) = summary::duration(task) {
        out.push(field("Duration", duration));
    }
    if let Some(code) = status.exit_code {
        out.push(field("Exit code", code));
    }
    if let Some(result) = status.result.as_deref().map(str::trim).filter(|r| !r.is_empty()) {
        out.push(field("Result", result.replace('\n', "\n             ")));
    }
    for changes in &status.changes {
        out.push(field("Changes", super::changes::line(changes)));
    }
    if let Some(prompt) = &task.spec.prompt {
        out.push(field("Prompt", shorten(prompt)));
    }
    if !task.spec.contexts.is_empty() {
        out.push("Contexts:".to_owned());
        out.extend(task.spec.contexts.iter().map(|context| format!("  {}", describe_context(context))));
    }
    if !status.conditions.is_empty() {
        out.push("Conditions:".to_owned());
        let headers = ["  TYPE", "STATUS", "REASON", "MESSAGE"].map(str::to_owned);
        let rows: Vec<Vec<String>> = status
            .conditions
            .iter()
            .map(|c| vec![format!("  {}", c.type_), c.status.clone(), c.reason.clone(), c.message.clone()])
            .collect();
        out.extend(print_table(&headers, &rows));
    }
    out
}

fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(100).collect();
    if short.len() < text.trim_end().len() { format!("{short}…") } else { short }
}

/// A context in one line, e.g. `File /workspace/guide.md from ConfigMap guides, key pr.md`.
fn describe_context(context: &kubetask_api::Context) -> String {
    let value = serde_json::to_value(context).unwrap_or_default();
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    if value.get("repository").is_some() {
        let url = text("/repository/url");
        let from =
            if url.is_empty() { format!("{}/{}", text("/repository/org"), text("/repository/repo")) } else { url };
        return format!("Repository {from}");
    }
    if value.get("remoteFile").is_some() {
        return format!("RemoteFile {} from {}", text("/remoteFile/filePath"), text("/remoteFile/url"));
    }
    let path = text("/file/filePath") + &text("/file/dirPath");
    let source = ["configMapKeyRef", "secretKeyRef", "configMapRef", "secretRef"]
        .into_iter()
        .find(|source| value.pointer(&format!("/file/source/{source}")).is_some());
    match source {
        None => format!("File {path} inline ({} bytes)", text("/file/source/inline").len()),
        Some(source) => {
            let kind = if source.starts_with("config") { "ConfigMap" } else { "Secret" };
            let key = text(&format!("/file/source/{source}/key"));
            let key = if key.is_empty() { String::new() } else { format!(", key {key}") };
            format!("File {path} from {kind} {}{key}", text(&format!("/file/source/{source}/name")))
        }
    }
}

/// What explains an Agent.
fn agent(agent: &Agent) -> Vec<String> {
    let spec = &agent.spec;
    let mut out = vec![
        field("Agent", agent.metadata.name.as_deref().unwrap_or_default()),
        field("Namespace", agent.metadata.namespace.as_deref().unwrap_or_default()),
        field("Image", spec.agent_image.as_deref().unwrap_or("(built-in)")),
    ];
    if !spec.command.is_empty() {
        out.push(field("Command", format!("{:?}", spec.command)));
    }
    out.push(field("Account", &spec.service_account_name));
    for credential in &spec.credentials {
        out.push(field("Credential", format!("{} from Secret {}", credential.name, credential.secret_ref.name)));
    }
    for context in &spec.default_contexts {
        out.push(field("Context", describe_context(context)));
    }
    if let Some(limit) = spec.max_concurrent_tasks {
        out.push(field("At a time", limit));
    }
    if let Some(status) = &agent.status {
        let conditions = serde_json::to_value(status).unwrap_or_default();
        for condition in conditions.get("conditions").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default();
            out.push(field(text("type"), format!("{} ({}) {}", text("status"), text("reason"), text("message"))));
        }
    }
    out
}

/// Any other object: its YAML.
fn generic(mut value: Value) -> CommandResult<Vec<String>> {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if value.get("kind").and_then(Value::as_str) == Some("Secret")
        && let Some(data) = value.get_mut("data").and_then(Value::as_object_mut)
    {
        for entry in data.values_mut() {
            let bytes = entry.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4);
            *entry = Value::String(format!("({bytes} bytes)"));
        }
    }
    let text = serde_saphyr::to_string(&value).map_err(|e| CommandError::failure(e.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

async fn events(connection: &Connection, resource: &Resource, name: &str) -> CommandResult<Vec<String>> {
    let namespace = if resource.namespaced { connection.namespace.as_str() } else { "default" };
    let api: Api<Event> = Api::namespaced(connection.client.clone(), namespace);
    let selector = format!("involvedObject.kind={},involvedObject.name={name}", resource.api.kind);
    let mut list = match api.list(&ListParams::default().fields(&selector)).await {
        Ok(list) => list.items,
        // Who may see the object need not be allowed to see events.
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let when = |e: &Event| {
        e.last_timestamp.as_ref().map(|t| t.0).or(e.event_time.as_ref().map(|t| t.0)).or(e
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|t| t.0))
    };
    list.sort_by_key(when);
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|e| {
            vec![
                format!("  {}", when(e).map(|t| t.strftime("%H:%M:%S").to_string()).unwrap_or_default()),
                e.type_.clone().unwrap_or_default(),
                e.reason.clone().unwrap_or_default(),
                e.message.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let headers = ["  TIME", "TYPE", "REASON", "MESSAGE"].map(str::to_owned);
    let mut out = vec!["Events:".to_owned()];
    out.extend(print_table(&headers, &rows));
    Ok(out)
}
