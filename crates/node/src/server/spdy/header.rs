//! Header blocks of SPDY/3: names and values in one zlib stream a direction, begun with a dictionary that both know.

use std::sync::OnceLock;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Longest header block that is taken, unpacked.
const LONGEST: usize = 64 * 1024;
/// How far back a DEFLATE stream may refer.
const WINDOW: usize = 32 * 1024;
/// Longest text of a stored DEFLATE block.
const LONGEST_STORED: usize = 65_535;

/// Header fields, in order.
pub(super) type Headers = Vec<(String, String)>;

/// Words of the dictionary, each with its length in front.
const WORDS: &str = "options\nhead\npost\nput\ndelete\ntrace\naccept\naccept-charset\naccept-encoding\naccept-language\n\
accept-ranges\nage\nallow\nauthorization\ncache-control\nconnection\ncontent-base\ncontent-encoding\ncontent-language\n\
content-length\ncontent-location\ncontent-md5\ncontent-range\ncontent-type\ndate\netag\nexpect\nexpires\nfrom\nhost\n\
if-match\nif-modified-since\nif-none-match\nif-range\nif-unmodified-since\nlast-modified\nlocation\nmax-forwards\n\
pragma\nproxy-authenticate\nproxy-authorization\nrange\nreferer\nretry-after\nserver\nte\ntrailer\ntransfer-encoding\n\
upgrade\nuser-agent\nvary\nvia\nwarning\nwww-authenticate\nmethod\nget\nstatus\n200 OK\nversion\nHTTP/1.1\nurl\npublic\n\
set-cookie\nkeep-alive\norigin";

/// The rest of the dictionary.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

fn dictionary() -> &'static [u8] {
    static DICTIONARY: OnceLock<Vec<u8>> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        let mut bytes = Vec::with_capacity(1423);
        for word in WORDS.split('\n') {
            push(&mut bytes, word);
        }
        bytes.extend_from_slice(TAIL.as_bytes());
        bytes
    })
}

fn push(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Unpacks the header blocks of one direction.
pub(super) struct Unpacker {
    state: Box<DecompressorOxide>,
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self { state: Box::default(), window: vec![0; WINDOW].into(), at: 0, begun: false }
    }

    /// The headers of a block; `None` where it is broken or too long.
    pub(super) fn unpack(&mut self, mut packed: &[u8]) -> Option<Headers> {
        if !self.begun {
            packed = self.begin(packed)?;
        }
        let mut out = Vec::new();
        loop {
            let (status, read, written) =
                decompress(&mut self.state, packed, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            packed = packed.get(read..)?;
            out.extend_from_slice(self.window.get(self.at..self.at + written)?);
            self.at = (self.at + written) % WINDOW;
            if out.len() > LONGEST {
                return None;
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if packed.is_empty() => break,
                TINFLStatus::NeedsMoreInput if read > 0 => {}
                // The stream never ends before the connection does.
                _ => return None,
            }
        }
        parse(&out)
    }

    /// Reads the zlib header, and puts the dictionary where it says that it is used.
    fn begin<'p>(&mut self, packed: &'p [u8]) -> Option<&'p [u8]> {
        const DEFLATE: u8 = 8;
        const WITH_DICTIONARY: u8 = 0x20;
        let [method, flags, ..] = *packed else { return None };
        if method & 0x0f != DEFLATE || (u16::from(method) << 8 | u16::from(flags)) % 31 != 0 {
            return None;
        }
        self.begun = true;
        if flags & WITH_DICTIONARY == 0 {
            return packed.get(2..);
        }
        let dictionary = dictionary();
        self.window.get_mut(..dictionary.len())?.copy_from_slice(dictionary);
        self.at = dictionary.len();
        packed.get(6..)
    }
}

fn parse(mut block: &[u8]) -> Option<Headers> {
    let count = number(&mut block)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((text(&mut block)?, text(&mut block)?));
    }
    Some(headers)
}

fn number(block: &mut &[u8]) -> Option<u32> {
    let (head, rest) = block.split_first_chunk::<4>()?;
    *block = rest;
    Some(u32::from_be_bytes(*head))
}

fn text(block: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(block)?).ok()?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// Packs the header blocks of one direction; without compressing, which zlib has a form for.
#[derive(Default)]
pub(super) struct Packer {
    begun: bool,
}

impl Packer {
    /// A block with `headers`.
    pub(super) fn pack(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = u32::try_from(headers.len()).unwrap_or(0).to_be_bytes().to_vec();
        for (name, value) in headers {
            push(&mut plain, name);
            push(&mut plain, value);
        }
        let mut packed = Vec::with_capacity(plain.len() + 7);
        if !std::mem::replace(&mut self.begun, true) {
            packed.extend_from_slice(&[0x78, 0x01]);
        }
        for part in plain.chunks(LONGEST_STORED) {
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            packed.push(0);
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(&(!length).to_le_bytes());
            packed.extend_from_slice(part);
        }
        // An empty block at the end is what makes unpackers give away what they have.
        packed.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_everybody_has() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((dictionary().len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_of_one_stream() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::new());
        for port in ["80", "443"] {
            let packed = packer.pack(&[("streamtype", "data"), ("port", port)]);
            let expect = vec![("streamtype".to_owned(), "data".to_owned()), ("port".to_owned(), port.to_owned())];
            assert_eq!(unpacker.unpack(&packed), Some(expect));
        }
    }

    /// Two blocks as Go's zlib writes them: with the dictionary, the second referring to the first.
    #[test]
    fn blocks_with_the_dictionary() {
        let hex = |text: &str| -> Vec<u8> {
            let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
            text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
        };
        let mut unpacker = Unpacker::new();
        for (block, kind) in [(FIRST, "error"), (SECOND, "data")] {
            let headers = unpacker.unpack(&hex(block)).unwrap();
            let get = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            assert_eq!((get("port"), get("requestid"), get("streamtype")), (Some("8080"), Some("0"), Some(kind)));
        }
    }

    const FIRST: &str =
        "78f9e3c6a7c202253a48f95b044eea16061606409ab308125f99a074cc68004e892545a989b9d0c2863515141500000000ffff";
    const SECOND: &str = "225333a8a44a04000000ffff";

    proptest::proptest! {
        /// Garbage is refused, never a panic.
        #[test]
        fn garbage(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let mut unpacker = Unpacker::new();
            let _ = unpacker.unpack(&bytes);
            let _ = unpacker.unpack(&bytes);
            let _ = parse(&bytes);
        }
    }
}
