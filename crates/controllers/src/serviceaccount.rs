//! Every namespace gets a service account `default` and a ConfigMap `kube-root-ca.crt` with the server's certificate
//! authority; deleted or changed ones come back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, Patch};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::runtime::watcher::Config;
use serde_json::json;

use crate::Context;
use crate::error::{Answer, Error, Step, is_terminating};
use crate::queue::{Next, Queue};
use crate::requests;
use crate::watching::{Change, Listing, each};

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const ABOUT: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                           endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                           guaranteed across distributions of Kubernetes clusters.";

/// What is known of the cluster.
#[derive(Default)]
struct Seen {
    /// Namespaces that are not going away.
    namespaces: HashSet<String>,
    /// Namespaces that have the account.
    accounts: HashSet<String>,
    /// The certificate authority each namespace has.
    root_cas: HashMap<String, Option<String>>,
}

struct Controller {
    context: Context,
    root_ca: Option<Arc<str>>,
    seen: Mutex<Seen>,
    queue: Arc<Queue<String>>,
}

pub(crate) fn start(context: &Context, root_ca: Option<Arc<str>>) {
    let controller =
        Arc::new(Controller { context: context.clone(), root_ca, seen: Mutex::default(), queue: Queue::new() });
    let client = &context.client;

    let this = controller.clone();
    let stream = watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), Config::default());
    context.spawn(each("namespaces", stream, move |change| match change {
        Change::Seen(namespace) if namespace.metadata.deletion_timestamp.is_none() => {
            let name = namespace.metadata.name.unwrap_or_default();
            if this.seen().namespaces.insert(name.clone()) {
                this.queue.add(name);
            }
        }
        Change::Seen(namespace) | Change::Gone(namespace) => {
            this.seen().namespaces.remove(namespace.metadata.name.as_deref().unwrap_or_default());
        }
        // A namespace that was missed is found out when something is created in it.
        Change::Listing | Change::Listed => {}
    }));

    let this = controller.clone();
    let only = Config::default().fields(&format!("metadata.name={ACCOUNT}"));
    let stream = watcher(Api::<PartialObjectMeta<ServiceAccount>>::all(client.clone()), only);
    let mut listing = Listing::new();
    context.spawn(each("serviceaccounts", stream, move |change| match change {
        Change::Seen(account) => {
            let namespace = account.metadata.namespace.unwrap_or_default();
            listing.see(|| namespace.clone());
            this.seen().accounts.insert(namespace);
        }
        Change::Gone(account) => {
            this.lost(|seen, namespace| seen.accounts.retain(|n| n != namespace), account.metadata.namespace)
        }
        Change::Listing => listing.begin(),
        Change::Listed => {
            let present = listing.end();
            let mut seen = this.seen();
            let lost: Vec<_> = seen.accounts.difference(&present).cloned().collect();
            seen.accounts = present;
            lost.into_iter().for_each(|namespace| this.queue.add(namespace));
        }
    }));

    if controller.root_ca.is_some() {
        let this = controller.clone();
        let only = Config::default().fields(&format!("metadata.name={ROOT_CA}"));
        let stream = watcher(Api::<ConfigMap>::all(client.clone()), only);
        let mut listing = Listing::new();
        context.spawn(each("configmaps", stream, move |change| match change {
            Change::Seen(map) => {
                let namespace = map.metadata.namespace.unwrap_or_default();
                listing.see(|| namespace.clone());
                let found = map.data.and_then(|mut data| data.remove("ca.crt"));
                let differs = found.as_deref() != this.root_ca.as_deref();
                this.seen().root_cas.insert(namespace.clone(), found);
                if differs {
                    this.queue.add(namespace);
                }
            }
            Change::Gone(map) => {
                this.lost(|seen, namespace| drop(seen.root_cas.remove(namespace)), map.metadata.namespace)
            }
            Change::Listing => listing.begin(),
            Change::Listed => {
                let present = listing.end();
                let mut seen = this.seen();
                let lost: Vec<_> = seen.root_cas.keys().filter(|n| !present.contains(*n)).cloned().collect();
                seen.root_cas.retain(|namespace, _| present.contains(namespace));
                lost.into_iter().for_each(|namespace| this.queue.add(namespace));
            }
        }));
    }

    let queue = controller.queue.clone();
    context.spawn(queue.run(context.clone(), "serviceaccount", move |namespace| controller.clone().sync(namespace)));
}

impl Controller {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, forget: impl FnOnce(&mut Seen, &str), namespace: Option<String>) {
        let namespace = namespace.unwrap_or_default();
        forget(&mut self.seen(), &namespace);
        self.queue.add(namespace);
    }

    async fn sync(self: Arc<Self>, namespace: String) -> Result<Next, Error> {
        let (account, root_ca) = {
            let seen = self.seen();
            if !seen.namespaces.contains(&namespace) {
                return Ok(Next::Wait);
            }
            (seen.accounts.contains(&namespace), seen.root_cas.get(&namespace).cloned())
        };
        if !account {
            let api: Api<ServiceAccount> = Api::namespaced(self.context.client.clone(), &namespace);
            let body = ServiceAccount { metadata: named(ACCOUNT), ..ServiceAccount::default() };
            if !created(api.create(&requests::post(), &body).await, &namespace)? {
                return Ok(Next::Wait);
            }
        }
        let Some(wanted) = self.root_ca.as_deref() else { return Ok(Next::Wait) };
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &namespace);
        match root_ca {
            Some(found) if found.as_deref() == Some(wanted) => {}
            Some(_) => {
                let body = json!({ "data": { "ca.crt": wanted } });
                let patched = api.patch(ROOT_CA, &requests::patch(), &Patch::Merge(body)).await;
                patched.unless_missing().step("restore", format!("{namespace}/{ROOT_CA}"))?;
            }
            None => {
                let mut body = ConfigMap { metadata: named(ROOT_CA), ..ConfigMap::default() };
                body.metadata.annotations = Some([(ABOUT.to_owned(), DESCRIPTION.to_owned())].into());
                body.data = Some([("ca.crt".to_owned(), wanted.to_owned())].into());
                created(api.create(&requests::post(), &body).await, &namespace)?;
            }
        }
        Ok(Next::Wait)
    }
}

fn named(name: &str) -> kube::api::ObjectMeta {
    kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}

/// Whether the object is there now; `false` if the namespace is gone or going.
fn created<T>(result: Result<T, kube::Error>, namespace: &str) -> Result<bool, Error> {
    match result {
        Err(e) if is_terminating(&e) => Ok(false),
        other => {
            let answer = other.unless_exists().unless_missing().step("fill namespace", namespace)?;
            Ok(answer.is_some())
        }
    }
}
