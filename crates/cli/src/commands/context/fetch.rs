//! Fetches remote files and assembles those in which they take part.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kubetask_core::context::aggregate;
use kubetask_core::context::fetch::{FetchFile, FetchHeader, FetchPart, FetchPlan};

use crate::error::{CommandError, CommandResult};
use crate::exit_codes;

/// Greatest size of one remote file in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// How often a file is asked for before the Task fails.
const ATTEMPTS: u32 = 4;

pub(super) fn run(plan: &Path) -> CommandResult {
    let failed = |e: &dyn std::fmt::Display| CommandError::failure(format!("{}: {e}", plan.display()));
    let text = fs::read(plan).map_err(|e| failed(&e))?;
    let plan: FetchPlan = serde_json::from_slice(&text).map_err(|e| failed(&e))?;
    for file in &plan.files {
        let parts = file.parts.iter().map(|part| content(file, part)).collect::<CommandResult<Vec<_>>>()?;
        let whole = aggregate(&parts);
        write(Path::new(&file.output), &whole).map_err(|e| CommandError::failure(format!("{}: {e}", file.path)))?;
    }
    Ok(exit_codes::OK)
}

fn content(file: &FetchFile, part: &FetchPart) -> CommandResult<Vec<u8>> {
    match part {
        FetchPart::Local { file: path } => {
            fs::read(path).map_err(|e| CommandError::failure(format!("{}: {e}", file.path)))
        }
        FetchPart::Remote { url, headers } => {
            let shown = without_secrets(url);
            let headers = headers.iter().filter_map(value).collect::<Vec<_>>();
            let bytes = with_retries(|| crate::fetch::get_with_headers(url, &headers, MAX_BYTES))
                .map_err(|e| CommandError::failure(format!("{}: cannot fetch {shown}: {e}", file.path)))?;
            Ok(bytes)
        }
    }
}

fn value(header: &FetchHeader) -> Option<(String, String)> {
    let value = match (&header.value, &header.env) {
        (Some(value), _) => value.clone(),
        (None, Some(variable)) => std::env::var(variable).ok()?,
        (None, None) => return None,
    };
    Some((header.name.clone(), value.trim_end().to_owned()))
}

/// A URL without user information and query, which may hold secrets.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/{path}")
}

fn with_retries<T>(
    mut get: impl FnMut() -> Result<T, crate::fetch::FetchError>,
) -> Result<T, crate::fetch::FetchError> {
    let mut attempt = 1;
    loop {
        match get() {
            Err(error) if attempt < ATTEMPTS && is_passing(&error) => {
                std::thread::sleep(std::time::Duration::from_millis(500 << attempt));
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// Whether trying again may help.
fn is_passing(error: &crate::fetch::FetchError) -> bool {
    match error {
        crate::fetch::FetchError::Status(code) => matches!(code, 408 | 425 | 429 | 500..=599),
        crate::fetch::FetchError::Transport(_) => true,
        crate::fetch::FetchError::TooLarge(_) => false,
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // The agent may run as another user than this container.
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        for (url, shown) in [
            ("https://user:pw@example.test/a/b?token=x#y", "https://example.test/a/b"),
            ("https://example.test", "https://example.test/"),
            ("http://example.test:81/?k=v", "http://example.test:81/"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    /// Answers one request after another with what is given, and tells what was asked.
    fn server(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        use std::io::{BufRead, BufReader};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = move || {
            let answer = |answer: &str| {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let asked: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let head = "connection: close\r\ncontent-length";
                let (status, body) = answer.split_once(' ').unwrap();
                write!(stream, "HTTP/1.1 {status} X\r\n{head}: {}\r\n\r\n{body}", body.len()).unwrap();
                asked.join("\n")
            };
            answers.into_iter().map(answer).collect()
        };
        (address, std::thread::spawn(serve))
    }

    #[test]
    fn remote_files_are_fetched_with_headers_and_aggregated_in_order() {
        // The first answer is one of a server that is busy.
        let (address, asked) = server(vec!["503 later", "200 from afar"]);
        let directory = tempfile::tempdir().unwrap();
        let local = directory.path().join("local");
        fs::write(&local, "at hand").unwrap();
        let (output, plan) = (directory.path().join("out/task.md"), directory.path().join("plan.json"));
        let remote = serde_json::json!({
            "url": format!("http://{address}/guide?token=x"),
            // In a pod it comes from a Secret.
            "headers": [{"name": "x-plain", "value": "plain"}, {"name": "x-path", "env": "PATH"}],
        });
        let file =
            serde_json::json!({"path": "/workspace/task.md", "output": output, "parts": [{"file": local}, remote]});
        fs::write(&plan, serde_json::json!({"files": [file]}).to_string()).unwrap();
        assert_eq!(run(&plan).unwrap(), exit_codes::OK);
        let expect = "<context index=\"0\">\nat hand\n</context>\n\n<context index=\"1\">\nfrom afar\n</context>";
        assert_eq!(fs::read_to_string(&output).unwrap(), expect);
        let asked = asked.join().unwrap();
        assert!(asked[1].starts_with("GET /guide?token=x HTTP/1.1"), "{asked:?}");
        let path = format!("x-path: {}", std::env::var("PATH").unwrap().trim_end());
        assert!(asked[1].contains("x-plain: plain") && asked[1].contains(&path), "{asked:?}");
    }

    #[test]
    fn a_remote_file_that_is_not_there_is_named_without_secrets() {
        let (address, asked) = server(vec!["404 none"]);
        let part = FetchPart::Remote { url: format!("http://u:pw@{address}/guide?token=x"), headers: Vec::new() };
        let file = FetchFile { path: "/workspace/a".to_owned(), output: String::new(), parts: Vec::new() };
        let said = content(&file, &part).unwrap_err().lines.join(" ");
        assert!(said.contains("/workspace/a") && said.contains(&format!("http://{address}/guide")), "{said}");
        assert!(!said.contains("token") && !said.contains("pw"), "{said}");
        asked.join().unwrap();
    }
}
