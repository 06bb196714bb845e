//! `Status` in protobuf, for clients that accept nothing else. Objects are never sent in this form.

use crate::status::Status;

/// `k8s\0`, then a `runtime.Unknown` that holds the Status.
pub(crate) fn status(status: &Status) -> Vec<u8> {
    let mut raw = Vec::new();
    // metadata is a ListMeta whose three strings are empty.
    let mut metadata = Vec::new();
    [1, 2, 3].iter().for_each(|field| text(&mut metadata, *field, ""));
    bytes(&mut raw, 1, &metadata);
    text(&mut raw, 2, "Failure");
    text(&mut raw, 3, &status.message);
    text(&mut raw, 4, status.reason);
    if let Some(details) = &status.details {
        let mut out = Vec::new();
        text(&mut out, 1, &details.name);
        text(&mut out, 2, &details.group);
        text(&mut out, 3, &details.kind);
        for cause in &details.causes {
            let mut inner = Vec::new();
            text(&mut inner, 1, &cause.reason);
            text(&mut inner, 2, &cause.message);
            text(&mut inner, 3, &cause.field);
            bytes(&mut out, 4, &inner);
        }
        number(&mut out, 5, details.retry_after_seconds.unwrap_or(0));
        text(&mut out, 6, "");
        bytes(&mut raw, 5, &out);
    }
    number(&mut raw, 6, u32::from(status.code));
    let mut type_meta = Vec::new();
    text(&mut type_meta, 1, "v1");
    text(&mut type_meta, 2, "Status");
    let mut out = b"k8s\0".to_vec();
    bytes(&mut out, 1, &type_meta);
    bytes(&mut out, 2, &raw);
    text(&mut out, 3, "");
    text(&mut out, 4, "");
    out
}

fn text(out: &mut Vec<u8>, field: u8, value: &str) {
    bytes(out, field, value.as_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn number(out: &mut Vec<u8>, field: u8, value: u32) {
    out.push(field << 3);
    varint(out, u64::from(value));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than 128 is left")]
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_it() {
        let message = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
        let out = status(&Status { code: 406, reason: "NotAcceptable", message: message.into(), ..Status::default() });
        let text = String::from_utf8_lossy(&out);
        let want = format!(
            "k8s\0\n\u{c}\n\u{2}v1\u{12}\u{6}Status\u{12}\u{fffd}\u{1}\n\u{6}\n\0\u{12}\0\u{1a}\0\u{12}\u{7}Failure\u{1a}t{message}\"\rNotAcceptable0\u{fffd}\u{3}\u{1a}\0\"\0"
        );
        assert_eq!(text, want);
    }
}
