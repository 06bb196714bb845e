//! What a client asked of the API.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use kube::client::Body;

use crate::middle::{Answer, Middle, pass, put_before};

/// One request, in the words of Kubernetes' authorisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// get, list, watch, create, update, patch, delete or deletecollection.
    pub verb: &'static str,
    /// The resource, with its subresource: `tasks/status`.
    pub resource: String,
    /// Namespace; empty for requests to all or to none.
    pub namespace: String,
    /// Name; empty for requests to a collection.
    pub name: String,
    /// The answer's status code; `None` when there was no answer.
    pub answer: Option<u16>,
}

impl Request {
    /// What a method and a path with query ask for; `None` for what is no resource.
    #[must_use]
    pub fn parse(method: &http::Method, uri: &http::Uri) -> Option<Self> {
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let rest = match segments.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (resource, name) = match rest {
            // Its own subresources look like resources in it.
            ["status" | "finalize"] => (format!("namespaces/{}", rest.concat()), namespace),
            [resource] => ((*resource).to_owned(), ""),
            [resource, name] => ((*resource).to_owned(), *name),
            [resource, name, subresource, ..] => (format!("{resource}/{subresource}"), *name),
            [] => return None,
        };
        let watches = uri.query().unwrap_or_default().split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let verb = match (method.as_str(), name.is_empty()) {
            ("GET", true) if watches => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            _ => return None,
        };
        Some(Self { verb, resource, namespace: namespace.to_owned(), name: name.to_owned(), answer: None })
    }

    /// Whether it changes something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

/// What a client asked of the API so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<Vec<Request>>>);

impl Requests {
    /// A client whose requests are written down here.
    #[must_use]
    pub fn of(&self, client: Client) -> Client {
        put_before(Arc::new(self.clone()), client)
    }

    /// All requests, in order.
    #[must_use]
    pub fn all(&self) -> Vec<Request> {
        self.lock().clone()
    }

    /// How many requests had this verb and resource.
    #[must_use]
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        self.lock().iter().filter(|r| r.verb == verb && r.resource == resource).count()
    }

    /// How many requests there were that changed something, by verb and resource, without events.
    #[must_use]
    pub fn writes(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for request in self.lock().iter().filter(|r| r.is_write() && r.resource != "events") {
            *out.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1;
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Middle for Requests {
    fn handle(
        self: Arc<Self>,
        request: http::Request<Body>,
        inner: Client,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let noted = Request::parse(request.method(), request.uri()).map(|noted| {
            let mut all = self.lock();
            all.push(noted);
            all.len() - 1
        });
        async move {
            let answer = pass(request, &inner).await;
            if let (Some(index), Ok(answer)) = (noted, &answer)
                && let Some(noted) = self.lock().get_mut(index)
            {
                noted.answer = Some(answer.status().as_u16());
            }
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_requests() {
        let check = |method: &str, uri: &str, expect: &str| {
            let parsed = Request::parse(&method.parse().unwrap(), &uri.parse().unwrap());
            let shown = parsed.map(|r| format!("{} {} {}/{}", r.verb, r.resource, r.namespace, r.name));
            assert_eq!(shown.unwrap_or_default(), expect, "{method} {uri}");
        };
        check("GET", "/api/v1/namespaces/n/pods/p/log?follow=true", "get pods/log n/p");
        check("GET", "/api/v1/namespaces", "list namespaces /");
        check("GET", "/api/v1/namespaces/n", "get namespaces /n");
        check("PUT", "/api/v1/namespaces/n/finalize", "update namespaces/finalize n/n");
        check("GET", "/apis/batch/v1/jobs?watch=true&labelSelector=x", "watch jobs /");
        check("PATCH", "/apis/kubetask.io/v1alpha1/namespaces/n/tasks/t/status", "patch tasks/status n/t");
        check("POST", "/apis/batch/v1/namespaces/n/jobs", "create jobs n/");
        check("DELETE", "/apis/batch/v1/namespaces/n/jobs", "deletecollection jobs n/");
        check("GET", "/version", "");
    }
}
