//! Failures as clients see them: `Status` objects with Kubernetes' reasons, codes, details and messages.
//!
//! [`Failure`] is the error type of every handler; `reply` writes it in the client's media type.

use kubetask_schema::field;
use serde_json::{Map, Value, json};

/// What a request fails with.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Box<Inner>);

/// Result of a handler.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

#[derive(Debug, Clone)]
enum Inner {
    Status(Status),
    Text(u16, &'static str),
}

/// A `Status` of kind Failure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// HTTP status code.
    pub(crate) code: u16,
    /// Machine-readable reason; empty where Kubernetes leaves it out.
    pub(crate) reason: &'static str,
    /// Text for people.
    pub(crate) message: String,
    /// What the failure is about; `None` leaves `details` out.
    pub(crate) details: Option<Details>,
    /// Where a list may be gone on with; empty if nowhere.
    pub(crate) continue_: String,
}

/// `details` of a `Status`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Details {
    /// API group of the resource.
    pub(crate) group: String,
    /// Resource (plural) or kind the failure is about.
    pub(crate) kind: String,
    /// Name of the object.
    pub(crate) name: String,
    /// What exactly is wrong, one entry a field.
    pub(crate) causes: Vec<Cause>,
    /// When to try again.
    pub(crate) retry_after_seconds: Option<u32>,
}

/// One cause in `details`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    /// Machine-readable reason.
    pub(crate) reason: String,
    /// Text for people.
    pub(crate) message: String,
    /// Path of the field.
    pub(crate) field: String,
}

/// Names a resource in messages: `configmaps`, `jobs.batch`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupResource<'a> {
    /// API group, empty for core.
    pub(crate) group: &'a str,
    /// Plural resource name (or a kind, where Kubernetes says so).
    pub(crate) resource: &'a str,
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

impl Status {
    /// The JSON object.
    #[must_use]
    pub(crate) fn to_value(&self) -> Value {
        let mut out = Map::new();
        out.insert("kind".into(), "Status".into());
        out.insert("apiVersion".into(), "v1".into());
        let metadata = if self.continue_.is_empty() { json!({}) } else { json!({"continue": self.continue_}) };
        out.insert("metadata".into(), metadata);
        out.insert("status".into(), "Failure".into());
        out.insert("message".into(), self.message.clone().into());
        if !self.reason.is_empty() {
            out.insert("reason".into(), self.reason.into());
        }
        if let Some(details) = &self.details {
            out.insert("details".into(), details.to_value());
        }
        out.insert("code".into(), self.code.into());
        Value::Object(out)
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !value.is_empty() {
                out.insert(key.into(), value.clone().into());
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_value).collect();
            out.insert("causes".into(), Value::Array(causes));
        }
        if let Some(seconds) = self.retry_after_seconds {
            out.insert("retryAfterSeconds".into(), seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !value.is_empty() {
                out.insert(key.into(), value.clone().into());
            }
        }
        Value::Object(out)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(Box::new(Inner::Status(status)))
    }
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status { code, reason, message: message.into(), ..Status::default() }.into()
    }

    fn with_details(code: u16, reason: &'static str, message: impl Into<String>, details: Details) -> Self {
        Status { code, reason, message: message.into(), details: Some(details), ..Status::default() }.into()
    }

    fn about(gr: GroupResource<'_>, name: &str) -> Details {
        Details { group: gr.group.into(), kind: gr.resource.into(), name: name.into(), ..Details::default() }
    }

    /// 400 with a message and no details.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 500 without a reason, which is how Kubernetes reports plain Go errors.
    pub(crate) fn plain_internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 500 `InternalError`.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::with_details(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
            Details { causes: vec![Cause { message: message.to_string(), ..Cause::default() }], ..Details::default() },
        )
    }

    /// 401.
    #[must_use]
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 404 for an object.
    #[must_use]
    pub(crate) fn not_found(gr: GroupResource<'_>, name: &str) -> Self {
        Self::with_details(404, "NotFound", format!("{gr} \"{name}\" not found"), Self::about(gr, name))
    }

    /// 404 for a resource of a known group.
    #[must_use]
    pub(crate) fn unknown_resource() -> Self {
        Self::with_details(404, "NotFound", "the server could not find the requested resource", Details::default())
    }

    /// 404 with the kubelet's words.
    pub(crate) fn kubelet_not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    /// 404 as Go's mux says it.
    #[must_use]
    pub(crate) fn page_not_found() -> Self {
        Self(Box::new(Inner::Text(404, "404 page not found\n")))
    }

    /// 405.
    #[must_use]
    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::with_details(405, "MethodNotAllowed", message, Details::default())
    }

    /// 406 with the exact text.
    pub(crate) fn not_acceptable(message: impl Into<String>, details: bool) -> Self {
        Status {
            code: 406,
            reason: "NotAcceptable",
            message: message.into(),
            details: details.then(Details::default),
            ..Status::default()
        }
        .into()
    }

    /// 415 with the exact text.
    pub(crate) fn unsupported_media_type(message: impl Into<String>, details: bool) -> Self {
        Status {
            code: 415,
            reason: "UnsupportedMediaType",
            message: message.into(),
            details: details.then(Details::default),
            ..Status::default()
        }
        .into()
    }

    /// 413.
    #[must_use]
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 413 with the exact text.
    pub(crate) fn request_too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 409 `AlreadyExists`.
    #[must_use]
    pub(crate) fn already_exists(gr: GroupResource<'_>, name: &str, being_deleted: bool) -> Self {
        let prefix = if being_deleted { "object is being deleted: " } else { "" };
        Self::with_details(
            409,
            "AlreadyExists",
            format!("{prefix}{gr} \"{name}\" already exists"),
            Self::about(gr, name),
        )
    }

    /// 409 `Conflict` with the cause in words.
    #[must_use]
    pub(crate) fn conflict(gr: GroupResource<'_>, name: &str, what: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {gr} \"{name}\": {what}");
        Self::with_details(409, "Conflict", message, Self::about(gr, name))
    }

    /// 409 `Conflict` because the resourceVersion is not the current one.
    #[must_use]
    pub(crate) fn modified(gr: GroupResource<'_>, name: &str) -> Self {
        let what = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(gr, name, what)
    }

    /// 409 of a server-side apply, one cause a field.
    #[must_use]
    pub(crate) fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        Self::with_details(409, "Conflict", message, Details { causes, ..Details::default() })
    }

    /// 403 for a resource request.
    #[must_use]
    pub(crate) fn forbidden(gr: GroupResource<'_>, name: &str, why: &str) -> Self {
        Self::forbidden_because(gr, name, why, Vec::new())
    }

    /// 403 for a resource request with causes.
    #[must_use]
    pub(crate) fn forbidden_because(gr: GroupResource<'_>, name: &str, why: &str, causes: Vec<Cause>) -> Self {
        let subject = match (gr.resource.is_empty(), name.is_empty()) {
            (true, _) => "forbidden: ".to_owned(),
            (false, true) => format!("{gr} is forbidden: "),
            (false, false) => format!("{gr} \"{name}\" is forbidden: "),
        };
        let details = Details { causes, ..Self::about(gr, name) };
        Self::with_details(403, "Forbidden", format!("{subject}{why}"), details)
    }

    /// 410 `Expired`.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410 `Expired`, with a token to go on with all the same.
    pub(crate) fn expired_but(message: impl Into<String>, continue_: String) -> Self {
        Status { code: 410, reason: "Expired", message: message.into(), details: None, continue_ }.into()
    }

    /// 422 without causes: the patch could not be carried out.
    #[must_use]
    pub(crate) fn unprocessable() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::with_details(422, "Invalid", message, Details::default())
    }

    /// 429 with a time to wait.
    #[must_use]
    pub(crate) fn too_many_requests(message: &str, seconds: u32) -> Self {
        let details = Details { retry_after_seconds: Some(seconds), ..Details::default() };
        Self::with_details(429, "TooManyRequests", message, details)
    }

    /// 503 with a time to wait.
    #[must_use]
    pub(crate) fn unavailable(message: &str, seconds: u32) -> Self {
        let details = Details { retry_after_seconds: Some(seconds), ..Details::default() };
        Self::with_details(503, "ServiceUnavailable", message, details)
    }

    /// 504 `Timeout`.
    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::with_details(504, "Timeout", message, Details::default())
    }

    /// 504: the resourceVersion asked for lies in the future.
    #[must_use]
    pub(crate) fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        Self::with_details(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
            Details { causes: vec![cause], retry_after_seconds: Some(1), ..Details::default() },
        )
    }

    /// 422 with one cause for each error. `gk.resource` is the *kind* here.
    #[must_use]
    pub(crate) fn invalid(gk: GroupResource<'_>, name: &str, errors: &[field::Error]) -> Self {
        let causes = errors
            .iter()
            .map(|e| Cause { reason: e.type_.reason().into(), message: e.body(), field: e.field.to_string() })
            .collect();
        let message = format!("{gk} \"{name}\" is invalid: {}", aggregate(errors));
        Self::with_details(422, "Invalid", message, Details { causes, ..Self::about(gk, name) })
    }

    /// 422 about the options of a request (`CreateOptions`, `ListOptions`…).
    #[must_use]
    pub(crate) fn invalid_options(kind: &str, errors: &[field::Error]) -> Self {
        Self::invalid(GroupResource { group: "meta.k8s.io", resource: kind }, "", errors)
    }

    /// The HTTP status code.
    #[must_use]
    pub(crate) fn code(&self) -> u16 {
        match &*self.0 {
            Inner::Status(status) => status.code,
            Inner::Text(code, _) => *code,
        }
    }

    /// The reason, empty for plain text.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        match &*self.0 {
            Inner::Status(status) => status.reason,
            Inner::Text(..) => "",
        }
    }

    /// The message for people.
    #[must_use]
    pub(crate) fn message(&self) -> &str {
        match &*self.0 {
            Inner::Status(status) => &status.message,
            Inner::Text(_, text) => text,
        }
    }

    /// The `Status`, or the text of the few plain answers.
    pub(crate) fn as_status(&self) -> std::result::Result<&Status, &'static str> {
        match &*self.0 {
            Inner::Status(status) => Ok(status),
            Inner::Text(_, text) => Err(text),
        }
    }

    /// The `Status` as JSON, or the text of the few plain answers.
    pub(crate) fn to_body(&self) -> std::result::Result<Value, &'static str> {
        self.as_status().map(Status::to_value)
    }

    /// Seconds for the `Retry-After` header.
    #[must_use]
    pub(crate) fn retry_after(&self) -> Option<u32> {
        match &*self.0 {
            Inner::Status(status) => status.details.as_ref().and_then(|d| d.retry_after_seconds),
            Inner::Text(..) => None,
        }
    }
}

/// Go's `Aggregate.Error()`: one error as it is, several distinct ones in brackets.
#[must_use]
pub(crate) fn aggregate(errors: &[field::Error]) -> String {
    let mut seen: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    match seen.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_lists_distinct_errors_once() {
        let path = field::Path::new("metadata").child("uid");
        let error = field::Error::invalid(&path, "x", "field is immutable");
        let gk = GroupResource { group: "", resource: "ConfigMap" };
        let failure = Failure::invalid(gk, "a", &[error.clone(), error]);
        assert_eq!(
            failure.message(),
            "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable"
        );
        let causes = failure.to_body().unwrap_or_default()["details"]["causes"].clone();
        assert_eq!(causes.as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn forbidden_without_a_resource() {
        let failure =
            Failure::forbidden(GroupResource { group: "", resource: "" }, "", "User \"u\" cannot get path \"/api\"");
        assert_eq!(failure.message(), "forbidden: User \"u\" cannot get path \"/api\"");
        assert_eq!(failure.to_body().unwrap_or_default()["details"], json!({}));
    }
}
