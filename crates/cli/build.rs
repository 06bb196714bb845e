//! Records the commit the binary is built from. Builds without a repository, or without git, record `unknown`.

use std::path::Path;
use std::process::Command;

fn main() {
    // A packager's word comes first: images are built from an archive without `.git`.
    println!("cargo:rerun-if-env-changed=KUBETASK_GIT_HASH");
    let hash = std::env::var("KUBETASK_GIT_HASH").ok().filter(|hash| !hash.is_empty()).or_else(from_git);
    println!("cargo:rustc-env=KUBETASK_GIT_HASH={}", hash.as_deref().unwrap_or("unknown"));
}

fn from_git() -> Option<String> {
    let git_dir = git(&["rev-parse", "--git-dir"])?;
    for file in ["HEAD", "logs/HEAD"] {
        let path = Path::new(&git_dir).join(file);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
