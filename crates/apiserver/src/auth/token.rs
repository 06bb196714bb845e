//! Service account tokens: JSON Web Tokens signed with ECDSA P-256 (`ES256`), as TokenRequest issues them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

use super::User;

/// Who issues tokens, and for whom when the request does not say.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Why the signing key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No new key could be made.
    #[error("cannot make a key for service account tokens")]
    Generate(#[source] rcgen::Error),
    /// The given key is not PKCS#8 PEM of an ECDSA P-256 key.
    #[error("the key for service account tokens is not an ECDSA P-256 key in PKCS#8 PEM")]
    Key,
}

/// Signs and verifies tokens.
pub(crate) struct TokenKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claims {
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) account_uid: String,
    /// The object the token ends with.
    pub(crate) bound: Option<Bound>,
    pub(crate) audiences: Vec<String>,
    pub(crate) issued: i64,
    pub(crate) expires: i64,
    pub(crate) id: String,
}

/// What a token is bound to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    /// `pod`, `secret` or `node`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Kinds that tokens are bound to, as tokens name them.
const BOUND_KINDS: [&str; 3] = ["pod", "secret", "node"];

impl Claims {
    /// The user a token stands for.
    pub(crate) fn user(&self) -> User {
        let name = format!("system:serviceaccount:{}:{}", self.namespace, self.account);
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", self.namespace)];
        let mut extra = BTreeMap::from([(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![format!("JTI={}", self.id)],
        )]);
        if let Some(Bound { kind: kind @ ("pod" | "node"), name, uid }) = &self.bound {
            extra.insert(format!("authentication.kubernetes.io/{kind}-name"), vec![name.clone()]);
            extra.insert(format!("authentication.kubernetes.io/{kind}-uid"), vec![uid.clone()]);
        }
        User { uid: self.account_uid.clone(), extra, ..User::new(name, groups) }
    }

    fn to_value(&self) -> Value {
        let mut kubernetes = json!({
            "namespace": self.namespace,
            "serviceaccount": {"name": self.account, "uid": self.account_uid},
        });
        if let Some(Bound { kind, name, uid }) = &self.bound {
            kubernetes[*kind] = json!({"name": name, "uid": uid});
        }
        json!({
            "aud": self.audiences, "exp": self.expires, "iat": self.issued, "nbf": self.issued, "iss": ISSUER,
            "jti": self.id, "kubernetes.io": kubernetes,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account),
        })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let kubernetes = &value["kubernetes.io"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let bound = BOUND_KINDS.into_iter().find_map(|kind| {
            let (name, uid) = (text(&kubernetes[kind]["name"])?, text(&kubernetes[kind]["uid"])?);
            Some(Bound { kind, name, uid })
        });
        Some(Self {
            namespace: text(&kubernetes["namespace"])?,
            account: text(&kubernetes["serviceaccount"]["name"])?,
            account_uid: text(&kubernetes["serviceaccount"]["uid"])?,
            bound,
            audiences: value["aud"].as_array()?.iter().filter_map(text).collect(),
            issued: value["iat"].as_i64()?,
            expires: value["exp"].as_i64()?,
            id: text(&value["jti"])?,
        })
    }
}

impl TokenKey {
    /// Uses a key, or makes one.
    pub(crate) fn new(pem: Option<&str>) -> Result<Self, TokenError> {
        let pair = match pem {
            Some(pem) => rcgen::KeyPair::from_pem(pem).map_err(|_| TokenError::Key)?,
            None => rcgen::KeyPair::generate().map_err(TokenError::Generate)?,
        };
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der(), &random)
            .map_err(|_| TokenError::Key)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        let key_id = BASE64.encode(digest.as_ref());
        Ok(Self { pair, random, key_id })
    }

    /// A signed token.
    pub(crate) fn sign(&self, claims: &Claims) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let text = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_value().to_string()));
        let signature = self.pair.sign(&self.random, text.as_bytes()).ok()?;
        Some(format!("{text}.{}", BASE64.encode(signature.as_ref())))
    }

    /// The claims of a token that we signed, that has not expired, and that is meant for us.
    pub(crate) fn verify(&self, token: &str) -> Option<Claims> {
        self.verify_for(token, &[ISSUER])
    }

    /// The claims of a token that we signed, that has not expired, and that is meant for one of these.
    pub(crate) fn verify_for(&self, token: &str, audiences: &[&str]) -> Option<Claims> {
        let claims = self.signed(token)?;
        let now = jiff::Timestamp::now().as_second();
        let current = claims.issued <= now + 60 && claims.expires > now;
        (current && claims.audiences.iter().any(|a| audiences.contains(&a.as_str()))).then_some(claims)
    }

    fn signed(&self, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header["alg"] != json!("ES256") {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &signature).ok()?;
        let payload: Value = serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()?;
        (payload["iss"] == json!(ISSUER)).then(|| Claims::from_value(&payload))?
    }

    /// The public key as a JSON Web Key Set.
    pub(crate) fn jwks(&self) -> Value {
        // An uncompressed point: 4, then 32 bytes x and 32 bytes y.
        let point = self.pair.public_key().as_ref();
        let half = |range: std::ops::Range<usize>| BASE64.encode(point.get(range).unwrap_or_default());
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": half(1..33), "y": half(33..65)}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expires: i64) -> Claims {
        Claims {
            namespace: "ns".into(),
            account: "bot".into(),
            account_uid: "u".into(),
            bound: Some(Bound { kind: "pod", name: "p".into(), uid: "pu".into() }),
            audiences: vec![ISSUER.into()],
            issued: 1,
            expires,
            id: "j".into(),
        }
    }

    #[test]
    fn tokens_are_verified() -> Result<(), TokenError> {
        let key = TokenKey::new(None)?;
        let token = key.sign(&claims(i64::MAX / 2)).unwrap_or_default();
        let user = key.verify(&token).map(|c| c.user()).unwrap_or_default();
        assert_eq!(user.name, "system:serviceaccount:ns:bot");
        assert!(user.in_group("system:serviceaccounts:ns") && user.in_group(super::super::AUTHENTICATED));
        let other = TokenKey::new(None)?;
        assert_eq!(other.verify(&token), None, "another key");
        let expired = key.sign(&claims(2)).unwrap_or_default();
        assert_eq!(key.verify(&expired), None, "expired");
        let mut forged = token.clone();
        forged.insert(token.find('.').unwrap_or(0) + 3, 'A');
        assert_eq!(key.verify(&forged), None, "changed");
        for junk in ["", ".", "..", "a.b.c", "e30.e30.e30"] {
            assert_eq!(key.verify(junk), None, "{junk}");
        }
        Ok(())
    }
}
