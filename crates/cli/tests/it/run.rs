//! `kubetask run`: with nothing else running, nothing else installed.

use std::time::{Duration, Instant};

use crate::machine::{Machine, Outcome, eventually};

const AGENT: &str = "\
apiVersion: kubetask.io/v1alpha1
kind: Agent
metadata: {name: default}
spec:
  serviceAccountName: default
  command: [sh, -c, 'cat /workspace/task.md; echo; echo \"it went well\" > /dev/termination-log']
";

#[test]
fn run_wraps_a_command() {
    let machine = Machine::new();
    let out = machine.kubetask(&["run", "--", "echo", "a  b", "$HOME", "*"]).ok();
    assert_eq!(out.stdout, "a  b $HOME *\n", "the words reach the command as they are");
    assert!(out.stderr.contains("completed"), "{}", out.stderr);
}

#[test]
fn run_ends_with_the_agents_exit_code() {
    let machine = Machine::up();
    for code in [1, 3, 77, 255] {
        let out = machine.kubetask(&["run", "--", "sh", "-c", &format!("echo out; echo err >&2; exit {code}")]);
        let out = out.code(code);
        assert!(out.stdout.contains("out\n") && out.stdout.contains("err\n"), "{}", out.stdout);
        assert!(out.stderr.contains(&format!("exit code {code}")), "{}", out.stderr);
    }
}

#[test]
fn run_of_a_command_that_is_not_there_says_so() {
    let machine = Machine::new();
    let out = machine.kubetask(&["run", "--", "no-such-program"]);
    assert_ne!(out.code, 0);
    assert!(out.stderr.contains("no-such-program"), "{}", out.stderr);
}

#[test]
fn run_with_a_prompt_for_an_agent() {
    let machine = Machine::up();
    let agent = machine.write("agent.yaml", AGENT);
    machine.kubetask(&["apply", "-f", &agent]).ok();
    let out = machine.kubetask(&["run", "fix the failing test"]).ok();
    assert_eq!(out.stdout, "fix the failing test\n");
    assert!(out.stderr.contains("result: it went well"), "{}", out.stderr);
    let out = machine.kubetask(&["run", "--agent", "default", "--name", "named", "-o", "json", "again"]).ok();
    let task: serde_json::Value = serde_json::from_str(&out.stdout).expect("stdout is the Task and nothing else");
    assert_eq!(task["metadata"]["name"], "named");
    assert_eq!(task["status"]["phase"], "Completed");
    assert_eq!(task["status"]["result"], "it went well\n");
    assert!(out.stderr.contains("again"), "the log goes to stderr: {}", out.stderr);
}

#[test]
fn run_of_a_manifest_from_standard_input() {
    let machine = Machine::new();
    let manifest = format!(
        "{AGENT}---\napiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {{name: piped}}\nspec: {{prompt: from a pipe}}\n"
    );
    let out = machine.kubetask_with_input(&["run", "-f", "-"], &manifest).ok();
    assert_eq!(out.stdout, "from a pipe\n");
    // Without a server, what was stored can still be looked at.
    assert_eq!(machine.kubetask(&["logs", "piped"]).ok().stdout, "from a pipe\n");
    let listed = machine.kubetask(&["get", "tasks"]).ok().stdout;
    assert!(listed.contains("piped") && listed.contains("Completed"), "{listed}");
    // A second run of the same manifest is a new run.
    let out = machine.kubetask_with_input(&["run", "-f", "-"], &manifest).ok();
    assert_eq!(out.stdout, "from a pipe\n");
    assert!(out.stderr.contains("replacing"), "{}", out.stderr);
}

#[test]
fn run_ends_at_its_timeout_with_124() {
    let machine = Machine::new();
    let started = Instant::now();
    let out = machine.kubetask(&["run", "--timeout", "1s", "--", "sh", "-c", "echo started; sleep 600"]).code(124);
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(out.stdout, "started\n");
}

#[test]
fn run_stops_the_task_on_interrupt_with_130() {
    let machine = Machine::up();
    let mut command = machine.command(&[
        "run",
        "--name",
        "long",
        "--",
        "sh",
        "-c",
        "trap 'echo bye; exit 9' TERM; echo started; while :; do sleep 0.1; done",
    ]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the task runs", Duration::from_secs(20), || {
        machine.kubetask(&["logs", "long"]).stdout.contains("started")
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stdout).contains("bye"), "the agent was asked to end");
    assert_eq!(machine.task_value("long", "/status/phase"), "Failed");
    assert_eq!(machine.task_value("long", "/status/reason"), "Stopped");
    assert!(machine.kubetask(&["logs", "long"]).ok().stdout.contains("bye"), "the log stays readable");
}

#[test]
fn run_detached_goes_on_in_the_background() {
    let machine = Machine::new();
    let out = machine.kubetask(&["run", "--detach", "--name", "back", "--", "sh", "-c", "sleep 1; echo late"]).ok();
    assert_eq!(out.stdout, "task.kubetask.io/back\n");
    machine.kubetask(&["wait", "back", "--timeout", "30s"]).ok();
    assert_eq!(machine.kubetask(&["logs", "back"]).ok().stdout, "late\n");
    machine.kubetask(&["down"]).ok();
    machine.kubetask(&["status"]).code(1);
}

#[test]
fn run_gives_the_command_its_workspace_and_environment() {
    let machine = Machine::new();
    let work = machine.path("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("in"), "input").unwrap();
    let out = machine.kubetask(&[
        "run",
        "--workspace",
        work.to_str().unwrap(),
        "--env",
        "NAME=va lue",
        "--",
        "sh",
        "-c",
        "cd /workspace && cat in && echo \" $NAME\" && echo made > out",
    ]);
    assert_eq!(out.ok().stdout, "input va lue\n");
    assert_eq!(std::fs::read_to_string(work.join("out")).unwrap(), "made\n");
}

#[test]
fn run_gives_no_write_access_to_the_machine() {
    let machine = Machine::new();
    let file = machine.write("precious", "before");
    let script =
        format!("echo after > {file}; touch /etc/x /usr/x; cat {}/kubeconfig; true", machine.data_dir().display());
    let out = machine.kubetask(&["run", "--", "sh", "-c", &script]).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    assert!(!std::path::Path::new("/etc/x").exists() && !std::path::Path::new("/usr/x").exists());
    assert!(!out.stdout.contains("token"), "the key to the server is hidden: {}", out.stdout);
}

#[test]
fn two_runs_at_a_time_share_one_server() {
    let machine = Machine::new();
    let spawn = |name: &str, seconds: &str| {
        machine
            .command(&["run", "--name", name, "--", "sh", "-c", &format!("sleep {seconds}; echo {name}")])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    // The first brings the server and ends before the second, which then takes its place.
    let first = spawn("first", "1");
    std::thread::sleep(Duration::from_millis(300));
    let second = spawn("second", "4");
    for (child, text) in [(first, "first\n"), (second, "second\n")] {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(String::from_utf8_lossy(&out.stdout), text);
    }
}

#[test]
fn run_gives_the_agent_the_checkout_with_the_work_in_it() {
    if !crate::machine::require("git", crate::machine::on_path("git")) {
        return;
    }
    let machine = Machine::new();
    let checkout = machine.path("my.repo");
    std::fs::create_dir(&checkout).unwrap();
    let script = "git init -q -b main . && git config user.name a && git config user.email a@example.test \
        && echo committed > f && git add . && git commit -qm one && echo changed > f && echo new > g && mkdir sub";
    assert!(std::process::Command::new("sh").args(["-c", script]).current_dir(&checkout).status().unwrap().success());
    let agent =
        "{apiVersion: kubetask.io/v1alpha1, kind: Agent, metadata: {name: default}, spec: {serviceAccountName: default,
        command: [sh, -c, 'cd /workspace/my.repo && cat f g; true']}}";
    machine.kubetask_with_input(&["apply", "-f", "-"], agent).ok();
    let run =
        |args: &[&str]| -> Outcome { machine.command(args).current_dir(checkout.join("sub")).output().unwrap().into() };
    let out = run(&["run", "--repo", "look"]).ok();
    assert!(out.stdout.starts_with("committed\n"), "{}", out.stdout);
    assert!(
        out.stderr.contains("2 uncommitted changes are not part of it; --carry takes them along"),
        "{}",
        out.stderr
    );
    let out = run(&["run", "--repo", "--carry", "look"]).ok();
    assert_eq!(out.stdout, "changed\nnew\n");
    let out: Outcome = machine.command(&["run", "--repo=/", "look"]).output().unwrap().into();
    assert!(out.code(2).stderr.contains("not a git repository"));
}
