//! A small durable revisioned store: bytes, keys, revisions, watches
