//! Authentication functions of a run: check and challenge.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;
use viaduct_message::header::{AuthParams, unescape_quoted};
use viaduct_message::{HeaderName, Message, Method, NameAddr, Uri, uri};

use super::{HeaderEdit, Run};
use crate::auth::challenge::{is_realm, write_challenges};
use crate::auth::digest::{Claim, Counted, Hash, response};
use crate::auth::nonce::Nonce;
use crate::auth::replay::{Attempt, Use};
use crate::auth::{Account, Algorithm, Auth, AuthFault, Identity, Known, Role, Secrets};
use crate::io::Event;
use crate::query::{Fact, Query};

/// Lines of credentials that are looked at: a request may have some for several proxies.
const MOST_LINES: usize = 16;
/// Longest user name, bytes.
const MOST_USER_BYTES: usize = 256;
/// Keeps this use of the secret apart from those of keys, branches and tags.
const REQUEST_DOMAIN: u8 = 0x22;

/// A nonce and count that this request has used; it may be decided several times.
pub(crate) type Taken = (Nonce, u32);

/// Digest credentials of one header line, for a realm and with an algorithm of ours.
struct Given<'a> {
    algorithm: Algorithm,
    user: &'a [u8],
    nonce: &'a [u8],
    uri: &'a [u8],
    response: &'a [u8],
    counted: Option<Counted<'a>>,
}

impl Run {
    /// Who sends this request, by digest? `realm`: the configured one, or the domain of To
    /// (REGISTER) or From. What was used of Proxy-Authorization is not forwarded.
    pub fn check_auth(&mut self, role: Role, realm: Option<&str>) -> Result<Identity, AuthFault> {
        if self.witness.is_none() {
            return self.check_now(role, realm);
        }
        if let Some(recorded) = self.recorded_check(role, realm) {
            return recorded;
        }
        let result = self.check_now(role, realm);
        self.note_check(role, realm, &result);
        result
    }

    fn check_now(&mut self, role: Role, realm: Option<&str>) -> Result<Identity, AuthFault> {
        if self.settings.auth.is_none() {
            return Err(AuthFault::Off);
        }
        let settings = Arc::clone(&self.settings);
        let auth = settings.auth.as_ref().ok_or(AuthFault::Off)?;
        let realm = self.realm(auth, realm);
        let account = match self.check_in(auth, role, &realm) {
            Ok(account) => account,
            Err(fault) => {
                if fault == AuthFault::Invalid {
                    self.tell_refused(role, &realm);
                }
                return Err(fault);
            }
        };
        self.effects.authenticated = true;
        if role == Role::Proxy {
            self.strip_credentials(&realm);
        }
        let message = self.message();
        let is_own = |party: Option<NameAddr<'_>>| {
            let uri = party.and_then(|party| party.parse_uri().ok());
            uri.is_some_and(|uri| self.owns(auth, &account, &uri))
        };
        let (is_to, is_from) = (is_own(message.to().ok()), is_own(message.from().ok()));
        Ok(Identity { user: account.user, realm: account.realm, is_to, is_from })
    }

    /// Stages 401 or 407 with a challenge. ACK and CANCEL are never challenged (RFC 3261 22.1,
    /// 9.1): they get [`AuthFault::Off`], as everything does where no authentication is configured.
    pub fn challenge(
        &mut self,
        role: Role,
        realm: Option<&str>,
        stale: bool,
    ) -> Result<(), AuthFault> {
        let settings = Arc::clone(&self.settings);
        let auth = settings.auth.as_ref().ok_or(AuthFault::Off)?;
        if matches!(self.method(), Method::Ack | Method::Cancel) {
            return Err(AuthFault::Off);
        }
        let realm = self.realm(auth, realm);
        let nonce = Nonce { issued_ms: self.now.unix_ms, number: self.seed };
        let nonce = nonce.write(&realm, &settings.path_keys).ok_or(AuthFault::Off)?;
        let mut headers = Vec::with_capacity(512);
        write_challenges(auth, role, &realm, &nonce, stale, &mut headers);
        let (status, reason) = role.status();
        self.effects.answer(status, reason, headers);
        Ok(())
    }

    /// What the run needs and memory does not have, where it ended for that.
    pub fn asked(&self) -> Option<&Query> {
        self.asked.as_ref()
    }

    fn check_in(&mut self, auth: &Auth, role: Role, realm: &str) -> Result<Account, AuthFault> {
        let settings = Arc::clone(&self.settings);
        let message = self.message();
        let given = credentials_of(message, role, realm, &auth.algorithms)?;
        if !uri::equivalent(given.uri, message.request_uri()) {
            return Err(AuthFault::Invalid);
        }
        let account = account_of(&given, realm);
        // A name nobody can have takes the same way, but for the question.
        let known = account.as_ref().map_or(Known::Nobody, |account| self.known(auth, account));
        let secrets = match (known, &account) {
            (Known::User(secrets), _) => Some(secrets),
            (Known::NotInMemory, Some(account)) => {
                self.asked = Some(Query::Credentials(account.clone()));
                return Err(AuthFault::Ask);
            }
            _ => None,
        };
        let right = is_right(&given, message, secrets.as_deref());
        let (Some(account), true) = (account, right) else { return Err(AuthFault::Invalid) };
        let nonce = Nonce::read(given.nonce, realm, &settings.path_keys);
        let now_ms = self.now.unix_ms;
        // A clock may be a little ahead in another router of the cluster, not by a whole life.
        let lives = |nonce: &Nonce| nonce.issued_ms.abs_diff(now_ms) <= auth.nonce_life_ms;
        let nonce = nonce.filter(lives).ok_or(AuthFault::Stale)?;
        let count = match &given.counted {
            Some(counted) => count_of(counted.nc).ok_or(AuthFault::Invalid)?,
            // Without a count the nonce is good for one request.
            None => 1,
        };
        let shown = auth.info && role == Role::Registrar;
        let info = secrets.filter(|_| shown).map(|secrets| self.info(realm, &given, &secrets));
        self.take(auth, nonce, count)?;
        self.effects.reply_headers.extend(info.unwrap_or_default());
        Ok(account)
    }

    /// Authentication-Info (RFC 7616 3.5): the next nonce, and what only who knows the secret can
    /// say of this request. Our answers have no body for `auth-int` to cover.
    fn info(&self, realm: &str, given: &Given<'_>, secrets: &Secrets) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        let next = Nonce { issued_ms: self.now.unix_ms, number: self.seed };
        let Some(next) = next.write(realm, &self.settings.path_keys) else { return line };
        for part in [&b"Authentication-Info: nextnonce=\""[..], &next, b"\""] {
            line.extend_from_slice(part);
        }
        let is_plain = |counted: &Counted<'_>| !counted.cnonce.iter().any(u8::is_ascii_control);
        let counted = given.counted.filter(is_plain);
        if let (Some(counted), Some(ha1)) = (counted, secrets.get(given.algorithm)) {
            let (uri, nonce) = (given.uri, given.nonce);
            let claim = Claim { method: b"", uri, nonce, counted: Some(counted), body: b"" };
            let hash = response(&ha1, &claim).to_hex();
            let qop: &[u8] = if counted.auth_int { b"auth-int" } else { b"auth" };
            let (cnonce, nc) = (counted.cnonce, counted.nc);
            for part in [
                &b", qop="[..],
                qop,
                b", rspauth=\"",
                hash.as_ref(),
                b"\", cnonce=\"",
                cnonce,
                b"\", nc=",
                nc,
            ] {
                line.extend_from_slice(part);
            }
        }
        line.extend_from_slice(b"\r\n");
        line
    }

    fn known(&self, auth: &Auth, account: &Account) -> Known {
        let answered = self.facts.iter().find_map(|fact| match fact {
            Fact::Credentials(about, secrets) if about == account => Some(secrets.clone()),
            _ => None,
        });
        match answered {
            Some(secrets) => secrets.map_or(Known::Nobody, Known::User),
            None => auth.credentials.get(account, self.now.unix_ms),
        }
    }

    /// Uses the nonce, once for all runs that decide this request.
    fn take(&mut self, auth: &Auth, nonce: Nonce, count: u32) -> Result<(), AuthFault> {
        if self.rehearsal || self.taken == Some((nonce, count)) {
            return Ok(());
        }
        let attempt = Attempt {
            nonce,
            count,
            request: self.fingerprint(),
            may_repeat: self.method() != Method::Invite,
        };
        match auth.replay.take(&attempt, self.now.unix_ms, auth.nonce_life_ms) {
            Use::First | Use::Retransmission => {
                self.taken = Some((nonce, count));
                Ok(())
            }
            Use::Again | Use::Forgotten => Err(AuthFault::Stale),
        }
    }

    /// The same for a retransmission only.
    fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.settings.secret);
        hasher.write(&[REQUEST_DOMAIN]);
        hasher.write(self.message().bytes());
        match self.flow.remote.ip() {
            std::net::IpAddr::V4(ip) => hasher.write(&ip.octets()),
            std::net::IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write_u16(self.flow.remote.port());
        hasher.finish()
    }

    /// The realm a request belongs to.
    fn realm(&self, auth: &Auth, wanted: Option<&str>) -> Box<str> {
        if let Some(realm) = wanted.filter(|realm| is_realm(realm)) {
            return realm.into();
        }
        if let Some(realm) = &auth.realm {
            return realm.clone();
        }
        let message = self.message();
        let party =
            if message.method() == Method::Register { message.to() } else { message.from() };
        let uri = party.ok().and_then(|party| party.parse_uri().ok());
        let domain = uri.and_then(|uri| self.settings.domain_of(&uri));
        let domain = domain.or(self.settings.domains.first().map(|domain| &**domain));
        domain.unwrap_or("sip").into()
    }

    /// Is the URI the AoR of the user? With a realm for all domains it is so in each of them.
    fn owns(&self, auth: &Auth, account: &Account, uri: &Uri<'_>) -> bool {
        let fold = self.settings.registrar.fold_user;
        let fits = match &auth.realm {
            Some(_) => self.settings.is_ours(uri),
            None => self.settings.domain_of(uri) == Some(&account.realm),
        };
        let mut named = Vec::with_capacity(64);
        uri::write_user(uri.user.unwrap_or_default(), fold, &mut named);
        let mut own = Vec::with_capacity(64);
        // A user name is no URI: what looks like an escape in it is none.
        uri::write_plain_user(account.user.as_bytes(), fold, &mut own);
        fits && uri.is_sip() && uri.user.is_some() && named == own
    }

    /// Credentials for us are nobody else's business (RFC 3261 22.3).
    fn strip_credentials(&mut self, realm: &str) {
        let message = Message::new(&self.bytes, &self.head);
        for line in message.lines_of(HeaderName::ProxyAuthorization).take(MOST_LINES) {
            let value = AuthParams::parse(line.value.of(message.bytes()));
            let edit = HeaderEdit::RemoveLine { whole: line.whole };
            // Once, however often a policy checks: these count towards no bound.
            if value.is_some_and(|value| is_for(&value, realm))
                && !self.effects.edits.contains(&edit)
            {
                self.effects.edits.push(edit);
            }
        }
    }

    /// For whoever keeps attackers out.
    fn tell_refused(&mut self, role: Role, realm: &str) {
        let message = self.message();
        let user = message.lines_of(role.credentials()).take(MOST_LINES).find_map(|line| {
            let value = AuthParams::parse(line.value.of(message.bytes()))?;
            if is_for(&value, realm) { value.get("username") } else { None }
        });
        let user = user.unwrap_or_default();
        let user = user.get(..MOST_USER_BYTES).unwrap_or(user);
        self.effects.refused = Some(Event::AuthRefused {
            source: self.flow.remote,
            method: String::from_utf8_lossy(message.method_token()).into(),
            realm: realm.into(),
            user: String::from_utf8_lossy(user).into(),
        });
    }
}

fn is_for(value: &AuthParams<'_>, realm: &str) -> bool {
    value.is("Digest")
        && value.get("realm").is_some_and(|r| *unescape_quoted(r) == *realm.as_bytes())
}

/// Of the credentials for the realm those with the algorithm we want most.
fn credentials_of<'a>(
    message: Message<'a>,
    role: Role,
    realm: &str,
    algorithms: &[Algorithm],
) -> Result<Given<'a>, AuthFault> {
    let mut best: Option<(usize, Given<'a>)> = None;
    for line in message.lines_of(role.credentials()).take(MOST_LINES) {
        // What cannot be read, or is made with what we do not offer, proves nothing either way: it
        // gets a challenge, and no place among the wrong passwords.
        let Some(value) = AuthParams::parse(line.value.of(message.bytes())) else { continue };
        if !is_for(&value, realm) {
            continue;
        }
        let named = algorithm_of(&value);
        let wanted = algorithms.iter().position(|algorithm| Some(*algorithm) == named);
        if let (Some(rank), Some(given)) = (wanted, given(&value))
            && best.as_ref().is_none_or(|(known, _)| rank < *known)
        {
            best = Some((rank, given));
        }
    }
    best.map(|(_, given)| given).ok_or(AuthFault::NoCredentials)
}

/// RFC 7616 3.3: MD5 where none is named.
fn algorithm_of(value: &AuthParams<'_>) -> Option<Algorithm> {
    Algorithm::from_name(value.get("algorithm").unwrap_or(b"MD5"))
}

/// What is needed of the parameters; `None` where something is missing.
fn given<'a>(value: &AuthParams<'a>) -> Option<Given<'a>> {
    let counted = match value.get("qop") {
        None => None,
        Some(qop) => {
            let auth_int = qop.eq_ignore_ascii_case(b"auth-int");
            if !auth_int && !qop.eq_ignore_ascii_case(b"auth") {
                return None;
            }
            Some(Counted { auth_int, nc: value.get("nc")?, cnonce: value.get("cnonce")? })
        }
    };
    // RFC 7616 3.4.4: we do not offer hashed user names.
    if value.get("userhash").is_some_and(|flag| flag.eq_ignore_ascii_case(b"true")) {
        return None;
    }
    Some(Given {
        algorithm: algorithm_of(value)?,
        user: value.get("username")?,
        nonce: value.get("nonce")?,
        uri: value.get("uri")?,
        response: value.get("response")?,
        counted,
    })
}

/// The user they name; `None` for a name that no user can have.
fn account_of(given: &Given<'_>, realm: &str) -> Option<Account> {
    let name = unescape_quoted(given.user);
    let user = std::str::from_utf8(&name).ok().filter(|user| {
        (1..=MOST_USER_BYTES).contains(&user.len()) && !user.chars().any(char::is_control)
    })?;
    Some(Account { realm: realm.into(), user: user.into() })
}

/// Is the response what the user's secret gives? The arithmetic is the same where there is no user.
fn is_right(given: &Given<'_>, message: Message<'_>, secrets: Option<&Secrets>) -> bool {
    let real = secrets.and_then(|secrets| secrets.get(given.algorithm));
    let ha1 = real.unwrap_or(Hash::blank(given.algorithm));
    let claim = Claim {
        method: message.method_token(),
        uri: given.uri,
        nonce: given.nonce,
        counted: given.counted,
        body: message.body(),
    };
    let matches = response(&ha1, &claim).is_hex(given.response);
    matches && real.is_some()
}

/// Eight hexadecimal digits (RFC 7616 3.4), not all zero.
fn count_of(nc: &[u8]) -> Option<u32> {
    let digits = nc.len() == 8 && nc.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(nc).ok().filter(|_| digits)?;
    u32::from_str_radix(text, 16).ok().filter(|count| *count > 0)
}
