//! The machine's `git`, on the user's own checkouts and with the user's configuration.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs git in a directory; what it says, without the space around it, or its word for why not.
pub(crate) fn git(directory: &Path, args: &[&str]) -> Result<String, String> {
    git_with(directory, args, &[], "")
}

/// The same with variables, and something on its standard input.
pub(crate) fn git_with(directory: &Path, args: &[&str], env: &[(&str, &str)], input: &str) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(args).envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("git: {e}"))?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // It may end without having read everything: its exit code tells why.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(|e| format!("git: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(text.trim().trim_start_matches("fatal: ").to_owned())
    }
}
