//! Options of requests: `CreateOptions`, `UpdateOptions`, `PatchOptions`, `DeleteOptions` and `ListOptions`, with their validation.

use kubetask_schema::field;
use serde_json::Value;

use super::Query;
use crate::status::{Failure, Result};

/// What to do with unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: Option<bool>,
}

/// Options of a delete.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// `metadata.uid` must be this.
    pub(crate) uid: Option<String>,
    /// `metadata.resourceVersion` must be this.
    pub(crate) resource_version: Option<String>,
}

/// `propagationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl WriteOptions {
    /// Reads and validates the options; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub(crate) fn parse(kind: &str, query: &Query, user_agent: &str, apply: bool) -> Result<Self> {
        let mut errors = Vec::new();
        let force = query.flag("force");
        let manager = query.get("fieldManager");
        if kind == "PatchOptions" {
            let path = field::Path::new("force");
            if !apply && force.is_some() {
                errors.push(field::Error::forbidden(&path, "may not be specified for non-apply patch"));
            }
            if apply && manager.is_empty() {
                let path = field::Path::new("fieldManager");
                errors.push(field::Error::required(&path, "is required for apply patch"));
            }
        }
        let path = field::Path::new("fieldManager");
        if manager.len() > 128 {
            errors.push(field::Error::too_long(&path, 128));
        } else if let Some((at, c)) = manager.char_indices().find(|(_, c)| c.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            errors.push(field::Error::invalid(&path, manager, detail));
        }
        let dry_run = dry_run(&query.all("dryRun").collect::<Vec<_>>(), &mut errors);
        let field_validation = match query.get("fieldValidation") {
            "Ignore" => FieldValidation::Ignore,
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            other => {
                let path = field::Path::new("fieldValidation");
                errors.push(field::Error::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(Failure::invalid_options(kind, &errors));
        }
        let field_manager = if !manager.is_empty() { manager.to_owned() } else { manager_of(user_agent) };
        Ok(Self { dry_run, field_manager, field_validation, force })
    }
}

/// The default field manager: the user agent up to the first slash.
pub(crate) fn manager_of(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let mut out: String = name.chars().filter(|c| !c.is_control()).collect();
    while out.len() > 128 {
        out.pop();
    }
    if out.is_empty() { "unknown".to_owned() } else { out }
}

fn dry_run(values: &[&str], errors: &mut Vec<field::Error>) -> bool {
    let path = field::Path::new("dryRun");
    if values.iter().any(|v| !v.is_empty() && *v != "All") {
        let given: Vec<Value> = values.iter().map(|v| Value::from(*v)).collect();
        errors.push(field::Error::not_supported(&path, given, &["All"]));
    }
    values.contains(&"All")
}

impl DeleteOptions {
    /// Reads the options from the body, which wins, or else from the query.
    pub(crate) fn parse(body: Option<&Value>, query: &Query) -> Result<Self> {
        let Some(body) = body else { return Self::from_query(query) };
        let (api_version, kind) = (text(&body["apiVersion"]), text(&body["kind"]));
        if !kind.is_empty() && kind != "DeleteOptions" {
            let group_version = if api_version.is_empty() { "" } else { &api_version };
            return Err(Failure::bad_request(format!(
                "no kind \"{kind}\" is registered for version \"{group_version}\" in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
            )));
        }
        let wrong = |field: &str, want: &str| {
            Failure::bad_request(format!(
                "json: cannot unmarshal value into Go struct field DeleteOptions.{field} of type {want}"
            ))
        };
        let grace = match &body["gracePeriodSeconds"] {
            Value::Null => None,
            value => Some(value.as_i64().ok_or_else(|| wrong("gracePeriodSeconds", "int64"))?),
        };
        let orphan = match &body["orphanDependents"] {
            Value::Null => None,
            value => Some(value.as_bool().ok_or_else(|| wrong("orphanDependents", "bool"))?),
        };
        let policy = match &body["propagationPolicy"] {
            Value::Null => None,
            value => Some(value.as_str().ok_or_else(|| wrong("propagationPolicy", "string"))?),
        };
        let runs: Vec<&str> = match &body["dryRun"] {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let precondition = |name: &str| body["preconditions"][name].as_str().map(str::to_owned);
        Self::checked(grace, orphan, policy, &runs, precondition("uid"), precondition("resourceVersion"))
    }

    fn from_query(query: &Query) -> Result<Self> {
        let runs: Vec<&str> = query.all("dryRun").collect();
        let policy = query.has("propagationPolicy").then(|| query.get("propagationPolicy"));
        let given = |name: &str| Some(query.get(name).to_owned()).filter(|v| !v.is_empty());
        Self::checked(
            query.int("gracePeriodSeconds")?,
            query.flag("orphanDependents"),
            policy.filter(|p| !p.is_empty()),
            &runs,
            given("preconditions.uid"),
            given("preconditions.resourceVersion"),
        )
    }

    fn checked(
        grace_period_seconds: Option<i64>,
        orphan: Option<bool>,
        policy: Option<&str>,
        runs: &[&str],
        uid: Option<String>,
        resource_version: Option<String>,
    ) -> Result<Self> {
        let mut errors = Vec::new();
        let path = field::Path::new("propagationPolicy");
        if let (Some(policy), Some(_)) = (policy, orphan) {
            errors.push(field::Error::invalid(
                &path,
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let mut propagation = match policy {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(field::Error::not_supported_in_order(&path, other, known));
                None
            }
        };
        if propagation.is_none() {
            propagation = orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background });
        }
        let dry_run = dry_run(runs, &mut errors);
        if !errors.is_empty() {
            return Err(Failure::invalid_options("DeleteOptions", &errors));
        }
        Ok(Self { dry_run, grace_period_seconds, propagation, uid, resource_version })
    }
}

/// Options of a list or watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListOptions {
    pub(crate) resource_version: String,
    pub(crate) exact: bool,
    pub(crate) limit: usize,
    pub(crate) continue_: String,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and validates the options.
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self> {
        let limit = query.int("limit")?.unwrap_or_default();
        let timeout = query.int("timeoutSeconds")?;
        let rv = query.get("resourceVersion");
        let match_ = query.get("resourceVersionMatch");
        let send_initial_events = query.flag("sendInitialEvents");
        let mut errors = Vec::new();
        let path = field::Path::new("resourceVersionMatch");
        if watch {
            if send_initial_events.is_some() {
                if match_ != "NotOlderThan" {
                    let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                    errors.push(field::Error::forbidden(&path, why));
                }
                if !match_.is_empty() && match_ != "NotOlderThan" {
                    errors.push(field::Error::not_supported(&path, match_, &["NotOlderThan"]));
                }
            } else if !match_.is_empty() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(field::Error::forbidden(&path, why));
            }
        } else {
            if send_initial_events.is_some() {
                let path = field::Path::new("sendInitialEvents");
                errors.push(field::Error::forbidden(&path, "sendInitialEvents is forbidden for list"));
            }
            if !match_.is_empty() {
                if rv.is_empty() {
                    let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                    errors.push(field::Error::forbidden(&path, why));
                }
                if query.has("continue") && !query.get("continue").is_empty() {
                    errors.push(field::Error::forbidden(
                        &path,
                        "resourceVersionMatch is forbidden when continue is provided",
                    ));
                }
                if match_ != "Exact" && match_ != "NotOlderThan" {
                    let known = ["Exact", "NotOlderThan", ""];
                    errors.push(field::Error::not_supported_in_order(&path, match_, known));
                }
                if match_ == "Exact" && rv == "0" {
                    let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                    errors.push(field::Error::forbidden(&path, why));
                }
            }
        }
        if !errors.is_empty() {
            return Err(Failure::invalid_options("ListOptions", &errors));
        }
        Ok(Self {
            resource_version: rv.to_owned(),
            exact: match_ == "Exact",
            limit: usize::try_from(limit).unwrap_or(0),
            continue_: query.get("continue").to_owned(),
            timeout_seconds: timeout.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events,
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn managers_come_from_the_user_agent() {
        for (agent, want) in [("kubectl/v1.32 (linux)", "kubectl"), ("", "unknown"), ("plain", "plain")] {
            assert_eq!(manager_of(agent), want);
        }
    }

    #[test]
    fn delete_options() {
        let query = Query::parse(Some("propagationPolicy=Foreground&gracePeriodSeconds=5"));
        let options = DeleteOptions::parse(None, &query).unwrap_or_default();
        assert_eq!((options.propagation, options.grace_period_seconds), (Some(Propagation::Foreground), Some(5)));
        let body = json!({"kind": "DeleteOptions", "orphanDependents": false, "preconditions": {"uid": "u"}});
        let options = DeleteOptions::parse(Some(&body), &query).unwrap_or_default();
        assert_eq!((options.propagation, options.uid.as_deref()), (Some(Propagation::Background), Some("u")));
        let check = |body: Value, code: u16| {
            assert_eq!(
                DeleteOptions::parse(Some(&body), &Query::default()).err().map(|f| f.code()),
                Some(code),
                "{body}"
            );
        };
        check(json!({"propagationPolicy": "Sideways"}), 422);
        check(json!({"propagationPolicy": "Orphan", "orphanDependents": true}), 422);
        check(json!({"dryRun": ["Some"]}), 422);
        check(json!({"apiVersion": "v1", "kind": "ConfigMap"}), 400);
        check(json!({"gracePeriodSeconds": "x"}), 400);
    }
}
