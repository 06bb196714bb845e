//! Integration tests of the store, through its public interface only.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod basic;
mod crash;
mod model;
mod open;
mod watch;

use bytes::Bytes;
use kubetask_store::{Expect, Revision, Store, Write, WriteError, Written};

/// The bytes that tests write: the text and the revision, so that a test sees that the revision was baked in.
fn bake(text: &str) -> impl FnOnce(Revision) -> Bytes + Send + 'static {
    let text = text.to_owned();
    move |revision| Bytes::from(format!("{text}@{revision}"))
}

async fn put(store: &Store, bucket: &str, key: &str, expect: Expect, text: &str) -> Result<Written, WriteError> {
    store.write(Write::put(bucket, key, expect, bake(text))).await
}

async fn delete(store: &Store, bucket: &str, key: &str, expect: Expect) -> Result<Written, WriteError> {
    store.write(Write::delete(bucket, key, expect, bake("gone"))).await
}
