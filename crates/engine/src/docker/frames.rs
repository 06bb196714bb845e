//! The daemon's way to send two streams over one connection: a head of eight bytes (stream, three zeros, length), and data.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::log::Stream;

/// Longest frame that is taken.
const LONGEST: usize = 16 << 20;

/// Cuts what was received into frames.
#[derive(Debug)]
pub(super) struct Decoder {
    received: BytesMut,
    /// With a terminal there is one stream, and no heads.
    raw: bool,
}

impl Decoder {
    pub(super) fn new(raw: bool) -> Self {
        Self { received: BytesMut::new(), raw }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.received.extend_from_slice(data);
    }

    /// The next frame; `None`: not all of it is there.
    pub(super) fn next(&mut self) -> Option<(Stream, Bytes)> {
        if self.raw {
            return (!self.received.is_empty()).then(|| (Stream::Stdout, self.received.split().freeze()));
        }
        loop {
            let &[stream, _, _, _, a, b, c, d] = self.received.first_chunk::<8>()?;
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            // What is no frame is shown as it is: better than nothing.
            if stream > 2 || length > LONGEST {
                return Some((Stream::Stderr, self.received.split().freeze()));
            }
            if self.received.len() < 8 + length {
                return None;
            }
            self.received.advance(8);
            let data = self.received.split_to(length).freeze();
            match stream {
                1 => return Some((Stream::Stdout, data)),
                2 => return Some((Stream::Stderr, data)),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_cut(parts in prop::collection::vec((1u8..3, prop::collection::vec(any::<u8>(), 0..40)), 0..6), cut in 1usize..20, noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = Vec::new();
            for (stream, data) in &parts {
                bytes.extend_from_slice(&[*stream, 0, 0, 0]);
                bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(data);
            }
            let mut decoder = Decoder::new(false);
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                decoder.push(part);
                while let Some((stream, data)) = decoder.next() {
                    seen.push((if stream == Stream::Stdout { 1 } else { 2 }, data.to_vec()));
                }
            }
            prop_assert_eq!(seen, parts);
            decoder.push(&noise);
            while decoder.next().is_some() {}
        }
    }
}
