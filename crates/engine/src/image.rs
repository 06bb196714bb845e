//! Recognises KubeTask's own image by its reference, without asking any registry.

/// Repository of KubeTask's own image. An engine that does not use images runs the running binary instead.
pub const OWN_IMAGE_REPOSITORY: &str = "kubetask/kubetask";

/// The program name that the own image's containers find on their path, and their entrypoint.
pub const OWN_PROGRAM: &str = "kubetask";

/// Whether `image` is KubeTask's own, whatever its registry, tag or digest.
pub fn is_own(image: &str) -> bool {
    let repository = repository(image);
    match repository.strip_suffix(OWN_IMAGE_REPOSITORY) {
        Some("") => true,
        // What stands before it must be a registry: `docker.io/`, `localhost:5000/`; not another organisation.
        Some(prefix) => prefix.strip_suffix('/').is_some_and(is_registry),
        None => false,
    }
}

/// The registry's host, where it is in a domain that is reserved never to exist (RFC 2606): such an image is nowhere.
pub(crate) fn nowhere(image: &str) -> Option<&str> {
    let (host, _) = image.split_once('/')?;
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let top = name.rsplit_once('.').map(|(_, top)| top)?;
    matches!(top, "test" | "invalid" | "example").then_some(name)
}

/// The reference without its tag and digest.
pub(crate) fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _digest)| name);
    // A colon after the last slash starts a tag; one before it is a registry's port.
    match name.rfind(':') {
        Some(colon) if name.rfind('/').is_none_or(|slash| colon > slash) => &name[..colon],
        _ => name,
    }
}

fn is_registry(host: &str) -> bool {
    !host.contains('/') && (host == "localhost" || host.contains(['.', ':']))
}

#[cfg(test)]
mod tests {
    use super::{is_own, nowhere};

    #[test]
    fn images_that_are_nowhere() {
        assert_eq!(nowhere("example.test/none:1"), Some("example.test"));
        assert_eq!(nowhere("registry.invalid:5000/a/b"), Some("registry.invalid"));
        for image in
            ["busybox", "local/bb:1", "docker.io/local/bb:1", "test/x", "registry.example.com/x", "localhost:5000/x"]
        {
            assert_eq!(nowhere(image), None, "{image}");
        }
    }

    #[test]
    fn own_images_are_recognised() {
        let check = |image: &str, own: bool| assert_eq!(is_own(image), own, "{image}");
        check("kubetask/kubetask", true);
        check("kubetask/kubetask:v1.2.3", true);
        check("kubetask/kubetask:v1@sha256:00ff", true);
        check("kubetask/kubetask@sha256:00ff", true);
        check("docker.io/kubetask/kubetask:latest", true);
        check("localhost/kubetask/kubetask", true);
        check("localhost:5000/kubetask/kubetask:dev", true);
        check("registry.example.com:443/kubetask/kubetask", true);
        check("someone/kubetask/kubetask", false);
        check("evil.example/mirror/kubetask/kubetask", false);
        check("notkubetask/kubetask", false);
        check("kubetask/kubetask-tools", false);
        check("kubetask", false);
        check("", false);
        check("/kubetask/kubetask", false);
        check(":@", false);
    }
}
