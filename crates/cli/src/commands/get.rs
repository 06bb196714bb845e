//! `kubetask get`: list objects as kubectl does; the server makes the table.

use clap::Args;
use futures::{AsyncBufReadExt, StreamExt};
use http::{Request, header};
use serde_json::Value;

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::manifest::check::{collection_path, encode};
use crate::output::{Output, print_table};
use crate::resources::{self, Resource};

/// Arguments of `kubetask get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Kind, or kinds separated by commas, and names; `all` for every kind of KubeTask
    #[arg(value_name = "KIND [NAME]", required = true)]
    pub targets: Vec<String>,
    /// Output format: wide, json, yaml, name
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// Only objects with these fields
    #[arg(long, value_name = "FIELDS")]
    pub field_selector: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Go on, and tell of changes
    #[arg(short, long)]
    pub watch: bool,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_headers: bool,
}

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The table with all columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// `kind/name` lines.
    Name,
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const OWN_KINDS: &str = "tasks,crontasks,batchruns,batches,agents,kubetaskconfigs";

/// Runs the command.
///
/// # Errors
/// When the kind is unknown or an object is not there.
pub async fn run(args: GetArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let need = if args.watch { Need::Everything } else { Need::Store };
    let connection = connect::connect(global, need).await?;
    let result = get(&args, &connection, output).await;
    connection.close().await;
    result
}

async fn get(args: &GetArgs, connection: &Connection, output: Output) -> CommandResult {
    let targets = parse_targets(&args.targets)?;
    let many = targets.len() > 1;
    if many && args.watch {
        return Err(CommandError::usage("--watch takes one kind"));
    }
    let mut empty = true;
    for (kind, names) in targets {
        let resource = resources::by_name(&connection.client, &kind).await?;
        let names: Vec<Option<&str>> =
            if names.is_empty() { vec![None] } else { names.iter().map(|n| Some(n.as_str())).collect() };
        if args.watch {
            let [name] = names[..] else { return Err(CommandError::usage("--watch takes at most one name")) };
            return watch(args, connection, &resource, name, output).await;
        }
        empty &= match args.output {
            None | Some(Format::Wide) => tables(args, connection, &resource, &names, many, output).await?,
            Some(format) => objects(connection, args, &resource, &names, format, output).await?,
        };
    }
    if empty && args.output.is_none_or(|f| f == Format::Wide) {
        let place = if args.all_namespaces { String::new() } else { format!(" in {} namespace", connection.namespace) };
        output.say(format!("No resources found{place}."));
    }
    Ok(exit_codes::OK)
}

/// `task a b`, `task/a agent/b`, `tasks,agents`, `all`.
///
/// # Errors
/// When the forms are mixed.
pub fn parse_targets(words: &[String]) -> CommandResult<Vec<(String, Vec<String>)>> {
    if words.iter().any(|word| word.contains('/')) {
        let mut out: Vec<(String, Vec<String>)> = Vec::new();
        for word in words {
            match word.split_once('/') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
                    match out.iter_mut().find(|(k, _)| k == kind) {
                        Some((_, names)) => names.push(name.to_owned()),
                        None => out.push((kind.to_owned(), vec![name.to_owned()])),
                    }
                }
                _ => return Err(CommandError::usage(format!("{word:?}: write KIND/NAME for each, or KIND NAME…"))),
            }
        }
        return Ok(out);
    }
    let Some((kinds, names)) = words.split_first() else { return Err(CommandError::usage("which kind?")) };
    let kinds = if kinds == "all" || kinds == "kubetask" { OWN_KINDS } else { kinds };
    let kinds: Vec<&str> = kinds.split(',').filter(|kind| !kind.is_empty()).collect();
    if kinds.len() > 1 && !names.is_empty() {
        return Err(CommandError::usage("names can only stand with one kind"));
    }
    Ok(kinds.into_iter().map(|kind| (kind.to_owned(), names.to_vec())).collect())
}

fn path(args: &GetArgs, connection: &Connection, resource: &Resource, name: Option<&str>) -> String {
    let collection = if args.all_namespaces && resource.namespaced {
        collection_path(&Resource { namespaced: false, ..resource.clone() }, "")
    } else {
        collection_path(resource, &connection.namespace)
    };
    match name {
        Some(name) => format!("{collection}/{name}"),
        None => collection,
    }
}

fn query(args: &GetArgs, more: &[(&str, &str)]) -> String {
    let mut pairs: Vec<(&str, &str)> = more.to_vec();
    if let Some(selector) = &args.selector {
        pairs.push(("labelSelector", selector));
    }
    if let Some(selector) = &args.field_selector {
        pairs.push(("fieldSelector", selector));
    }
    let encoded: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    if encoded.is_empty() { String::new() } else { format!("?{}", encoded.join("&")) }
}

fn request(uri: String, accept: &str) -> CommandResult<Request<Vec<u8>>> {
    Request::get(uri)
        .header(header::ACCEPT, accept)
        .body(Vec::new())
        .map_err(|e| CommandError::usage(format!("that is no name: {e}")))
}

/// Prints tables; returns whether there was nothing to print.
async fn tables(
    args: &GetArgs,
    connection: &Connection,
    resource: &Resource,
    names: &[Option<&str>],
    many: bool,
    output: Output,
) -> CommandResult<bool> {
    let mut printer = TablePrinter::new(args, many.then(|| resource.clone()));
    for name in names {
        let uri = path(args, connection, resource, *name) + &query(args, &[]);
        let table: Value = connection.client.request(request(uri, TABLE)?).await?;
        printer.add(&table);
    }
    let empty = printer.rows.is_empty();
    printer.flush(output);
    if many && !empty {
        output.data("");
    }
    Ok(empty)
}

/// Rows of a server-made table, ready to print.
struct TablePrinter<'a> {
    args: &'a GetArgs,
    /// Names carry the kind in front when several kinds are listed.
    kind: Option<Resource>,
    columns: Vec<(usize, String)>,
    rows: Vec<Vec<String>>,
    headers_done: bool,
}

impl<'a> TablePrinter<'a> {
    fn new(args: &'a GetArgs, kind: Option<Resource>) -> Self {
        Self { args, kind, columns: Vec::new(), rows: Vec::new(), headers_done: args.no_headers }
    }

    fn add(&mut self, table: &Value) {
        let wide = self.args.output == Some(Format::Wide);
        if let Some(definitions) = table.get("columnDefinitions").and_then(Value::as_array).filter(|d| !d.is_empty()) {
            self.columns = definitions
                .iter()
                .enumerate()
                .filter(|(_, d)| wide || d.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0)
                .map(|(i, d)| (i, d.get("name").and_then(Value::as_str).unwrap_or_default().to_uppercase()))
                .collect();
        }
        for row in table.get("rows").and_then(Value::as_array).into_iter().flatten() {
            let mut cells: Vec<String> = self
                .columns
                .iter()
                .map(|(i, _)| match row.get("cells").and_then(|cells| cells.get(*i)) {
                    Some(Value::String(text)) if text.is_empty() => "<none>".to_owned(),
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => "<none>".to_owned(),
                    Some(other) => other.to_string(),
                })
                .collect();
            if let (Some(kind), Some(first)) = (&self.kind, cells.first_mut()) {
                *first = kind.object_name(first);
            }
            if self.args.all_namespaces {
                let namespace = row.pointer("/object/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
                cells.insert(0, namespace.to_owned());
            }
            self.rows.push(cells);
        }
    }

    fn flush(&mut self, output: Output) {
        if self.rows.is_empty() {
            return;
        }
        let mut headers: Vec<String> = self.columns.iter().map(|(_, name)| name.clone()).collect();
        if self.args.all_namespaces {
            headers.insert(0, "NAMESPACE".to_owned());
        }
        let lines = print_table(&headers, &self.rows);
        for line in lines.iter().skip(usize::from(self.headers_done)) {
            output.data(line);
        }
        self.headers_done = true;
        self.rows.clear();
    }
}

/// Prints whole objects; returns whether there was nothing to print.
async fn objects(
    connection: &Connection,
    args: &GetArgs,
    resource: &Resource,
    names: &[Option<&str>],
    format: Format,
    output: Output,
) -> CommandResult<bool> {
    let mut items = Vec::new();
    let single = matches!(names, [Some(_)]);
    for name in names {
        let uri = path(args, connection, resource, *name) + &query(args, &[]);
        let mut answer: Value = connection.client.request(request(uri, "application/json")?).await?;
        match answer.get_mut("items").and_then(Value::as_array_mut) {
            Some(list) if name.is_none() => {
                let type_meta = [("apiVersion", resource.api.api_version.clone()), ("kind", resource.api.kind.clone())];
                for item in list.iter_mut() {
                    for (key, value) in &type_meta {
                        if let Some(members) = item.as_object_mut() {
                            members.entry(*key).or_insert_with(|| Value::String(value.clone()));
                        }
                    }
                }
                items.append(list);
            }
            _ => items.push(answer),
        }
    }
    let empty = items.is_empty();
    for item in &mut items {
        // As kubectl: bookkeeping that nobody reads.
        if let Some(metadata) = item.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    if format == Format::Name {
        for item in &items {
            let name = item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            output.data(&resource.object_name(name));
        }
        return Ok(empty);
    }
    let whole = if single {
        items.pop().unwrap_or_default()
    } else {
        serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
    };
    print_value(&whole, format, output)?;
    Ok(empty)
}

/// Prints a value as JSON or YAML.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn print_value(value: &Value, format: Format, output: Output) -> CommandResult<()> {
    if format == Format::Yaml {
        let text = serde_saphyr::to_string(value).map_err(|e| CommandError::failure(e.to_string()))?;
        output.raw(text.as_bytes());
    } else {
        output.data(&serde_json::to_string_pretty(value)?);
    }
    Ok(())
}

/// Prints the list, then every change.
async fn watch(
    args: &GetArgs,
    connection: &Connection,
    resource: &Resource,
    name: Option<&str>,
    output: Output,
) -> CommandResult {
    let field = name.map(|name| format!("metadata.name={name}"));
    let table_format = matches!(args.output, None | Some(Format::Wide));
    let accept = if table_format { TABLE } else { "application/json" };
    let mut printer = TablePrinter::new(args, None);
    // From now on, beginning with what is there: one watch does both, so nothing falls between list and watch.
    let mut version = "0".to_owned();
    loop {
        let mut more = vec![("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", version.as_str())];
        if let Some(field) = &field {
            more.push(("fieldSelector", field));
        }
        let uri = path(args, connection, resource, None) + &query(args, &more);
        let mut lines = connection.client.request_stream(request(uri, accept)?).await?.lines();
        let mut last = None;
        while let Some(line) = lines.next().await {
            // A broken connection: go on from the last version seen.
            let Ok(line) = line else { break };
            let event: Value = serde_json::from_str(&line)?;
            let object = event.get("object").cloned().unwrap_or_default();
            match event.get("type").and_then(Value::as_str) {
                Some("ERROR") => {
                    if object.get("code").and_then(Value::as_u64) != Some(410) {
                        let message = object.get("message").and_then(Value::as_str).unwrap_or("the watch failed");
                        return Err(CommandError::failure(message));
                    }
                    last = Some("0".to_owned());
                    break;
                }
                Some("BOOKMARK") => last = resource_version(&object).or(last),
                _ => {
                    last = resource_version(&object).or(last);
                    if table_format {
                        printer.add(&object);
                        printer.flush(output);
                    } else {
                        print_value(&object, args.output.unwrap_or(Format::Json), output)?;
                    }
                }
            }
        }
        version = last.unwrap_or(version);
    }
}

fn resource_version(object: &Value) -> Option<String> {
    ["/rows/0/object/metadata/resourceVersion", "/metadata/resourceVersion"]
        .iter()
        .find_map(|pointer| object.pointer(pointer).and_then(Value::as_str).filter(|v| !v.is_empty()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expect: Option<&[(&str, &[&str])]>) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let expect = expect.map(|list| {
            list.iter().map(|(k, n)| ((*k).to_owned(), n.iter().map(ToString::to_string).collect())).collect::<Vec<_>>()
        });
        assert_eq!(parse_targets(&words).ok(), expect, "{words:?}");
    }

    #[test]
    fn targets() {
        check(&["tasks"], Some(&[("tasks", &[])]));
        check(&["task", "a", "b"], Some(&[("task", &["a", "b"])]));
        check(&["task/a", "agent/b", "task/c"], Some(&[("task", &["a", "c"]), ("agent", &["b"])]));
        check(&["tasks,agents"], Some(&[("tasks", &[]), ("agents", &[])]));
        check(&["tasks,agents", "a"], None);
        check(&["task/a", "b"], None);
        check(&["task/"], None);
    }
}
