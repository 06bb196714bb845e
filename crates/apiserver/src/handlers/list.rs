//! `GET` of a collection: a consistent snapshot, selected, paged, and put together from stored bytes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine as _};
use bytes::Bytes;
use http::{Response, StatusCode};
use kubetask_store::{Entry, ListError, ListOptions as StoreList};
use serde_json::{Value, json};

use super::{Call, select};
use crate::object;
use crate::print::{partial, table};
use crate::registry::Resource;
use crate::reply;
use crate::request::options::ListOptions;
use crate::request::{Format, Output, Shape, Target};
use crate::selectors::Selection;
use crate::status::{Failure, Result};

/// How long a list waits for a revision that is not there yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// Lists of more bytes are not put together in memory.
const WHOLE: usize = 1 << 20;
/// About the size of their pieces.
const PIECE: usize = 128 << 10;

/// The part of a list that is answered with.
pub(crate) struct Page {
    pub(crate) revision: u64,
    pub(crate) entries: Vec<Arc<Entry>>,
    continue_: String,
    remaining: Option<usize>,
}

pub(crate) async fn handle(call: &mut Call, resource: &Arc<Resource>, target: &Target) -> Result<Response<Body>> {
    let output = call.output(resource, false)?;
    let options = ListOptions::parse(&call.query, false)?;
    let selection = select::parse(&call.query, resource)?;
    let page = page(call, resource, target, &options, &selection).await?;
    answer(call, resource, page, output)
}

/// Reads a page.
pub(crate) async fn page(
    call: &Call,
    resource: &Resource,
    target: &Target,
    options: &ListOptions,
    selection: &Selection,
) -> Result<Page> {
    let Position { at, start_after, rest } = position(call, options).await?;
    let prefix = prefix(resource, target, selection);
    // A list "at any version" is answered from the watch cache by the real server, which knows no pages.
    let limit = if options.resource_version == "0" { 0 } else { options.limit };
    if let Some(entry) = single(call, resource, target, selection, at, limit) {
        return Ok(entry);
    }
    let everything = selection.is_everything();
    let snapshot = call
        .server
        .store
        .list(
            &resource.bucket,
            &StoreList {
                prefix: &prefix,
                start_after: start_after.as_deref(),
                limit: if everything { limit } else { 0 },
                at_revision: at,
                rest,
            },
        )
        .map_err(|error| list_error(error, start_after.as_deref().filter(|_| !options.continue_.is_empty())))?;
    let revision = snapshot.revision;
    let mut remaining = snapshot.remaining;
    let mut entries = snapshot.entries;
    if !everything {
        let total = entries.len();
        let mut taken = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            if select::matches(resource, selection, &entry) {
                taken.push(entry);
                if limit > 0 && taken.len() == limit {
                    remaining = total - index - 1;
                    break;
                }
            }
        }
        entries = taken;
    }
    let continue_ = match entries.last() {
        Some(last) if remaining > 0 && limit > 0 => {
            encode_continue(revision, &last.key, everything.then_some(remaining))
        }
        _ => String::new(),
    };
    let remaining = (everything && !continue_.is_empty()).then_some(remaining);
    Ok(Page { revision, entries, continue_, remaining })
}

/// A list that can have one element only, by its field selector: no need to look at the others.
fn single(
    call: &Call,
    resource: &Resource,
    target: &Target,
    selection: &Selection,
    at: Option<u64>,
    limit: usize,
) -> Option<Page> {
    let name = selection.fields.exact("metadata.name")?;
    if at.is_some() || limit > 0 || name.contains('/') || (resource.namespaced && target.namespace.is_empty()) {
        return None;
    }
    // The revision is read first: the entry may be newer than the list claims, never older.
    let revision = call.server.store.revision();
    let key = object::key(resource.namespaced, &target.namespace, name);
    let entry = call.server.store.get(&resource.bucket, &key).filter(|e| select::matches(resource, selection, e));
    let revision = entry.as_ref().map_or(revision, |e| e.revision.max(revision));
    Some(Page { revision, entries: entry.into_iter().collect(), continue_: String::new(), remaining: None })
}

/// Which keys a list is about.
pub(crate) fn prefix(resource: &Resource, target: &Target, selection: &Selection) -> String {
    if !resource.namespaced {
        return String::new();
    }
    let namespace = match target.namespace.as_str() {
        "" => selection.fields.exact("metadata.namespace").unwrap_or_default(),
        namespace => namespace,
    };
    if namespace.is_empty() { String::new() } else { format!("{namespace}/") }
}

/// Where a list goes on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position {
    /// The revision to read at; `None`: the newest.
    at: Option<u64>,
    /// The key to start after.
    start_after: Option<String>,
    /// How many there are after it, where the token says so.
    rest: Option<usize>,
}

async fn position(call: &Call, options: &ListOptions) -> Result<Position> {
    if !options.continue_.is_empty() {
        if !options.resource_version.is_empty() && options.resource_version != "0" {
            return Err(Failure::bad_request("specifying resource version is not allowed when using continue"));
        }
        return decode_continue(&options.continue_);
    }
    let wanted = match options.resource_version.as_str() {
        "" => return Ok(Position::default()),
        text => text.parse::<u64>().map_err(|_| {
            let quoted = crate::text::quote(text);
            Failure::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax"
            ))
        })?,
    };
    wait_for(call, wanted).await?;
    let exact = options.exact || (options.limit > 0 && wanted > 0 && call.query.get("resourceVersionMatch").is_empty());
    Ok(Position { at: exact.then_some(wanted), ..Position::default() })
}

/// Waits a little for a revision in the future.
pub(crate) async fn wait_for(call: &Call, wanted: u64) -> Result<()> {
    if wanted <= call.server.store.revision() {
        return Ok(());
    }
    match call.server.store.wait_for(wanted, PATIENCE).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::too_large_resource_version(wanted, call.server.store.revision())),
    }
}

/// 500 without a reason, which is how a get and a watch complain about a resourceVersion that is no number.
pub(crate) fn bad_version_plain(text: &str) -> Failure {
    let quoted = crate::text::quote(text);
    Failure::plain_internal(format!(
        "resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax"
    ))
}

/// `after`: the list goes on after this key.
fn list_error(error: ListError, after: Option<&str>) -> Failure {
    match (error, after) {
        (ListError::TooOld(_), Some(key)) => Failure::expired_but(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            encode(NEWEST, key, None),
        ),
        (ListError::TooOld(_), None) => Failure::expired("The resourceVersion for the provided list is too old."),
        (ListError::Future { requested, current }, _) => Failure::too_large_resource_version(requested, current),
    }
}

/// In a token: go on with what is there then.
const NEWEST: i64 = -1;

fn encode_continue(revision: u64, key: &str, rest: Option<usize>) -> String {
    encode(i64::try_from(revision).unwrap_or(i64::MAX), key, rest)
}

fn encode(revision: i64, key: &str, rest: Option<usize>) -> String {
    let mut token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": key});
    if let Some(rest) = rest {
        token["rest"] = rest.into();
    }
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn decode_continue(token: &str) -> Result<Position> {
    let bad = |why: String| Failure::bad_request(format!("invalid continue token: continue key is not valid{why}"));
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => token.len(),
        };
        bad(format!(": illegal base64 data at input byte {at}"))
    })?;
    if let Some(wrong) = kubetask_kinds::go_json::syntax_error(&bytes) {
        return Err(bad(format!(": {wrong}")));
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(format!(": {error}")))?;
    let version = value["v"].as_str().unwrap_or_default();
    if version != "meta.k8s.io/v1" {
        return Err(bad(format!(": server does not recognize this encoded version {version}")));
    }
    let (revision, key) = (value["rv"].as_i64().unwrap_or_default(), value["start"].as_str().unwrap_or_default());
    if revision == 0 {
        return Err(bad(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned()));
    }
    if key.is_empty() {
        return Err(bad(": encoded start key empty (version meta.k8s.io/v1)".to_owned()));
    }
    let at = u64::try_from(revision).ok();
    // Of another revision there may be more or fewer by now.
    let rest = at.and_then(|_| value["rest"].as_u64()).and_then(|rest| usize::try_from(rest).ok());
    Ok(Position { at, start_after: Some(key.to_owned()), rest })
}

/// The page in the negotiated form.
pub(crate) fn answer(call: &Call, resource: &Arc<Resource>, page: Page, output: Output) -> Result<Response<Body>> {
    match output.shape {
        Shape::Object => {
            let head = envelope(&resource.list_kind, &resource.api_version, &page, resource.is_custom());
            let resource = resource.clone();
            Ok(items(head, page, output, move |out, entry| write_item(out, &resource, entry)))
        }
        Shape::PartialList => {
            let head = envelope("PartialObjectMetadataList", output.meta_version, &page, false);
            Ok(items(head, page, output, move |out, entry| partial::write(out, &entry.bytes, output.meta_version)))
        }
        Shape::Partial => Err(Failure::not_acceptable(
            format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{}.{})",
                super::get::internal_package(resource),
                resource.list_kind
            ),
            false,
        )),
        Shape::Table => {
            let include = table::IncludeObject::parse(call.query.get("includeObject"))?;
            let now = jiff::Timestamp::now();
            let row =
                |entry: &Arc<Entry>| table::row(resource, resource.value(entry), include, output.meta_version, now);
            let rows: Vec<Value> = page.entries.iter().map(row).collect();
            let mut document =
                table::document(table::columns(resource), rows, metadata(&page, false), output.meta_version);
            if page.entries.is_empty() && &*resource.bucket == crate::registry::CRDS {
                document["rows"] = Value::Null;
            }
            Ok(reply::value(StatusCode::OK, &document, output))
        }
    }
}

/// `metadata` of the list; lists of custom resources always carry `continue`.
fn metadata(page: &Page, custom: bool) -> Value {
    let mut out = json!({"resourceVersion": page.revision.to_string()});
    if custom || !page.continue_.is_empty() {
        out["continue"] = page.continue_.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        out["remainingItemCount"] = remaining.into();
    }
    out
}

fn envelope(kind: &str, api_version: &str, page: &Page, custom: bool) -> String {
    let metadata = metadata(page, custom);
    format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
        Value::from(kind),
        Value::from(api_version)
    )
}

/// The list: whole, or where that would be large in pieces, made as the connection takes them.
fn items(
    head: String,
    page: Page,
    output: Output,
    write: impl Fn(&mut Vec<u8>, &Entry) + Send + 'static,
) -> Response<Body> {
    let size: usize = page.entries.iter().map(|e| e.bytes.len()).sum();
    let mut pieces = Pieces { next: Some(head.into_bytes()), first: true, entries: page.entries.into_iter(), write };
    let as_stored = output.format == Format::Json && !output.pretty;
    if as_stored && size > WHOLE {
        let pieces = pieces.map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece)));
        return reply::stream(StatusCode::OK, "application/json", Body::from_stream(futures::stream::iter(pieces)));
    }
    let mut whole = Vec::new();
    whole.reserve_exact(size + pieces.entries.len() + 256);
    pieces.by_ref().for_each(|piece| whole.extend_from_slice(&piece));
    reply::encoded(StatusCode::OK, whole.into(), output)
}

/// A list, piece by piece.
struct Pieces<W> {
    /// What the next piece begins with; `None` after the last one.
    next: Option<Vec<u8>>,
    first: bool,
    entries: std::vec::IntoIter<Arc<Entry>>,
    write: W,
}

impl<W: Fn(&mut Vec<u8>, &Entry)> Iterator for Pieces<W> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = self.next.take()?;
        out.reserve(PIECE);
        while out.len() < PIECE {
            let Some(entry) = self.entries.next() else {
                out.extend_from_slice(b"]}\n");
                return Some(out);
            };
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            (self.write)(&mut out, &entry);
        }
        self.next = Some(Vec::new());
        Some(out)
    }
}

/// One item: built-in kinds leave out `kind` and `apiVersion`, custom resources keep them.
fn write_item(out: &mut Vec<u8>, resource: &Resource, entry: &Entry) {
    let bytes = resource.bytes(entry);
    let end = bytes.len() - usize::from(bytes.ends_with(b"\n"));
    if resource.is_custom() {
        out.extend_from_slice(&bytes[..end]);
    } else {
        out.push(b'{');
        out.extend_from_slice(&bytes[resource.prefix.len()..end]);
    }
}

#[cfg(test)]
mod tests {
    use kubetask_store::{Expect, Write};

    use super::*;

    #[tokio::test]
    async fn pieces_are_the_list() {
        for count in [0, 1, 400] {
            let store = kubetask_store::Store::in_memory(kubetask_store::Options::default()).unwrap();
            let values: Vec<String> = (0..count).map(|n| format!("{n:03}{}", "x".repeat(1000))).collect();
            for value in &values {
                let bytes = Bytes::from(value.clone());
                store.write(Write::put("b", value.as_str(), Expect::Absent, move |_| bytes)).await.unwrap();
            }
            let entries = store.list("b", &StoreList::default()).unwrap().entries.into_iter();
            let write = |out: &mut Vec<u8>, entry: &Entry| out.extend_from_slice(&entry.bytes);
            let pieces = Pieces { next: Some(b"[".to_vec()), first: true, entries, write };
            let pieces: Vec<_> = pieces.collect();
            assert_eq!(pieces.len(), 1 + count * 1004 / PIECE);
            assert_eq!(pieces.concat(), format!("[{}]}}\n", values.join(",")).as_bytes());
        }
    }

    #[test]
    fn continue_tokens() {
        let at = |at, start_after: &str, rest| Some(Position { at, start_after: Some(start_after.to_owned()), rest });
        let decode = |token: String| decode_continue(&token).ok();
        assert_eq!(decode(encode_continue(42, "ns/name", Some(7))), at(Some(42), "ns/name", Some(7)));
        assert_eq!(decode(encode_continue(42, "ns/name", None)), at(Some(42), "ns/name", None));
        assert_eq!(decode(encode(NEWEST, "a", Some(7))), at(None, "a", None));
        for junk in ["garbage", "e30", "!!"] {
            assert_eq!(decode_continue(junk).err().map(|f| f.code()), Some(400), "{junk}");
        }
    }
}
