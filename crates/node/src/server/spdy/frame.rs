//! Frames of SPDY/3.1, as far as a tunnel for port-forwarding has use for them.

use bytes::{Buf, Bytes, BytesMut};

/// Longest frame that is taken.
const LONGEST: usize = 1 << 20;
/// Length of every frame's head.
const HEAD: usize = 8;
/// Nothing more comes on this stream from this side.
const FIN: u8 = 1;

/// Why a stream is refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    /// The client's mistake.
    Protocol = 1,
    /// Too many, or not now.
    Refused = 3,
}

/// Something that the client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream, with its packed headers.
    Open { id: u32, headers: Bytes, fin: bool },
    /// Packed headers of no interest, which the unpacker has to see all the same.
    Headers(Bytes),
    /// Data of a stream.
    Data { id: u32, data: Bytes, fin: bool },
    /// A stream ends at once.
    Reset { id: u32 },
    /// To be sent back.
    Ping(u32),
    /// The client is about to go.
    GoAway,
    /// Something else.
    Other,
}

/// Cuts what was received into frames.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    received: BytesMut,
}

/// The client does not speak SPDY/3.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Decoder {
    /// Takes what was received.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.received.extend_from_slice(data);
    }

    /// The next frame, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Broken> {
        let Some(&[a, b, c, d, flags, x, y, z]) = self.received.first_chunk::<HEAD>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes([0, x, y, z])).map_err(|_| Broken)?;
        if length > LONGEST {
            return Err(Broken);
        }
        if self.received.len() < HEAD + length {
            return Ok(None);
        }
        let mut body = self.received.split_to(HEAD + length).freeze().slice(HEAD..);
        let fin = flags & FIN != 0;
        if a & 0x80 == 0 {
            let id = u32::from_be_bytes([a, b, c, d]);
            return Ok(Some(Frame::Data { id, data: body, fin }));
        }
        if u16::from_be_bytes([a & 0x7f, b]) != 3 {
            return Err(Broken);
        }
        let kind = u16::from_be_bytes([c, d]);
        let number = |body: &mut Bytes| if body.len() >= 4 { Ok(body.get_u32() & 0x7fff_ffff) } else { Err(Broken) };
        Ok(Some(match kind {
            1 => {
                let id = number(&mut body)?;
                // The stream it belongs to, its priority and slot: none of it matters here.
                number(&mut body)?;
                if body.len() < 2 {
                    return Err(Broken);
                }
                Frame::Open { id, headers: body.slice(2..), fin }
            }
            2 | 8 => {
                number(&mut body)?;
                Frame::Headers(body)
            }
            3 => Frame::Reset { id: number(&mut body)? },
            6 => Frame::Ping(number(&mut body)?),
            7 => Frame::GoAway,
            _ => Frame::Other,
        }))
    }
}

fn control(kind: u8, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let [_, x, y, z] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![0x80, 3, 0, kind, flags, x, y, z];
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// A stream is accepted.
pub(super) fn accept(id: u32, headers: &[u8]) -> Vec<u8> {
    control(2, 0, &[&id.to_be_bytes(), headers])
}

/// A stream is refused, or ended at once.
pub(super) fn reset(id: u32, why: Refusal) -> Vec<u8> {
    control(3, 0, &[&id.to_be_bytes(), &(why as u32).to_be_bytes()])
}

/// The answer to a ping.
pub(super) fn pong(id: u32) -> Vec<u8> {
    control(6, 0, &[&id.to_be_bytes()])
}

/// Data of a stream; at most 16 MiB.
pub(super) fn data(id: u32, data: &[u8], fin: bool) -> Vec<u8> {
    let [_, x, y, z] = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = (id & 0x7fff_ffff).to_be_bytes();
    let mut frame = Vec::with_capacity(HEAD + data.len());
    frame.extend_from_slice(&[a, b, c, d, u8::from(fin), x, y, z]);
    frame.extend_from_slice(data);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(decoder: &mut Decoder) -> Result<Vec<Frame>, Broken> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_told_apart() {
        let check = |bytes: Vec<u8>, expect: Frame| {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert_eq!(decoder.next(), Ok(Some(expect)));
            assert_eq!(decoder.next(), Ok(None));
        };
        check(data(5, b"x", true), Frame::Data { id: 5, data: Bytes::from_static(b"x"), fin: true });
        check(data(5, b"", false), Frame::Data { id: 5, data: Bytes::new(), fin: false });
        check(pong(7), Frame::Ping(7));
        check(reset(3, Refusal::Protocol), Frame::Reset { id: 3 });
        check(accept(3, b"h"), Frame::Headers(Bytes::from_static(b"h")));
        let open = control(1, FIN, &[&9u32.to_be_bytes(), &[0; 4], &[0; 2], b"packed"]);
        check(open, Frame::Open { id: 9, headers: Bytes::from_static(b"packed"), fin: true });
        check(control(7, 0, &[&[0; 8]]), Frame::GoAway);
        check(control(4, 0, &[&[0; 4]]), Frame::Other);
    }

    #[test]
    fn hostile_frames() {
        let check = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert_eq!(decoder.next(), Err(Broken), "{bytes:?}");
        };
        check(&[0x80, 2, 0, 1, 0, 0, 0, 0]);
        check(&[0x80, 3, 0, 1, 0, 0, 0, 0]);
        check(&[0x80, 3, 0, 6, 0, 0, 0, 1, 0]);
        check(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
        check(b"GET / HTTP/1.1\r\n\r\n");
    }

    proptest! {
        /// However the stream is cut, the same frames come out; garbage is never a panic.
        #[test]
        fn any_cut(sizes in prop::collection::vec(0usize..50, 1..8), cut in 1usize..20, noise in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes: Vec<u8> = sizes.iter().flat_map(|size| data(1, &vec![b'x'; *size], false)).collect();
            let mut decoder = Decoder::default();
            let mut lengths = Vec::new();
            for part in bytes.chunks(cut) {
                decoder.push(part);
                for frame in all(&mut decoder).unwrap() {
                    if let Frame::Data { data, .. } = frame { lengths.push(data.len()); }
                }
            }
            prop_assert_eq!(lengths, sizes);
            decoder.push(&noise);
            let _ = all(&mut decoder);
        }
    }
}
