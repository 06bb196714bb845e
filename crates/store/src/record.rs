//! How one entry is written in the database: a small header, the names, the value, a checksum over all of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{Entry, Revision};

/// checksum u64, revision u64, bucket length u16, key length u16
const HEADER: usize = 8 + 8 + 2 + 2;

/// The size of an entry's record.
pub(crate) fn size(bucket: &str, entry: &Entry) -> usize {
    HEADER + bucket.len() + entry.key.len() + entry.bytes.len()
}

/// Writes an entry into a buffer of exactly [`size`] bytes.
pub(crate) fn encode(bucket: &str, entry: &Entry, out: &mut [u8]) {
    let names = HEADER + bucket.len() + entry.key.len();
    out[8..16].copy_from_slice(&entry.revision.to_le_bytes());
    // Names are limited to 4 KiB, so the lengths fit.
    out[16..18].copy_from_slice(&(bucket.len() as u16).to_le_bytes());
    out[18..20].copy_from_slice(&(entry.key.len() as u16).to_le_bytes());
    out[HEADER..HEADER + bucket.len()].copy_from_slice(bucket.as_bytes());
    out[HEADER + bucket.len()..names].copy_from_slice(entry.key.as_bytes());
    out[names..].copy_from_slice(&entry.bytes);
    let sum = checksum(entry.created, &out[8..]);
    out[..8].copy_from_slice(&sum.to_le_bytes());
}

/// Reads a record. `intern` turns the bucket's name into the shared one.
pub(crate) fn decode(
    created: Revision,
    record: &[u8],
    intern: impl FnOnce(&str) -> Arc<str>,
) -> Result<(Arc<str>, Arc<Entry>), String> {
    let bad = |what: &str| format!("record {created}: {what}");
    let Some((sum, rest)) = record.split_first_chunk::<8>() else { return Err(bad("is cut off")) };
    if checksum(created, rest) != u64::from_le_bytes(*sum) {
        return Err(bad("the checksum does not match"));
    }
    let Some((revision, rest)) = rest.split_first_chunk::<8>() else { return Err(bad("is cut off")) };
    let Some((bucket_len, rest)) = rest.split_first_chunk::<2>() else { return Err(bad("is cut off")) };
    let Some((key_len, rest)) = rest.split_first_chunk::<2>() else { return Err(bad("is cut off")) };
    let (bucket_len, key_len) = (u16::from_le_bytes(*bucket_len).into(), u16::from_le_bytes(*key_len).into());
    let Some((bucket, rest)) = rest.split_at_checked(bucket_len) else { return Err(bad("is cut off")) };
    let Some((key, value)) = rest.split_at_checked(key_len) else { return Err(bad("is cut off")) };
    let bucket = std::str::from_utf8(bucket).map_err(|_| bad("the bucket is not UTF-8"))?;
    let key = std::str::from_utf8(key).map_err(|_| bad("the key is not UTF-8"))?;
    let entry = Entry::new(key.into(), Bytes::copy_from_slice(value), created, u64::from_le_bytes(*revision));
    Ok((intern(bucket), entry))
}

/// A 64-bit checksum against bit rot (not against an attacker): eight bytes at a time, multiply and rotate. Part of
/// the disk format.
fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut sum = seed ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        sum = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(MULTIPLIER).rotate_left(29);
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    sum = (sum ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    sum ^ (sum >> 32)
}
