//! Memory that only starting needed: given back to the system once the server is up.

use std::time::Duration;

/// How long after the start; by then controllers and caches have read what they keep.
const SETTLED: Duration = Duration::from_secs(1);

/// Gives free heap back, once. The C library would keep it: definitions, documents and requests of the start are a
/// third of the heap at its peak.
pub(super) fn release_after_start() {
    tokio::spawn(async {
        tokio::time::sleep(SETTLED).await;
        // Walks the heap: some milliseconds that no request should wait for.
        let _ = tokio::task::spawn_blocking(release).await;
    });
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a function of the C library that takes no pointers")]
fn release() {
    // SAFETY: takes a number, locks the heap itself, and may be called at any time from any thread (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn release() {}
