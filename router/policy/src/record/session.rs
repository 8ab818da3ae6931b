//! A recording under way: which runs are kept, how many, and what is left out of them.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use viaduct_engine::run::{Effects, Witness};
use viaduct_engine::{Flow, PolicyFailure, Run, Verdict};
use viaduct_message::{Head, HeaderName, Limits, Message, Uri};

use super::case::{AuthFact, Bytes, Case, DestinationFact, Passed, TableFact, way};
use super::http::HttpFact;
use super::media::MediaFact;
use super::tap::Tap;
use crate::version::PolicyVersion;
use crate::words::{REMOVE_CREDENTIALS, effects_in_words, verdict_in_words};

/// Which runs are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Methods; none: all.
    pub methods: Vec<String>,
    /// Host of the Request-URI or of From; none: all.
    pub domain: Option<String>,
    /// Share of the Call-IDs, thousandths; 1000: all.
    pub share: u16,
    /// Call-ID, or user of Request-URI, From or To; none: all.
    pub party: Option<String>,
    /// Keep bodies.
    pub bodies: bool,
    /// Keep the messages that pass, too.
    pub messages: bool,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Runs in all.
    pub cases: u64,
    /// Bytes that wait to be fetched; what does not fit is counted and lost.
    pub waiting_bytes: usize,
    /// When it ends by itself, milliseconds since 1970.
    pub until_ms: u64,
}

/// A recording. Workers put cases in, one reader takes them out.
pub struct Session {
    filter: Filter,
    limits: RecordLimits,
    taken: AtomicU64,
    lost: AtomicU64,
    over: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
}

/// A run that is being recorded.
pub(crate) struct Recording {
    case: Case,
    tap: Arc<Tap>,
    inner: Arc<dyn viaduct_engine::Location>,
}

impl Session {
    /// Begins.
    pub fn new(filter: Filter, limits: RecordLimits) -> Session {
        Session {
            filter,
            limits,
            taken: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            over: AtomicBool::new(false),
            queue: Mutex::default(),
        }
    }

    /// Takes what has been recorded since, and says whether more can come.
    pub fn take(&self, unix_ms: u64) -> (Vec<String>, bool) {
        // Read before the queue: what comes in between is taken by the next call.
        let over = self.is_over(unix_ms);
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        (queue.lines.drain(..).collect(), !over)
    }

    /// Bytes that wait to be taken.
    pub fn waiting_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Runs that did not fit.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Nothing more is recorded.
    pub fn is_over(&self, unix_ms: u64) -> bool {
        self.over.load(Ordering::Relaxed)
            || unix_ms >= self.limits.until_ms
            || self.taken.load(Ordering::Relaxed) >= self.limits.cases
    }

    /// Begins to record a run; `None` where it is not to be kept.
    pub(crate) fn begin(&self, version: &PolicyVersion, run: &mut Run) -> Option<Recording> {
        if self.is_over(run.now().unix_ms) || !self.fits(run.message()) {
            return None;
        }
        let message = redacted(run.message(), self.filter.bodies);
        let manifest = version.manifest();
        let policy = format!("{} {} {}", manifest.name, manifest.version, version.hash());
        let case = Case::begin(run, &message, policy);
        let inner = run.location();
        let tap = Arc::new(Tap::new(Arc::clone(&inner)));
        run.swap_location(Arc::<Tap>::clone(&tap));
        run.watch();
        Some(Recording { case, tap, inner })
    }

    /// Ends it. A run that has to ask is made again, and then recorded.
    pub(crate) fn end(
        &self,
        recording: Recording,
        run: &mut Run,
        verdict: &Result<Verdict, PolicyFailure>,
    ) {
        let Recording { mut case, tap, inner } = recording;
        run.swap_location(inner);
        let witness = run.take_witness().unwrap_or_default();
        let verdict = match verdict {
            Ok(Verdict::Ask { .. }) => return,
            Ok(verdict) => verdict_in_words(verdict),
            Err(failure) => format!("failed ({:?}), answered {}", failure.kind, failure.status),
        };
        case.bindings = tap.take();
        case.verdict = verdict;
        case.effects = kept(&run.effects);
        self.fill(&mut case, witness, run);
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.limits.cases {
            self.push(case.to_line());
        }
    }

    /// A message has come or is about to go, where messages are kept: `bytes` need not be SIP.
    pub fn passed(&self, came: bool, flow: Flow, bytes: &[u8], unix_ms: u64, mono_us: u64) {
        let mut head = Head::new();
        if self.is_over(unix_ms) || head.scan(bytes, &Limits::default()).is_err() {
            return;
        }
        let message = Message::new(bytes, &head);
        if !self.fits(message) {
            return;
        }
        let passed = Passed {
            // The calendar has milliseconds; the other clock what lies between them.
            at_us: unix_ms.saturating_mul(1000).saturating_add(mono_us % 1000),
            came,
            way: way(flow),
            message: Bytes::from(&*redacted(message, self.filter.bodies)),
        };
        self.push(serde_json::to_string(&passed).unwrap_or_default());
    }

    /// Does it keep messages?
    pub fn wants_messages(&self) -> bool {
        self.filter.messages
    }

    fn push(&self, line: String) {
        let mut queue = self.queue.lock();
        if queue.bytes.saturating_add(line.len()) > self.limits.waiting_bytes {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes = queue.bytes.saturating_add(line.len());
        queue.lines.push_back(line);
    }

    fn fill(&self, case: &mut Case, witness: Witness, run: &Run) {
        case.calls = witness.calls;
        case.auth = witness.auth.into_iter().filter_map(AuthFact::new).collect();
        case.http = witness.http.iter().map(HttpFact::new).collect();
        let table = |(table, key, value): &(Box<str>, Box<str>, Option<_>)| {
            TableFact::new(table, key, value.as_ref())
        };
        case.tables = witness.tables.iter().map(table).collect();
        let dispatcher = &run.settings().shared.dispatcher;
        let sets = witness.sets.iter().filter_map(|name| dispatcher.set(name));
        let all = sets.flat_map(|set| set.destinations());
        case.media = witness.media.map(MediaFact::new);
        case.destinations = all.map(|d| DestinationFact::new(d.config(), d.state())).collect();
    }

    fn fits(&self, message: Message<'_>) -> bool {
        let Filter { methods, domain, share, .. } = &self.filter;
        let cseq = message.value_by_label(b"CSeq").unwrap_or_default();
        let method = cseq.rsplit(|c| *c == b' ').next().unwrap_or_default();
        let is_method = |name: &String| name.as_bytes().eq_ignore_ascii_case(method);
        if !methods.is_empty() && !methods.iter().any(is_method) {
            return false;
        }
        if let Some(domain) = domain {
            let is = |uri: &[u8]| {
                let host = Uri::parse(uri).map(|uri| uri.host_text).unwrap_or_default();
                host.eq_ignore_ascii_case(domain.as_bytes())
            };
            let from = message.from().map(|from| from.uri).unwrap_or_default();
            let uri = if message.is_request() { message.request_uri() } else { b"" };
            if !is(uri) && !is(from) {
                return false;
            }
        }
        let call_id = message.call_id().unwrap_or_default();
        if let Some(party) = &self.filter.party
            && party.as_bytes() != call_id
            && !is_party(message, party.as_bytes())
        {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(call_id);
        hasher.finish() % 1000 < u64::from(*share)
    }
}

/// Is it a user named in the message?
fn is_party(message: Message<'_>, user: &[u8]) -> bool {
    let from = message.from().map(|from| from.uri).unwrap_or_default();
    let to = message.to().map(|to| to.uri).unwrap_or_default();
    let uri = if message.is_request() { message.request_uri() } else { b"" };
    [uri, from, to]
        .into_iter()
        .any(|uri| Uri::parse(uri).is_ok_and(|uri| uri.user.is_some_and(|named| named == user)))
}

/// Effects in words, without what differs between two makings of the same run, and without what
/// proves a password.
pub(crate) fn kept(effects: &Effects) -> Vec<String> {
    let lines = effects_in_words(effects).into_iter();
    lines.filter(|line| !is_of_check(line)).map(|line| without_nonce(&line)).collect()
}

/// A check that succeeds stages these by itself; a replay has its outcome and makes no check.
fn is_of_check(line: &str) -> bool {
    line == REMOVE_CREDENTIALS || line.starts_with("reply header Authentication-Info:")
}

/// Nonces hold the key of the router and the moment.
fn without_nonce(line: &str) -> String {
    const START: &str = "nonce=\"";
    let Some((before, after)) = line.split_once(START) else { return line.to_owned() };
    let (_, rest) = after.split_once('"').unwrap_or((after, ""));
    format!("{before}{START}...\"{}", without_nonce(rest))
}

/// The message without proofs of passwords, and without its body unless that is wanted.
fn redacted(message: Message<'_>, bodies: bool) -> Vec<u8> {
    let bytes = message.bytes();
    let body = message.body().len();
    let head = bytes.get(..bytes.len().saturating_sub(body)).unwrap_or(bytes);
    let secret = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
    let mut out = Vec::with_capacity(bytes.len());
    let mut hidden = false;
    for line in head.split_inclusive(|c| *c == b'\n') {
        let folded = line.first().is_some_and(|c| *c == b' ' || *c == b'\t');
        if !folded {
            let label = line.split(|c| *c == b':').next().unwrap_or_default().trim_ascii();
            let name = HeaderName::from_label(label);
            hidden = line.contains(&b':') && secret.contains(&name);
            if hidden {
                out.extend_from_slice(label);
                out.extend_from_slice(b": Digest redacted=\"yes\"\r\n");
            } else if name == HeaderName::ContentLength && !bodies && line.contains(&b':') {
                out.extend_from_slice(b"Content-Length: 0\r\n");
                continue;
            }
        }
        if !hidden {
            out.extend_from_slice(line);
        }
    }
    if bodies {
        out.extend_from_slice(message.body());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str, bodies: bool) -> String {
        let mut head = Head::new();
        head.scan(text.as_bytes(), &Limits::default()).unwrap();
        String::from_utf8(redacted(Message::new(text.as_bytes(), &head), bodies)).unwrap()
    }

    const TEXT: &str = "INVITE sip:b@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1\r\nFrom: <sip:a@example.com>;tag=1\r\n\
        To: <sip:b@example.com>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
        proxy-authorization: Digest username=\"a\",\r\n response=\"0123\"\r\n\
        l: 4\r\n\r\nbody";

    #[test]
    fn proofs_of_passwords_and_bodies_are_left_out() {
        let text = redact(TEXT, false);
        assert!(!text.contains("0123") && !text.contains("body"), "{text}");
        assert!(text.contains("Content-Length: 0\r\n\r\n") && text.contains("redacted"), "{text}");
        let text = redact(TEXT, true);
        assert!(!text.contains("0123") && text.ends_with("l: 4\r\n\r\nbody"), "{text}");
    }

    #[test]
    fn nonces_are_not_compared() {
        let line = "answer header WWW-Authenticate: Digest nonce=\"ab\", x, nonce=\"c\"";
        let expected = "answer header WWW-Authenticate: Digest nonce=\"...\", x, nonce=\"...\"";
        assert_eq!(without_nonce(line), expected);
    }
}
