//! Credentials for registries, from the Secrets that a pod names in `imagePullSecrets`. Pure.
//!
//! As the kubelet: a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg` holds entries by registry; an
//! entry is for an image when its host (with `*` for parts of labels), port and path fit, and longer entries come first.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use kubetask_engine::traits::RegistryCredentials;
use serde_json::Value;

/// The registry that is meant where none is named.
const DEFAULT: &str = "index.docker.io";

/// What these Secrets have for the registry of an image, the most special first. Malformed Secrets have nothing.
pub(crate) fn credentials<'a>(secrets: impl IntoIterator<Item = &'a Secret>, image: &str) -> Vec<RegistryCredentials> {
    let image = location(image);
    let mut found: Vec<(String, RegistryCredentials)> = Vec::new();
    for secret in secrets {
        for (server, entry) in entries(secret) {
            let place = place(&server);
            if is_for(&place, &image)
                && let Some(credentials) = read(&server, &entry)
                && !found.iter().any(|(_, known)| *known == credentials)
            {
                found.push((place, credentials));
            }
        }
    }
    found.sort_by_key(|(place, _)| std::cmp::Reverse(place.len()));
    found.into_iter().map(|(_, credentials)| credentials).collect()
}

fn entries(secret: &Secret) -> Vec<(String, Value)> {
    let read = |key: &str| -> Option<Value> {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        serde_json::from_slice(bytes).ok()
    };
    let all = match read(".dockerconfigjson") {
        Some(mut config) => config.get_mut("auths").map(Value::take).unwrap_or_default(),
        None => read(".dockercfg").unwrap_or_default(),
    };
    match all {
        Value::Object(all) => all.into_iter().collect(),
        _ => Vec::new(),
    }
}

fn read(server: &str, entry: &Value) -> Option<RegistryCredentials> {
    let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let pair = text("auth").and_then(|auth| {
        let auth = auth.trim();
        let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
        let pair = String::from_utf8(bytes).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    });
    let (username, password) = pair.or_else(|| text("username").zip(text("password"))).unwrap_or_default();
    let identity_token = text("identitytoken");
    if identity_token.is_none() && username.is_empty() {
        return None;
    }
    Some(RegistryCredentials { server: server.to_owned(), username, password, identity_token })
}

/// Host, port and path of an entry: `https://Host/v1/` is `host`.
fn place(server: &str) -> String {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host = match host.to_ascii_lowercase() {
        host if host == "docker.io" || host == "registry-1.docker.io" => DEFAULT.to_owned(),
        host => host,
    };
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

/// Host, port and repository of an image.
fn location(image: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let name = name[slash..].find(':').map_or(name, |colon| &name[..slash + colon]);
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => place(&format!("{first}/{rest}")),
        Some(_) => format!("{DEFAULT}/{name}"),
        None => format!("{DEFAULT}/library/{name}"),
    }
}

fn is_for(place: &str, image: &str) -> bool {
    let split = |text: &str| {
        text.split_once('/').map_or((text.to_owned(), String::new()), |(a, b)| (a.to_owned(), b.to_owned()))
    };
    let ((host, path), (image_host, repository)) = (split(place), split(image));
    let port = |host: &str| {
        host.rsplit_once(':').map_or((host.to_owned(), String::new()), |(h, p)| (h.to_owned(), p.to_owned()))
    };
    let ((name, number), (image_name, image_number)) = (port(&host), port(&image_host));
    let labels: Vec<&str> = name.split('.').collect();
    let image_labels: Vec<&str> = image_name.split('.').collect();
    number == image_number
        && labels.len() == image_labels.len()
        && labels.iter().zip(&image_labels).all(|(pattern, label)| label_fits(pattern, label))
        && (path.is_empty()
            || repository == path
            || repository.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/')))
}

/// Whether a label is what a pattern with stars says.
fn label_fits(pattern: &str, label: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = label.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn secret(key: &str, content: &Value) -> Secret {
        Secret {
            data: Some([(key.to_owned(), ByteString(content.to_string().into_bytes()))].into()),
            ..Secret::default()
        }
    }

    fn auth(user: &str) -> Value {
        json!({"auth": STANDARD.encode(format!("{user}:pass:word"))})
    }

    #[test]
    fn entries_of_an_images_registry_the_longest_first() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": auth("hub"),
            "registry.example:5000": auth("port"),
            "registry.example:5000/team": {"username": "team", "password": "p"},
            "*.example": auth("star"),
            "ghcr.io": {"identitytoken": "t"},
            "empty.example": {},
        }});
        let old = json!({"quay.io": auth("quay")});
        let secrets = [secret(".dockerconfigjson", &config), secret(".dockercfg", &old), secret("x", &json!(1))];
        for (image, users) in [
            ("alpine", &["hub"][..]),
            ("docker.io/me/app:1", &["hub"]),
            ("registry.example:5000/team/app@sha256:00", &["team", "port"]),
            ("registry.example:5000/teams/app", &["port"]),
            ("registry.example/app", &["star"]),
            ("a.b.example/app", &[]),
            ("quay.io/me/app", &["quay"]),
            ("ghcr.io/me/app", &[""]),
            ("empty.example/app", &["star"]),
            ("localhost/app", &[]),
        ] {
            let found = credentials(&secrets, image);
            assert_eq!(found.iter().map(|found| found.username.as_str()).collect::<Vec<_>>(), users, "{image}");
        }
        let found = credentials(&secrets, "alpine");
        assert_eq!(
            (found[0].password.as_str(), found[0].server.as_str()),
            ("pass:word", "https://index.docker.io/v1/")
        );
        assert!(!format!("{found:?}").contains("word"), "passwords are not for logs");
    }

    #[test]
    fn hostile_secrets_have_nothing() {
        for content in ["", "[]", "{\"auths\": 3}", "{\"auths\": {\"a\": {\"auth\": \"%%\"}}}"] {
            let data = [(".dockerconfigjson".to_owned(), ByteString(content.as_bytes().to_vec()))];
            let secret = Secret { data: Some(data.into()), ..Secret::default() };
            assert!(credentials([&secret], "a/b").is_empty(), "{content}");
        }
    }
}
