//! One scenario, step by step.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use regex::Regex;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::normal::Normal;
use super::paths::Path;
use super::server::{Asked, Sent, Server, head, pack};
use super::shape::{is_plain_bookmark, shape};
use super::text::PLACE;

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(100);
const IMAGE: &str = "docker.io/local/bb:1";

type Slot = Arc<Mutex<Value>>;

pub(super) struct Run {
    server: Server,
    kubeconfig: PathBuf,
    scenario: Value,
    values: Map<String, Value>,
    directory: tempfile::TempDir,
    background: Vec<JoinHandle<()>>,
}

fn letters() -> String {
    use rand::RngExt as _;
    let alphabet = b"bcdfghjklmnpqrstvwxz";
    let mut rng = rand::rng();
    (0..5).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])).collect()
}

fn seconds(step: &Value, name: &str, default: f64) -> Duration {
    Duration::from_secs_f64(step[name].as_f64().unwrap_or(default))
}

impl Run {
    pub(super) fn new(server: Server, kubeconfig: PathBuf, scenario: Value) -> Self {
        let directory = tempfile::Builder::new().prefix("conf").tempdir().unwrap();
        let mut values = Map::new();
        values.insert("ns".into(), format!("conf-{}", letters()).into());
        values.insert("ns2".into(), format!("conf-{}", letters()).into());
        values.insert("rnd".into(), letters().into());
        values.insert("image".into(), IMAGE.into());
        values.insert("dir".into(), directory.path().display().to_string().into());
        Self { server, kubeconfig, scenario, values, directory, background: Vec::new() }
    }

    fn value_of(&self, name: &str) -> String {
        match &self.values[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.fill_text(text).into(),
            Value::Array(list) => list.iter().map(|item| self.fill(item)).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(name, member)| (self.fill_text(name), self.fill(member))).collect())
            }
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> String {
        let filled = PLACE.replace_all(text, |found: &regex::Captures<'_>| match self.values.contains_key(&found[1]) {
            true => self.value_of(&found[1]),
            false => found[0].to_owned(),
        });
        filled.into_owned()
    }

    /// Runs the scenario; its results in the form of the recordings.
    pub(super) async fn results(mut self) -> Vec<Value> {
        self.set_up().await;
        let steps: Vec<Value> = self.scenario["steps"].as_array().cloned().unwrap_or_default();
        let mut slots: Vec<Slot> = Vec::new();
        for step in &steps {
            let step = self.fill(step);
            let slot = Slot::default();
            slots.push(slot.clone());
            self.step(&step, &slot).await;
        }
        self.join().await;
        self.tear_down().await;
        let mut names = Vec::new();
        for name in ["dir", "ns", "ns2", "rnd", "image"] {
            names.push((self.value_of(name), format!("${{{name}}}")));
        }
        names.push((self.server.url.clone(), "${server}".to_owned()));
        let mut normal = Normal::new(&self.scenario, names);
        let raws: Vec<Value> = slots.iter().map(|slot| slot.lock().unwrap().clone()).collect();
        for raw in &raws {
            normal.learn(raw);
            let printed = raw["stdout"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            printed.iter().for_each(|value| normal.learn(value));
        }
        let shaped = steps.iter().zip(&raws).map(|(step, raw)| match step["kind"].as_str() {
            Some("sleep" | "join") => json!({}),
            // The recordings' steps are templates: the options that shape a result have nothing to fill in.
            _ => shape(step, raw, &mut normal),
        });
        shaped.collect()
    }

    async fn step(&mut self, step: &Value, slot: &Slot) {
        match step["kind"].as_str().unwrap_or_default() {
            "http" => {
                let raw = self.http(step).await;
                self.capture(step, &raw);
                *slot.lock().unwrap() = raw;
            }
            "wait" => {
                let raw = self.wait(step).await;
                self.capture(step, &raw);
                *slot.lock().unwrap() = raw;
            }
            "watch" => self.watch(step, slot.clone()).await,
            "kubectl" => self.kubectl(step, slot.clone()).await,
            "sleep" => sleep(seconds(step, "seconds", 0.0)).await,
            "join" => self.join().await,
            other => panic!("a step of kind {other:?}"),
        }
    }

    async fn join(&mut self) {
        for task in std::mem::take(&mut self.background) {
            timeout(Duration::from_secs(60), task).await.expect("a step beside the others ends").unwrap();
        }
    }

    fn capture(&mut self, step: &Value, raw: &Value) {
        for (name, path) in step["capture"].as_object().into_iter().flatten() {
            let found =
                Path::parse(path.as_str().unwrap_or_default()).select(&raw["json"]).first().map(|v| (*v).clone());
            self.values.insert(name.clone(), found.unwrap_or_else(|| "".into()));
        }
    }

    fn namespaces(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.scenario["namespace"] != false {
            out.push(self.value_of("ns"));
        }
        if self.scenario["namespace2"] == true {
            out.push(self.value_of("ns2"));
        }
        out
    }

    async fn set_up(&self) {
        let runs_pods = self.scenario["pods"] == true || matches!(self.scenario["area"].as_str(), Some("pod" | "job"));
        for name in self.namespaces() {
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.server.send("POST", "/api/v1/namespaces", Some(body)).await;
            let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
            let end = Instant::now() + Duration::from_secs(30);
            while runs_pods && Instant::now() < end && self.server.get(&account).await["status"] != 200 {
                sleep(LOOK / 2).await;
            }
        }
    }

    async fn tear_down(&self) {
        // Objects left with finalizers would hold the namespace for ever.
        for name in self.namespaces() {
            for kind in ["/api/v1/namespaces/NS/configmaps", "/apis/demo.example.test/v1/namespaces/NS/widgets"] {
                let path = kind.replace("NS", &name);
                let list = self.server.get(&path).await;
                for item in list["json"]["items"].as_array().into_iter().flatten() {
                    if item["metadata"]["finalizers"].is_array() {
                        let path = format!("{path}/{}", item["metadata"]["name"].as_str().unwrap_or_default());
                        self.server.send("PATCH", &path, Some(json!({"metadata": {"finalizers": null}}))).await;
                    }
                }
            }
        }
        for path in self.scenario["cleanup"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.server.send("DELETE", &self.fill_text(path), None).await;
        }
        for name in self.namespaces() {
            self.server.send("DELETE", &format!("/api/v1/namespaces/{name}"), None).await;
        }
    }

    async fn http(&self, step: &Value) -> Value {
        let path = path_with_query(step);
        let repeat = &step["raw_repeat"];
        let body = if repeat.is_object() {
            let text = |name: &str| repeat[name].as_str().unwrap_or_default();
            let times = usize::try_from(repeat["times"].as_u64().unwrap_or_default()).unwrap();
            Some(Sent::Raw(format!("{}{}{}", text("prefix"), text("unit").repeat(times), text("suffix"))))
        } else if let Some(raw) = step["raw"].as_str() {
            Some(Sent::Raw(raw.to_owned()))
        } else {
            step.get("body").filter(|body| !body.is_null()).map(|body| match body {
                Value::String(text) => Sent::Raw(text.clone()),
                other => Sent::Json(other.clone()),
            })
        };
        let asked = Asked {
            method: step["method"].as_str().unwrap_or("GET"),
            path: &path,
            headers: &step["headers"],
            body,
            anonymous: step["anonymous"] == true,
        };
        let end = Instant::now() + seconds(step, "timeout", 15.0);
        loop {
            let raw = self.server.ask(&asked).await;
            let done = step["until_status"].is_null() || raw["status"] == step["until_status"];
            if done || Instant::now() > end {
                return raw;
            }
            sleep(LOOK).await;
        }
    }

    async fn wait(&self, step: &Value) -> Value {
        let path = path_with_query(step);
        let asked = Asked { method: "GET", path: &path, headers: &step["headers"], body: None, anonymous: false };
        // Twice what it took at most: a busy machine is no failure.
        let end = Instant::now() + seconds(step, "timeout", 30.0) * 2;
        loop {
            let mut raw = self.server.ask(&asked).await;
            let conditions = step["until"].as_array().into_iter().flatten();
            if conditions.into_iter().all(|condition| holds(condition, &raw)) {
                return raw;
            }
            if Instant::now() > end {
                raw["timed_out"] = true.into();
                return raw;
            }
            sleep(LOOK).await;
        }
    }

    async fn watch(&mut self, step: &Value, slot: Slot) {
        *slot.lock().unwrap() = json!({"status": 0, "headers": {}});
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let (server, step_) = (self.server.clone(), step.clone());
        let task = tokio::spawn(async move {
            let result = watch(&server, &step_, ready).await;
            *slot.lock().unwrap() = result;
        });
        // An error is an answer too, and then nothing is ready.
        let _ = timeout(Duration::from_secs(10), is_ready).await;
        sleep(seconds(step, "lead", 0.05)).await;
        if step["foreground"] == true {
            task.await.unwrap();
        } else {
            self.background.push(task);
        }
    }

    async fn kubectl(&mut self, step: &Value, slot: Slot) {
        let home = self.directory.path().to_owned();
        for (name, content) in step["files"].as_object().into_iter().flatten() {
            let file = home.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let content = content.as_str().map_or_else(|| format!("{content:#}"), str::to_owned);
            std::fs::write(&file, &content).unwrap();
            if content.starts_with("#!") {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let mut command = tokio::process::Command::new("kubectl");
        if step["namespaced"] != false {
            command.args(["-n", &self.value_of("ns")]);
        }
        for arg in step["args"].as_array().into_iter().flatten() {
            command.arg(arg.as_str().map_or_else(|| arg.to_string(), str::to_owned));
        }
        command.env_clear().current_dir(&home).kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &home).env("TMPDIR", &home).env("KUBECONFIG", &self.kubeconfig);
        command.env("KUBECACHEDIR", home.join("cache")).env("LANG", "C.UTF-8").env("TZ", "UTC").env("COLUMNS", "80");
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, value.as_str().unwrap_or_default());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (step_, slot_) = (step.clone(), slot);
        let work = async move {
            let end = Instant::now() + seconds(&step_, "retry_seconds", 0.0);
            loop {
                let raw = execute(&mut command, step_["stdin"].as_str().unwrap_or_default()).await;
                let exit = step_["until_exit"].is_null() || raw["exit"] == step_["until_exit"];
                let printed = step_["until_stdout"].as_str().is_none_or(|pattern| {
                    Regex::new(pattern).expect("a regex").is_match(raw["stdout"].as_str().unwrap_or_default())
                });
                *slot_.lock().unwrap() = raw;
                if (exit && printed) || Instant::now() > end {
                    return;
                }
                sleep(LOOK * 3).await;
            }
        };
        if step["background"] == true {
            self.background.push(tokio::spawn(work));
            sleep(seconds(step, "lead", 1.5)).await;
        } else {
            work.await;
        }
    }
}

async fn execute(command: &mut tokio::process::Command, stdin: &str) -> Value {
    let mut child = command.spawn().expect("kubectl starts");
    if let Some(mut pipe) = child.stdin.take() {
        // A command that fails early does not read all of it.
        let _ = pipe.write_all(stdin.as_bytes()).await;
    }
    match timeout(Duration::from_secs(120), child.wait_with_output()).await {
        Ok(output) => {
            let output = output.expect("kubectl ends");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            json!({"exit": output.status.code(), "stdout": text(&output.stdout), "stderr": text(&output.stderr)})
        }
        Err(_) => json!({"exit": "timeout", "stdout": "", "stderr": ""}),
    }
}

fn holds(condition: &Value, raw: &Value) -> bool {
    if !condition["status"].is_null() {
        return raw["status"] == condition["status"];
    }
    let found = Path::parse(condition["path"].as_str().unwrap_or_default()).select(&raw["json"]);
    let is = |name: &str, test: &dyn Fn(&Value) -> bool| condition.get(name).is_none_or(test);
    is("exists", &|wanted| *wanted == !found.is_empty())
        && is("equals", &|wanted| found.contains(&wanted))
        && is("in", &|wanted| found.iter().any(|v| wanted.as_array().is_some_and(|list| list.contains(v))))
        && is("gte", &|wanted| found.iter().any(|v| v.as_f64() >= wanted.as_f64() && v.is_number()))
        && is("count", &|wanted| wanted.as_u64() == u64::try_from(found.len()).ok())
}

fn path_with_query(step: &Value) -> String {
    let path = step["path"].as_str().unwrap_or_default();
    let encode = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.bytes().fold(String::new(), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
            out
        })
    };
    let pairs: Vec<String> = step["query"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{}={}", encode(&json!(name)), encode(value)))
        .collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// Reads a watch until the server ends it, or until there were as many events as expected and a little longer.
async fn watch(server: &Server, step: &Value, ready: tokio::sync::oneshot::Sender<()>) -> Value {
    let path = path_with_query(step);
    let asked = Asked { method: "GET", path: &path, headers: &step["headers"], body: None, anonymous: false };
    let response = match server.open(&asked).await {
        Ok(response) => response,
        Err(error) => return json!({"status": 0, "headers": {}, "text": format!("no answer: {error}")}),
    };
    let (parts, body) = response.into_parts();
    if parts.status != 200 {
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        return pack(&parts, &body);
    }
    let mut result = head(&parts);
    let _ = ready.send(());
    let mut events: Vec<Value> = Vec::new();
    let mut limit = Instant::now() + seconds(step, "max_seconds", 20.0);
    let wanted = step["events"].as_u64();
    if wanted == Some(0) {
        limit = Instant::now() + seconds(step, "grace", 1.0);
    }
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let mut lines = futures::io::BufReader::new(stream.into_async_read()).lines();
    let closed_by = loop {
        match tokio::time::timeout_at(limit, lines.try_next()).await {
            Err(_) => break "client",
            Ok(Err(_) | Ok(None)) => break "server",
            Ok(Ok(Some(line))) if line.trim().is_empty() => {}
            Ok(Ok(Some(line))) => {
                events.push(serde_json::from_str(&line).unwrap_or_else(|_| json!({"unparsed": line})));
                let counted = events.iter().filter(|e| step["drop_bookmarks"] != true || !is_plain_bookmark(e)).count();
                if wanted.is_some_and(|wanted| u64::try_from(counted).unwrap() >= wanted) {
                    limit = limit.min(Instant::now() + seconds(step, "grace", 0.5));
                }
            }
        }
    };
    result["events"] = Value::Array(events);
    result["closed_by"] = closed_by.into();
    result
}
