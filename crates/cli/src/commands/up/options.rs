//! What `kubetask up` can be told about certificates and its end.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kubetask_embedded::{GivenFiles, TlsConfig};

/// Certificates. The names of the options are those of `kube-apiserver`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Certificates")]
pub struct TlsArgs {
    /// The server's certificate, with those between it and its authority [default: one is made]
    #[arg(long, value_name = "FILE", env = "KUBETASK_TLS_CERT_FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of --tls-cert-file
    #[arg(long, value_name = "FILE", env = "KUBETASK_TLS_PRIVATE_KEY_FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Accept client certificates of these authorities: CN is the user, O are the groups
    #[arg(long, value_name = "FILE", env = "KUBETASK_CLIENT_CA_FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Further host names and addresses for the certificate that is made
    #[arg(long, value_name = "NAMES", env = "KUBETASK_TLS_SAN", value_delimiter = ',')]
    pub tls_san: Vec<String>,
}

impl TlsArgs {
    /// The files by absolute paths: a server in the background leaves its directory.
    pub(super) fn config(&self) -> std::io::Result<TlsConfig> {
        let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
        let server = absolute(&self.tls_cert_file)?.zip(absolute(&self.tls_private_key_file)?);
        let given = GivenFiles { server, client_ca: absolute(&self.client_ca_file)? };
        let names = self.tls_san.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        Ok(TlsConfig { names, given })
    }

    /// What agents must not see of these: the key.
    pub(super) fn secrets(&self) -> Vec<PathBuf> {
        let Some(key) = self.tls_private_key_file.as_ref().and_then(|path| std::path::absolute(path).ok()) else {
            return Vec::new();
        };
        // In a mounted Secret the file is a link into a directory that changes with each renewal.
        match key.parent() {
            Some(parent) if parent.join("..data").exists() => vec![parent.to_owned()],
            _ => vec![key],
        }
    }
}

/// What becomes of agents that run when the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnShutdown {
    /// They go on; the next server finds them.
    Leave,
    /// They are ended, and their Tasks tell so.
    Stop,
}

/// How the server ends.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The end")]
pub struct EndArgs {
    /// What becomes of agents that run when the server gets SIGTERM: leave them running, or stop them
    #[arg(long, value_name = "WHAT", default_value = "leave", env = "KUBETASK_ON_SHUTDOWN")]
    pub on_shutdown: OnShutdown,
    /// How long the end may take: writes that are under way, and agents that are stopped
    #[arg(long, value_name = "DURATION", default_value = "25s", env = "KUBETASK_GRACE_PERIOD", value_parser = crate::duration::parse)]
    pub grace_period: Duration,
}

/// What a container that is killed, and the last writes, may take at the end of the grace period.
const LAST: Duration = Duration::from_secs(5);

impl EndArgs {
    /// How long agents that are to be stopped get.
    pub(super) fn agents(&self) -> Option<Duration> {
        let some = self.grace_period.saturating_sub(LAST).max(self.grace_period / 2);
        (self.on_shutdown == OnShutdown::Stop).then_some(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_get_most_of_the_grace_period() {
        let end = |seconds, on_shutdown| EndArgs { on_shutdown, grace_period: Duration::from_secs(seconds) }.agents();
        assert_eq!(end(25, OnShutdown::Leave), None);
        assert_eq!(end(25, OnShutdown::Stop), Some(Duration::from_secs(20)));
        assert_eq!(end(4, OnShutdown::Stop), Some(Duration::from_secs(2)));
    }
}
