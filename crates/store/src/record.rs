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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(bucket: &str, entry: &Entry) -> Vec<u8> {
        let mut out = vec![0; size(bucket, entry)];
        encode(bucket, entry, &mut out);
        out
    }

    /// The format is a promise: this record must be readable for ever.
    #[test]
    fn a_record_of_version_1() {
        let entry = Entry::new("ns/n".into(), Bytes::from_static(b"{}"), 3, 9);
        let record = encoded("pods", &entry);
        let hex: String = record.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "c5e05323d6595619090000000000000004000400706f64736e732f6e7b7d");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bucket in ".{0,20}", key in ".{0,20}", value: Vec<u8>, created: u64, revision: u64) {
            let entry = Entry::new(key.as_str().into(), Bytes::from(value), created, revision);
            let (found_bucket, found) = decode(created, &encoded(&bucket, &entry), |b| b.into()).unwrap();
            prop_assert_eq!(&*found_bucket, bucket);
            prop_assert_eq!((&found.key, &found.bytes, found.revision), (&entry.key, &entry.bytes, revision));
        }

        #[test]
        fn every_flipped_bit_is_noticed(value in prop::collection::vec(any::<u8>(), 0..60), bit: prop::sample::Index) {
            let entry = Entry::new("key".into(), Bytes::from(value), 1, 2);
            let mut record = encoded("bucket", &entry);
            let bit = bit.index(record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(1, &record, |b| b.into()).is_err());
        }

        #[test]
        fn rubbish_is_an_error(record: Vec<u8>, created: u64) {
            prop_assert!(decode(created, &record, |b| b.into()).is_err());
        }
    }
}
