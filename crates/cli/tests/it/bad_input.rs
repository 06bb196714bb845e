//! Wrong manifests: one clear line each, with file, line and field; exit code 2; nothing created.

use crate::machine::Machine;

const TASK: &str = "apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata:\n  name: bad\nspec:\n";

fn task(spec: &str) -> Vec<u8> {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("{TASK}{spec}").into_bytes()
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..15 {
        let p = i - 1;
        bomb.push_str(&format!("a{i}: &a{i} [*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p}]\n"));
    }
    vec![
        ("unknown-field", task("prompt: x\npromt: y")),
        ("unknown-nested-field", task("contexts:\n- type: File\n  file:\n    filePth: /a\n    source: {inline: x}")),
        ("wrong-type", task("prompt: [x]")),
        ("wrong-type-number", task("prompt: x\ntimeoutSeconds: soon")),
        ("missing-contexts", task("agentRef: x")),
        ("missing-source", task("contexts:\n- type: File\n  file:\n    filePath: /workspace/a")),
        ("two-sources", task("contexts:\n- type: File\n  file:\n    filePath: /a\n    source:\n      inline: x\n      configMapKeyRef: {name: c, key: k}")),
        ("two-paths", task("contexts:\n- type: File\n  file:\n    filePath: /a\n    dirPath: /b\n    source: {inline: x}")),
        ("dots-in-path", task("contexts:\n- type: File\n  file:\n    filePath: /workspace/../etc/passwd\n    source: {inline: x}")),
        ("relative-path", task("contexts:\n- type: File\n  file:\n    filePath: task.md\n    source: {inline: x}")),
        ("wrong-member", task("contexts:\n- type: Repository\n  file:\n    filePath: /a\n    source: {inline: x}")),
        ("unknown-type", task("contexts:\n- type: Telegram")),
        ("negative-timeout", task("prompt: x\ntimeoutSeconds: 0")),
        ("bad-name", b"apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: Not_A_Name}\nspec: {prompt: x}\n".to_vec()),
        ("missing-name", b"apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {}\nspec: {prompt: x}\n".to_vec()),
        ("missing-kind", b"apiVersion: kubetask.io/v1alpha1\nmetadata: {name: x}\nspec: {prompt: x}\n".to_vec()),
        ("unknown-kind", b"apiVersion: kubetask.io/v1alpha1\nkind: Tusk\nmetadata: {name: x}\n---\napiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: x}\nspec: {prompt: x}\n".to_vec()),
        ("unknown-version", b"apiVersion: kubetask.io/v9\nkind: Task\nmetadata: {name: x}\nspec: {prompt: x}\n---\napiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: x}\nspec: {prompt: x}\n".to_vec()),
        ("duplicate-key", task("prompt: x\nprompt: y")),
        ("not-yaml", b"kind: [Task\nmetadata: }\n".to_vec()),
        ("just-text", b"please run my task\n".to_vec()),
        ("empty", Vec::new()),
        ("only-comments", b"# nothing here\n---\n".to_vec()),
        ("binary", b"\x7fELF\x02\x01\x01\0\0\0\0".to_vec()),
        ("not-utf8", b"kind: \xff\xfe\n".to_vec()),
        ("bomb", bomb.into_bytes()),
        ("deep", format!("a: {}", "[".repeat(5000)).into_bytes()),
        ("bad-cron", b"apiVersion: kubetask.io/v1alpha1\nkind: CronTask\nmetadata: {name: x}\nspec:\n  schedule: 61 * * * *\n  taskTemplate: {spec: {prompt: x}}\n---\napiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: bad}\nspec: {prompt: x}\n".to_vec()),
        ("agent-without-account", b"apiVersion: kubetask.io/v1alpha1\nkind: Agent\nmetadata: {name: a}\nspec: {agentImage: x}\n---\napiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: bad}\nspec: {prompt: x}\n".to_vec()),
        ("human-without-command", b"apiVersion: kubetask.io/v1alpha1\nkind: Agent\nmetadata: {name: a}\nspec: {serviceAccountName: x, humanInTheLoop: {enabled: true}}\n---\napiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: bad}\nspec: {prompt: x}\n".to_vec()),
        ("no-checkout", b"apiVersion: kubetask.io/v1alpha1\nkind: Task\nmetadata: {name: bad}\nspec:\n  contexts:\n  - type: Repository\n    repository: {url: ./nowhere}\n".to_vec()),
    ]
}

#[test]
fn every_kind_of_wrong_manifest_is_explained() {
    let machine = Machine::up();
    let mut report = String::new();
    for (name, content) in cases() {
        let file = machine.write(&format!("{name}.yaml"), content);
        let out = machine.kubetask(&["run", "-f", &file]);
        let shown = out.stderr.replace(&file, "FILE");
        let shown = shown.replace(machine.path("").to_str().unwrap(), "DIR/");
        report.push_str(&format!("## {name}: exit code {}\n{shown}\n", out.code));
        assert_eq!(out.code, 2, "{name}: {}", out.stderr);
        assert_eq!(out.stdout, "", "{name}");
        assert!(shown.starts_with("error: FILE"), "{name} names the file: {shown}");
    }
    insta::assert_snapshot!(report);
    for kind in ["tasks", "agents", "crontasks"] {
        assert_eq!(machine.kubetask(&["get", kind, "-o", "name"]).ok().stdout, "", "nothing was created");
    }
}

#[test]
fn huge_files_are_refused_unread() {
    let machine = Machine::new();
    let path = machine.path("huge.yaml");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let out = machine.kubetask(&["apply", "-f", path.to_str().unwrap()]).code(2);
    assert!(out.stderr.contains("larger than 16 MiB"), "{}", out.stderr);
    let out = machine.kubetask(&["apply", "-f", "no/such/file.yaml"]).code(2);
    assert_eq!(out.stderr, "error: no/such/file.yaml: no such file or directory\n");
}

#[test]
fn one_wrong_object_means_none_is_created() {
    let machine = Machine::up();
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\ndata: {a: b}\n";
    let file = machine.write("mixed.yaml", format!("{good}---\n{TASK}  prompt: [x]\n"));
    let out = machine.kubetask(&["apply", "-f", &file]).code(2);
    assert!(out.stderr.contains("mixed.yaml:11:"), "the line in the file: {}", out.stderr);
    assert!(machine.kubetask(&["get", "cm", "good"]).stderr.contains("not found"));
}

#[test]
fn values_behind_an_option_that_may_go_without_are_told_of() {
    let machine = Machine::new();
    let out = machine.kubetask(&["run", "--repo", ".", "fix the failing test"]).code(2);
    assert!(out.stderr.contains("unexpected argument 'fix the failing test'"), "{}", out.stderr);
    assert!(out.stderr.contains("hint: the value of --repo stands behind `=`: --repo=."), "{}", out.stderr);
}
