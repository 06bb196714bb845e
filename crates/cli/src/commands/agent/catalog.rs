//! Agents that KubeTask knows how to call: their programs, options and credentials.
//!
//! All are called the same way: in the first repository (or the workspace), with the prompt on standard input, asking for
//! no permission, because nobody is there to give it. The sandbox or the pod is what holds them.

use serde_json::{Value, json};

/// A well-known agent.
#[derive(Debug)]
pub(super) struct Known {
    /// The name of its Agent.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// The program.
    pub program: &'static str,
    /// Its arguments, for a shell.
    arguments: &'static str,
    /// The variable with the key for the model.
    pub key: &'static str,
    /// Further variables that it needs.
    env: &'static [(&'static str, &'static str)],
    /// How to install the program.
    pub install: &'static str,
}

/// All of them, by name.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "claude",
        title: "Claude Code",
        program: "claude",
        arguments: "-p --dangerously-skip-permissions",
        key: "ANTHROPIC_API_KEY",
        // Without it, it refuses to work as user 0, which an agent is in its own user namespace.
        env: &[("IS_SANDBOX", "1")],
        install: "npm install -g @anthropic-ai/claude-code",
    },
    Known {
        name: "codex",
        title: "Codex CLI",
        program: "codex",
        arguments: "exec --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check -",
        key: "CODEX_API_KEY",
        env: &[],
        install: "npm install -g @openai/codex",
    },
    Known {
        name: "gemini",
        title: "Gemini CLI",
        program: "gemini",
        arguments: "--yolo --skip-trust",
        key: "GEMINI_API_KEY",
        env: &[],
        install: "npm install -g @google/gemini-cli",
    },
];

/// Whether there is one of that name.
pub(in crate::commands) fn is_known(name: &str) -> bool {
    find(name).is_some()
}

/// The one of that name.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// What the user wants different.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The Agent's name.
    pub name: String,
    /// The image with the program.
    pub image: Option<String>,
    /// Which engine of the embedded node runs it.
    pub runtime: Option<String>,
    /// The Secret that has the key; `None`: no key.
    pub secret: Option<String>,
    /// Further variables.
    pub env: Vec<(String, String)>,
}

impl Known {
    /// The Agent.
    pub(super) fn agent(&self, wanted: &Wanted) -> Value {
        let own = self.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env: Vec<Value> =
            own.chain(wanted.env.iter().cloned()).map(|(name, value)| json!({"name": name, "value": value})).collect();
        let mut spec = json!({
            "serviceAccountName": "default",
            "command": ["sh", "-c", script(&format!("{} {}", self.program, self.arguments))],
        });
        if let Some(image) = &wanted.image {
            spec["agentImage"] = json!(image);
        }
        if let Some(runtime) = &wanted.runtime {
            spec["runtime"] = json!(runtime);
        }
        if !env.is_empty() {
            spec["env"] = json!(env);
        }
        if let Some(secret) = &wanted.secret {
            let reference = json!({"name": secret, "key": self.key});
            spec["credentials"] = json!([{"name": "model", "secretRef": reference, "env": self.key}]);
        }
        json!({
            "apiVersion": kubetask_api::API_VERSION,
            "kind": "Agent",
            "metadata": {"name": wanted.name},
            "spec": spec,
        })
    }

    /// The Secret with its key.
    pub(super) fn secret(&self, name: &str, key: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {self.key: key},
        })
    }
}

/// Calls an agent: its output is the log, the end of it the Task's result, its exit code the Task's. A signal reaches it.
fn script(call: &str) -> String {
    format!(
        r#"cd "${{KUBETASK_REPOSITORY:-/workspace}}" || exit
said=$(mktemp -d) && mkfifo "$said/pipe" || exit
tee "$said/log" <"$said/pipe" &
tee=$!
{call} </workspace/task.md >"$said/pipe" &
agent=$!
trap 'kill -TERM "$agent"' TERM INT
# A signal ends the waiting, not the agent.
while wait "$agent"; code=$?; [ "$code" -gt 128 ] && kill -0 "$agent" 2>/dev/null; do :; done
wait "$tee"
tail -c 4000 "$said/log" >/dev/termination-log
exit "$code"
"#
    )
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn agents_are_valid_and_read_back() {
        for known in KNOWN {
            let wanted = Wanted {
                name: known.name.to_owned(),
                image: Some("registry.example.com/agents:1".to_owned()),
                secret: Some("keys".to_owned()),
                env: vec![("MODE".to_owned(), "quick".to_owned())],
                ..Wanted::default()
            };
            let agent: kubetask_api::Agent = serde_json::from_value(known.agent(&wanted)).unwrap();
            assert_eq!(agent.spec.credentials[0].env.as_deref(), Some(known.key));
            assert_eq!(agent.spec.env.last().unwrap().name, "MODE");
            assert_eq!(find(known.name).unwrap().title, known.title);
        }
        assert!(find("nobody").is_none());
    }

    /// The script with its fixed paths in a directory of the test's own, and a signal after the first line where one is
    /// wanted; answers log, result and exit code.
    fn call(call: &str, signal: bool) -> (String, String, Option<i32>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("task.md"), "the prompt\n").unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let script =
            script(call).replace("/workspace/task.md", &at("task.md")).replace("/dev/termination-log", &at("result"));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("KUBETASK_REPOSITORY", dir.path()).env("TMPDIR", dir.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut log = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut log).unwrap();
        if signal {
            Command::new("kill").arg(child.id().to_string()).status().unwrap();
        }
        stdout.read_to_string(&mut log).unwrap();
        let code = child.wait().unwrap().code();
        (log, std::fs::read_to_string(dir.path().join("result")).unwrap(), code)
    }

    #[test]
    fn log_result_and_exit_code_are_the_agents() {
        assert_eq!(call("cat", false), ("the prompt\n".to_owned(), "the prompt\n".to_owned(), Some(0)));
        let (log, result, code) = call("eval 'seq 3000; exit 7; :'", false);
        assert_eq!((log.lines().count(), result.len(), code), (3000, 4000, Some(7)));
        assert!(log.ends_with(&result));
    }

    #[test]
    fn a_signal_reaches_the_agent_and_its_end_is_waited_for() {
        let agent = "sh -c 'trap \"echo ending; sleep 0.2; echo ended; exit 5\" TERM; echo ready; while :; do sleep 0.05; done'";
        let (log, _, code) = call(agent, true);
        assert_eq!((log.as_str(), code), ("ready\nending\nended\n", Some(5)));
    }
}
