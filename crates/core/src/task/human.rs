//! Human in the loop: the agent's command, and then time for a person to look around.
//!
//! The image is the user's and need not hold our binary, so a POSIX shell keeps watch. The command reaches it as
//! separate arguments and is run as `"$@"`: no word is split, joined or expanded again.
//!
//! That the command has ended shows nowhere in a container that still runs. So the shell leaves a file behind, and a startup
//! probe waits for it: the container counts as started once it waits for a person. Such a probe, unlike one of readiness,
//! ends when it has passed; and because it waits instead of asking again and again, it tells of no failures.

use k8s_openapi::api::core::v1::{ExecAction, Probe};
use kubetask_api::task::HumanInTheLoop;

/// How long a container is kept alive unless told otherwise.
pub const DEFAULT_KEEP_ALIVE_SECONDS: i32 = 3600;
/// The environment variable with the number of seconds.
pub const KEEP_ALIVE_ENV: &str = "KUBETASK_KEEP_ALIVE_SECONDS";

/// The directory with the file that tells that the command has ended.
pub(crate) const STATE_DIR: &str = "/kubetask/human";
/// That file.
pub const WAITS_FILE: &str = "/kubetask/human/waits";
/// How long the probe waits before it begins anew: no call to a node need last longer.
const PROBE_SECONDS: i32 = 3600;
/// What the probe runs.
const PROBE: &str = "until [ -e /kubetask/human/waits ]; do sleep 1; done";

/// Runs `"$@"` with signals passed on and stdin kept, tells how to enter, waits, and exits with the command's own code.
/// A signal ends the waiting at once.
const SCRIPT: &str = r#"exec 3<&0
child= stop=
trap 'stop=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT HUP
"$@" <&3 3<&- &
child=$!
[ -z "$stop" ] || kill -TERM "$child" 2>/dev/null
exec 3<&-
wait "$child"; code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
trap 'exit "$code"' TERM INT HUP
( : >/kubetask/human/waits ) 2>/dev/null
echo
echo "kubetask: the agent ended with exit code $code. Its container stays for $KUBETASK_KEEP_ALIVE_SECONDS seconds."
echo "kubetask: enter it:      kubectl exec -it -n $KUBETASK_POD_NAMESPACE $KUBETASK_POD_NAME -c agent -- sh"
echo "kubetask: end it early:  kubectl patch task $TASK_NAME -n $TASK_NAMESPACE --type=merge -p '{\"spec\":{\"stop\":true}}'"
sleep "$KUBETASK_KEEP_ALIVE_SECONDS" &
sleeper=$!
trap 'kill "$sleeper" 2>/dev/null; exit "$code"' TERM INT HUP
wait "$sleeper"
exit "$code""#;

/// The argument vector that runs `command` and then keeps the container alive.
pub(super) fn wrap(command: &[String]) -> Vec<String> {
    let mut argv = vec!["sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned(), "kubetask".to_owned()];
    argv.extend_from_slice(command);
    argv
}

/// The startup probe that passes once the container waits for a person. It gives up never: that would end the agent.
pub(super) fn probe() -> Probe {
    probe_by(["sh", "-c", PROBE].map(str::to_owned).to_vec())
}

/// Such a probe, by a command that ends well once the container waits.
pub(crate) fn probe_by(command: Vec<String>) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(command) }),
        period_seconds: Some(1),
        timeout_seconds: Some(PROBE_SECONDS),
        failure_threshold: Some(i32::MAX),
        ..Probe::default()
    }
}

/// The seconds for which to keep the container alive, where a person is wanted. The Task's word overrides the Agent's.
pub(super) fn keep_alive_seconds(task: Option<&HumanInTheLoop>, agent: Option<&HumanInTheLoop>) -> Option<i32> {
    let wanted = task.or(agent).filter(|h| h.enabled)?;
    Some(wanted.keep_alive_seconds.or(agent.and_then(|h| h.keep_alive_seconds)).unwrap_or(DEFAULT_KEEP_ALIVE_SECONDS))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn run(argv: &[&str], seconds: &str) -> (i32, String) {
        let argv = wrap(&argv.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let out = Command::new(&argv[0])
            .args(&argv[1..])
            .env(KEEP_ALIVE_ENV, seconds)
            .env("TASK_NAME", "t")
            .env("TASK_NAMESPACE", "n")
            .env("KUBETASK_POD_NAMESPACE", "n")
            .env("KUBETASK_POD_NAME", "p")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    }

    #[test]
    fn words_reach_the_command_as_they_are() {
        let (code, out) = run(&["printf", "<%s>", "a b", "", "$HOME", "'\"\\", "*"], "0");
        assert_eq!(code, 0);
        assert!(out.starts_with("<a b><><$HOME><'\"\\><*>"), "{out}");
        assert!(out.contains("kubectl exec -it -n n p -c agent -- sh"), "{out}");
    }

    #[test]
    fn the_exit_code_is_the_commands_own() {
        assert_eq!(run(&["sh", "-c", "exit 7"], "0").0, 7);
        assert_eq!(run(&["sh", "-c", "kill -KILL $$"], "0").0, 137);
        assert_eq!(run(&["/does/not/exist"], "0").0, 127);
    }

    #[test]
    fn a_signal_ends_the_waiting_with_the_commands_code() {
        let argv = wrap(&["sh".to_owned(), "-c".to_owned(), "exit 3".to_owned()]);
        let mut child =
            Command::new(&argv[0]).args(&argv[1..]).env(KEEP_ALIVE_ENV, "600").stdout(Stdio::piped()).spawn().unwrap();
        let mut seen = String::new();
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        while !seen.contains("end it early") {
            assert_ne!(std::io::BufRead::read_line(&mut reader, &mut seen).unwrap(), 0, "{seen}");
        }
        // The signal must find the sleeper, too; a leftover would hold this pipe open.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(std::io::Read::read_to_string(&mut reader, &mut seen).unwrap(), 0, "the sleeper is gone");
    }

    #[test]
    fn a_signal_reaches_the_running_command() {
        let command = ["sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"];
        let argv = wrap(&command.map(str::to_owned));
        let mut child =
            Command::new(&argv[0]).args(&argv[1..]).env(KEEP_ALIVE_ENV, "0").stdout(Stdio::piped()).spawn().unwrap();
        let mut seen = String::new();
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut reader, &mut seen).unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }

    #[test]
    fn the_probe_looks_where_the_script_writes() {
        assert!(SCRIPT.contains(&format!(">{WAITS_FILE} ")) && PROBE.contains(&format!("-e {WAITS_FILE} ")));
        assert!(WAITS_FILE.starts_with(&format!("{STATE_DIR}/")));
    }

    #[test]
    fn the_task_overrides_the_agent() {
        let on = |s| HumanInTheLoop { enabled: true, keep_alive_seconds: s };
        let off = HumanInTheLoop { enabled: false, keep_alive_seconds: None };
        assert_eq!(keep_alive_seconds(None, None), None);
        assert_eq!(keep_alive_seconds(None, Some(&on(None))), Some(3600));
        assert_eq!(keep_alive_seconds(Some(&off), Some(&on(Some(5)))), None);
        assert_eq!(keep_alive_seconds(Some(&on(Some(9))), Some(&off)), Some(9));
        assert_eq!(keep_alive_seconds(Some(&on(None)), Some(&on(Some(5)))), Some(5));
    }
}
