//! What a server says when it does not take an object, and asking again cannot help.

/// How much of it becomes part of a condition: refusals of admission policies may be long.
const CHARACTERS: usize = 1024;

/// The words of a refusal after which somebody has to change something first (quota, admission, validation).
pub(crate) fn of(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(answer) = error else { return None };
    (matches!(answer.code, 400 | 403 | 413 | 422) && answer.reason != "Conflict").then(|| cut(&answer.message))
}

fn cut(said: &str) -> String {
    match said.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", said.get(..end).unwrap_or_default()),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_may_succeed_later_is_no_refusal() {
        let answer = |code, reason: &str, message: &str| {
            let (reason, message) = (reason.to_owned(), message.to_owned());
            of(&kube::Error::Api(Box::new(Status { code, reason, message, ..Status::default() })))
        };
        assert_eq!(answer(403, "Forbidden", "exceeded quota").as_deref(), Some("exceeded quota"));
        assert_eq!(answer(422, "Invalid", "no").as_deref(), Some("no"));
        for (code, reason) in [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (503, "")] {
            assert_eq!(answer(code, reason, "later"), None, "{code}");
        }
        let long = answer(403, "Forbidden", &"ü".repeat(CHARACTERS + 1)).unwrap();
        assert_eq!((long.chars().count(), long.ends_with('…')), (CHARACTERS + 1, true));
    }
}
