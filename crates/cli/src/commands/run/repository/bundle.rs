//! Work that a remote does not have, as a Git bundle in a Secret: commits that are not pushed, and a picture of what is not
//! committed. Neither the remote nor the checkout's branches are touched: the bundle is written here, because `git bundle`
//! wants refs, and only its pack comes from git.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::{Client, ResourceExt};
use kubetask_api::Task;
use kubetask_core::context::fetch::{BUNDLE_KEY, WORK_REF};
use serde_json::json;

use super::super::submit::Earlier;
use super::Checkout;
use crate::commands::apply::FIELD_MANAGER;
use crate::error::{CommandError, CommandResult};

/// A Secret takes one MiB in all.
const MOST: u64 = 900 << 10;

/// The Secret of a Task's carried work.
pub(super) fn secret_name(task: &str) -> String {
    format!("{task}-work")
}

/// The bundle on top of `base`, which the remote has.
pub(super) fn make(checkout: &Checkout, base: &str, work: Option<&str>) -> CommandResult<Vec<u8>> {
    let head = &checkout.commit;
    let name = checkout.branch.as_ref().map_or_else(|| "HEAD".to_owned(), |branch| format!("refs/heads/{branch}"));
    // Hashes of 64 digits are SHA-256, which only the third version knows.
    let version = if head.len() == 64 { "# v3 git bundle\n@object-format=sha256\n" } else { "# v2 git bundle\n" };
    let mut bundle = format!("{version}-{base} \n{head} {name}\n").into_bytes();
    if let Some(work) = work {
        bundle.extend_from_slice(format!("{work} {WORK_REF}\n").as_bytes());
    }
    bundle.push(b'\n');
    let wanted = format!("{head}\n{}\n^{base}\n", work.unwrap_or(head));
    pack(checkout, &wanted, &mut bundle)
        .map_err(|why| CommandError::failure(format!("cannot take the work along: {why}")))?;
    if bundle.len() as u64 > MOST {
        return Err(CommandError::usage(format!(
            "{}: the work to carry is more than {} KiB, which is what fits beside a Task",
            checkout.top.display(),
            MOST >> 10
        ))
        .hint("push it, or use --carry=push, which makes a branch of the remote; .gitignore keeps large files out"));
    }
    Ok(bundle)
}

/// Appends the objects of these commits; stops reading where it is too much.
fn pack(checkout: &Checkout, wanted: &str, bundle: &mut Vec<u8>) -> Result<(), String> {
    // Bitmaps know of older history, which the clone that this is put on does not have.
    let arguments = ["-c", "pack.useBitmaps=false", "pack-objects", "--quiet", "--revs", "--thin", "--stdout"];
    let mut child = Command::new("git")
        .arg("-C")
        .arg(&checkout.top)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("git: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(wanted.as_bytes()).map_err(|e| format!("git: {e}"))?;
    }
    let mut read = Ok(0);
    if let Some(stdout) = child.stdout.take() {
        read = stdout.take(MOST + 1).read_to_end(bundle);
    }
    let too_much = bundle.len() as u64 > MOST;
    let status = child.wait().map_err(|e| format!("git: {e}"))?;
    read.map_err(|e| format!("git: {e}"))?;
    // Nobody listens to the rest of what is too much.
    if status.success() || too_much { Ok(()) } else { Err(format!("git pack-objects: {status}")) }
}

/// Creates the Task with its Secret, which goes when the Task goes.
///
/// # Errors
/// When the server says no; then neither is there.
pub(in super::super) async fn submit(
    client: &Client,
    namespace: &str,
    bundle: Vec<u8>,
    task: &Task,
    (earlier, again): (&Earlier, bool),
) -> CommandResult<Task> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = secret_name(&task.name_any());
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        data: Some([(BUNDLE_KEY.to_owned(), ByteString(bundle))].into()),
        ..Secret::default()
    };
    earlier.create(&secrets, again, &secret).await?;
    let created = match earlier.create(&Api::<Task>::namespaced(client.clone(), namespace), again, task).await {
        Ok(task) => task,
        Err(error) => {
            let error = CommandError::from(error);
            if !error.lost {
                // It was made for nothing; what matters to the user is why.
                let _ = secrets.delete(&name, &DeleteParams::default()).await;
            }
            return Err(error);
        }
    };
    let owner = OwnerReference {
        api_version: kubetask_api::API_VERSION.to_owned(),
        kind: "Task".to_owned(),
        name: created.name_any(),
        uid: created.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let patch = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    secrets.patch(&name, &params, &patch).await?;
    Ok(created)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::{checkout, reachable};
    use super::super::{Carry, git};
    use super::*;
    use crate::commands::context::clone_for_tests;

    /// What a cluster makes of it: a shallow clone of the remote with the bundle on top.
    fn carried(dir: &Path, checkout: &Checkout) -> std::path::PathBuf {
        let resolved = checkout.elsewhere(Some(Carry::Bundle), "t").unwrap();
        let repository = resolved.context.repository.unwrap();
        assert_eq!(repository.work.unwrap().secret_ref.name, "t-work");
        let bundle = dir.join("bundle");
        std::fs::write(&bundle, resolved.bundle.unwrap()).unwrap();
        git(&checkout.top, &["bundle", "verify", "--quiet", bundle.to_str().unwrap()]).unwrap();
        let clone = dir.join("clone");
        let url = format!("file://{}/remote.git", dir.display());
        clone_for_tests(&url, repository.ref_.as_deref(), &clone, &bundle).unwrap();
        clone
    }

    #[test]
    fn commits_and_changes_arrive_as_they_are() {
        let script = "git checkout -q -b topic; printf 'two\\n' > f; git commit -qam two; git mv f g; git commit -qm moved; \
            printf '\\000\\001' > binary; git add binary; git commit -qm binary; echo three >> g; rm binary; \
            echo new > 'a new file'; echo x > ignored; echo ignored > .git/info/exclude; chmod +x g";
        let Some((dir, checkout)) = checkout(script) else { return };
        let before = git(&checkout.top, &["for-each-ref"]).unwrap();
        let checkout = reachable(checkout);
        let clone = carried(dir.path(), &checkout);
        assert_eq!(git(&clone, &["rev-parse", "HEAD"]).unwrap(), checkout.commit);
        assert_eq!(git(&clone, &["symbolic-ref", "--short", "HEAD"]).unwrap(), "topic");
        assert_eq!(
            git(&clone, &["status", "--porcelain"]).unwrap(),
            git(&checkout.top, &["status", "--porcelain"]).unwrap(),
        );
        assert_eq!(std::fs::read_to_string(clone.join("g")).unwrap(), "two\nthree\n");
        assert_eq!(std::fs::read_to_string(clone.join("a new file")).unwrap(), "new\n");
        assert!(!clone.join("binary").exists() && !clone.join("ignored").exists());
        assert_eq!(git(&checkout.top, &["for-each-ref"]).unwrap(), before, "the checkout is as it was");
        let remote = git(&dir.path().join("remote.git"), &["for-each-ref", "--format=%(refname)"]).unwrap();
        assert_eq!(remote, "refs/heads/main", "the remote, too");
    }

    #[test]
    fn an_old_content_that_comes_back_is_part_of_it() {
        // The clone is shallow: it does not have what the file held long ago.
        let script = "echo 2 > f; git commit -qam two; git push -q; echo 1 > f; git commit -qam back; \
            git repack -qadb; echo 2 > f";
        let Some((dir, checkout)) = checkout(script) else { return };
        let clone = carried(dir.path(), &reachable(checkout));
        assert_eq!(std::fs::read_to_string(clone.join("f")).unwrap(), "2\n");
        assert_eq!(git(&clone, &["show", "HEAD:f"]).unwrap(), "1");
    }

    #[test]
    fn changes_alone_on_a_detached_head() {
        let Some((dir, checkout)) = checkout("git checkout -q --detach; echo 2 > f") else { return };
        let clone = carried(dir.path(), &reachable(checkout));
        assert_eq!(std::fs::read_to_string(clone.join("f")).unwrap(), "2\n");
        assert_eq!(git(&clone, &["log", "--format=%s"]).unwrap(), "one");
        assert!(git(&clone, &["symbolic-ref", "-q", "HEAD"]).is_err());
    }

    #[test]
    fn what_is_too_large_is_refused_with_a_way_out() {
        let Some((_dir, checkout)) = checkout("head -c 1500000 /dev/urandom > big") else { return };
        let refused = reachable(checkout).elsewhere(Some(Carry::Bundle), "t").unwrap_err();
        assert!(refused.lines[0].contains("more than 900 KiB"), "{refused:?}");
        assert!(refused.hint.unwrap().contains("--carry=push"));
    }
}
