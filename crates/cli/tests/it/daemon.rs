//! `kubetask up` as a daemon in a cluster: its Lease, its certificates, its end. Another embedded Kubernetes is the cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kubetask_apiserver::Pki;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::machine::{Machine, eventually};

/// The machines that run tests are busy; what takes this long has failed.
const SOON: Duration = Duration::from_secs(60);

/// A server process for a machine's data directory, as if on a node of its own.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(machine: &Machine, name: &str, args: &[&str]) -> Self {
        let log = machine.path(&format!("{name}.log"));
        let mut command = machine.command(&["up"]);
        command.args(args).env("POD_NAME", name).env("POD_UID", "u").stdin(Stdio::null());
        let errors = std::fs::File::create(machine.path(&format!("{name}.err"))).unwrap();
        let child = command.stdout(std::fs::File::create(&log).unwrap()).stderr(errors).spawn().unwrap();
        Self { child, log }
    }

    /// What it logged; every line of its standard output is JSON.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    fn said(&self, message: &str) -> Option<Value> {
        self.lines().into_iter().find(|line| line["message"].as_str().is_some_and(|said| said.contains(message)))
    }

    #[track_caller]
    fn says(&self, message: &str) -> Value {
        eventually(message, SOON, || self.said(message).is_some());
        self.said(message).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn ends(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < SOON, "it goes on: {:?}", self.lines().last());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn holder(cluster: &Machine) -> String {
    let out = cluster.kubetask(&["get", "lease", "kubetask-daemon", "-o", "json"]);
    let lease: Value = serde_json::from_str(&out.stdout).unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn of_several_servers_for_a_volume_the_one_with_the_lease_runs() {
    let cluster = Machine::up();
    let machine = Machine::new();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let start = |name: &str| {
        // On another node the process that is published is none of this machine's.
        let _ = std::fs::remove_file(machine.data_dir().join("server.json"));
        let lease = ["--lease-kubeconfig", &kubeconfig, "--lease-namespace", "default"];
        let times = ["--lease-duration", "9s", "--renew-deadline", "8s", "--retry-period", "500ms"];
        Daemon::start(&machine, name, &[lease.as_slice(), times.as_slice()].concat())
    };
    let mut first = start("first");
    first.says("serves");
    assert_eq!(holder(&cluster), "first_u");
    machine.kubetask(&["run", "--name", "kept", "--", "true"]).ok();

    // The second waits, and takes over when the first is gone without a word.
    let mut second = start("second");
    second.says("asks for the lease");
    first.signal(Signal::KILL);
    first.ends();
    assert!(second.said("holds the lease").is_none(), "before the lease ended");
    second.says("serves");
    assert_eq!(holder(&cluster), "second_u");
    assert_eq!(machine.task_value("kept", "/status/phase"), "Completed");

    // One that is stopped for longer than its lease ends when it wakes up, and touches nothing.
    let third = start("third");
    third.says("asks for the lease");
    second.signal(Signal::STOP);
    third.says("the store is locked");
    second.signal(Signal::CONT);
    assert_eq!(second.ends(), 75);
    second.says("ends at once");
    third.says("serves");
    let after = machine.kubetask(&["run", "--name", "after", "--", "true"]);
    assert_eq!(after.code, 0, "{after:?}, {:#?}", third.lines());
    assert_eq!(machine.task_value("kept", "/status/phase"), "Completed");

    // Whose lease is taken ends; who ends in order gives it back.
    let thief = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "kubetask-daemon"},
        "spec": {"holderIdentity": "thief", "leaseDurationSeconds": 1}});
    let mut third = third;
    eventually("the thief has it", SOON, || {
        cluster.kubetask_with_input(&["apply", "-f", "-"], &thief.to_string());
        third.child.try_wait().unwrap().is_some()
    });
    assert_eq!(third.ends(), 75);
    let mut fourth = start("fourth");
    fourth.says("serves");
    fourth.signal(Signal::TERM);
    assert_eq!(fourth.ends(), 0);
    assert_eq!(holder(&cluster), "");
}

/// Who runs something while one server takes the place of another hears of it only by waiting.
#[test]
fn what_is_run_while_servers_change_is_run_once() {
    let cluster = Machine::up();
    let machine = Machine::new();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let start = |name: &str| {
        let lease = ["--lease-kubeconfig", &kubeconfig, "--lease-namespace", "default"];
        let times = ["--lease-duration", "9s", "--renew-deadline", "8s", "--retry-period", "500ms"];
        Daemon::start(&machine, name, &[lease.as_slice(), times.as_slice()].concat())
    };
    let published = machine.data_dir().join("server.json");
    let mut current = start("server-0");
    current.says("serves");
    let mut ran = Vec::new();
    for round in 1..=2 {
        // As on another node, where nothing is known of the one that runs.
        let known = std::fs::read(&published).unwrap();
        std::fs::remove_file(&published).unwrap();
        let next = start(&format!("server-{round}"));
        next.says("asks for the lease");
        std::fs::write(&published, known).unwrap();
        // Few enough that the next one finds the store free: commands bring a server of their own while none runs.
        let runs = |who: &'static str| {
            let machine = &machine;
            move || {
                let run = |number| {
                    let name = format!("{who}-{round}-{number}");
                    let out = machine.kubetask(&["run", "--name", &name, "--", "sh", "-c", "echo ran; sleep 0.3"]);
                    assert_eq!((out.code, out.stdout.as_str()), (0, "ran\n"), "{name}: {}", out.stderr);
                    name
                };
                (0..4).map(run).collect::<Vec<_>>()
            }
        };
        std::thread::scope(|scope| {
            let threads = ["one", "two"].map(|who| scope.spawn(runs(who)));
            std::thread::sleep(Duration::from_millis(400));
            current.signal(Signal::KILL);
            current.ends();
            ran.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
        });
        next.says("serves");
        current = next;
    }
    for name in ran {
        assert_eq!(machine.task_value(&name, "/status/attempts"), "1", "{name}");
        assert_eq!(machine.task_value(&name, "/status/phase"), "Completed", "{name}");
    }
}

#[test]
fn in_a_pod_the_lease_is_the_service_accounts() {
    let cluster = Machine::up();
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "Never", "serviceAccountName": "kubetask-daemon",
            "containers": [{
                "name": "kubetask", "image": concat!("kubetask/kubetask:", env!("CARGO_PKG_VERSION")),
                "args": ["up", "--data-dir=/data/kubetask"],
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
                ],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }})
    };
    let apply = |object: Value| cluster.kubetask_with_input(&["apply", "-f", "-"], &object.to_string()).ok();
    apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "kubetask-daemon"}}));
    let get = |name: &str, pointer: &str| {
        let out = cluster.kubetask(&["get", "pod", name, "-o", "json"]).stdout;
        let pod: Value = serde_json::from_str(&out).unwrap_or_default();
        pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    // Without the right to a Lease it says what is missing.
    apply(pod("without"));
    eventually("it ends", SOON, || get("without", "/status/phase") == "Failed");
    let Some(log) = cluster.kubectl(&["logs", "without"]) else { return };
    assert!(log.stdout.contains("cannot have the lease default/kubetask-daemon"), "{}", log.stdout);
    assert!(log.stdout.contains("--lease=never"), "{}", log.stdout);
    // With the Role of deploy/daemon it serves.
    let manifests = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/daemon/daemon.yaml"));
    let limits = kubetask_yaml::Limits::default();
    for document in kubetask_yaml::read_all(&manifests.unwrap(), limits).unwrap() {
        let mut object = document.value;
        if matches!(object["kind"].as_str(), Some("Role" | "RoleBinding")) {
            object["metadata"]["namespace"] = "default".into();
            apply(object);
        }
    }
    apply(pod("with"));
    let uid = get("with", "/metadata/uid");
    eventually("it holds the lease", SOON, || holder(&cluster) == format!("with_{uid}"));
    eventually("it serves", SOON, || {
        cluster.kubectl(&["logs", "with"]).unwrap().stdout.contains("\"message\":\"serves\"")
    });
    // A pod that is deleted ends in order.
    cluster.kubectl(&["delete", "pod", "with"]).unwrap().ok();
    assert_eq!(holder(&cluster), "");
}

#[test]
fn given_certificates_and_those_of_clients() {
    let mut machine = Machine::new();
    let pki = Pki::load_or_create(&machine.path("company"), &[]).unwrap();
    let file = |name: &str| machine.path("company").join(name).display().to_string();
    let (ca, crt, key) = (file("ca.crt"), file("server.crt"), file("server.key"));
    let tls = ["--tls-cert-file", &crt, "--tls-private-key-file", &key, "--client-ca-file", &ca];
    let who = |user: &str, groups: &[&str]| {
        let identity = pki.client(user, groups).unwrap();
        (
            machine.write(&format!("{user}.crt"), identity.certificate),
            machine.write(&format!("{user}.key"), identity.key),
        )
    };
    let (ann, root) = (who("ann", &["viewers"]), who("root", &["system:masters"]));
    let half = machine.kubetask(&["up", "--tls-cert-file", &crt]).code(2);
    assert!(half.stderr.contains("--tls-private-key-file"), "{}", half.stderr);
    let wrong = machine.kubetask(&["up", "--tls-cert-file", &ca, "--tls-private-key-file", &key]).code(1);
    assert!(wrong.stderr.contains("not the key of the certificate"), "{}", wrong.stderr);
    machine.start_with(&[tls.as_slice(), &["--listen", "0.0.0.0:0"]].concat());
    // Our own commands reach it over loopback, with our own authority.
    machine.kubetask(&["run", "--name", "t", "--", "true"]).ok();
    let status: Value = serde_json::from_str(&machine.kubetask(&["status", "-o", "json"]).ok().stdout).unwrap();
    let server = status["server"]["server"].as_str().unwrap().replace("127.0.0.1", "localhost");
    let kubectl = |(crt, key): &(String, String), args: &[&str]| {
        let flags = ["--kubeconfig=/dev/null", "--server", &server, "--certificate-authority", &ca];
        let identity = ["--client-certificate", crt, "--client-key", key];
        machine.kubectl(&[&flags, identity.as_slice(), args].concat())
    };
    let Some(whoami) = kubectl(&ann, &["auth", "whoami", "-o", "json"]) else { return };
    let whoami: Value = serde_json::from_str(&whoami.ok().stdout).unwrap();
    assert_eq!(whoami["status"]["userInfo"]["username"], "ann");
    assert_eq!(whoami["status"]["userInfo"]["groups"], json!(["viewers", "system:authenticated"]));
    let refused = kubectl(&ann, &["get", "pods"]).unwrap().code(1);
    assert!(refused.stderr.contains("User \"ann\" cannot list resource \"pods\""), "{}", refused.stderr);
    kubectl(&root, &["create", "clusterrolebinding", "viewers", "--clusterrole=view", "--group=viewers"]).unwrap().ok();
    kubectl(&ann, &["get", "pods"]).unwrap().ok();
    kubectl(&ann, &["create", "configmap", "x"]).unwrap().code(1);
    assert_eq!(machine.terminate_server(), 0);
}

#[test]
fn agents_are_stopped_where_that_is_wanted() {
    let machine = Machine::new();
    let mut server = Daemon::start(&machine, "server", &["--on-shutdown=stop", "--grace-period", "30s"]);
    server.says("serves");
    let polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    machine.kubetask(&["run", "--detach", "--name", "polite", "--", "sh", "-c", polite]).ok();
    eventually("it runs", SOON, || machine.kubetask(&["logs", "polite"]).stdout.contains("up"));
    let status: Value = serde_json::from_str(&machine.kubetask(&["status", "-o", "json"]).ok().stdout).unwrap();
    assert_eq!(status["running"], true);
    server.signal(Signal::TERM);
    assert_eq!(server.ends(), 0);
    server.says("no agent runs");
    assert!(crate::machine::processes_mentioning("trap 'echo bye; exit 0' TERM; echo up").is_empty());
    // The next server tells what became of it.
    let mut server = Daemon::start(&machine, "next", &["--on-shutdown=stop", "--grace-period", "1ms"]);
    // Before that, our commands would open the store themselves, and be in its way.
    server.says("serves");
    eventually("its Task has ended", SOON, || machine.task_value("polite", "/status/phase") == "Failed");
    assert_eq!(machine.kubetask(&["logs", "polite"]).ok().stdout, "up\nbye\n");
    let out = machine.kubetask(&["get", "pods", "-l", "kubetask.io/task=polite", "-o", "json"]).ok().stdout;
    let pods: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(pods["items"][0]["status"]["reason"], "Terminated", "{pods:#}");
    // What takes longer than the grace period is told by the exit code.
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    machine.kubetask(&["run", "--detach", "--name", "deaf", "--", "sh", "-c", deaf]).ok();
    eventually("it runs", SOON, || machine.kubetask(&["logs", "deaf"]).stdout.contains("up"));
    server.signal(Signal::TERM);
    assert_eq!(server.ends(), 124);
}

#[test]
fn agents_that_are_left_go_on_and_the_log_is_json() {
    let machine = Machine::new();
    let mut server = Daemon::start(&machine, "server", &[]);
    assert!(server.says("serves")["url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    machine.kubetask(&["run", "--detach", "--name", "t", "--", "sh", "-c", "echo up; sleep 600"]).ok();
    eventually("it runs", SOON, || machine.kubetask(&["logs", "t"]).stdout.contains("up"));
    server.signal(Signal::TERM);
    assert_eq!(server.ends(), 0);
    assert_eq!(server.says("agents go on running")["agents"], 1);
    // A number of a process that is somebody else's by now is no server that runs.
    let info = json!({"pid": std::process::id(), "server": "https://127.0.0.1:1", "version": "1", "startedAt": "x",
        "process": "another-boot/1", "temporary": false});
    std::fs::write(machine.data_dir().join("server.json"), info.to_string()).unwrap();
    machine.kubetask(&["status"]).code(1);
    let server = Daemon::start(&machine, "again", &[]);
    server.says("serves");
    eventually("the Task is known to run", SOON, || machine.task_value("t", "/status/phase") == "Running");
    machine.kubetask(&["stop", "t"]).ok();
}

#[test]
fn a_webhook_for_all_namespaces() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let told = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()
    });
    let mut machine = Machine::new();
    machine.start_with(&["--notify-webhook", &url]);
    machine.kubetask(&["run", "--name", "t", "--", "sh", "-c", "exit 3"]).code(3);
    let told = told.join().unwrap();
    assert_eq!((&told["event"], &told["task"]["name"]), (&json!("Failed"), &json!("t")));
    eventually("it is told once", SOON, || machine.task_value("t", "/status/pendingNotifications").is_empty());
    let wrong = machine.kubetask(&["up", "--notify-webhook", "nowhere"]).code(2);
    assert!(wrong.stderr.contains("write a URL"), "{}", wrong.stderr);
}
