//! Puts a pod's volumes in place, keeps their content up to date, and removes them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::Api;
use kube::api::PostParams;

use super::{Driver, Prepared};
use crate::claims;
use crate::machine::Event;
use crate::objects::{Fetched, Refs};
use crate::shared::Shared;
use crate::volumes::payload::Tokens;
use crate::volumes::{self, Inputs, Places};

/// How long a token lives where the pod does not say.
const TOKEN_SECONDS: i64 = 3600;

/// Volumes of a pod that are claims, and the claims' names.
pub(super) fn claims(pod: &Pod) -> Vec<(String, String)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claim = volumes.filter_map(|volume| {
        let source = volume.persistent_volume_claim.as_ref()?;
        Some((volume.name.clone(), source.claim_name.clone()))
    });
    claim.collect()
}

impl Driver {
    /// Begins to put the volumes in place; `again`: they are, and only their content may have changed.
    pub(super) fn prepare(&mut self, again: bool) {
        let (shared, pod, refs) = (Arc::clone(&self.shared), Arc::clone(self.machine.pod()), self.refs.clone());
        let answer = self.prepared.clone();
        self.refreshing = again;
        self.shared.tasks.spawn(async move {
            let prepared = match prepare(&shared, pod, &refs).await {
                Ok((places, fetched, refresh_in)) => {
                    Prepared { result: Ok(places), fetched: Some(fetched), refresh_in, again }
                }
                Err(messages) => Prepared { result: Err(messages), fetched: None, refresh_in: None, again },
            };
            // The driver may be gone.
            let _ = answer.send(Box::new(prepared));
        });
    }

    /// Brings the content of the volumes up to date, if they are in place.
    pub(super) fn refresh(&mut self) {
        if !self.places.is_empty() && !self.refreshing && self.machine.settled().is_none() {
            self.prepare(true);
        }
    }

    pub(super) fn set_prepared(&mut self, done: Prepared) {
        if done.again {
            self.refreshing = false;
        }
        self.refresh_at = done.refresh_in.map(|wait| tokio::time::Instant::now() + wait);
        self.fetched = done.fetched.or(self.fetched.take());
        match done.result {
            Ok(places) => {
                self.places = Arc::new(places);
                if !done.again {
                    self.watch_usage();
                    self.handle(Event::Prepared(Ok(())));
                }
            }
            // What was there before stays.
            Err(messages) if done.again => {
                for message in messages {
                    self.emit(None, true, "FailedMount", &message);
                }
            }
            Err(messages) => self.handle(Event::Prepared(Err(messages))),
        }
    }
}

/// Removes the volumes of a pod of which nothing runs any more.
pub(super) async fn discard(shared: &Arc<Shared>, uid: String) {
    let layout = shared.layout.clone();
    let work = move || volumes::discard(&layout, &uid).map_err(|error| (uid, error));
    if let Ok(Err((uid, error))) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(uid, %error, "volumes of a pod not removed");
    }
}

type Ready = (Places, Arc<Fetched>, Option<Duration>);

async fn prepare(shared: &Arc<Shared>, pod: Arc<Pod>, refs: &Refs) -> Result<Ready, Vec<String>> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let fetched = if refs.is_empty() {
        Fetched::default()
    } else {
        let fetched = shared.objects.fetch(&namespace, refs).await;
        fetched.map_err(|error| vec![format!("failed to fetch what the pod refers to: {error}")])?
    };
    let (tokens, refresh_in) = tokens(shared, &pod, &namespace).await;
    let mut dirs = BTreeMap::new();
    for (volume, claim) in claims(&pod) {
        dirs.insert(volume, claim_directory(shared, &namespace, &claim).await);
    }
    let has_volumes = pod.spec.as_ref().is_some_and(|spec| spec.volumes.as_ref().is_some_and(|all| !all.is_empty()));
    if !has_volumes {
        return Ok((Places::new(), Arc::new(fetched), None));
    }
    let shared = Arc::clone(shared);
    let inputs = Inputs { fetched, tokens, claims: dirs };
    let work = move || {
        let places = volumes::set_up(&pod, &shared.layout, &inputs, &shared.facts)?;
        Ok((places, Arc::new(inputs.fetched), refresh_in))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(vec![format!("setting up volumes was interrupted: {error}")]),
    }
}

async fn claim_directory(shared: &Shared, namespace: &str, claim: &str) -> Result<PathBuf, String> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client(), namespace);
    match api.get_opt(claim).await {
        Ok(Some(found)) => claims::directory(&shared.layout, &found),
        Ok(None) => Err(format!("persistentvolumeclaim \"{claim}\" not found")),
        Err(error) => Err(format!("failed to fetch persistentvolumeclaim \"{claim}\": {error}")),
    }
}

/// The service account tokens that the pod's projected volumes ask for, and when they have to be made anew.
async fn tokens(
    shared: &Shared,
    pod: &Pod,
    namespace: &str,
) -> (BTreeMap<String, Result<Tokens, String>>, Option<Duration>) {
    let mut all = BTreeMap::new();
    let mut shortest = None;
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for wanted in sources.filter_map(|source| source.service_account_token.as_ref()) {
            let result = token(shared, pod, namespace, wanted).await;
            let entry = all.entry(volume.name.clone()).or_insert_with(|| Ok(Tokens::new()));
            match (result, entry) {
                (Ok(token), Ok(tokens)) => drop(tokens.insert(wanted.path.clone(), token.into_bytes())),
                (Err(error), entry) => *entry = Err(format!("failed to fetch token: {error}")),
                (Ok(_), Err(_)) => {}
            }
            let seconds = u64::try_from(wanted.expiration_seconds.unwrap_or(TOKEN_SECONDS)).unwrap_or_default();
            // As the kubelet does: after 80 % of the token's life.
            let refresh = Duration::from_secs((seconds * 8 / 10).max(60));
            shortest = Some(shortest.map_or(refresh, |shortest: Duration| shortest.min(refresh)));
        }
    }
    (all, shortest)
}

async fn token(
    shared: &Shared,
    pod: &Pod,
    namespace: &str,
    wanted: &ServiceAccountTokenProjection,
) -> Result<String, kube::Error> {
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".to_owned());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(wanted.audience.iter().filter(|audience| !audience.is_empty()).cloned().collect()),
            expiration_seconds: Some(wanted.expiration_seconds.unwrap_or(TOKEN_SECONDS)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(shared.client(), namespace);
    let answer: TokenRequest = api.create_subresource("token", &account, &PostParams::default(), &request).await?;
    Ok(answer.status.and_then(|status| status.token).unwrap_or_default())
}

/// Removes the files of a pod: volumes, record, logs. Tried until it works or the node ends.
pub(crate) async fn remove_files(shared: &Arc<Shared>, namespace: String, pod: String, uid: String) {
    let layout = shared.layout.clone();
    let work = move || {
        let logs = volumes::remove_tree(&layout.pod_logs(&namespace, &pod, &uid));
        logs.and(volumes::tear_down(&layout, &uid)).map_err(|error| (uid, error))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Err((uid, error))) => tracing::warn!(uid, %error, "files of a pod not removed; the next start tries again"),
        Ok(Ok(())) => {}
        Err(error) => tracing::warn!(%error, "removing the files of a pod was interrupted"),
    }
}
