//! Authentication: credentials of a request → [`User`].

use std::collections::HashMap;

use http::HeaderMap;
use ring::digest;

use super::User;
use super::token::{TokenError, TokenKey};
use crate::status::{Failure, Result};

/// Credentials the server accepts besides client certificates of its own authority.
#[derive(Default)]
pub struct AuthConfig {
    /// Static bearer tokens and whom they stand for.
    pub tokens: Vec<(String, User)>,
    /// PKCS#8 PEM of the ECDSA P-256 key that signs service account tokens; `None`: a new one, so that tokens end with
    /// the process.
    pub service_account_key: Option<String>,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

/// Turns credentials into users.
pub(crate) struct Authenticator {
    /// By SHA-256 of the token: looking up a digest tells nothing about the tokens by its timing.
    tokens: HashMap<[u8; 32], User>,
    pub(crate) key: TokenKey,
}

impl Authenticator {
    pub(crate) fn new(config: AuthConfig) -> std::result::Result<Self, TokenError> {
        let tokens = config.tokens.into_iter().map(|(token, user)| (sha256(token.as_bytes()), user)).collect();
        Ok(Self { tokens, key: TokenKey::new(config.service_account_key.as_deref())? })
    }

    /// The user of a request that came over the network. `certificate` is who the client certificate names.
    pub(crate) fn user(
        &self,
        headers: &HeaderMap,
        certificate: Option<&User>,
        check_account: impl Fn(&super::token::Claims) -> bool,
    ) -> Result<User> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        let Some(token) = bearer(headers) else { return Ok(User::anonymous()) };
        if let Some(user) = self.tokens.get(&sha256(token.as_bytes())) {
            return Ok(user.clone());
        }
        match self.key.verify(token) {
            Some(claims) if check_account(&claims) => Ok(claims.user()),
            _ => Err(Failure::unauthorized()),
        }
    }
}

/// The bearer token; other schemes count as none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() -> std::result::Result<(), TokenError> {
        let config = AuthConfig { tokens: vec![("secret".into(), User::admin("me"))], service_account_key: None };
        let authenticator = Authenticator::new(config)?;
        let user = |header: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = header.and_then(|h| h.parse().ok()) {
                headers.insert(http::header::AUTHORIZATION, value);
            }
            authenticator.user(&headers, None, |_| true).map(|u| u.name).map_err(|f| f.code())
        };
        assert_eq!(user(None), Ok("system:anonymous".into()));
        assert_eq!(user(Some("Bearer secret")), Ok("me".into()));
        assert_eq!(user(Some("bearer secret")), Ok("me".into()));
        assert_eq!(user(Some("Bearer wrong")), Err(401));
        assert_eq!(user(Some("Basic dTpw")), Ok("system:anonymous".into()));
        Ok(())
    }
}
