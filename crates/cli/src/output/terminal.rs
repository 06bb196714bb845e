//! What agents print, made harmless for the terminal it is shown on.
//!
//! Colours and weight (SGR sequences) pass; everything else that a terminal would act on (moving the cursor, setting
//! the title, answering back, pasting) becomes visible text. The filter keeps state between chunks, because a sequence
//! may be cut anywhere.

/// A streaming filter; feed it the bytes as they come.
#[derive(Debug, Default)]
pub struct TerminalFilter {
    state: State,
    sequence: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Csi,
    /// After 0xC2, which begins the UTF-8 form of the C1 controls.
    MaybeC1,
}

/// No SGR sequence in use is longer.
const MAX_SEQUENCE: usize = 64;

impl TerminalFilter {
    /// Filters a chunk.
    pub fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        for &byte in bytes {
            self.step(byte, &mut out);
        }
        out
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => match byte {
                0x1b => {
                    self.state = State::Escape;
                    self.sequence.clear();
                }
                b'\n' | b'\t' | b'\r' => out.push(byte),
                0x00..=0x1f | 0x7f => out.extend_from_slice("�".as_bytes()),
                0xc2 => self.state = State::MaybeC1,
                _ => out.push(byte),
            },
            State::MaybeC1 => {
                self.state = State::Text;
                if (0x80..=0x9f).contains(&byte) {
                    out.extend_from_slice("�".as_bytes());
                } else {
                    out.push(0xc2);
                    self.step(byte, out);
                }
            }
            State::Escape => {
                if byte == b'[' {
                    self.state = State::Csi;
                } else {
                    self.reject(out);
                    self.step(byte, out);
                }
            }
            State::Csi => match byte {
                b'm' => {
                    out.extend_from_slice(b"\x1b[");
                    out.extend_from_slice(&self.sequence);
                    out.push(b'm');
                    self.state = State::Text;
                }
                b'0'..=b'9' | b';' | b':' if self.sequence.len() < MAX_SEQUENCE => self.sequence.push(byte),
                _ => {
                    self.reject(out);
                    self.step(byte, out);
                }
            },
        }
    }

    /// Shows an unfinished or unwanted sequence as text.
    fn reject(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice("␛".as_bytes());
        if self.state == State::Csi {
            out.push(b'[');
        }
        out.append(&mut self.sequence);
        self.state = State::Text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(input: &str, expect: &str) {
        assert_eq!(String::from_utf8_lossy(&TerminalFilter::default().filter(input.as_bytes())), expect, "{input:?}");
    }

    #[test]
    fn colour_passes_and_nothing_else() {
        check("plain\tüñí\r\n", "plain\tüñí\r\n");
        check("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m");
        check("\x1b[2J\x1b[H", "␛[2J␛[H");
        check("\x1b]0;title\x07", "␛]0;title�");
        check("\x1b[?1049h", "␛[?1049h");
        check("\u{9b}31m", "�31m");
        check("\x1b\x1b[0m", "␛\x1b[0m");
        check("\x08\x7f", "��");
    }

    #[test]
    fn sequences_cut_between_chunks() {
        let mut filter = TerminalFilter::default();
        let mut out = filter.filter(b"a\x1b");
        out.extend(filter.filter(b"[3"));
        out.extend(filter.filter(b"1mb"));
        assert_eq!(out, b"a\x1b[31mb");
    }

    proptest! {
        #[test]
        fn only_sgr_sequences_come_out(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let out = TerminalFilter::default().filter(&bytes);
            let mut i = 0;
            while i < out.len() {
                match out[i] {
                    0x1b => {
                        prop_assert_eq!(out.get(i + 1), Some(&b'['));
                        i += 2;
                        while matches!(out.get(i), Some(b'0'..=b'9' | b';' | b':')) {
                            i += 1;
                        }
                        prop_assert_eq!(out.get(i), Some(&b'm'));
                    }
                    b'\n' | b'\t' | b'\r' => {}
                    byte => prop_assert!(byte >= 0x20 && byte != 0x7f),
                }
                i += 1;
            }
        }
    }
}
