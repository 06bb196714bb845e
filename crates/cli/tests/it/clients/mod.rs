//! Clients that nobody here wrote, unchanged, against `kubetask up`: kubectl, the Python and the Node client, kopf,
//! Helm, and kube-rs. `.ci/clients` installs those that are no Rust crates.

mod helm;
mod kopf;
mod kube_rs;
mod kubectl_apply;
mod kubectl_objects;
mod kubectl_queries;
mod node;
mod proxy;
mod python;
mod slow;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::machine::{Machine, Outcome, require};

/// Where `.ci/clients` installs.
pub(crate) fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/fixtures").join(name)
}

/// Python with the packages of `.ci/clients`; `None` where one of these is missing.
fn python(modules: &[&str]) -> Option<Command> {
    let python = || {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", installed().join("python")).env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
        command
    };
    for module in modules {
        let there = python().args(["-c", &format!("import {module}")]).output().is_ok_and(|out| out.status.success());
        if !require(&format!("the Python package {module} (see .ci/clients)"), there) {
            return None;
        }
    }
    Some(python())
}

/// A kubectl for one machine.
struct Kubectl {
    machine: Machine,
}

impl Kubectl {
    /// A machine whose server runs; `None` where there is no kubectl.
    fn up() -> Option<Self> {
        // Asks for kubectl before anything is started.
        Machine::new().kubectl_command(&[])?;
        Some(Self { machine: Machine::up() })
    }

    /// Runs a command line, with single quotes as in a shell.
    fn run(&self, line: &str) -> Outcome {
        self.input(line, "")
    }

    fn input(&self, line: &str, input: &str) -> Outcome {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.machine.kubectl_with_input(&words, input).expect("kubectl was there before")
    }

    /// The standard output of a command that must succeed.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let out = self.run(line);
        assert_eq!(out.code, 0, "kubectl {line}\nstdout:\n{}\nstderr:\n{}", out.stdout, out.stderr);
        out.stdout
    }

    #[track_caller]
    fn apply(&self, yaml: &str) -> String {
        self.input("apply -f -", yaml).ok().stdout
    }

    /// Starts a command that goes on, with its standard output as lines.
    fn start(&self, line: &str) -> Lines {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Lines::of(self.machine.kubectl_command(&words).expect("kubectl was there before"))
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// A program that goes on, line by line. It ends with this value.
struct Lines {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Lines {
    fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line; panics when the program has ended.
    #[track_caller]
    fn next(&mut self) -> String {
        self.lines.next().expect("the program has ended").unwrap()
    }

    /// Reads until a line has this text; returns that line.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the end; fails the test unless it is a success.
    #[track_caller]
    fn done(mut self) {
        for line in self.lines.by_ref() {
            line.unwrap();
        }
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
