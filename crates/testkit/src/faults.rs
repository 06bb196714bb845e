//! What networks and busy servers do to a client: refusals, answers lost after the write was done, delays, cut watches.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::middle::{Answer, AnswerBody, BoxError, Middle, pass, put_before};
use crate::requests::Request;

/// Of a hundred requests this many fail.
const FAILING: u32 = 20;

/// A source of trouble. Clones share it.
#[derive(Clone, Debug)]
pub struct Faults(Arc<State>);

#[derive(Debug)]
struct State {
    seed: u64,
    /// Whether answers hang, and watches are badly behind.
    hard: bool,
    random: Mutex<StdRng>,
    over: AtomicBool,
    done: AtomicUsize,
    /// Watches of this resource run behind by so much.
    lag: Option<(&'static str, Duration)>,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Fine,
    /// The server refuses it with this code and reason.
    Refused(u16, &'static str),
    /// The server is busy and says for how many seconds.
    Busy(u16, u8),
    /// It is carried out, but the answer does not come: the client gives up on it some time.
    Hangs(Duration),
    /// It never arrives.
    NotSent,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// Every piece of a watch comes so much later.
    Late(Duration),
    /// A watch ends after so many pieces: with an error, or as if the server had closed it.
    Cut(usize, bool),
}

const REFUSALS: [(u16, &str); 4] =
    [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")];

impl Faults {
    /// Trouble that follows from a seed (and from the order in which requests happen to come).
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::new(seed, None)
    }

    /// As [`Self::seeded`], and worse: answers that hang, and watches that are behind by more than a second.
    #[must_use]
    pub fn hard(seed: u64) -> Self {
        Self::with(seed, None, true)
    }

    /// No trouble but that watches of one resource run behind.
    #[must_use]
    pub fn lagging(resource: &'static str, by: Duration) -> Self {
        let faults = Self::new(0, Some((resource, by)));
        faults.end();
        faults
    }

    fn new(seed: u64, lag: Option<(&'static str, Duration)>) -> Self {
        Self::with(seed, lag, false)
    }

    fn with(seed: u64, lag: Option<(&'static str, Duration)>, hard: bool) -> Self {
        Self(Arc::new(State {
            seed,
            hard,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            over: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            lag,
        }))
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// A client that suffers from it.
    #[must_use]
    pub fn of(&self, client: Client) -> Client {
        put_before(self.0.clone(), client)
    }

    /// From now on everything goes well.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }

    /// How many requests were harmed.
    #[must_use]
    pub fn done(&self) -> usize {
        self.0.done.load(Ordering::Relaxed)
    }
}

impl State {
    fn decide(&self, request: Option<&Request>) -> (Fate, Duration) {
        if let (Some((resource, by)), Some(request)) = (self.lag, request)
            && request.verb == "watch"
            && request.resource == resource
        {
            return (Fate::Late(by), Duration::ZERO);
        }
        if self.over.load(Ordering::Relaxed) {
            return (Fate::Fine, Duration::ZERO);
        }
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = Duration::from_millis(if random.random_ratio(1, 4) { random.random_range(0..20) } else { 0 });
        let watches = request.is_some_and(|r| r.verb == "watch");
        let writes = request.is_some_and(Request::is_write);
        let fate = if !random.random_ratio(FAILING, 100) {
            // Long watches see most of the trouble there is.
            match random.random_range(0..4) {
                0 | 1 if watches => Fate::Cut(random.random_range(0..6), random.random_ratio(1, 2)),
                // A cache that is stale: a little mostly, now and then badly.
                2 if watches => Fate::Late(Duration::from_millis(match random.random_range(0..5) {
                    0 if self.hard => random.random_range(500..1500),
                    _ => random.random_range(0..200),
                })),
                _ => Fate::Fine,
            }
        } else {
            match random.random_range(0..8usize) {
                0 => Fate::NotSent,
                1 => Fate::AnswerLost,
                2 => Fate::Busy(if random.random_ratio(1, 2) { 429 } else { 503 }, random.random_range(0..2)),
                3 if !watches && self.hard => Fate::Hangs(Duration::from_millis(random.random_range(100..900))),
                3 => Fate::NotSent,
                n => {
                    let (code, reason) = REFUSALS[n - 4];
                    // Only writes conflict.
                    if code == 409 && !writes { Fate::NotSent } else { Fate::Refused(code, reason) }
                }
            }
        };
        if fate != Fate::Fine {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        (fate, delay)
    }
}

impl Middle for State {
    fn handle(
        self: Arc<Self>,
        request: http::Request<Body>,
        inner: Client,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let asked = Request::parse(request.method(), request.uri());
        let (fate, delay) = self.decide(asked.as_ref());
        async move {
            tokio::time::sleep(delay).await;
            match fate {
                Fate::Fine => pass(request, &inner).await,
                Fate::Refused(code, reason) => refuse(code, reason, None),
                Fate::Busy(429, seconds) => refuse(429, "TooManyRequests", Some(seconds)),
                Fate::Busy(code, seconds) => refuse(code, "ServiceUnavailable", Some(seconds)),
                Fate::Hangs(by) => {
                    pass(request, &inner).await?;
                    tokio::time::sleep(by).await;
                    Err("timed out (injected)".into())
                }
                Fate::NotSent => Err("connection refused (injected)".into()),
                Fate::AnswerLost => {
                    pass(request, &inner).await?;
                    Err("connection reset (injected)".into())
                }
                Fate::Late(by) => Ok(pass(request, &inner).await?.map(|body| late(body, by))),
                Fate::Cut(pieces, with_error) => {
                    Ok(pass(request, &inner).await?.map(|body| cut(body, pieces, with_error)))
                }
            }
        }
    }
}

fn refuse(code: u16, reason: &str, retry_after: Option<u8>) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} (injected)"), "reason": reason, "code": code,
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(BoxError::from).boxed_unsync();
    let mut answer = http::Response::builder().status(code).header("content-type", "application/json");
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", u16::from(seconds));
    }
    Ok(answer.body(body)?)
}

/// The same body, each piece later.
fn late(body: AnswerBody, by: Duration) -> AnswerBody {
    let frames = BodyStream::new(body).then(move |frame| async move {
        tokio::time::sleep(by).await;
        frame
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The first pieces of a body, and then an end.
fn cut(body: AnswerBody, pieces: usize, with_error: bool) -> AnswerBody {
    let end: Option<Result<http_body::Frame<Bytes>, BoxError>> =
        with_error.then(|| Err("connection reset (injected)".into()));
    let frames = BodyStream::new(body).take(pieces).chain(stream::iter(end));
    StreamBody::new(frames).boxed_unsync()
}
