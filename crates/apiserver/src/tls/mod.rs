//! TLS on loopback: the certificate authority, the server's certificate, client certificates, and the accept loop.

mod pki;
mod serve;

pub use pki::{ClientIdentity, Pki, PkiError};
pub(crate) use serve::{FromNetwork, PeerUser};
pub use serve::{ServeOptions, Server};
