//! kubectl apply in all its forms, diff, edit, replace and patch.

use super::Kubectl;

const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {app: x}}
data: {k: v, other: same}
";

#[test]
fn apply_diff_and_edit() {
    let Some(kubectl) = Kubectl::up() else { return };
    let file = kubectl.machine.write("a.yaml", CONFIG);
    let changed = kubectl.machine.write("b.yaml", CONFIG.replace("k: v", "k: w"));
    let diff = kubectl.run(&format!("diff -f {file}")).code(1).stdout;
    assert!(diff.contains("+kind: ConfigMap"), "{diff}");
    assert_eq!(kubectl.ok(&format!("apply -f {file} --dry-run=server")), "configmap/a created (server dry run)\n");
    kubectl.run("get configmap a").code(1);
    assert_eq!(kubectl.ok(&format!("apply -f {file}")), "configmap/a created\n");
    assert_eq!(kubectl.ok(&format!("diff -f {file}")), "");
    let diff = kubectl.run(&format!("diff -f {changed}")).code(1).stdout;
    assert!(diff.contains("-  k: v") && diff.contains("+  k: w"), "{diff}");
    assert_eq!(kubectl.ok(&format!("apply -f {changed}")), "configmap/a configured\n");
    assert_eq!(kubectl.ok(&format!("apply -f {changed}")), "configmap/a unchanged\n");
    let applied = kubectl.ok("apply view-last-applied configmap a");
    assert!(applied.contains("k: w"), "{applied}");

    // What apply gave up goes, what others set stays.
    kubectl.ok("label configmap a by=hand");
    let less = kubectl.machine.write("c.yaml", CONFIG.replace(", other: same", ""));
    kubectl.ok(&format!("apply -f {less}"));
    assert_eq!(
        kubectl.ok("get configmap a -o jsonpath={.data}{.metadata.labels}"),
        r#"{"k":"v"}{"app":"x","by":"hand"}"#
    );

    // An editor that changes a value, and one that changes nothing.
    let edit = |editor: &str| {
        let mut command = kubectl.machine.kubectl_command(&["edit", "configmap", "a"]).unwrap();
        let out = command.env("KUBE_EDITOR", editor).stdin(std::process::Stdio::null()).output().unwrap();
        crate::machine::Outcome::from(out).ok()
    };
    assert_eq!(edit(r"sed -i s/k:.v/k:\ edited/").stdout, "configmap/a edited\n");
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data.k}"), "edited");
    assert_eq!(edit("true").stderr, "Edit cancelled, no changes made.\n");
}

#[test]
fn server_side_apply_with_conflicts() {
    let Some(kubectl) = Kubectl::up() else { return };
    let apply = |manager: &str, force: &str, yaml: &str| {
        kubectl.input(&format!("apply --server-side --field-manager={manager}{force} -f -"), yaml)
    };
    let created = apply("one", "", CONFIG).ok();
    assert_eq!(created.stdout, "configmap/a serverside-applied\n");
    let other = CONFIG.replace("k: v", "k: w");
    let refused = apply("two", "", &other).code(1).stderr;
    assert!(refused.starts_with("error: Apply failed with 1 conflict: conflict with \"one\": .data.k\n"), "{refused}");
    apply("two", " --force-conflicts", &other).ok();
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data.k}"), "w");
    // The first no longer owns the value, so giving it up changes nothing; giving up what it owns alone removes that.
    apply("one", "", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {other: same}\n").ok();
    apply("two", "", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: w}\n").ok();
    assert_eq!(
        kubectl.ok("get configmap a -o jsonpath={.data}{.metadata.labels}"),
        r#"{"k":"w","other":"same"}"#,
        "the label had two owners who both gave it up"
    );
    let managers = kubectl.ok("get configmap a --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}");
    assert_eq!(managers, "one two");

    // From client-side to server-side apply: kubectl takes its own fields along.
    kubectl.apply(&CONFIG.replace("name: a", "name: b"));
    let moved = CONFIG.replace("name: a", "name: b").replace(", other: same", "");
    kubectl.input("apply --server-side -f -", &moved).ok();
    assert_eq!(kubectl.ok("get configmap b -o jsonpath={.data}"), r#"{"k":"v"}"#);
    let managers = kubectl.ok("get configmap b --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}");
    // The annotation that kubectl goes on to keep is another manager's, as kubectl has it.
    let managers: std::collections::BTreeSet<&str> = managers.split(' ').collect();
    assert_eq!(managers.into_iter().collect::<Vec<_>>(), ["kubectl", "kubectl-last-applied"]);
    let diff = kubectl.input("diff --server-side -f -", &moved.replace("k: v", "k: w")).code(1).stdout;
    assert!(diff.contains("-  k: v") && diff.contains("+  k: w"), "{diff}");
}

#[test]
fn prune_and_kustomize() {
    let Some(kubectl) = Kubectl::up() else { return };
    let named =
        |name: &str| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: s}}}}\n");
    kubectl.apply(&[named("a"), named("b")].concat());
    kubectl.ok("create configmap bystander");
    let out = kubectl.input("apply --prune -l set=s --prune-allowlist=core/v1/ConfigMap -f -", &named("a")).ok().stdout;
    assert_eq!(out, "configmap/a unchanged\nconfigmap/b pruned\n");
    assert_eq!(kubectl.ok("get configmap bystander -o name"), "configmap/bystander\n");

    let dir = kubectl.machine.path("k");
    std::fs::create_dir(&dir).unwrap();
    let kustomization = "namePrefix: pre-\nlabels: [{pairs: {tier: k}}]\n\
         configMapGenerator: [{name: gen, literals: [a=b]}]\nresources: [job.yaml]\n";
    std::fs::write(dir.join("kustomization.yaml"), kustomization).unwrap();
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  template:\n    spec:\n      \
         restartPolicy: Never\n      containers: [{name: c, image: local, command: [echo, hi]}]\n";
    std::fs::write(dir.join("job.yaml"), job).unwrap();
    let dir = dir.display();
    assert!(kubectl.ok(&format!("apply -k {dir}")).contains("job.batch/pre-j created"));
    assert!(kubectl.ok(&format!("apply -k {dir}")).lines().all(|line| line.ends_with("unchanged")));
    kubectl.ok("wait --for=condition=Complete job/pre-j --timeout=30s");
    assert_eq!(kubectl.ok("logs job/pre-j"), "hi\n");
    assert_eq!(kubectl.ok("get configmap,job -l tier=k -o name").lines().count(), 2);
    kubectl.ok(&format!("delete -k {dir}"));
}

#[test]
fn patches_and_replace() {
    let Some(kubectl) = Kubectl::up() else { return };
    kubectl.apply(CONFIG);
    let data = || kubectl.ok("get configmap a -o jsonpath={.data}");
    kubectl.ok(r#"patch configmap a --type=json -p '[{"op":"test","path":"/data/k","value":"v"},{"op":"add","path":"/data/j","value":"1"}]'"#);
    assert_eq!(data(), r#"{"j":"1","k":"v","other":"same"}"#);
    kubectl.run(r#"patch configmap a --type=json -p '[{"op":"test","path":"/data/k","value":"w"}]'"#).code(1);
    let merge = r#"patch configmap a --type=merge -p '{"data":{"j":null,"other":null}}'"#;
    assert_eq!(kubectl.ok(merge), "configmap/a patched\n");
    assert_eq!(kubectl.ok(merge), "configmap/a patched (no change)\n");
    assert_eq!(data(), r#"{"k":"v"}"#);

    // Strategic merge by the merge key `name`.
    let pod = "apiVersion: v1\nkind: PodTemplate\nmetadata: {name: p}\ntemplate:\n  spec:\n    containers:\n    \
         - {name: one, image: a, env: [{name: A, value: '1'}, {name: B, value: '2'}]}\n    - {name: two, image: b}\n";
    kubectl.apply(pod);
    let strategic = r#"{"template":{"spec":{"containers":[{"name":"one","env":[{"name":"A","value":"9"},{"name":"B","$patch":"delete"}]}]}}}"#;
    kubectl.ok(&format!("patch podtemplate p -p '{strategic}'"));
    assert_eq!(
        kubectl
            .ok("get podtemplate p -o jsonpath={.template.spec.containers[*].name}{.template.spec.containers[0].env}"),
        r#"one two[{"name":"A","value":"9"}]"#
    );

    let old = kubectl.ok("get configmap a -o yaml");
    let replaced = kubectl.input("replace -f -", &old.replace("k: v", "k: replaced")).ok().stdout;
    assert_eq!(replaced, "configmap/a replaced\n");
    // The old one has an old resourceVersion.
    let refused = kubectl.input("replace -f -", &old).code(1).stderr;
    assert!(
        refused.contains("the object has been modified; please apply your changes to the latest version"),
        "{refused}"
    );
    let uid = kubectl.ok("get configmap a -o jsonpath={.metadata.uid}");
    kubectl.input("replace --force -f -", CONFIG).ok();
    assert_ne!(kubectl.ok("get configmap a -o jsonpath={.metadata.uid}"), uid);

    // A status subresource by itself.
    kubectl.apply("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  suspend: true\n  template:\n    spec:\n      restartPolicy: Never\n      containers: [{name: c, image: local, command: ['true']}]\n");
    kubectl.ok(r#"patch namespace default --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"Seen","status":"True"}]}}'"#);
    assert_eq!(
        kubectl.ok("get namespace default --subresource=status -o jsonpath={.status.conditions[0].type}"),
        "Seen"
    );
}
