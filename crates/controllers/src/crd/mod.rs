//! Custom resource definitions: their names are accepted and they are established; when one is deleted its objects go
//! first. [`decide`] is the decision, this file watches and writes.

mod cleanup;
mod decide;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch};
use kube::runtime::watcher;
use serde_json::json;

use crate::Context;
use crate::error::{Answer, Error, Step, is_conflict};
use crate::kinds::Kinds;
use crate::queue::{Next, Queue};
use crate::requests;
use crate::watching::{Change, Listing, each};

type Crd = CustomResourceDefinition;

struct Controller {
    context: Context,
    known: Mutex<HashMap<String, Arc<Crd>>>,
    queue: Arc<Queue<String>>,
    kinds: Arc<Kinds>,
}

pub(crate) fn start(context: &Context, kinds: Arc<Kinds>) {
    // One at a time, so that two of them cannot be given the same name.
    let mut context = context.clone();
    context.concurrency = 1;
    let controller = Arc::new(Controller {
        context: context.clone(),
        known: Mutex::new(HashMap::new()),
        queue: Queue::new(),
        kinds,
    });
    let this = controller.clone();
    let (ready, is_ready) = tokio::sync::watch::channel(false);
    context.spawn(async move {
        let stream = watcher(Api::<Crd>::all(this.context.client.clone()), watcher::Config::default());
        let mut listing = Listing::new();
        each("customresourcedefinitions", stream, |change| {
            if matches!(change, Change::Listed) {
                ready.send_replace(true);
            }
            this.observe(change, &mut listing);
        })
        .await;
    });
    let queue = controller.queue.clone();
    context.clone().spawn(async move {
        // Whether a name is free can only be said once all are known.
        let mut is_ready = is_ready;
        let _ = is_ready.wait_for(|ready| *ready).await;
        queue.run(context, "crd", move |name| controller.clone().sync(name)).await;
    });
}

impl Controller {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Crd>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, change: Change<Crd>, listing: &mut Listing<String>) {
        match change {
            Change::Seen(crd) => {
                let name = requests::key(&crd);
                listing.see(|| name.clone());
                self.remember(crd);
                self.queue.add(name);
            }
            Change::Gone(crd) => self.forget(&requests::key(&crd)),
            Change::Listing => listing.begin(),
            Change::Listed => {
                let seen = listing.end();
                let gone: Vec<_> = self.known().keys().filter(|name| !seen.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| self.forget(name));
            }
        }
        self.tell_kinds();
    }

    fn remember(&self, mut crd: Crd) {
        crd.metadata.managed_fields = None;
        let mut known = self.known();
        let name = requests::key(&crd);
        if known.get(&name).is_none_or(|old| requests::version(&**old) <= requests::version(&crd)) {
            known.insert(name, Arc::new(crd));
        }
    }

    fn forget(&self, name: &str) {
        let mut known = self.known();
        let Some(gone) = known.remove(name) else { return };
        // Its names are free now.
        for (name, other) in known.iter() {
            if other.spec.group == gone.spec.group {
                self.queue.add(name.clone());
            }
        }
    }

    fn tell_kinds(&self) {
        let known = self.known();
        let mut established: Vec<_> =
            known.iter().filter(|(_, crd)| decide::is_established(crd)).map(|(name, _)| name.clone()).collect();
        established.sort();
        self.kinds.expect(established);
    }

    async fn sync(self: Arc<Self>, name: String) -> Result<Next, Error> {
        let Some(crd) = self.known().get(&name).cloned() else { return Ok(Next::Wait) };
        if crd.metadata.deletion_timestamp.is_some() {
            return self.clean_up(&name, &crd).await;
        }
        let others: Vec<_> = self.known().values().filter(|other| requests::key(&***other) != name).cloned().collect();
        match decide::status(&crd, &others, Timestamp::now()) {
            None => Ok(Next::Wait),
            Some(status) => self.write_status(&name, &crd, json!(status)).await,
        }
    }

    async fn write_status(&self, name: &str, crd: &Crd, status: serde_json::Value) -> Result<Next, Error> {
        let api: Api<Crd> = Api::all(self.context.client.clone());
        let body = json!({ "metadata": { "resourceVersion": crd.metadata.resource_version }, "status": status });
        match api.patch_status(name, &requests::patch(), &Patch::Merge(body)).await.unless_missing() {
            Ok(Some(written)) => {
                self.remember(written);
                self.tell_kinds();
                Ok(Next::Wait)
            }
            Ok(None) => Ok(Next::Wait),
            // The watch brings the newer one.
            Err(e) if is_conflict(&e) => Ok(Next::Retry),
            Err(e) => Err(e).step("write the status of", name),
        }
    }
}
