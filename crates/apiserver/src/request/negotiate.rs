//! Content negotiation: the `Accept` header decides the media type of an answer and whether it is a Table, only
//! metadata, or the object itself.

use http::HeaderMap;

use super::Query;
use crate::status::{Failure, Result};

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// The object or list.
    Object,
    /// `meta.k8s.io` Table.
    Table,
    /// `PartialObjectMetadata`, for one object.
    Partial,
    /// `PartialObjectMetadataList`.
    PartialList,
}

/// The outcome of negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) shape: Shape,
    /// `meta.k8s.io/v1` or `/v1beta1`.
    pub(crate) meta_version: &'static str,
    pub(crate) pretty: bool,
}

impl Output {
    /// Plain JSON, for what is not negotiated.
    pub(crate) const JSON: Self =
        Self { format: Format::Json, shape: Shape::Object, meta_version: "meta.k8s.io/v1", pretty: false };

    /// The `Content-Type` header.
    pub(crate) fn content_type(self) -> &'static str {
        match self.format {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
        }
    }
}

const TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAMS: &str = ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// What the resource at hand can answer with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offers {
    /// Table and `PartialObjectMetadata` make sense for the verb.
    pub(crate) transforms: bool,
    /// Custom resources word a refusal differently.
    pub(crate) custom: bool,
    pub(crate) watch: bool,
}

/// Chooses the first acceptable clause of `Accept`.
pub(crate) fn negotiate(headers: &HeaderMap, query: &Query, offers: Offers) -> Result<Output> {
    let mut bogus = false;
    let accept = headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let mut clauses: Vec<(f32, &str)> =
        accept.split(',').map(|c| (quality(c), c.trim())).filter(|(_, c)| !c.is_empty()).collect();
    if clauses.is_empty() {
        clauses.push((1.0, "*/*"));
    }
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, clause) in clauses {
        match parse_clause(clause, offers) {
            Clause::Take(mut output) => {
                output.pretty = pretty(headers, query);
                return Ok(output);
            }
            Clause::Skip { known_type } => bogus |= known_type,
        }
    }
    if bogus || (offers.custom && !offers.watch) {
        return Err(Failure::not_acceptable(format!("only the following media types are accepted: {TYPES}"), false));
    }
    let streams = if offers.watch { STREAMS } else { "" };
    Err(Failure::not_acceptable(format!("406: Not Acceptable\n\nAvailable representations: {TYPES}{streams}"), true))
}

/// A log is text whatever is asked for, but who asks for text alone is refused: what would be negotiated is the form of
/// a `Status`, and that has no text form.
pub(crate) fn negotiate_log(headers: &HeaderMap, query: &Query) -> Result<()> {
    let offers = Offers { transforms: false, custom: false, watch: false };
    let Err(failure) = negotiate(headers, query, offers) else { return Ok(()) };
    let accept = headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let text = accept.split(',').any(|clause| {
        let media = clause.split(';').next().unwrap_or_default().trim();
        matches!(media, "text/plain" | "text/*")
    });
    if text {
        return Err(Failure::not_acceptable(format!("only the following media types are accepted: {TYPES}"), false));
    }
    if failure.message().starts_with("406") {
        let all = format!("406: Not Acceptable\n\nAvailable representations: text/plain, {TYPES}");
        return Err(Failure::not_acceptable(all, true));
    }
    Err(failure)
}

/// The form of an error, which must be written whatever the client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorFormat {
    /// As an object would be.
    Object(Format),
    /// The client accepts nothing but protobuf.
    Protobuf,
}

/// Chooses the form of an error.
pub(crate) fn error_format(headers: &HeaderMap) -> ErrorFormat {
    let offers = Offers { transforms: true, custom: false, watch: true };
    match negotiate(headers, &Query::default(), offers) {
        Ok(output) => ErrorFormat::Object(output.format),
        Err(_) => {
            let accept = headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let protobuf = accept.contains("application/vnd.kubernetes.protobuf");
            if protobuf { ErrorFormat::Protobuf } else { ErrorFormat::Object(Format::Json) }
        }
    }
}

enum Clause {
    Take(Output),
    /// Not acceptable; `known_type` when the media type is known and only its parameters are not.
    Skip {
        known_type: bool,
    },
}

fn parse_clause(clause: &str, offers: Offers) -> Clause {
    let mut params = clause.split(';').map(str::trim);
    let media = params.next().unwrap_or_default().to_ascii_lowercase();
    let format = match media.as_str() {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        _ => return Clause::Skip { known_type: false },
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for param in params {
        let (key, value) = param.split_once('=').unwrap_or((param, ""));
        match key.trim() {
            "as" => kind = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            _ => {}
        }
    }
    let object = Output { format, ..Output::JSON };
    if kind.is_empty() {
        return Clause::Take(object);
    }
    let meta_version = match (group, version) {
        ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
        ("meta.k8s.io", "v1beta1") => "meta.k8s.io/v1beta1",
        _ => return Clause::Skip { known_type: true },
    };
    let shape = match kind {
        "Table" => Shape::Table,
        "PartialObjectMetadata" => Shape::Partial,
        "PartialObjectMetadataList" => Shape::PartialList,
        _ => return Clause::Skip { known_type: true },
    };
    if !offers.transforms {
        return Clause::Skip { known_type: true };
    }
    Clause::Take(Output { shape, meta_version, ..object })
}

fn quality(clause: &str) -> f32 {
    let q = clause.split(';').skip(1).find_map(|p| p.trim().strip_prefix("q="));
    q.and_then(|q| q.trim().parse().ok()).unwrap_or(1.0)
}

/// `?pretty`, or a person at the other end (curl, wget, a browser).
fn pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(flag) = query.flag("pretty") {
        return flag;
    }
    let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|person| agent.starts_with(person))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, want: Result<(Format, Shape), &str>) {
        let mut headers = HeaderMap::new();
        if let Ok(value) = accept.parse() {
            headers.insert(http::header::ACCEPT, value);
        }
        let offers = Offers { transforms: true, custom: false, watch: false };
        let got = negotiate(&headers, &Query::default(), offers);
        match (got, want) {
            (Ok(output), Ok(want)) => assert_eq!((output.format, output.shape), want, "{accept}"),
            (Err(failure), Err(start)) => {
                assert!(failure.message().starts_with(start), "{accept}: {}", failure.message())
            }
            (got, want) => panic!("{accept}: {got:?} instead of {want:?}"),
        }
    }

    #[test]
    fn logs_are_not_asked_for_as_text() {
        let ask = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT, accept.parse().expect("a header"));
            negotiate_log(&headers, &Query::default()).map_err(|failure| failure.message().to_owned())
        };
        assert_eq!(ask("*/*"), Ok(()));
        assert_eq!(ask("text/plain, */*"), Ok(()));
        assert!(ask("text/plain").is_err_and(|text| text.starts_with("only the following")));
        assert!(ask("text/html").is_err_and(|text| text.contains("representations: text/plain, application/json")));
    }

    #[test]
    fn accept_headers() {
        check("", Ok((Format::Json, Shape::Object)));
        check("*/*", Ok((Format::Json, Shape::Object)));
        check("text/html, application/json;q=0.5", Ok((Format::Json, Shape::Object)));
        check("application/yaml", Ok((Format::Yaml, Shape::Object)));
        check("application/vnd.kubernetes.protobuf,application/json", Ok((Format::Json, Shape::Object)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Ok((Format::Json, Shape::Table)));
        check("application/json;as=Bogus;v=v1;g=meta.k8s.io", Err("only the following"));
        check("text/html", Err("406: Not Acceptable"));
    }
}
