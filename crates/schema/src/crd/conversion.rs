//! `spec.conversion` of a definition: how objects of one version become objects of another.

use serde_json::Value;

use super::text;
use crate::field::{Error, Path};
use crate::names::{dns1035_label, dns1123_subdomain};

/// What a conversion webhook may speak, of which the server knows these.
const KNOWN: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn check(conversion: &Value, at: &Path, errors: &mut Vec<Error>) {
    if conversion.is_null() {
        return;
    }
    let strategy = text(conversion, "/strategy");
    match strategy {
        "" => errors.push(Error::required(&at.child("strategy"), "")),
        "None" | "Webhook" => {}
        other => errors.push(Error::not_supported(&at.child("strategy"), other, &["None", "Webhook"])),
    }
    // The internal form, which errors are about, has no member `webhook` between.
    let (client_at, versions_at) = (at.child("webhookClientConfig"), at.child("conversionReviewVersions"));
    let null = Value::Null;
    let client = conversion.pointer("/webhook/clientConfig").unwrap_or(&null);
    let versions = conversion.pointer("/webhook/conversionReviewVersions").and_then(Value::as_array);
    let versions: Vec<&str> = versions.into_iter().flatten().filter_map(Value::as_str).collect();
    if strategy == "Webhook" {
        if client.is_null() {
            errors.push(Error::required(&client_at, "required when strategy is set to Webhook"));
        } else {
            self::client(client, &client_at, errors);
        }
        return review_versions(&versions, &versions_at, errors);
    }
    let detail = "should not be set when strategy is not set to Webhook";
    if !client.is_null() {
        errors.push(Error::forbidden(&client_at, detail));
    }
    if !versions.is_empty() {
        errors.push(Error::forbidden(&versions_at, detail));
    }
}

fn review_versions(versions: &[&str], at: &Path, errors: &mut Vec<Error>) {
    if versions.is_empty() {
        errors.push(Error::required(at, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let at = at.index(index);
        if versions[..index].contains(version) {
            errors.push(Error::invalid(&at, *version, "duplicate version"));
            continue;
        }
        errors.extend(dns1035_label(version).into_iter().map(|wrong| Error::invalid(&at, *version, wrong)));
    }
    if !versions.iter().any(|version| KNOWN.contains(version)) {
        let detail = format!("must include at least one of {}", KNOWN.join(", "));
        errors.push(Error::invalid(at, versions.to_vec(), detail));
    }
}

fn client(client: &Value, at: &Path, errors: &mut Vec<Error>) {
    match (client.get("url").and_then(Value::as_str), client.get("service").filter(|s| !s.is_null())) {
        (Some(address), None) => url(address, &at.child("url"), errors),
        (None, Some(service)) => self::service(service, &at.child("service"), errors),
        _ => errors.push(Error::required(at, "exactly one of url or service is required")),
    }
}

fn url(address: &str, at: &Path, errors: &mut Vec<Error>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let is_scheme = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    let (scheme, rest) = address.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).unwrap_or(("", address));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.strip_prefix("//").map_or("", |rest| rest.split('/').next().unwrap_or_default());
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let mut report = |value: &str, detail: String| errors.push(Error::invalid(at, value, detail));
    if !scheme.eq_ignore_ascii_case("https") {
        report(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        report(host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        report(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        report(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        report(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn service(service: &Value, at: &Path, errors: &mut Vec<Error>) {
    // Kubernetes hands name and namespace over in the wrong order, so it misses the one where the other is missing.
    for (name, missed) in [("/namespace", "name"), ("/name", "namespace")] {
        if text(service, name).is_empty() {
            errors.push(Error::required(&at.child(missed), format!("service {missed} is required")));
        }
    }
    let port = service.get("port").and_then(Value::as_i64).unwrap_or_default();
    if !(1..=65535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(Error::invalid(&at.child("port"), port, detail));
    }
    let path = text(service, "/path");
    let mut report = |detail: String| errors.push(Error::invalid(&at.child("path"), path, detail));
    match path {
        "" | "/" => return,
        "//" => return report("segment[0] may not be empty".to_owned()),
        _ if !path.starts_with('/') => report("must start with a '/'".to_owned()),
        _ => {}
    }
    let inner: String = path.chars().skip(1).collect();
    for (index, step) in inner.strip_suffix('/').unwrap_or(&inner).split('/').enumerate() {
        if step.is_empty() {
            report(format!("segment[{index}] may not be empty"));
            continue;
        }
        dns1123_subdomain(step).into_iter().for_each(|wrong| report(format!("segment[{index}]: {wrong}")));
    }
}
