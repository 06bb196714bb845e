//! `exec`, `attach`, `cp` and `top`, on a terminal where they need one.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::machine::{Machine, eventually};

/// An agent that waits for a file, and says what it reads.
fn agent(machine: &Machine, name: &str) {
    let script = "echo ready; while [ ! -e /workspace/go ]; do sleep 0.1; done; echo going; exit 7";
    machine.kubetask(&["run", "--detach", "--name", name, "--", "sh", "-c", script]).ok();
    eventually("the agent runs", Duration::from_secs(30), || {
        machine.kubetask(&["logs", name]).stdout.contains("ready")
    });
}

#[test]
fn exec_passes_streams_and_exit_codes() {
    let machine = Machine::up();
    agent(&machine, "t");
    let out = machine.kubetask(&["exec", "t", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]).code(3);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    let out = machine.kubetask_with_input(&["exec", "-i", "t", "--", "tr", "a-z", "A-Z"], "loud\n").ok();
    assert_eq!(out.stdout, "LOUD\n");
    let out = machine.kubetask(&["exec", "t", "--", "no-such-program"]);
    assert!(out.code != 0 && out.stderr.contains("not found"), "{out:?}");
    let out = machine.kubetask(&["exec", "-it", "t", "--", "sh"]).code(2);
    assert!(out.stderr.contains("no terminal"), "{}", out.stderr);
    let out = machine.kubetask(&["exec", "nobody", "--", "true"]).code(1);
    assert!(out.stderr.contains("not found"), "{}", out.stderr);

    // The agent itself: its output from now on, and its exit code.
    let attached = machine.command(&["attach", "t"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    machine.kubetask(&["exec", "t", "--", "touch", "/workspace/go"]).ok();
    let out = attached.wait_with_output().unwrap();
    let late = String::from_utf8_lossy(&out.stderr).contains("has ended");
    assert!(late || String::from_utf8_lossy(&out.stdout).contains("going"), "{out:?}");
    machine.kubetask(&["wait", "t", "--timeout", "30s"]);
    let out = machine.kubetask(&["exec", "t", "--", "true"]).code(1);
    assert!(out.stderr.contains("has ended"), "{}", out.stderr);
}

#[test]
fn exec_says_what_an_agent_waits_for() {
    let machine = Machine::up();
    // A server that takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r.git", silent.local_addr().unwrap());
    let agent = r#"{"apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
        "spec": {"serviceAccountName": "default", "command": ["true"]}}"#;
    let task = serde_json::json!({
        "apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": {"name": "t"},
        "spec": {"agentRef": "a", "contexts": [
            {"type": "Repository", "repository": {"url": url, "path": "/workspace/r"}},
        ]},
    });
    let task = format!("{agent}\n---\n{task}\n");
    let task = machine.write("task.yaml", task);
    machine.kubetask(&["apply", "-f", &task]).ok();
    eventually("the repository is being cloned", Duration::from_secs(30), || {
        let pods = machine.kubetask(&["get", "pods", "-o", "json"]).stdout;
        pods.contains("\"initContainerStatuses\"") && pods.contains("\"startedAt\"")
    });
    let commands: [&[&str]; 2] = [&["exec", "t", "--", "true"], &["attach", "t"]];
    for command in commands {
        let out = machine.kubetask(command).code(1);
        assert!(out.stderr.contains("task \"t\" has no pod yet: "), "{}", out.stderr);
        assert!(out.stderr.contains("kubetask wait t --for=condition=Running"), "{}", out.stderr);
    }
    drop(silent);
}

#[test]
fn cp_copies_both_ways() {
    let machine = Machine::up();
    agent(&machine, "t");
    let dir = machine.path("src");
    std::fs::create_dir_all(dir.join("deep")).unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(dir.join("big"), &big).unwrap();
    std::fs::write(dir.join("deep/ünï"), "x").unwrap();
    let from = dir.display().to_string();
    machine.kubetask(&["cp", &from, "t:/workspace/copy"]).ok();
    let out = machine.kubetask(&["exec", "t", "--", "cat", "/workspace/copy/deep/ünï"]).ok();
    assert_eq!(out.stdout, "x");
    // Into a directory that is there, under its own name.
    machine.kubetask(&["cp", &format!("{from}/big"), "t:/workspace/copy/deep"]).ok();
    let back = machine.path("back");
    machine.kubetask(&["cp", "t:/workspace/copy", &back.display().to_string()]).ok();
    assert!(std::fs::read(back.join("big")).unwrap() == big && std::fs::read(back.join("deep/big")).unwrap() == big);
    // Once more into what is there: filled up.
    std::fs::write(back.join("mine"), "kept").unwrap();
    std::fs::remove_file(back.join("big")).unwrap();
    machine.kubetask(&["cp", "t:/workspace/copy", &machine.path("").display().to_string()]).ok();
    machine.kubetask(&["cp", "t:/workspace/copy/big", &back.display().to_string()]).ok();
    assert!(back.join("mine").exists() && std::fs::read(back.join("big")).unwrap() == big);
    let out = machine.kubetask(&["cp", "t:/workspace/nothing", &from]).code(1);
    assert!(out.stderr.contains("nothing"), "{}", out.stderr);
    machine.kubetask(&["cp", "a", "b"]).code(2);
    machine.kubetask(&["cp", "/nowhere", "t:/workspace"]).code(2);
}

#[test]
fn retry_suspend_and_resume() {
    let machine = Machine::up();
    machine.kubetask(&["run", "--name", "once", "--", "sh", "-c", "exit 4"]).code(4);
    let made = machine.kubetask(&["retry", "once", "--name", "twice"]).ok();
    assert_eq!(made.stdout, "task.kubetask.io/twice created\n");
    machine.kubetask(&["wait", "twice", "--timeout", "30s"]).code(4);
    assert_eq!(machine.task_value("twice", "/metadata/annotations/kubetask.io~1retry-of"), "once");
    agent(&machine, "t");
    machine.kubetask(&["retry", "t"]).code(1);
    machine.kubetask(&["suspend", "t"]).ok();
    eventually("suspended", Duration::from_secs(20), || machine.task_value("t", "/status/reason") == "Suspended");
    machine.kubetask(&["resume", "t"]).ok();
    eventually("goes on", Duration::from_secs(20), || machine.task_value("t", "/status/phase") == "Running");
}

/// A command on a terminal of its own.
struct OnTerminal {
    child: Child,
    master: std::fs::File,
    terminal: std::fs::File,
    seen: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(machine: &Machine, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let terminal = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = machine.command(args);
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = std::fs::File::from(master);
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (mut reader, into) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { child, master, terminal, seen }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let started = Instant::now();
        while !self.seen().contains(text) {
            assert!(started.elapsed() < Duration::from_secs(30), "{text:?} is not in {:?}", self.seen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    #[track_caller]
    fn end(mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(!self.is_raw(), "the terminal is as it was");
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < Duration::from_secs(30), "it does not end: {:?}", self.seen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn exec_gives_a_terminal_and_restores_ours() {
    let machine = Machine::up();
    agent(&machine, "t");
    let mut shell = OnTerminal::start(&machine, &["exec", "-it", "t", "--", "sh"]);
    eventually("raw mode", Duration::from_secs(30), || shell.is_raw());
    shell.type_in("stty size; test -t 0 && echo on-a-term''inal\n");
    shell.wait_for("24 100");
    shell.wait_for("on-a-terminal");
    shell.type_in("exit 5\n");
    let code = loop {
        if let Some(status) = shell.child.try_wait().unwrap() {
            break status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(5));
    assert!(!shell.is_raw());
    // A signal leaves no raw terminal behind either.
    let shell = OnTerminal::start(&machine, &["exec", "-it", "t", "--", "sh"]);
    eventually("raw mode", Duration::from_secs(30), || shell.is_raw());
    shell.signal(rustix::process::Signal::TERM);
    assert_eq!(shell.end(), 130);
}

#[test]
fn top_shows_steers_and_restores_the_terminal() {
    let machine = Machine::up();
    agent(&machine, "watched");
    let evil = r"printf 'before\033]0;owned\007\033[2Jafter\n'; sleep 600";
    machine.kubetask(&["run", "--detach", "--name", "evil", "--", "sh", "-c", evil]).ok();
    let mut top = OnTerminal::start(&machine, &["top"]);
    top.wait_for("watched");
    assert!(top.is_raw());
    top.type_in("/evil\r");
    top.wait_for("after");
    assert!(!top.seen().contains("\u{1b}]0;owned"), "what an agent writes drives no terminal");
    // A shell in the agent, and back.
    top.type_in("/\u{7f}\u{7f}\u{7f}\u{7f}watched\rs");
    top.wait_for("shell in watched");
    top.type_in("echo from-the-she''ll; exit\n");
    top.wait_for("from-the-shell");
    eventually("back on the dashboard", Duration::from_secs(30), || {
        top.seen().rsplit("from-the-shell").next().unwrap().contains("PHASE")
    });
    top.type_in("xy");
    eventually("it was stopped", Duration::from_secs(30), || {
        machine.task_value("watched", "/status/reason") == "Stopped"
    });
    top.type_in("q");
    assert_eq!(top.end(), 0);
    // Ended from outside it restores the terminal, too.
    let top = OnTerminal::start(&machine, &["top", "-A"]);
    top.wait_for("PHASE");
    top.signal(rustix::process::Signal::TERM);
    assert_eq!(top.end(), 130);
    let out = machine.kubetask(&["top"]).code(2);
    assert!(out.stderr.contains("needs a terminal"), "{}", out.stderr);
}
