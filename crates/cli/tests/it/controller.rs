//! `kubetask controller`: replicas of it against a server that has no operator of its own.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::machine::{Machine, eventually};

/// The machines that run tests are busy; what takes this long has failed.
const WAIT: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(4);

/// One replica.
struct Replica {
    name: &'static str,
    child: Child,
    log: std::path::PathBuf,
    metrics: String,
    health: String,
}

impl Replica {
    fn start(machine: &Machine, name: &'static str) -> Self {
        let log = machine.path(&format!("{name}.log"));
        let kubeconfig = machine.kubeconfig().display().to_string();
        let child = machine
            .command(&["controller", "--kubeconfig", &kubeconfig, "--log-format", "json"])
            .args(["--metrics-bind-address", "127.0.0.1:0", "--health-probe-bind-address", "127.0.0.1:0"])
            .args(["--lease-namespace", "default", "--identity", name, "--run-as-user", "image"])
            .args(["--lease-duration", "4s", "--renew-deadline", "3s", "--retry-period", "500ms"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut replica = Self { name, child, log, metrics: String::new(), health: String::new() };
        eventually("it serves metrics", WAIT, || {
            let lines = replica.lines();
            let address = |part: &str| {
                let line = lines.iter().find(|line| line["part"] == part);
                line.and_then(|line| line["address"].as_str()).unwrap_or_default().to_owned()
            };
            (replica.metrics, replica.health) = (address("Metrics"), address("Health"));
            !replica.health.is_empty()
        });
        replica
    }

    /// Every line of its log; all are JSON.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(WAIT)).build().into();
        let address = if path == "/metrics" { &self.metrics } else { &self.health };
        let mut answer = agent.get(format!("http://{address}{path}")).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    fn metric(&self, line: &str) -> Option<f64> {
        let text = self.get("/metrics").1;
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    fn leads(&self) -> bool {
        self.metric("kubetask_leader ") == Some(1.0)
    }

    /// How many requests it has sent that change something, the lease apart.
    fn writes(&self) -> f64 {
        let text = self.get("/metrics").1;
        let is_write = |line: &&str| {
            line.starts_with("kubetask_api_requests_total{")
                && !line.contains("resource=\"leases\"")
                && ["create", "update", "patch", "delete"].iter().any(|verb| line.contains(&format!("verb=\"{verb}")))
        };
        text.lines().filter(is_write).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("log of {} (end):\n{}", self.name, log.lines().rev().take(15).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A machine with an Agent whose every run leaves a line in a file named after its Task.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.start_with(&["--without-operator"]);
    let ran = machine.path("ran");
    std::fs::create_dir(&ran).unwrap();
    let agent = format!(
        "apiVersion: kubetask.io/v1alpha1\nkind: Agent\nmetadata: {{name: default}}\nspec:\n  serviceAccountName: default\n  \
         workspace: {{hostPath: {{path: {}}}}}\n  command: [sh, -c, 'echo x >> /workspace/$TASK_NAME']\n",
        ran.display()
    );
    let agent = machine.write("agent.yaml", agent);
    machine.kubetask(&["apply", "-f", &agent]).ok();
    machine
}

fn submit(machine: &Machine, names: &[String]) {
    let task = |name: &String| {
        format!(
            "apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {{name: {name}}}\nspec: {{contexts: []}}\n---\n"
        )
    };
    let file = machine.write("tasks.yaml", names.iter().map(task).collect::<String>());
    machine.kubetask(&["apply", "-f", &file]).ok();
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// Waits until all have completed, and checks that each ran once.
fn ran_once(machine: &Machine, names: &[String]) {
    let completed = || {
        let out = machine.kubetask(&["get", "tasks", "-o", "json"]).ok().stdout;
        let list: Value = serde_json::from_str(&out).unwrap();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let done = items.iter().filter(|task| task["status"]["phase"] == "Completed");
        let done: Vec<&str> = done.filter_map(|task| task["metadata"]["name"].as_str()).collect();
        names.iter().all(|name| done.contains(&name.as_str()))
    };
    eventually("all complete", WAIT, completed);
    for name in names {
        let runs = std::fs::read_to_string(machine.path("ran").join(name)).unwrap_or_default();
        assert_eq!(runs, "x\n", "{name} ran so often");
    }
}

#[test]
fn the_leader_is_killed_under_load_and_another_takes_over_within_the_lease() {
    let machine = machine();
    let first = Replica::start(&machine, "first");
    eventually("the first leads", WAIT, || first.leads());
    let second = Replica::start(&machine, "second");
    for replica in [&first, &second] {
        eventually("it is ready", WAIT, || replica.get("/readyz").0 == 200);
        assert_eq!(replica.get("/healthz"), (200, "ok\n".to_owned()));
    }
    assert!(second.get("/readyz").1.contains("standby") && !second.leads());

    let tasks = names("load", 30);
    submit(&machine, &tasks);
    eventually("some ran", WAIT, || std::fs::read_dir(machine.path("ran")).unwrap().count() >= 3);
    let killed = Instant::now();
    let first_log = first.lines();
    drop(first);
    eventually("the second leads", WAIT, || second.leads());
    // The lease, a look at it, and what a busy machine adds.
    assert!(killed.elapsed() < LEASE + Duration::from_secs(8), "{:?}", killed.elapsed());
    ran_once(&machine, &tasks);

    // Whatever is logged about a Task names it.
    let about_tasks: Vec<Value> = first_log.into_iter().chain(second.lines()).collect();
    let changes = about_tasks.iter().filter(|line| line["message"] == "the Task's status changed");
    let mut told = 0;
    for line in changes {
        let span = &line["span"];
        assert_eq!(span["namespace"], "default", "{line}");
        assert!(
            span["task"].as_str().unwrap().starts_with("load-") && span["uid"].as_str().unwrap().len() == 36,
            "{line}"
        );
        told += 1;
    }
    assert!(told >= tasks.len(), "{told}");
    let text = second.get("/metrics").1;
    for line in ["kubetask_tasks{phase=\"Completed\",reason=\"Completed\"} 30", "kubetask_leader 1", "# EOF"] {
        assert!(text.contains(line), "{line} in {text}");
    }

    // SIGTERM: it gives the lease back and ends well; a third need not wait.
    let mut second = second;
    second.signal(Signal::TERM);
    let code = second.child.wait().unwrap().code();
    assert_eq!(code, Some(0));
    let lease = machine.kubetask(&["get", "lease", "kubetask-controller", "-o", "json"]);
    if lease.code == 0 {
        let lease: Value = serde_json::from_str(&lease.stdout).unwrap();
        assert_eq!(lease["spec"]["holderIdentity"].as_str().unwrap_or_default(), "", "{lease}");
    }
    let third = Replica::start(&machine, "third");
    eventually("the third leads", WAIT, || third.leads());
}

#[test]
fn a_leader_that_was_paused_past_its_lease_does_nothing_when_it_wakes() {
    let machine = machine();
    let first = Replica::start(&machine, "first");
    eventually("the first leads", WAIT, || first.leads());
    let second = Replica::start(&machine, "second");
    let tasks = names("before", 20);
    submit(&machine, &tasks);
    eventually("some ran", WAIT, || std::fs::read_dir(machine.path("ran")).unwrap().count() >= 2);
    // In the middle of its work.
    first.signal(Signal::STOP);
    eventually("the second leads", WAIT, || second.leads());
    let more = names("after", 10);
    submit(&machine, &more);
    ran_once(&machine, &tasks);
    ran_once(&machine, &more);

    first.signal(Signal::CONT);
    eventually("the first knows", WAIT, || !first.leads() && first.get("/readyz").1.contains("standby"));
    // A request is counted when it is answered: those that were under way when it was paused are among these.
    let sent = first.writes();
    let later = names("later", 5);
    submit(&machine, &later);
    ran_once(&machine, &later);
    assert_eq!(first.writes(), sent, "it wrote after it had lost the lease");
    assert!(second.leads());
    let noticed = first.lines().iter().any(|line| line["message"] == "leads no more");
    assert!(noticed);
}
