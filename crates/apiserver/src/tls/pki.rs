//! The certificate authority of one data directory.
//!
//! `ca.crt`, `ca.key`, `server.crt`, `server.key`, `sa.key` in one directory, keys with mode 0600. What is missing, does not
//! fit or expires soon is made anew; the authority itself lasts ten years.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::given::{Given, GivenFiles};
use crate::auth::User;

/// A name that only our own certificate has: who asks for it gets that, whatever else was given.
pub const OWN_NAME: &str = "kubetask.internal";

const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
/// A certificate with less than this left is replaced.
const RENEW_DAYS: i64 = 30;

/// Why certificates could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key could not be made.
    #[error("cannot make {what}")]
    Make {
        /// Which one.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// A file that somebody brought is of no use.
    #[error("{}: {why}", path.display())]
    Given {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS does not take the certificate.
    #[error("the TLS configuration was refused")]
    Tls(#[source] rustls::Error),
}

/// A client certificate and its key, as PEM.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate.
    pub certificate: String,
    /// PKCS#8 private key.
    pub key: String,
}

/// The authority and the server's certificate.
pub struct Pki {
    dir: PathBuf,
    names: Vec<String>,
    ca_pem: String,
    ca_key: String,
    certificates: Arc<Certificates>,
    files: GivenFiles,
    service_account_key: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Pki {
    /// Reads the files of `dir`, making what is missing. `names` are host names and addresses for the server's
    /// certificate beyond those which every Kubernetes API server has.
    pub fn load_or_create(dir: &Path, names: &[String]) -> Result<Self, PkiError> {
        Self::load_with(dir, names, GivenFiles::default())
    }

    /// The same with certificates that somebody else made.
    pub fn load_with(dir: &Path, names: &[String], files: GivenFiles) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|source| PkiError::Io { step: "create", path: dir.into(), source })?;
        let mut all: Vec<String> = [
            "localhost",
            "127.0.0.1",
            "::1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            OWN_NAME,
        ]
        .map(str::to_owned)
        .into();
        all.extend(names.iter().filter(|n| !n.is_empty()).cloned());
        all.dedup();
        let (ca_pem, ca_key, fresh) = authority(dir)?;
        let service_account_key = match read(dir, "sa.key") {
            Some(key) if KeyPair::from_pem(&key).is_ok() => key,
            _ => {
                let key = new_key("a key for service account tokens")?.serialize_pem();
                write(dir, "sa.key", &key)?;
                key
            }
        };
        let certificates = Arc::new(Certificates::default());
        let pki = Self { dir: dir.into(), names: all, ca_pem, ca_key, certificates, files, service_account_key };
        pki.load_server(fresh)?;
        pki.load_given()?;
        Ok(pki)
    }

    /// PEM of the authority's certificate, for kubeconfigs.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// PEM of the key that signs service account tokens.
    #[must_use]
    pub fn service_account_key(&self) -> &str {
        &self.service_account_key
    }

    /// A new client certificate: the common name is the user, organizations are groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<ClientIdentity, PkiError> {
        let what = "a client certificate";
        let key = new_key(what)?;
        let mut params = leaf(LEAF_DAYS);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = self.sign(&params, &key, what)?;
        Ok(ClientIdentity { certificate, key: key.serialize_pem() })
    }

    /// The TLS configuration of the server: HTTP/2 and HTTP/1.1; client certificates of this authority and of the given
    /// ones, if presented. `loopback`: for connections to a loopback address.
    pub fn server_config(&self, loopback: bool) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()).flatten() {
            roots.add(certificate).map_err(PkiError::Tls)?;
        }
        for certificate in &self.certificates.given().client_authorities {
            roots.add(certificate.clone()).map_err(PkiError::Tls)?;
        }
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| PkiError::Tls(rustls::Error::General(error.to_string())))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(PkiError::Tls)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Chooser { certificates: self.certificates.clone(), loopback }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Replaces the server's certificate when it expires soon, and reads given files again; new connections get the new
    /// ones. Whether the authorities of clients changed, so that [`Pki::server_config`] has to be asked again.
    pub fn renew_if_due(&self) -> Result<bool, PkiError> {
        self.load_server(false)?;
        self.load_given()
    }

    /// How often [`Pki::renew_if_due`] should be called.
    pub(super) fn renewal_interval(&self) -> Duration {
        Duration::from_secs(if self.files.is_empty() { 6 * 3600 } else { 30 })
    }

    fn load_given(&self) -> Result<bool, PkiError> {
        let before = self.certificates.given();
        let Some(given) = self.files.load(Some(&before))? else { return Ok(false) };
        let changed = before.client_authorities != given.client_authorities;
        *self.certificates.given.write().unwrap_or_else(PoisonError::into_inner) = given;
        Ok(changed)
    }

    fn load_server(&self, renew: bool) -> Result<(), PkiError> {
        let stored = read(&self.dir, "server.crt").zip(read(&self.dir, "server.key"));
        let (certificate, key) = match stored {
            Some((certificate, key)) if !renew && self.fits(&certificate) => (certificate, key),
            _ => self.make_server()?,
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes()).flatten().collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| PkiError::Tls(rustls::Error::General(error.to_string())))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(PkiError::Tls)?;
        let certified = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
        *self.certificates.own.write().unwrap_or_else(PoisonError::into_inner) = Some(certified);
        Ok(())
    }

    fn fits(&self, pem: &str) -> bool {
        lasts(pem, RENEW_DAYS) && {
            let der = CertificateDer::from_pem_slice(pem.as_bytes());
            let names = der.map(|der| subject_alt_names(&der)).unwrap_or_default();
            self.names.iter().all(|name| names.contains(name))
        }
    }

    fn make_server(&self) -> Result<(String, String), PkiError> {
        let what = "the server's certificate";
        let key = new_key(what)?;
        let mut params = leaf(LEAF_DAYS);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in &self.names {
            let san = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|source| PkiError::Make { what, source })?),
            };
            params.subject_alt_names.push(san);
        }
        let certificate = self.sign(&params, &key, what)?;
        let key = key.serialize_pem();
        write(&self.dir, "server.key", &key)?;
        write(&self.dir, "server.crt", &certificate)?;
        Ok((certificate, key))
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair, what: &'static str) -> Result<String, PkiError> {
        let make = |source| PkiError::Make { what, source };
        let ca_key = KeyPair::from_pem(&self.ca_key).map_err(make)?;
        let issuer = Issuer::from_ca_cert_pem(&self.ca_pem, ca_key).map_err(make)?;
        Ok(params.signed_by(key, &issuer).map_err(make)?.pem())
    }
}

/// The current certificates.
#[derive(Default)]
struct Certificates {
    own: RwLock<Option<Arc<rustls::sign::CertifiedKey>>>,
    given: RwLock<Given>,
}

impl Certificates {
    fn given(&self) -> Given {
        self.given.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Hands a certificate to each handshake. Pods and commands of this machine come over loopback, by address, and know our
/// own authority only; everybody else gets the given certificate, where there is one.
struct Chooser {
    certificates: Arc<Certificates>,
    loopback: bool,
}

impl std::fmt::Debug for Chooser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chooser").field("loopback", &self.loopback).finish_non_exhaustive()
    }
}

impl rustls::server::ResolvesServerCert for Chooser {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let own = || self.certificates.own.read().unwrap_or_else(PoisonError::into_inner).clone();
        let given = self.certificates.given.read().unwrap_or_else(PoisonError::into_inner);
        let Some(server) = &given.server else { return own() };
        match hello.server_name() {
            Some(OWN_NAME) => own(),
            Some(name) if server.covers(name) => Some(server.certified.clone()),
            _ if self.loopback => own(),
            _ => Some(server.certified.clone()),
        }
    }
}

/// The authority's certificate and key, and whether they are new.
fn authority(dir: &Path) -> Result<(String, String, bool), PkiError> {
    if let Some((certificate, key)) = read(dir, "ca.crt").zip(read(dir, "ca.key")) {
        let usable = KeyPair::from_pem(&key).is_ok_and(|key| Issuer::from_ca_cert_pem(&certificate, key).is_ok());
        if usable && lasts(&certificate, LEAF_DAYS + RENEW_DAYS) {
            return Ok((certificate, key, false));
        }
    }
    let what = "the certificate authority";
    let key = new_key(what)?;
    let mut params = leaf(CA_DAYS);
    params.distinguished_name = DistinguishedName::new();
    // The name carries the day, so that a new authority is never taken for an old one.
    let name = format!("kubernetes-ca-{}", Timestamp::now().as_second());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(|source| PkiError::Make { what, source })?.pem();
    let key = key.serialize_pem();
    write(dir, "ca.key", &key)?;
    write(dir, "ca.crt", &certificate)?;
    Ok((certificate, key, true))
}

fn new_key(what: &'static str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|source| PkiError::Make { what, source })
}

/// Parameters valid from yesterday (clocks differ) for so many days.
fn leaf(days: i64) -> CertificateParams {
    let day = |offset: i64| {
        let date = Timestamp::now().to_zoned(TimeZone::UTC).date().saturating_add(offset.days());
        let part = |n: i8| u8::try_from(n).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    let mut params = CertificateParams::default();
    params.not_before = day(-1);
    params.not_after = day(days);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn with_certificate<T>(pem: &str, read: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> T) -> Option<T> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    Some(read(&certificate))
}

fn lasts(pem: &str, days: i64) -> bool {
    let until = Timestamp::now().as_second() + days * 86_400;
    with_certificate(pem, |c| c.validity().not_after.timestamp() > until).unwrap_or(false)
}

/// Host names and addresses that a certificate is for.
pub(super) fn subject_alt_names(der: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let names = x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| {
        let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
        let names = extension.value.general_names.iter();
        names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => match bytes.len() {
                    4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
                    _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
                },
                _ => None,
            })
            .collect()
    });
    names.unwrap_or_default()
}

/// The user that a verified client certificate names.
pub(crate) fn user_of(der: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups: Vec<String> = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some(User::new(name, groups))
}

fn read(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

/// Writes through a temporary file, so that a crash leaves the old or the new content.
fn write(dir: &Path, name: &str, content: &str) -> Result<(), PkiError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.new"));
    let io = |step: &'static str| {
        let path = path.clone();
        move |source| PkiError::Io { step, path, source }
    };
    // A leftover of a crash may have other permissions.
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io("create"))?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write"))?;
    fs::rename(&temporary, &path).map_err(io("replace"))
}
