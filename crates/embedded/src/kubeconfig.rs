//! The kubeconfig for kubectl and other clients: readable by its owner only, replaced as a whole.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::StartError;
use crate::token::write_private;

/// Name of cluster, user and context.
const NAME: &str = "kubetask";

/// Writes it.
pub(crate) fn write(
    path: &Path,
    address: SocketAddr,
    ca_pem: &str,
    tls_name: Option<&str>,
    token: &str,
) -> Result<(), StartError> {
    let ca = STANDARD.encode(ca_pem);
    let tls_name = tls_name.map(|name| format!("\n    tls-server-name: {name}")).unwrap_or_default();
    // Every value is of letters, digits and a few signs that mean nothing in YAML.
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {NAME}
  cluster:
    server: https://{address}
    certificate-authority-data: {ca}{tls_name}
users:
- name: {NAME}
  user:
    token: {token}
contexts:
- name: {NAME}
  context:
    cluster: {NAME}
    user: {NAME}
    namespace: default
current-context: {NAME}
"
    );
    write_private(path, text.as_bytes())
}
