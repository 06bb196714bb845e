//! Reviews: questions that are answered and not stored. Access reviews, rules reviews, who am I, token reviews.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::{Call, write};
use crate::auth::User;
use crate::auth::rbac::{self, Attributes, Rule};
use crate::auth::token::ISSUER;
use crate::object::metadata_mut;
use crate::registry::Resource;
use crate::reply;
use crate::request::Target;
use crate::request::options::WriteOptions;
use crate::server::account_exists;
use crate::status::{Failure, GroupResource, Result};

pub(crate) async fn handle(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    let output = call.output(resource, false)?;
    let options = WriteOptions::parse("CreateOptions", &call.query, call.user_agent(), false)?;
    let mut object = write::read_object(call, resource, &options).await?;
    crate::strategy::default(resource, &mut object);
    let status = match resource.plural.as_str() {
        "selfsubjectaccessreviews" => access(call, &object, call.user.clone())?,
        "subjectaccessreviews" => access(call, &object, subject(&object["spec"]))?,
        "localsubjectaccessreviews" => {
            let namespace = object["spec"]["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
            if namespace != target.namespace {
                let why = "spec.resourceAttributes.namespace must match the namespace of the request";
                return Err(Failure::bad_request(why));
            }
            access(call, &object, subject(&object["spec"]))?
        }
        "selfsubjectrulesreviews" => rules(call, &object)?,
        "selfsubjectreviews" => json!({"userInfo": user_info(&call.user)}),
        "tokenreviews" if object["spec"]["token"].as_str().unwrap_or_default().is_empty() => {
            return Err(Failure::bad_request("token is required for TokenReview in authentication"));
        }
        "tokenreviews" => token(call, &object),
        _ => return Err(Failure::method_not_allowed()),
    };
    object["status"] = status;
    metadata_mut(&mut object);
    Ok(reply::value(StatusCode::CREATED, &object, output))
}

fn access(call: &Call, object: &Value, user: Arc<User>) -> Result<Value> {
    let spec = &object["spec"];
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let group = GroupResource { group: "authorization.k8s.io", resource: "" };
    let refuse = |error: Error| Err(Failure::invalid(group, "", &[error]));
    let at = Path::new("spec");
    match (resource.is_object(), path.is_object()) {
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return refuse(Error::invalid(&at.child("resourceAttributes"), Value::Null, why));
        }
        (true, true) => {
            // Go prints its own struct here, with its own names.
            let text = |name: &str| path[name].as_str().unwrap_or_default();
            let shown = json!({"Path": text("path"), "Verb": text("verb")});
            let why = "cannot be specified in combination with resourceAttributes";
            return refuse(Error::invalid(&at.child("nonResourceAttributes"), shown, why));
        }
        _ => {}
    }
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return refuse(Error::invalid(&at.child("user"), "", why));
    }
    let text = |value: &'_ Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (verb, group, name) = (text(resource, "verb"), text(resource, "group"), text(resource, "name"));
    let (plural, sub, namespace) =
        (text(resource, "resource"), text(resource, "subresource"), text(resource, "namespace"));
    let (path_text, path_verb) = (text(path, "path"), text(path, "verb"));
    let what = if resource.is_object() {
        Attributes {
            verb: &verb,
            group: &group,
            resource: &plural,
            subresource: &sub,
            namespace: &namespace,
            name: &name,
            path: None,
        }
    } else {
        Attributes { verb: &path_verb, path: Some(&path_text), ..Attributes::default() }
    };
    Ok(match rbac::authorize(&call.server.store, &user, &what) {
        Some(reason) if reason.is_empty() => json!({"allowed": true}),
        Some(reason) => json!({"allowed": true, "reason": reason}),
        None => json!({"allowed": false}),
    })
}

fn subject(spec: &Value) -> Arc<User> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Arc::new(User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: strings(&spec["groups"]),
        ..User::default()
    })
}

fn rules(call: &Call, object: &Value) -> Result<Value> {
    let namespace = object["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let all = rbac::rules_for(&call.server.store, &call.user, namespace);
    let (paths, resources): (Vec<Rule>, Vec<Rule>) = all.into_iter().partition(|rule| !rule.paths.is_empty());
    let resource_rules: Vec<Value> = resources
        .into_iter()
        .map(|rule| {
            let mut out = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                out["resourceNames"] = rule.names.into();
            }
            out
        })
        .collect();
    let path_rules: Vec<Value> =
        paths.into_iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths})).collect();
    Ok(json!({"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false}))
}

fn user_info(user: &User) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

fn token(call: &Call, object: &Value) -> Value {
    let spec = &object["spec"];
    let token = spec["token"].as_str().unwrap_or_default();
    let mut audiences: Vec<&str> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER);
    }
    let invalid = |why: &str| json!({"user": {}, "error": format!("[invalid bearer token, {why}]")});
    match call.server.auth.key.verify_for(token, &audiences) {
        None => invalid("Token could not be validated."),
        Some(claims) if !account_exists(&call.server, &claims) => invalid("service account token has been invalidated"),
        Some(claims) => {
            let meant: Vec<&String> = claims.audiences.iter().filter(|a| audiences.contains(&a.as_str())).collect();
            json!({"authenticated": true, "user": user_info(&claims.user()), "audiences": meant})
        }
    }
}
