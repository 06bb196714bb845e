//! `serviceaccounts/NAME/token`: TokenRequest.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Response, StatusCode};
use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::{Call, write};
use crate::auth::token::{Bound, Claims, ISSUER};
use crate::object::{self, metadata_mut};
use crate::registry::{self, Resource};
use crate::reply;
use crate::request::options::WriteOptions;
use crate::request::{Output, Target};
use crate::status::{Failure, GroupResource, Result};

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

pub(crate) async fn handle(call: &mut Call, target: &Target, method: &Method) -> Result<Response<Body>> {
    if method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let options = WriteOptions::parse("CreateOptions", &call.query, call.user_agent(), false)?;
    let accounts = find("", "v1", "serviceaccounts")?;
    let request = find("authentication.k8s.io", "v1", "tokenrequests").ok();
    let mut object = match &request {
        Some(resource) => write::read_object(call, resource, &options).await?,
        None => {
            let raw = call.read_body().await?;
            let media = crate::request::body::media(&call.parts.headers)?;
            crate::request::body::decode(raw, media).map_err(Failure::bad_request)?.value
        }
    };
    if !object.is_object() {
        object = json!({});
    }
    let entry = super::get::find(call, &accounts, target)?;
    let account = object::decode(&entry);
    check_names(target, &object)?;
    let claims = claims(call, target, &account, &object["spec"])?;
    let token = call.server.auth.key.sign(&claims).ok_or_else(|| Failure::internal("cannot sign the token"))?;
    let expires = jiff::Timestamp::from_second(claims.expires).unwrap_or_default().to_string();
    let spec = &mut object["spec"];
    spec["expirationSeconds"] = (claims.expires - claims.issued).into();
    spec["audiences"] = claims.audiences.into();
    spec["boundObjectRef"] = spec["boundObjectRef"].take();
    object["status"] = json!({"token": token, "expirationTimestamp": expires});
    object["kind"] = "TokenRequest".into();
    object["apiVersion"] = "authentication.k8s.io/v1".into();
    let meta = metadata_mut(&mut object);
    meta.insert("name".into(), target.name.as_str().into());
    meta.insert("namespace".into(), target.namespace.as_str().into());
    meta.insert("creationTimestamp".into(), object::now().into());
    Ok(reply::value(StatusCode::CREATED, &object, Output::JSON))
}

/// A request that names an account must name the path's.
fn check_names(target: &Target, request: &Value) -> Result<()> {
    let gk = GroupResource { group: "authentication.k8s.io", resource: "TokenRequest" };
    for (field, expected) in [("name", &target.name), ("namespace", &target.namespace)] {
        let given = object::meta(request, field);
        if !given.is_empty() && given != expected {
            let why = format!("must match the service account {field} if specified");
            let error = Error::invalid(&Path::new("metadata").child(field), given, why);
            return Err(Failure::invalid(gk, &target.name, &[error]));
        }
    }
    Ok(())
}

fn find(group: &str, version: &str, plural: &str) -> Result<Arc<Resource>> {
    registry::builtin(group, version, plural).ok_or_else(Failure::unknown_resource)
}

fn claims(call: &Call, target: &Target, account: &Value, spec: &Value) -> Result<Claims> {
    let gk = GroupResource { group: "authentication.k8s.io", resource: "TokenRequest" };
    let path = Path::new("spec").child("expirationSeconds");
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    if seconds < LEAST_SECONDS {
        let error = Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        return Err(Failure::invalid(gk, "", &[error]));
    }
    if seconds > MOST_SECONDS {
        let error = Error::too_long(&path, MOST_SECONDS);
        return Err(Failure::invalid(gk, "", &[error]));
    }
    let mut audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let bound = bound(call, target, &spec["boundObjectRef"])?;
    let issued = jiff::Timestamp::now().as_second();
    Ok(Claims {
        namespace: target.namespace.clone(),
        account: target.name.clone(),
        account_uid: object::meta(account, "uid").to_owned(),
        bound,
        audiences,
        issued,
        expires: issued + seconds,
        id: uuid::Uuid::new_v4().to_string(),
    })
}

/// The object a token is to be bound to: a pod of the account, a secret, or a node.
fn bound(call: &Call, target: &Target, reference: &Value) -> Result<Option<Bound>> {
    if reference.is_null() {
        return Ok(None);
    }
    let text = |name: &str| reference[name].as_str().unwrap_or_default();
    let (name, account) = (text("name"), &target.name);
    let namespaced = format!("{}/{name}", target.namespace);
    let (kind, plural, key) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => ("pod", "pods", namespaced),
        ("v1", "Secret") => ("secret", "secrets", namespaced),
        ("v1", "Node") => ("node", "nodes", name.to_owned()),
        (version, kind) => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            return Err(Failure::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to object type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let resource = GroupResource { group: "", resource: plural };
    let entry = call.server.store.get(plural, &key);
    let object = entry.map(|entry| object::decode(&entry)).ok_or_else(|| Failure::not_found(resource, name))?;
    if kind == "pod" && object["spec"]["serviceAccountName"].as_str() != Some(account) {
        return Err(Failure::bad_request(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
        )));
    }
    let uid = object::meta(&object, "uid").to_owned();
    let wanted = text("uid");
    if !wanted.is_empty() && wanted != uid {
        let what = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Failure::conflict(GroupResource { group: "", resource: text("kind") }, name, &what));
    }
    Ok(Some(Bound { kind, name: name.to_owned(), uid }))
}
