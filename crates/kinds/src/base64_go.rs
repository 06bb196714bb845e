//! Base64 as Go's `encoding/base64` reads it: line breaks are skipped, and an error says at which byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `None` when the text is canonical already, else its canonical form.
///
/// # Errors
/// The offset of the first byte that cannot be.
pub(crate) fn canonical(text: &str) -> Result<Option<String>, usize> {
    let mut digits: Vec<u8> = Vec::new();
    let mut padding = 0_usize;
    let mut skipped = false;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' | b'\n' => skipped = true,
            b'=' => {
                // At most two, and only where they complete a group of four.
                if digits.len() % 4 < 2 || padding == 2 || (digits.len() % 4 + padding) >= 4 {
                    return Err(at);
                }
                padding += 1;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => digits.push(*byte),
            _ => return Err(at),
        }
    }
    if !(digits.len() + padding).is_multiple_of(4) {
        return Err(bytes.len() - (digits.len() + padding) % 4);
    }
    // The last digit before padding may carry bits that mean nothing; re-encoding clears them.
    let stray = match (padding, digits.last()) {
        (1, Some(last)) => !value(*last).is_multiple_of(4),
        (2, Some(last)) => !value(*last).is_multiple_of(16),
        _ => false,
    };
    if !skipped && !stray {
        return Ok(None);
    }
    let lenient = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
    );
    lenient.decode(&digits).map(|data| Some(STANDARD.encode(data))).map_err(|_| 0)
}

/// The six bits of a digit.
fn value(digit: u8) -> u8 {
    match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    }
}

/// How many bytes canonical base64 stands for.
pub(crate) fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

#[cfg(test)]
mod tests {
    use super::{canonical, decoded_len};

    #[test]
    fn reads_as_go_does() {
        for (input, expect) in [
            ("", Ok(None)),
            ("dg==", Ok(None)),
            ("b2xk", Ok(None)),
            ("not base64!", Err(3)),
            ("***", Err(0)),
            ("dg=", Err(0)),
            ("dg", Err(0)),
            ("b2xk=", Err(4)),
            ("dg==dg==", Err(4)),
            ("b2\nxk", Ok(Some("b2xk".to_owned()))),
            ("dh==", Ok(Some("dg==".to_owned()))),
        ] {
            assert_eq!(canonical(input), expect, "{input:?}");
        }
    }

    #[test]
    fn counts_bytes() {
        for (text, n) in [("", 0), ("dg==", 1), ("dg8=", 2), ("b2xk", 3)] {
            assert_eq!(decoded_len(text), n, "{text}");
        }
    }
}
