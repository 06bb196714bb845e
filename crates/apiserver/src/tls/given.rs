//! Certificates that the administrator brings, as `kube-apiserver` takes them: the server's own with its key, and the
//! authorities of client certificates. The files are looked at again and again, so that a renewed certificate is used
//! without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::pki::{PkiError, subject_alt_names};

/// Files with certificates that somebody else made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenFiles {
    /// The server's certificate, followed by those between it and its authority, and its private key.
    pub server: Option<(PathBuf, PathBuf)>,
    /// Authorities whose client certificates are accepted, besides the server's own.
    pub client_ca: Option<PathBuf>,
}

/// What the files say now.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    /// What was read, to see whether it changed.
    read: Vec<Vec<u8>>,
    pub(super) server: Option<GivenServer>,
    pub(super) client_authorities: Vec<CertificateDer<'static>>,
}

/// The server's certificate.
#[derive(Debug, Clone)]
pub(super) struct GivenServer {
    pub(super) certified: Arc<CertifiedKey>,
    names: Vec<String>,
}

impl GivenServer {
    /// Whether the certificate is for this host name.
    pub(super) fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.names.iter().any(|name| {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(rest) => host.split_once('.').is_some_and(|(label, below)| !label.is_empty() && below == rest),
                None => name == host,
            }
        })
    }
}

impl GivenFiles {
    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.server.is_none() && self.client_ca.is_none()
    }

    /// Reads them. `None` where nothing changed since `before`.
    pub(super) fn load(&self, before: Option<&Given>) -> Result<Option<Given>, PkiError> {
        let mut given = Given::default();
        let mut bytes = |path: &Path| {
            let bytes = std::fs::read(path);
            let bytes = bytes.map_err(|source| PkiError::Io { step: "read", path: path.to_owned(), source })?;
            given.read.push(bytes.clone());
            Ok::<_, PkiError>(bytes)
        };
        let server = match &self.server {
            Some((certificate, key)) => Some((certificate, bytes(certificate)?, key, bytes(key)?)),
            None => None,
        };
        let authorities = match &self.client_ca {
            Some(path) => Some((path, bytes(path)?)),
            None => None,
        };
        if before.is_some_and(|before| before.read == given.read) {
            return Ok(None);
        }
        if let Some((certificate, certificate_pem, key, key_pem)) = server {
            given.server = Some(server_of(certificate, &certificate_pem, key, &key_pem)?);
        }
        if let Some((path, pem)) = authorities {
            given.client_authorities = certificates(path, &pem)?;
        }
        Ok(Some(given))
    }
}

fn server_of(path: &Path, pem: &[u8], key_path: &Path, key_pem: &[u8]) -> Result<GivenServer, PkiError> {
    let chain = certificates(path, pem)?;
    let names = chain.first().map(subject_alt_names).unwrap_or_default();
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| unusable(key_path, error.to_string()))?;
    let key =
        rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| unusable(key_path, error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            return Err(unusable(key_path, format!("it is not the key of the certificate in {}", path.display())));
        }
    }
    Ok(GivenServer { certified: Arc::new(certified), names })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| unusable(path, error.to_string()))?;
    if all.is_empty() {
        return Err(unusable(path, "there is no certificate in PEM form in it".to_owned()));
    }
    for certificate in &all {
        x509_parser::parse_x509_certificate(certificate).map_err(|error| unusable(path, error.to_string()))?;
    }
    Ok(all)
}

fn unusable(path: &Path, why: String) -> PkiError {
    PkiError::Given { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (crt, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let files = GivenFiles { server: Some((crt.clone(), key.clone())), client_ca: None };
        assert!(matches!(files.load(None), Err(PkiError::Io { .. })));
        let (first, first_key) = made(&["a.example", "*.b.example"]);
        std::fs::write(&crt, &first).unwrap();
        std::fs::write(&key, &first_key).unwrap();
        let given = files.load(None).unwrap().unwrap();
        let server = given.server.clone().unwrap();
        for (host, covered) in [
            ("a.example", true),
            ("A.Example.", true),
            ("x.b.example", true),
            ("b.example", false),
            ("x.y.b.example", false),
        ] {
            assert_eq!(server.covers(host), covered, "{host}");
        }
        assert!(files.load(Some(&given)).unwrap().is_none());
        // Half of a renewal is no pair.
        let (second, second_key) = made(&["a.example"]);
        std::fs::write(&crt, &second).unwrap();
        let error = files.load(Some(&given)).unwrap_err().to_string();
        assert!(error.contains("not the key of the certificate"), "{error}");
        std::fs::write(&key, &second_key).unwrap();
        assert!(files.load(Some(&given)).unwrap().is_some());
        std::fs::write(&crt, "nothing").unwrap();
        assert!(files.load(None).unwrap_err().to_string().contains("no certificate in PEM form"));
    }
}
