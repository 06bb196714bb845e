//! The administrator's bearer token, kept across restarts so that a kubeconfig stays good.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::StartError;

/// Characters of a token; 64 of a 64-letter alphabet are 384 bits.
const LENGTH: usize = 64;

/// Reads the token, making one where there is none.
pub(crate) fn load_or_create(path: &Path) -> Result<String, StartError> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(StartError::Io { step: "read", path: path.to_owned(), source }),
    }
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let token: String = (0..LENGTH).map(|_| char::from(ALPHABET[usize::from(rand::random::<u8>()) % 64])).collect();
    write_private(path, token.as_bytes())?;
    Ok(token)
}

/// Writes a file that only its owner may read, as a whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StartError> {
    let failed = |source| StartError::Io { step: "write", path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    // A file left by a crash may have other permissions.
    let _ = std::fs::remove_file(&temporary);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_private_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = load_or_create(&path).unwrap();
        assert_eq!(token.len(), LENGTH);
        assert_eq!(load_or_create(&path).unwrap(), token);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "").unwrap();
        assert_ne!(load_or_create(&path).unwrap(), "");
    }
}
