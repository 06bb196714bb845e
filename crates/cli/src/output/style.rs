//! Colours, and text that is safe to print.

/// Escape sequences for stderr; all empty where colour is not wanted.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    /// Failures.
    pub red: &'static str,
    /// Success.
    pub green: &'static str,
    /// Warnings, waiting.
    pub yellow: &'static str,
    /// Names, hints.
    pub cyan: &'static str,
    /// Side remarks.
    pub dim: &'static str,
    /// Emphasis.
    pub bold: &'static str,
    /// Back to normal.
    pub reset: &'static str,
}

impl Palette {
    /// With or without colour.
    #[must_use]
    pub fn new(color: bool) -> Self {
        if color {
            Self {
                red: "\x1b[31m",
                green: "\x1b[32m",
                yellow: "\x1b[33m",
                cyan: "\x1b[36m",
                dim: "\x1b[2m",
                bold: "\x1b[1m",
                reset: "\x1b[0m",
            }
        } else {
            Self { red: "", green: "", yellow: "", cyan: "", dim: "", bold: "", reset: "" }
        }
    }
}

/// Text with control characters made visible, so that what an agent or a server wrote cannot drive the terminal.
/// Tabs stay; a line break becomes a space-separated continuation only where the caller splits lines first.
#[must_use]
pub fn plain_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\u{1b}' => out.push('␛'),
            // C0, DEL and C1 controls; and the bidirectional overrides that can make text read as what it is not.
            c if c.is_control() => out.push('�'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('�'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(plain_text("a\tb\nc"), "a\tb\nc");
        assert_eq!(plain_text("\x1b]0;owned\x07"), "␛]0;owned�");
        assert_eq!(plain_text("x\r\u{9b}31m\u{202e}y"), "x��31m�y");
        assert_eq!(plain_text("grün ✓"), "grün ✓");
    }
}
