//! What Go's `encoding/json` says about a text that is not JSON. Clients show these messages, and people search for them.

/// The first syntax error, or `None` for a valid document.
#[must_use]
pub fn syntax_error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.document().err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

type Step = Result<(), String>;

const END: &str = "unexpected end of JSON input";
/// Deeper than serde_json goes, so that this never recurses further than what was parsed before.
const DEPTH: usize = 200;

impl Scanner<'_> {
    fn blank(&mut self) -> Result<u8, String> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(END.to_owned())
    }

    /// The complaint about the character here.
    fn bad(&self, context: &str) -> String {
        let rest = String::from_utf8_lossy(self.text.get(self.at..).unwrap_or_default());
        let shown = match rest.chars().next() {
            None => return END.to_owned(),
            Some('\'') => "'\\''".to_owned(),
            Some('"') => "'\"'".to_owned(),
            Some(c) if c.is_control() => format!("'{}'", c.escape_default()),
            Some(c) => format!("'{c}'"),
        };
        format!("invalid character {shown} {context}")
    }

    fn document(&mut self) -> Step {
        self.value(0)?;
        match self.blank() {
            Ok(_) => Err(self.bad("after top-level value")),
            Err(_) => Ok(()),
        }
    }

    fn value(&mut self, depth: usize) -> Step {
        if depth > DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        match self.blank()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => Err(self.bad("looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Step {
        self.at += 1;
        if self.blank()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.blank()? != b'"' {
                return Err(self.bad("looking for beginning of object key string"));
            }
            self.string()?;
            if self.blank()? != b':' {
                return Err(self.bad("after object key"));
            }
            self.at += 1;
            self.value(depth + 1)?;
            match self.blank()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(self.bad("after object key:value pair")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Step {
        self.at += 1;
        if self.blank()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            match self.blank()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.bad("after array element")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Step {
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                None => return Err(END.to_owned()),
                Some(b'"') => break,
                Some(byte) if *byte < 0x20 => return Err(self.bad("in string literal")),
                Some(b'\\') => {
                    self.at += 1;
                    match self.text.get(self.at) {
                        None => return Err(END.to_owned()),
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                match self.text.get(self.at) {
                                    None => return Err(END.to_owned()),
                                    Some(byte) if byte.is_ascii_hexdigit() => {}
                                    Some(_) => return Err(self.bad("in \\u hexadecimal character escape")),
                                }
                            }
                        }
                        Some(_) => return Err(self.bad("in string escape code")),
                    }
                }
                Some(_) => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) -> Step {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.bad("in numeric literal")),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            if !self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
                return Err(self.bad("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
                return Err(self.bad("in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &str) -> Step {
        for expected in word.chars() {
            if self.text.get(self.at).map(|b| char::from(*b)) != Some(expected) {
                return Err(self.bad(&format!("in literal {word} (expecting '{expected}')")));
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<&str>) {
        assert_eq!(syntax_error(text.as_bytes()).as_deref(), want, "{text}");
    }

    #[test]
    fn as_go_says_it() {
        check(r#"{"a":[1,-2.5e3,true,null,"x\u0041"]}"#, None);
        check("", Some("unexpected end of JSON input"));
        check(r#"{"a":1,"#, Some("unexpected end of JSON input"));
        check("{bad", Some("invalid character 'b' looking for beginning of object key string"));
        check("not json", Some("invalid character 'o' in literal null (expecting 'u')"));
        check("[1 2]", Some("invalid character '2' after array element"));
        check("{\"a\":1 \"b\"}", Some("invalid character '\"' after object key:value pair"));
        check("{\"a\" 1}", Some("invalid character '1' after object key"));
        check("{} x", Some("invalid character 'x' after top-level value"));
        check("'", Some("invalid character '\\'' looking for beginning of value"));
        check("01", Some("invalid character '1' after top-level value"));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_parser(text in "[\\[\\]{}:,\"a1 .eE+nul\\\\-]{0,16}") {
            let parsed = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            // Numbers beyond f64 are the one thing on which the two may differ.
            if !text.contains(['e', 'E']) {
                proptest::prop_assert_eq!(parsed, syntax_error(text.as_bytes()).is_none(), "{}", text);
            }
        }
    }
}
