//! The kubeconfig for kubectl and other clients: readable by its owner only, replaced as a whole.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::error::StartError;
use crate::token::write_private;

/// Name of cluster, user and context.
const NAME: &str = "kubetask";

/// Writes it.
pub(crate) fn write(path: &Path, address: SocketAddr, ca_pem: &str, token: &str) -> Result<(), StartError> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": NAME,
            "cluster": {
                "server": format!("https://{address}"),
                "certificate-authority-data": STANDARD.encode(ca_pem),
            },
        }],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
        "current-context": NAME,
    });
    // JSON is YAML, and every client reads it.
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    write_private(path, text.as_bytes())
}
