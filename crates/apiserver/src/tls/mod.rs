//! TLS: the certificate authority, the server's certificate (our own, or a given one), client certificates, and the accept loop.

mod cork;
mod given;
mod pki;
mod serve;

pub use given::GivenFiles;
pub use pki::{ClientIdentity, OWN_NAME, Pki, PkiError};
pub(crate) use serve::{FromNetwork, PeerUser};
pub use serve::{ServeOptions, Server};
