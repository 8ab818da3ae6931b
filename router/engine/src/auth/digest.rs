//! The arithmetic of RFC 7616 3.4: hashes of user and request, and the response made of them.

use md5::Md5;
use sha2::digest::{Digest, Output};
use sha2::{Sha256, Sha512_256};
use subtle::ConstantTimeEq;

/// Longest hash, bytes.
const MOST_BYTES: usize = 32;

/// A digest algorithm; the session variants are not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// RFC 8760 2.
    Sha256 = 0,
    /// RFC 8760 2; the hash of FIPS 180-4 with its own initial values, not a cut SHA-512.
    Sha512_256 = 1,
    /// RFC 3261; for phones that know nothing else.
    Md5 = 2,
}

impl Algorithm {
    /// All of them, most wanted first.
    pub const ALL: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha512_256, Algorithm::Md5];

    /// Its name in the parameter `algorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512_256 => "SHA-512-256",
            Algorithm::Md5 => "MD5",
        }
    }

    /// The algorithm of that name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Length of its hash, bytes.
    pub fn hash_bytes(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha256 | Algorithm::Sha512_256 => 32,
        }
    }
}

/// A hash of one of the algorithms. Not printable: most of these are secrets.
#[derive(Clone, Copy)]
pub struct Hash {
    algorithm: Algorithm,
    bytes: [u8; MOST_BYTES],
}

impl Hash {
    /// The hash of the parts, one behind the other.
    pub fn of(algorithm: Algorithm, parts: &[&[u8]]) -> Hash {
        fn run<D: Digest>(parts: &[&[u8]], bytes: &mut [u8; MOST_BYTES]) {
            let mut hasher = D::new();
            parts.iter().for_each(|part| hasher.update(part));
            let out: Output<D> = hasher.finalize();
            bytes.iter_mut().zip(out).for_each(|(to, from)| *to = from);
        }
        let mut bytes = [0; MOST_BYTES];
        match algorithm {
            Algorithm::Md5 => run::<Md5>(parts, &mut bytes),
            Algorithm::Sha256 => run::<Sha256>(parts, &mut bytes),
            Algorithm::Sha512_256 => run::<Sha512_256>(parts, &mut bytes),
        }
        Hash { algorithm, bytes }
    }

    /// What stands for the secret of a user who does not exist, so that he costs the same time.
    /// Nobody knows a password that hashes to it.
    pub fn blank(algorithm: Algorithm) -> Hash {
        Hash { algorithm, bytes: [0; MOST_BYTES] }
    }

    /// Reads hexadecimal digits; `None` where they are not exactly those of a hash.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<Hash> {
        let mut bytes = [0; MOST_BYTES];
        let mut digits = hex.chars().map(|c| c.to_digit(16));
        if hex.len() != algorithm.hash_bytes().saturating_mul(2) {
            return None;
        }
        for byte in bytes.iter_mut().take(algorithm.hash_bytes()) {
            let (high, low) = (digits.next()??, digits.next()??);
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Hash { algorithm, bytes })
    }

    /// Lower-case hexadecimal digits, as the RFC hashes and sends them.
    pub fn to_hex(self) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
        let mut letters = [0; MOST_BYTES * 2];
        for (pair, byte) in letters.chunks_exact_mut(2).zip(self.bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
        }
        Hex { letters, len: self.algorithm.hash_bytes().saturating_mul(2) }
    }

    /// Are these the digits, in any case? Takes the same time wherever they differ.
    pub fn is_hex(self, given: &[u8]) -> bool {
        let hex = self.to_hex();
        let mut folded = [0; MOST_BYTES * 2];
        let Some(room) = folded.get_mut(..given.len()) else { return false };
        room.copy_from_slice(given);
        room.make_ascii_lowercase();
        hex.as_ref().ct_eq(room).into()
    }
}

/// A hash as text.
#[derive(Clone, Copy)]
pub struct Hex {
    letters: [u8; MOST_BYTES * 2],
    len: usize,
}

impl AsRef<[u8]> for Hex {
    fn as_ref(&self) -> &[u8] {
        self.letters.get(..self.len).unwrap_or_default()
    }
}

/// A user's secrets: H(A1) for each algorithm it is known for.
#[derive(Clone, Default)]
pub struct Secrets {
    ha1: [Option<Hash>; Algorithm::ALL.len()],
}

impl Secrets {
    /// Those of a password, for all algorithms.
    pub fn of_password(user: &str, realm: &str, password: &str) -> Secrets {
        let mut secrets = Secrets::default();
        for algorithm in Algorithm::ALL {
            let parts = [user.as_bytes(), b":", realm.as_bytes(), b":", password.as_bytes()];
            secrets.set(algorithm, Hash::of(algorithm, &parts));
        }
        secrets
    }

    /// Sets one, in place of what was there.
    pub fn set(&mut self, algorithm: Algorithm, ha1: Hash) {
        if let Some(slot) = self.ha1.get_mut(algorithm as usize) {
            *slot = Some(ha1);
        }
    }

    /// H(A1) of an algorithm.
    pub fn get(&self, algorithm: Algorithm) -> Option<Hash> {
        self.ha1.get(algorithm as usize).copied().flatten()
    }

    /// Not one.
    pub fn is_empty(&self) -> bool {
        self.ha1.iter().all(Option::is_none)
    }
}

impl std::fmt::Debug for Secrets {
    /// Names of the algorithms only: secrets do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = Algorithm::ALL.into_iter().filter(|a| self.get(*a).is_some());
        f.debug_set().entries(known.map(Algorithm::name)).finish()
    }
}

/// What is hashed besides the secret, all as it stands in the request.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Method.
    pub method: &'a [u8],
    /// `uri`.
    pub uri: &'a [u8],
    /// `nonce`.
    pub nonce: &'a [u8],
    /// `nc` and `cnonce`; `None` for those who do not know qop (RFC 2069).
    pub counted: Option<Counted<'a>>,
    /// The body; counts with `auth-int` only.
    pub body: &'a [u8],
}

/// What comes with a quality of protection.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// `auth-int` instead of `auth`.
    pub auth_int: bool,
    /// `nc`, eight hexadecimal digits.
    pub nc: &'a [u8],
    /// `cnonce`.
    pub cnonce: &'a [u8],
}

/// The response of RFC 7616 3.4.1.
pub fn response(ha1: &Hash, claim: &Claim<'_>) -> Hash {
    let algorithm = ha1.algorithm;
    let hash = |parts: &[&[u8]]| Hash::of(algorithm, parts);
    let auth_int = claim.counted.is_some_and(|counted| counted.auth_int);
    let ha2 = if auth_int {
        let body = hash(&[claim.body]).to_hex();
        hash(&[claim.method, b":", claim.uri, b":", body.as_ref()])
    } else {
        hash(&[claim.method, b":", claim.uri])
    };
    let (ha1, ha2) = (ha1.to_hex(), ha2.to_hex());
    let (ha1, ha2) = (ha1.as_ref(), ha2.as_ref());
    match &claim.counted {
        Some(Counted { nc, cnonce, .. }) => {
            let qop: &[u8] = if auth_int { b"auth-int" } else { b"auth" };
            let parts = [ha1, b":", claim.nonce, b":", nc, b":", cnonce, b":", qop, b":", ha2];
            hash(&parts)
        }
        None => hash(&[ha1, b":", claim.nonce, b":", ha2]),
    }
}

#[cfg(test)]
mod tests;
