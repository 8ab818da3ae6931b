//! Users of the router under test: passwords a test has set, answers as slow as it wants them, and
//! the phone's side of a challenge.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use viaduct_engine::auth::digest::{Claim, Counted, response};
use viaduct_engine::auth::{Account, Algorithm, Auth, Credentials, Known, Replay, Secrets};
use viaduct_engine::{Fact, Query, Token};
use viaduct_message::header::AuthParams;
use viaduct_message::{Head, Limits, Message};
use viaduct_policy::testing::ChallengeAnswer;

/// Who has which password, and who has been asked for already.
#[derive(Default)]
pub(super) struct VirtualUsers {
    /// Passwords, as the database has them.
    stored: Mutex<HashMap<Account, String>>,
    /// What memory has.
    known: Mutex<HashMap<Account, Option<Arc<Secrets>>>>,
}

impl VirtualUsers {
    /// Sets a password; what memory had of the user is forgotten.
    pub(super) fn set(&self, user: &str, realm: &str, password: Option<&str>) {
        let account = Account { realm: realm.into(), user: user.into() };
        self.known.lock().remove(&account);
        let mut stored = self.stored.lock();
        match password {
            Some(password) => drop(stored.insert(account, password.to_owned())),
            None => drop(stored.remove(&account)),
        }
    }

    /// The answer to a question; from then on memory has it.
    pub(super) fn answer(&self, account: Account) -> Fact {
        let password = self.stored.lock().get(&account).cloned();
        let secrets = password.map(|password| {
            Arc::new(Secrets::of_password(&account.user, &account.realm, &password))
        });
        self.known.lock().insert(account.clone(), secrets.clone());
        Fact::Credentials(account, secrets)
    }

    /// What the engine needs to authenticate them.
    pub(super) fn auth(self: &Arc<VirtualUsers>, start_ms: u64) -> Auth {
        Auth {
            realm: None,
            algorithms: Algorithm::ALL.to_vec(),
            auth_int: false,
            info: false,
            nonce_life_ms: 300_000,
            replay: Arc::new(Replay::new(10_000, start_ms.saturating_sub(1), 1)),
            credentials: Arc::<VirtualUsers>::clone(self),
        }
    }
}

impl Credentials for VirtualUsers {
    fn get(&self, account: &Account, _: u64) -> Known {
        match self.known.lock().get(account) {
            Some(Some(secrets)) => Known::User(Arc::clone(secrets)),
            Some(None) => Known::Nobody,
            None => Known::NotInMemory,
        }
    }
}

/// Questions on their way, oldest first.
pub(super) struct Questions {
    /// Answered after so long; `None`: never.
    pub(super) delay_us: Option<u64>,
    waiting: VecDeque<(u64, Token, Query)>,
}

impl Default for Questions {
    fn default() -> Questions {
        Questions { delay_us: Some(0), waiting: VecDeque::new() }
    }
}

impl Questions {
    /// Takes a question.
    pub(super) fn put(&mut self, now_us: u64, token: Token, query: Query) {
        if let Some(delay_us) = self.delay_us {
            self.waiting.push_back((now_us.saturating_add(delay_us), token, query));
        }
    }

    /// When the next answer comes.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.waiting.iter().map(|(due_us, ..)| *due_us).min()
    }

    /// One whose answer is due.
    pub(super) fn due(&mut self, now_us: u64) -> Option<(Token, Query)> {
        let at = self.waiting.iter().position(|(due_us, ..)| *due_us <= now_us)?;
        self.waiting.remove(at).map(|(_, token, query)| (token, query))
    }
}

/// The request with credentials that answer the challenge: what a phone does.
pub(super) fn authorize(request: &str, answer: &ChallengeAnswer<'_>) -> Result<String, String> {
    let algorithm = Algorithm::from_name(answer.algorithm.as_bytes())
        .ok_or_else(|| format!("`{}` is no digest algorithm", answer.algorithm))?;
    let (header, challenge) =
        [("Authorization", "WWW-Authenticate"), ("Proxy-Authorization", "Proxy-Authenticate")]
            .into_iter()
            .find_map(|(header, name)| {
                Some((header, challenge_of(answer.challenge, name, algorithm)?))
            })
            .ok_or_else(|| {
                format!("no challenge for {} in:\n{}", algorithm.name(), answer.challenge)
            })?;
    let mut head = Head::new();
    head.scan(request.as_bytes(), &Limits::default()).map_err(|fault| fault.to_string())?;
    let message = Message::new(request.as_bytes(), &head);
    let (realm, nonce) = challenge;
    let nc = format!("{:08x}", answer.count);
    let claim = Claim {
        method: message.method_token(),
        uri: message.request_uri(),
        nonce: nonce.as_bytes(),
        counted: Some(Counted { auth_int: false, nc: nc.as_bytes(), cnonce: b"test" }),
        body: message.body(),
    };
    let secrets = Secrets::of_password(answer.user, &realm, answer.password);
    let ha1 = secrets.get(algorithm).ok_or("no such hash")?;
    let line = format!(
        "{header}: Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{}\", \
         response=\"{}\", algorithm={}, qop=auth, nc={nc}, cnonce=\"test\"\r\n",
        answer.user,
        text(message.request_uri()),
        text(response(&ha1, &claim).to_hex().as_ref()),
        algorithm.name(),
    );
    let end = usize::try_from(message.headers_end()).unwrap_or(request.len());
    let (before, after) = request.split_at_checked(end).ok_or("a request cut in a letter")?;
    Ok(format!("{before}{line}{after}"))
}

/// Realm and nonce of the challenge of an algorithm.
fn challenge_of(response: &str, name: &str, algorithm: Algorithm) -> Option<(String, String)> {
    let mut head = Head::new();
    head.scan(response.as_bytes(), &Limits::default()).ok()?;
    let message = Message::new(response.as_bytes(), &head);
    message.lines_by_label(name.as_bytes()).find_map(|line| {
        let value = AuthParams::parse(line.value.of(message.bytes()))?;
        let named = Algorithm::from_name(value.get("algorithm").unwrap_or(b"MD5"));
        let fits = value.is("Digest") && named == Some(algorithm);
        fits.then_some((text(value.get("realm")?), text(value.get("nonce")?)))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
