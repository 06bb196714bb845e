//! A model that answers as those of three vendors do: the first time with a call of the agent's shell, then with words.
//!
//! Wire formats: Anthropic's Messages API, OpenAI's Responses API, Gemini's `streamGenerateContent`; each as a stream of
//! server-sent events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the model says in the end.
pub(super) const WORDS: &str = "All is fixed.";

/// A model on this machine's loopback, for as long as the test runs.
pub(super) struct Model {
    pub(super) address: SocketAddr,
    /// What agents asked, as far as it was understood: path, and the key that came along.
    pub(super) asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Model {
    /// A model that lets agents run this command.
    pub(super) fn new(command: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let heard = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = heard.clone();
                std::thread::spawn(move || serve(stream, command, &heard));
            }
        });
        Self { address, asked }
    }
}

fn serve(stream: TcpStream, command: &str, heard: &Mutex<Vec<(String, String)>>) {
    let mut answers = stream.try_clone().unwrap();
    let mut requests = BufReader::new(stream);
    while let Some((method, path, key, body)) = request(&mut requests) {
        let events = (method == "POST").then(|| answer(&path, &body, command)).flatten();
        if events.is_some() {
            heard.lock().unwrap().push((path, key));
        }
        let (status, kind, text) = match events {
            Some(events) => ("200 OK", "text/event-stream", stream_of(&events)),
            None => {
                ("404 Not Found", "application/json", r#"{"error":{"message":"there is no such thing"}}"#.to_owned())
            }
        };
        let text = if method == "HEAD" { String::new() } else { text };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", text.len());
        if answers.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

/// Method, path, key and body of the next request.
fn request(from: &mut impl BufRead) -> Option<(String, String, String, Value)> {
    let mut line = || {
        let mut text = String::new();
        from.read_line(&mut text).ok().filter(|read| *read > 0).map(|_| text.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut chunked, mut key) = (0, false, String::new());
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "x-api-key" | "authorization" | "x-goog-api-key" => key = value.trim_start_matches("Bearer ").to_owned(),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let mut size = String::new();
            from.read_line(&mut size).ok()?;
            let size = u64::from_str_radix(size.trim(), 16).ok()?;
            from.take(size).read_to_end(&mut body).ok()?;
            from.read_line(&mut String::new()).ok()?;
            if size == 0 {
                break;
            }
        }
    } else {
        from.take(length).read_to_end(&mut body).ok()?;
    }
    Some((method, path, key, serde_json::from_slice(&body).unwrap_or_default()))
}

fn answer(path: &str, body: &Value, command: &str) -> Option<Vec<Value>> {
    let path = path.split('?').next()?;
    if path.ends_with("/v1/messages") {
        Some(messages(body, command))
    } else if path.ends_with("/v1/responses") {
        Some(responses(body, command))
    } else if path.ends_with(":streamGenerateContent") {
        Some(generate_content(body, command))
    } else {
        None
    }
}

fn stream_of(events: &[Value]) -> String {
    let event = |event: &Value| {
        let name = event["type"].as_str().map_or_else(String::new, |name| format!("event: {name}\n"));
        format!("{name}data: {event}\n\n")
    };
    events.iter().map(event).collect()
}

fn mentions(value: &Value, text: &str) -> bool {
    value.to_string().contains(text)
}

fn messages(body: &Value, command: &str) -> Vec<Value> {
    let call = mentions(&body["tools"], "\"Bash\"") && !mentions(&body["messages"], "tool_result");
    let (block, delta, stop) = if call {
        let input = json!({"command": command, "description": "fix it"}).to_string();
        (
            json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}),
            json!({"type": "input_json_delta", "partial_json": input}),
            "tool_use",
        )
    } else {
        (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": WORDS}), "end_turn")
    };
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 1}});
    vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]
}

fn responses(body: &Value, command: &str) -> Vec<Value> {
    let call = mentions(&body["tools"], "\"exec_command\"") && !mentions(&body["input"], "function_call_output");
    let item = if call {
        json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "exec_command", "status": "completed",
            "arguments": json!({"cmd": command}).to_string()})
    } else {
        json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": WORDS, "annotations": []}]})
    };
    let response = |status: &str, output: &[&Value]| {
        json!({"id": "resp_1", "object": "response", "status": status, "model": body["model"], "output": output,
            "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15}})
    };
    vec![
        json!({"type": "response.created", "response": response("in_progress", &[])}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": response("completed", &[&item])}),
    ]
}

fn generate_content(body: &Value, command: &str) -> Vec<Value> {
    let call = mentions(&body["tools"], "\"run_shell_command\"") && !mentions(&body["contents"], "functionResponse");
    let part = if call {
        json!({"functionCall": {"name": "run_shell_command", "args": {"command": command, "description": "fix it"}}})
    } else {
        json!({"text": WORDS})
    };
    vec![json!({
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
    })]
}
