//! Image references, as far as the node has to understand them: whether one is well formed, and the tag it means.

/// `image` with the tag `latest` where it names neither tag nor digest.
///
/// # Errors
/// The kubelet's words where the reference is malformed.
pub(crate) fn normalise(image: &str) -> Result<String, String> {
    let bad = || {
        format!(
            "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": \
             invalid reference format"
        )
    };
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[slash..].find(':') {
        Some(at) => (&name[..slash + at], Some(&name[slash + at + 1..])),
        None => (name, None),
    };
    let well_formed = repository_is_valid(repository)
        && tag.is_none_or(tag_is_valid)
        && digest.is_none_or(digest_is_valid)
        && repository.len() <= 255;
    if !well_formed {
        return Err(bad());
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

fn repository_is_valid(repository: &str) -> bool {
    let mut components = repository.split('/').peekable();
    let Some(first) = components.next() else { return false };
    // Only what looks like a host may have capitals and a port.
    let is_host = components.peek().is_some() && (first.contains(['.', ':']) || first == "localhost");
    let first_ok = if is_host { host_is_valid(first) } else { component_is_valid(first) };
    first_ok && components.all(component_is_valid)
}

fn host_is_valid(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_number);
            return port_ok && !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label_ok = |label: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(label.chars().next())
            && edge(label.chars().last())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    name.split('.').all(label_ok) && port.is_none_or(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

/// Lower-case words joined by `.`, `_`, `__` or any number of `-`.
fn component_is_valid(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edges = component.starts_with(word) && component.ends_with(word);
    edges
        && component
            .split(word)
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.chars().all(|c| c == '-'))
}

fn tag_is_valid(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn digest_is_valid(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length_ok = match algorithm {
        "sha256" => hex.len() == 64,
        "sha512" => hex.len() == 128,
        _ => hex.len() >= 32,
    };
    !algorithm.is_empty()
        && algorithm.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-' | '_'))
        && length_ok
        && hex.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(image: &str, expect: Option<&str>) {
        assert_eq!(normalise(image).ok().as_deref(), expect, "{image}");
    }

    #[test]
    fn references() {
        let digest = format!("a/b@sha256:{}", "0".repeat(64));
        check("busybox", Some("busybox:latest"));
        check("busybox:1", Some("busybox:1"));
        check("docker.io/local/bb:1", Some("docker.io/local/bb:1"));
        check("localhost:5000/a", Some("localhost:5000/a:latest"));
        check("[::1]:5000/a:b", Some("[::1]:5000/a:b"));
        check("a__b/c--d/e.f", Some("a__b/c--d/e.f:latest"));
        check(&digest, Some(digest.as_str()));
        for bad in [
            "",
            "Bad Image",
            "UPPER",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a___b",
            "a@sha256:00",
            "a b",
            "http://x/y",
            "..",
            "a:b:c",
        ] {
            check(bad, None);
        }
    }
}
