//! Memory that is not needed for now: given back to the system after a start, and when a server is quiet after much work.

use std::time::Duration;

use tokio::sync::watch;

/// How long after the start; by then controllers and caches have read what they keep.
const SETTLED: Duration = Duration::from_secs(1);
/// A server that has written nothing for so long is quiet.
const QUIET: Duration = Duration::from_secs(5);
/// So many changes are worth the pages that will have to be mapped again.
const MUCH: u64 = 100;

/// As many heaps as there are processors. The C library makes eight for each, one for nearly every thread that ever worked, and
/// each keeps holes of its own: idle agents cost a server a sixth more. To be called while there is one thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library that takes no pointers")]
pub(crate) fn share_heaps() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return;
    }
    let processors = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 64));
    // SAFETY: takes two numbers, and no other thread uses the heap yet (mallopt(3)).
    unsafe { libc::mallopt(libc::M_ARENA_MAX, i32::try_from(processors).unwrap_or(2)) };
}

/// Other allocators have heaps of other kinds.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_heaps() {}

/// Gives back, once, what only the start needed: free heap, which the allocator would keep (definitions, documents and
/// requests of the start are a third of the heap at its peak), and the program text that has run once.
pub(crate) fn release_after_start() {
    tokio::spawn(async {
        tokio::time::sleep(SETTLED).await;
        release().await;
    });
}

/// The same after the start of a server, and again whenever it has changed much and is quiet then. `revisions` counts its
/// changes, `settle` lets go of what only a busy server needs. Nothing happens while nothing changes.
pub(crate) fn release_when_quiet(mut revisions: watch::Receiver<u64>, settle: impl Fn() + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(SETTLED).await;
        loop {
            let released_at = *revisions.borrow_and_update();
            settle();
            release().await;
            if !quiet_after(&mut revisions, released_at + MUCH).await {
                return;
            }
        }
    });
}

/// Waits until the count has come that far and nothing has changed for a while; `false`: nobody counts any more.
async fn quiet_after(revisions: &mut watch::Receiver<u64>, count: u64) -> bool {
    loop {
        if revisions.changed().await.is_err() {
            return false;
        }
        tokio::time::sleep(QUIET).await;
        if !revisions.has_changed().unwrap_or(false) && *revisions.borrow() >= count {
            return true;
        }
    }
}

/// Walks the heap: some milliseconds that no request should wait for.
async fn release() {
    let _ = tokio::task::spawn_blocking(|| {
        release_heap();
        release_text();
    })
    .await;
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a function of the C library that takes no pointers")]
fn release_heap() {
    // SAFETY: takes a number, locks the heap itself, and may be called at any time from any thread (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves what is free for long.
#[cfg(not(target_env = "gnu"))]
fn release_heap() {}

/// Unmaps the pages of our own program text; what runs on is mapped again at the next instruction, from the page cache.
/// The kernel would do so too, but only when memory is short, and until then counts every page the start has touched.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "tells the kernel about mappings of this process")]
fn release_text() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    // A debugger's breakpoints are changes of the text, and would be lost.
    if !read("/proc/self/status").lines().any(|line| line == "TracerPid:\t0") {
        return;
    }
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    for (start, length) in text(&read("/proc/self/maps"), &program.to_string_lossy()) {
        // SAFETY: the range is a private mapping of a file that is only read and executed. Its pages are not written to,
        // so that dropping them changes nothing: they are read again from the file (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
fn release_text() {}

/// Start and length of the program's executable mappings (proc_pid_maps(5)): private, and not writable.
#[cfg(target_os = "linux")]
fn text(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        let of_program = line.split_once('/').is_some_and(|(_, path)| path == program.trim_start_matches('/'));
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        (rights == "r-xp" && of_program).then(|| (start, end.saturating_sub(start)))
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quiet_is_when_much_has_changed_and_nothing_goes_on() {
        let (count, mut revisions) = watch::channel(7);
        let started = tokio::time::Instant::now();
        let work = async {
            // Little: no reason to do anything.
            count.send_replace(20);
            tokio::time::sleep(10 * QUIET).await;
            // Much, with pauses that are too short.
            for revision in 100..120 {
                count.send_replace(revision);
                tokio::time::sleep(QUIET / 3).await;
            }
            tokio::time::sleep(10 * QUIET).await;
        };
        let (quiet, ()) = tokio::join!(
            async {
                assert!(quiet_after(&mut revisions, 107).await);
                started.elapsed()
            },
            work
        );
        let last_change = 10 * QUIET + 19 * (QUIET / 3);
        assert!((last_change + QUIET / 2..last_change + 3 * QUIET).contains(&quiet), "{quiet:?}");
        drop(count);
        assert!(!quiet_after(&mut revisions, 0).await);
    }

    #[test]
    fn only_the_programs_own_text_is_given_back() {
        let maps = "\
            55d0a000-55d0c000 r--p 00000000 08:01 42 /opt/my tools/kubetask\n\
            55d0c000-55d10000 r-xp 00002000 08:01 42 /opt/my tools/kubetask\n\
            55d10000-55d11000 rw-p 00006000 08:01 42 /opt/my tools/kubetask\n\
            7f000000-7f001000 r-xp 00000000 08:01 43 /lib/libc.so.6\n\
            7ffd0000-7ffd1000 r-xp 00000000 00:00 0  [vdso]\n";
        assert_eq!(text(maps, "/opt/my tools/kubetask"), [(0x55d0_c000, 0x4000)]);
        assert_eq!(text("nonsense\n\n1-", "/opt/my tools/kubetask"), []);
    }

    #[test]
    fn this_program_runs_on() {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!text(&maps, &program.to_string_lossy()).is_empty());
        release_text();
        release_heap();
    }
}
