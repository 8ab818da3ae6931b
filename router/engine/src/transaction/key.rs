//! Which server transaction a request belongs to (RFC 3261 17.2.3, 9.2).
//!
//! A key is 16 bytes: a hash of 120 bits, and one byte that says the method and whether the rules
//! of RFC 2543 were used. Tables compare keys and nothing else, so a collision would hand one
//! client's request to another's transaction. The hash is SipHash-1-3 with 128 bits of output under
//! a secret of the run. Who does not know the secret cannot aim: among 10^6 live transactions a
//! request meets a foreign one with a probability of 10^6 / 2^120 = 10^-30, and nobody can fill one
//! bucket of a table on purpose. (Two rounds of a fast non-cryptographic hash would be a third of
//! the price, but collisions of those can be computed.)

use std::hash::{Hash, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};
use viaduct_message::{Fault, Host, Message, Method, Via};

use crate::flow::Transport;

/// Keeps the uses of one secret apart; `branch` has 1 and 2.
const COOKIE_DOMAIN: u8 = 0x10;
const RFC2543_DOMAIN: u8 = 0x11;

/// Bit of the last byte: matched by the rules of RFC 2543.
const RFC2543_FLAG: u8 = 0x80;

/// Gathers the fields and hashes them in one run: measured a quarter cheaper than field by field.
/// Longer input (RFC 2543 with long URIs) is hashed as it comes.
pub(crate) struct Hashed {
    waiting: [u8; 128],
    len: usize,
    hasher: SipHasher13,
}

impl Hashed {
    pub(crate) fn new(secret: &[u8; 16]) -> Hashed {
        Hashed { waiting: [0; 128], len: 0, hasher: SipHasher13::new_with_key(secret) }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.waiting.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        } else {
            self.flush();
            self.hasher.write(bytes);
        }
    }

    /// A field with its length before it, so that no byte can move to the neighbouring field.
    pub(crate) fn put_field(&mut self, bytes: &[u8]) {
        self.put(&(bytes.len() as u64).to_le_bytes());
        self.put(bytes);
    }

    fn flush(&mut self) {
        self.hasher.write(self.waiting.get(..self.len).unwrap_or_default());
        self.len = 0;
    }

    pub(crate) fn finish(mut self) -> [u8; 16] {
        self.flush();
        self.hasher.finish128().as_bytes()
    }
}

/// Name of a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// Over branch and sent-by, or over the fields of RFC 2543.
    hash: [u8; 15],
    /// Method number and [`RFC2543_FLAG`].
    method: u8,
}

impl ServerKey {
    /// The key of the transaction that `request` belongs to or begins. An ACK has the key of its
    /// INVITE; a CANCEL has its own, and [`ServerKey::for_invite`] gives the one it is about.
    ///
    /// `top_via` is the top Via as received, before `received` and `rport` are filled in; `secret`
    /// must be the same as long as keys are compared. A fault means that a field needed for the
    /// match cannot be read.
    pub fn of(
        request: Message<'_>,
        top_via: &Via<'_>,
        secret: &[u8; 16],
    ) -> Result<ServerKey, Fault> {
        let mut hashed = Hashed::new(secret);
        let flag = match top_via.rfc3261_branch() {
            Some(branch) => {
                hash_branch(branch, top_via, &mut hashed);
                0
            }
            None => {
                hash_rfc2543(request, top_via, &mut hashed)?;
                RFC2543_FLAG
            }
        };
        let method = request.method();
        if method == Method::Other {
            hashed.put_field(request.method_token());
        }
        let bytes = hashed.finish();
        let mut hash = [0u8; 15];
        hash.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(ServerKey { hash, method: method_number(method) | flag })
    }

    /// What it has in common with the key of its CANCEL.
    pub(crate) fn name(&self) -> &[u8] {
        &self.hash
    }

    /// The key of the INVITE with the same branch and sent-by: what a CANCEL is about (9.2).
    pub fn for_invite(self) -> ServerKey {
        self.for_method(Method::Invite)
    }

    /// Keys of all transactions that a CANCEL may be about (9.2: any method but ACK, which is the
    /// INVITE's, and CANCEL), the INVITE first. Only an INVITE can be cancelled; the others make
    /// the difference between 200 and 481. Methods without a name of their own are not among them:
    /// their CANCEL gets 481.
    pub fn cancelled(self) -> impl Iterator<Item = ServerKey> {
        const METHODS: [Method; 12] = [
            Method::Invite,
            Method::Register,
            Method::Options,
            Method::Subscribe,
            Method::Notify,
            Method::Message,
            Method::Bye,
            Method::Refer,
            Method::Info,
            Method::Prack,
            Method::Update,
            Method::Publish,
        ];
        METHODS.into_iter().map(move |method| self.for_method(method))
    }

    /// Was the request matched by the rules of RFC 2543, for want of a branch with the cookie?
    ///
    /// Then the key of an INVITE, its ACK and its CANCEL leaves the To tag out, since the ACK bears
    /// the tag of the *response* (17.2.3). The owner must compare: an ACK belongs to the
    /// transaction only if its To tag is that of the response sent.
    pub fn is_rfc2543(self) -> bool {
        self.method & RFC2543_FLAG != 0
    }

    /// 64 evenly distributed bits for a hash table; no further hashing is needed.
    pub fn bucket(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.hash;
        // INVITE and CANCEL of one branch differ in the method only and should not share a bucket.
        let method = u64::from(self.method).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ method
    }

    fn for_method(self, method: Method) -> ServerKey {
        ServerKey { method: method_number(method) | (self.method & RFC2543_FLAG), ..self }
    }
}

impl Hash for ServerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bucket());
    }
}

/// ACK is part of the INVITE transaction (17.2.3).
fn method_number(method: Method) -> u8 {
    let method = if method == Method::Ack { Method::Invite } else { method };
    method as u8
}

/// 17.2.3 with the cookie: branch and sent-by. The branch counts by its bytes: RFC 3261 7.3.1 would
/// ignore case, but no element changes the case of a branch it repeats, while many write base64.
fn hash_branch(branch: &[u8], via: &Via<'_>, hashed: &mut Hashed) {
    hashed.put(&[COOKIE_DOMAIN]);
    hashed.put_field(branch);
    match via.host {
        Host::Ip(ip) => match ip.to_canonical() {
            std::net::IpAddr::V4(ip) => hashed.put_field(&ip.octets()),
            std::net::IpAddr::V6(ip) => hashed.put_field(&ip.octets()),
        },
        Host::Name(name) => {
            hashed.put(&(name.len() as u64).to_le_bytes());
            for part in name.chunks(64) {
                let mut folded = [0u8; 64];
                folded.iter_mut().zip(part).for_each(|(to, from)| *to = from.to_ascii_lowercase());
                hashed.put(folded.get(..part.len()).unwrap_or_default());
            }
        }
    }
    // 18.1.1: a port that is not written is the transport's default.
    let default = Transport::from_name(via.transport).map_or(5060, Transport::default_port);
    hashed.put(&via.port.unwrap_or(default).to_le_bytes());
}

/// 17.2.3 without the cookie: Request-URI, To tag, From tag, Call-ID, CSeq number, top Via. URIs
/// and Via count by their bytes, as a retransmission repeats them and ACK and CANCEL copy them
/// (9.1, 17.1.1.3).
fn hash_rfc2543(request: Message<'_>, via: &Via<'_>, hashed: &mut Hashed) -> Result<(), Fault> {
    hashed.put(&[RFC2543_DOMAIN]);
    hashed.put_field(request.request_uri());
    hashed.put_field(via.text);
    hashed.put_field(request.call_id()?);
    hashed.put(&request.cseq()?.number.to_le_bytes());
    hashed.put_field(request.from()?.tag().unwrap_or_default());
    if !matches!(request.method(), Method::Invite | Method::Ack | Method::Cancel) {
        hashed.put_field(request.to()?.tag().unwrap_or_default());
    }
    Ok(())
}
