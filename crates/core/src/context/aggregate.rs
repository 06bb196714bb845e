//! Several contents for one path become one file.

/// One content as it is; several each wrapped in `<context index="N">` lines, joined by a blank line, counted from 0.
/// Contents are not touched: one that ends in a newline shows a blank line before its closing tag.
pub fn aggregate<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    if let [only] = parts {
        return only.as_ref().to_vec();
    }
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.as_ref().len() + 40).sum());
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\n\n");
        }
        out.extend_from_slice(format!("<context index=\"{index}\">\n").as_bytes());
        out.extend_from_slice(part.as_ref());
        out.extend_from_slice(b"\n</context>");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&str], expect: &str) {
        assert_eq!(String::from_utf8(aggregate(parts)).unwrap(), expect);
    }

    #[test]
    fn contents_become_one_file() {
        check(&[], "");
        check(&["as it is"], "as it is");
        check(&["as it is\n"], "as it is\n");
        check(&["a", "b"], "<context index=\"0\">\na\n</context>\n\n<context index=\"1\">\nb\n</context>");
        check(&["a\n", ""], "<context index=\"0\">\na\n\n</context>\n\n<context index=\"1\">\n\n</context>");
    }
}
