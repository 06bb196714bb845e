//! Real agents: the programs themselves, installed by npm, with a model of our own. Each is given a checkout, changes it by
//! its shell, and what it changed comes back.

mod model;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use self::model::{Model, WORDS};
use crate::clients::installed;
use crate::machine::{Machine, Outcome, require};

/// A home directory with the programs in `.npm-global`, as `.ci/clients` makes it.
fn home() -> PathBuf {
    installed().join("home")
}

fn programs() -> PathBuf {
    home().join(".npm-global/bin")
}

/// A command on a machine whose user has the programs installed.
fn command(machine: &Machine, checkout: &Path, args: &[&str]) -> Command {
    let mut command = machine.command(args);
    let path = std::env::join_paths(
        std::iter::once(programs()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    command.current_dir(checkout).env("HOME", home()).env("PATH", path.unwrap());
    command
}

/// Adds the agent with a key, lets it work on a checkout, and looks at what it did.
fn check(program: &str, key: &str, env: impl Fn(&Model) -> Vec<String>, prepare: impl Fn(&Model, &Machine)) {
    if !require(program, programs().join(program).exists()) {
        return;
    }
    let machine = Machine::new();
    let checkout = machine.path("app");
    std::fs::create_dir(&checkout).unwrap();
    let script = "git init -q -b main . && echo broken > answer && git add . && \
        git -c user.name=a -c user.email=a@example.test commit -qm one";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&checkout).status().unwrap().success());

    let model = Model::new("echo fixed > answer");
    let run = |args: &[&str]| -> Outcome {
        command(&machine, &checkout, args).env(key, "not-a-real-key").output().unwrap().into()
    };
    let env = env(&model);
    let mut add = vec!["agent", "add", program];
    env.iter().for_each(|variable| add.extend(["--env", variable]));
    let out = run(&add).ok();
    assert!(!(out.stdout + &out.stderr).contains("not-a-real-key"));
    prepare(&model, &machine);
    let out = run(&["run", "--agent", program, "--repo", "--apply", "--timeout", "9m", "Fix the failing test."]).ok();
    assert!(out.stdout.contains(WORDS), "{}\n{}", out.stdout, out.stderr);
    assert!(out.stderr.contains("result:") && out.stderr.contains("1 file, +1 -1"), "{}", out.stderr);
    assert_eq!(std::fs::read_to_string(checkout.join("answer")).unwrap(), "fixed\n");
    let asked = model.asked.lock().unwrap();
    assert!(asked.len() >= 2 && asked.iter().all(|(_, key)| key == "not-a-real-key"), "{asked:?}");
}

#[test]
fn claude_code_works_on_a_checkout() {
    let env = |model: &Model| {
        vec![
            format!("ANTHROPIC_BASE_URL=http://{}", model.address),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1".to_owned(),
        ]
    };
    check("claude", "ANTHROPIC_API_KEY", env, |_, _| ());
}

/// Puts a file of configuration into an Agent.
fn configure(machine: &Machine, agent: &str, path: &str, content: &str) {
    let contexts = json!([{"type": "File", "file": {"filePath": path, "source": {"inline": content}}}]);
    let shown = machine.kubetask(&["get", "agent", agent, "-o", "json"]).ok().stdout;
    let mut whole: serde_json::Value = serde_json::from_str(&shown).unwrap();
    whole["spec"]["defaultContexts"] = contexts;
    let applied = json!({"apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": {"name": agent},
        "spec": whole["spec"]});
    machine.kubetask_with_input(&["apply", "-f", "-"], &applied.to_string()).ok();
}

#[test]
fn codex_works_on_a_checkout() {
    let env = |_: &Model| vec!["CODEX_HOME=/workspace/codex".to_owned()];
    check("codex", "CODEX_API_KEY", env, |model, machine| {
        let config = format!(
            "model = \"some-model\"\nmodel_provider = \"here\"\n[model_providers.here]\nname = \"here\"\n\
             base_url = \"http://{}/v1\"\nwire_api = \"responses\"\nenv_key = \"CODEX_API_KEY\"\n",
            model.address
        );
        configure(machine, "codex", "/workspace/codex/config.toml", &config);
    });
}

#[test]
fn gemini_cli_works_on_a_checkout() {
    let env = |model: &Model| {
        vec![
            format!("GOOGLE_GEMINI_BASE_URL=http://{}", model.address),
            "GEMINI_MODEL=gemini-2.5-pro".to_owned(),
            "GEMINI_CLI_HOME=/workspace/gemini".to_owned(),
        ]
    };
    check("gemini", "GEMINI_API_KEY", env, |_, machine| {
        let settings = json!({"security": {"auth": {"selectedType": "gemini-api-key"}}});
        configure(machine, "gemini", "/workspace/gemini/.gemini/settings.json", &settings.to_string());
    });
}

#[test]
fn agent_list_show_and_add_say_what_is_needed() {
    let machine = Machine::new();
    let list = machine.kubetask(&["agent", "list"]).ok().stdout;
    assert!(["claude", "codex", "gemini"].iter().all(|name| list.contains(name)), "{list}");
    let shown = machine.kubetask(&["agent", "show", "claude", "--image", "registry.example.com/claude:1"]).ok().stdout;
    insta::assert_snapshot!("agent_show_claude", shown);
    let out = machine.command(&["agent", "add", "claude"]).env_remove("ANTHROPIC_API_KEY").output().unwrap();
    let out = Outcome::from(out).code(2);
    assert!(out.stderr.contains("ANTHROPIC_API_KEY is not set"), "{}", out.stderr);
    let out = machine.kubetask(&["agent", "add", "clod"]).code(2);
    assert!(out.stderr.contains("known are claude, codex, gemini"), "{}", out.stderr);
    let out = machine.kubetask(&["agent", "show", "claude", "--runtime", "Docker"]).code(2);
    assert!(out.stderr.contains("--image"), "{}", out.stderr);
    // A manifest that is shown can be applied.
    machine.kubetask_with_input(&["apply", "-f", "-"], &shown).ok();
    let out = machine.kubetask(&["agent", "add", "gemini", "--as", "g", "--no-key"]).ok();
    assert!(out.stdout.contains("agent.kubetask.io/g applied"), "{}", out.stdout);
    // What is added and then run is not warned of.
    let out = machine.kubetask(&["run", "--agent", "codex", "--detach", "look"]);
    assert!(out.stderr.contains("kubetask agent add codex"), "{}", out.stderr);
    machine.kubetask(&["down"]).ok();
}
