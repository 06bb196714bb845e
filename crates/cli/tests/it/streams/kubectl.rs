//! kubectl: `exec`, `attach`, `cp`, `logs`.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{create, phase, pod};
use crate::machine::{Machine, eventually, on_path, require};

#[test]
fn exec() {
    let machine = Machine::up();
    if create(&machine, "p", &pod("p", "sleep 1000", "")).is_none() {
        return;
    }
    let run = |args: &[&str]| machine.kubectl(&[&["exec", "p", "--"], args].concat()).unwrap();
    assert_eq!(run(&["echo", "hello"]).ok().stdout, "hello\n");
    let both = run(&["sh", "-c", "echo out; echo err >&2; exit 7"]).code(7);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\ncommand terminated with exit code 7\n"));
    let killed = run(&["sh", "-c", "kill -9 $$"]).code(137);
    assert_eq!(killed.stderr, "command terminated with exit code 137\n");
    let missing = run(&["no-such-program"]).code(1);
    assert!(missing.stderr.contains("Internal error occurred"), "{}", missing.stderr);
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{}", missing.stderr);
    // More than any buffer on the way holds, and its end is told.
    let input: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    let echoed = machine.kubectl_with_input(&["exec", "-i", "p", "--", "cat"], &input).unwrap().ok().stdout;
    assert!(echoed == input, "{} bytes came back of {}", echoed.len(), input.len());
    let counted = machine.kubectl_with_input(&["exec", "-i", "p", "--", "wc", "-c"], &input).unwrap().ok().stdout;
    assert_eq!(counted.trim(), input.len().to_string());
    let bad = machine.kubectl(&["exec", "p", "-c", "zz", "--", "true"]).unwrap().code(1);
    assert_eq!(bad.stderr, "Error from server (BadRequest): container zz is not valid for pod p\n");
}

#[test]
fn exec_in_a_terminal() {
    let machine = Machine::up();
    if create(&machine, "p", &pod("p", "sleep 1000", "")).is_none() {
        return;
    }
    let mut terminal =
        Terminal::run(&machine, &["exec", "-it", "p", "--", "sh", "-c", "tty; stty size; read x; echo got-$x; exit 3"]);
    terminal.until("30 100");
    terminal.resize(40, 132);
    terminal.type_in("abc\r");
    terminal.until("got-abc");
    assert_eq!(terminal.end(), 3);
    // A key that is no line: the program is interrupted.
    let mut terminal = Terminal::run(
        &machine,
        &[
            "exec",
            "-it",
            "p",
            "--",
            "sh",
            "-c",
            "trap 'echo size:$(stty size)' WINCH; trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done",
        ],
    );
    terminal.until("ready");
    terminal.resize(41, 133);
    terminal.until("size:41 133");
    terminal.type_in("\x03");
    terminal.until("interrupted");
    assert_eq!(terminal.end(), 9);
}

#[test]
fn attach() {
    let machine = Machine::up();
    let script = "echo before; while read line; do echo \"got $line\"; done; echo over";
    if create(&machine, "p", &pod("p", script, ", stdin: true, stdinOnce: true")).is_none() {
        return;
    }
    let out = machine.kubectl_with_input(&["attach", "-i", "p"], "one\ntwo\n").unwrap().ok();
    assert!(out.stdout.contains("got one\ngot two\nover\n"), "{out:?}");
    eventually("the pod ends with its input", Duration::from_secs(20), || phase(&machine, "p") == "Succeeded");
    let logs = machine.kubectl(&["logs", "p"]).unwrap().ok().stdout;
    assert_eq!(logs, "before\ngot one\ngot two\nover\n");
}

#[test]
fn attach_to_a_terminal() {
    let machine = Machine::up();
    let script = "while read line; do echo \"got $line\"; [ \"$line\" = quit ] && exit 0; done";
    if create(&machine, "p", &pod("p", script, ", stdin: true, tty: true")).is_none() {
        return;
    }
    let mut terminal = Terminal::run(&machine, &["attach", "-it", "p"]);
    terminal.type_in("hello\r");
    terminal.until("got hello");
    terminal.type_in("quit\r");
    assert_eq!(terminal.end(), 0);
    eventually("the pod ended", Duration::from_secs(20), || phase(&machine, "p") == "Succeeded");
}

#[test]
fn run_attached() {
    let machine = Machine::up();
    let args =
        ["run", "r", "-i", "--rm", "--image=busybox", "--restart=Never", "--command", "--", "sh", "-c", "cat; exit 4"];
    let Some(out) = machine.kubectl_with_input(&args, "from here\n") else { return };
    assert!(out.stdout.contains("from here\n"), "{out:?}");
    assert_eq!(out.code, 4, "{out:?}");
}

#[test]
fn copy_both_ways() {
    let machine = Machine::up();
    if !require("tar", on_path("tar")) || create(&machine, "p", &pod("p", "sleep 1000", "")).is_none() {
        return;
    }
    let there = machine.path("there");
    std::fs::create_dir_all(there.join("sub")).unwrap();
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(there.join("sub/binary"), &content).unwrap();
    std::fs::write(there.join("text"), "some text\n").unwrap();
    machine.kubectl(&["cp", &there.display().to_string(), "p:/tmp/copy"]).unwrap().ok();
    let text = machine.kubectl(&["exec", "p", "--", "cat", "/tmp/copy/text"]).unwrap().ok().stdout;
    assert_eq!(text, "some text\n");
    let back = machine.path("back");
    machine.kubectl(&["cp", "p:/tmp/copy", &back.display().to_string()]).unwrap().ok();
    assert!(std::fs::read(back.join("sub/binary")).unwrap() == content);
}

#[test]
fn logs() {
    let machine = Machine::up();
    let script = "echo 1; sleep 0.02; echo 2; echo e >&2; sleep 0.02; echo 3; cat /tmp/go; printf end";
    let script = format!("while [ ! -e /tmp/first ]; do sleep 0.01; done; {script}");
    // With -f all of it comes, to the end, although the pod writes meanwhile.
    if create(&machine, "p", &pod("p", &script.replace("cat /tmp/go; ", ""), "")).is_none() {
        return;
    }
    let follow = machine.kubectl_command(&["logs", "-f", "p"]).unwrap().stdout(Stdio::piped()).spawn().unwrap();
    machine.kubectl(&["exec", "p", "--", "touch", "/tmp/first"]).unwrap().ok();
    let followed = String::from_utf8(follow.wait_with_output().unwrap().stdout).unwrap();
    // The two streams are two pipes: their order is that of arrival.
    let all = "1\n2\ne\n3\nend";
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(sorted(&followed), sorted(all));
    let logs = |args: &[&str]| machine.kubectl(&[&["logs", "p"], args].concat()).unwrap().ok().stdout;
    assert_eq!(logs(&[]), followed);
    assert_eq!(logs(&["--tail=1"]), "end");
    assert_eq!(logs(&["--tail=0"]), "");
    assert_eq!(logs(&["--limit-bytes=3"]), "1\n2");
    assert_eq!(logs(&["--since-time=2100-01-01T00:00:00Z"]), "");
    assert_eq!(logs(&["--since=1h"]), followed);
    let stamped = logs(&["--timestamps", "--tail=2"]);
    let stamps: Vec<&str> = stamped.lines().filter_map(|line| line.split_once(' ')).map(|(stamp, _)| stamp).collect();
    assert!(
        stamps.len() == 2 && stamps.iter().all(|stamp| stamp.starts_with("20") && stamp.contains('T')),
        "{stamped}"
    );
    let raw = |query: &str| {
        let path = format!("/api/v1/namespaces/default/pods/p/log?{query}");
        machine.kubectl(&["get", "--raw", &path]).unwrap().ok().stdout
    };
    assert_eq!(raw("stream=Stderr"), "e\n");
    assert_eq!(raw("stream=Stdout"), "1\n2\n3\nend");
    let bad = machine.kubectl(&["get", "--raw", "/api/v1/namespaces/default/pods/p/log?tailLines=-1"]).unwrap().code(1);
    assert!(bad.stderr.contains("must be greater than or equal to 0"), "{}", bad.stderr);
    let none = machine.kubectl(&["logs", "p", "--previous"]).unwrap().code(1);
    assert!(none.stderr.contains("previous terminated container \"main\" in pod \"p\" not found"), "{}", none.stderr);
}

#[test]
fn logs_of_the_run_before() {
    let machine = Machine::up();
    let manifest = pod("p", "echo run; exit 1", "").replace("Never", "OnFailure");
    if create(&machine, "p", &manifest).is_none() {
        return;
    }
    eventually("it ran twice", Duration::from_secs(60), || {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        machine.kubectl(&["get", "pod", "p", "-o", path]).unwrap().ok().stdout.parse::<u32>().unwrap_or(0) >= 1
    });
    assert_eq!(machine.kubectl(&["logs", "p", "--previous"]).unwrap().ok().stdout, "run\n");
}

/// A kubectl that believes to be on a terminal of 100 columns and 30 rows.
pub(super) struct Terminal {
    child: std::process::Child,
    master: std::fs::File,
    seen: String,
    output: mpsc::Receiver<Vec<u8>>,
}

impl Terminal {
    pub(super) fn run(machine: &Machine, args: &[&str]) -> Self {
        use std::os::unix::process::CommandExt as _;
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let open = || {
            let path = std::path::Path::new(name.to_str().unwrap());
            std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
        };
        let size = rustix::termios::Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).unwrap();
        let mut command = machine.kubectl_command(args).unwrap();
        command.stdin(open()).stdout(open()).stderr(open()).process_group(0);
        let child = command.spawn().unwrap();
        drop(command);
        let master = std::fs::File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, master, seen: String::new(), output }
    }

    pub(super) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).unwrap();
        // It is not the terminal's foreground group, so the kernel does not tell it.
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    }

    #[track_caller]
    pub(super) fn until(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(output) => self.seen.push_str(&String::from_utf8_lossy(&output)),
                Err(_) => panic!("{text:?} does not come; so far: {:?}", self.seen),
            }
        }
    }

    #[track_caller]
    pub(super) fn end(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("kubectl does not end; so far: {:?}", self.seen);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
