//! What a request asks for: path, query, media types and body, parsed before any handler runs.

pub(crate) mod body;
pub(crate) mod info;
pub(crate) mod negotiate;
pub(crate) mod options;
mod protobuf;
pub(crate) mod query;

pub(crate) use info::{Info, Target};
pub(crate) use negotiate::{Format, Output, Shape};
pub(crate) use query::Query;
