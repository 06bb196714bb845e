//! Namespaces: the usual ones are created; one that is being deleted is emptied, Pods first, and then finalized.

mod conditions;
mod content;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch};
use kube::runtime::watcher;
use serde_json::json;

use crate::error::{Answer, Error, Step, is_conflict};
use crate::queue::{Next, Queue};
use crate::watching::{Change, each};
use crate::{Context, Options, gone, requests};

/// The finalizer that stands for this controller.
const FINALIZER: &str = "kubernetes";

pub(crate) fn start(context: &Context, options: &Options) {
    let (client, names) = (context.client.clone(), options.namespaces.clone());
    let queue = Queue::new();
    let initial = Queue::new();
    for name in names {
        initial.add(name);
    }
    let create = move |name: String| {
        let api: Api<Namespace> = Api::all(client.clone());
        async move {
            let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
            let body = Namespace { metadata, ..Namespace::default() };
            api.create(&requests::post(), &body).await.unless_exists().step("create namespace", name)?;
            Ok(Next::Wait)
        }
    };
    context.spawn(initial.run(context.clone(), "namespace", create));

    let stream = watcher(Api::<Namespace>::all(context.client.clone()), watcher::Config::default());
    let waiting = queue.clone();
    context.spawn(each("namespaces", stream, move |change| {
        if let Change::Seen(namespace) = change
            && namespace.metadata.deletion_timestamp.is_some()
        {
            waiting.add(requests::key(&namespace));
        }
    }));
    let this = context.clone();
    let again: Arc<Queue<String>> = queue.clone();
    context.spawn(queue.run(context.clone(), "namespace", move |name| sync(this.clone(), again.clone(), name)));
}

async fn sync(context: Context, queue: Arc<Queue<String>>, name: String) -> Result<Next, Error> {
    let api: Api<Namespace> = Api::all(context.client.clone());
    let Some(namespace) = api.get_opt(&name).await.step("read namespace", &name)? else { return Ok(Next::Wait) };
    let finalizers = namespace.spec.clone().and_then(|s| s.finalizers).unwrap_or_default();
    if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(Next::Wait);
    }
    let found = content::delete(&context.client, &name).await;
    if found.is_empty() {
        return finalize(&api, namespace, &name).await;
    }
    let old = namespace.status.clone().and_then(|s| s.conditions).unwrap_or_default();
    let conditions = conditions::of(&found, &old, Timestamp::now());
    if conditions != old {
        let body = Patch::Merge(json!({ "status": { "phase": "Terminating", "conditions": conditions } }));
        let written = api.patch_status(&name, &requests::patch(), &body).await;
        written.unless_missing().step("write the status of namespace", &name)?;
    }
    let failed = found.failed();
    if let Some(left) = found.first_left {
        context.clone().spawn(async move {
            gone::wait(&context.client, &left).await;
            queue.add(name);
        });
    }
    Ok(if failed { Next::Retry } else { Next::Wait })
}

/// Takes our finalizer off; without others the server then removes the namespace.
async fn finalize(api: &Api<Namespace>, mut namespace: Namespace, name: &str) -> Result<Next, Error> {
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    match api.replace_subresource("finalize", name, &requests::post(), &namespace).await.unless_missing() {
        Ok(_) => Ok(Next::Wait),
        Err(e) if is_conflict(&e) => Ok(Next::Retry),
        Err(e) => Err(e).step("finalize namespace", name),
    }
}
