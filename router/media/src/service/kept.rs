//! What a later process needs to go on with the calls of this one, as octets: a version, then the
//! fields by `postcard`. A reader takes any octets and gives a call or an error.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use viaduct_engine::Now;
use viaduct_engine::media::{Carrier, LegView, MediaFlags, StreamView};

use super::dialog::Dialog;
use super::interfaces::Interfaces;
use super::{Inner, age_ms, ms};
use crate::call::Call;
use crate::dialog::Parties;
use crate::session::LegReport;

/// The version this file writes.
const VERSION: u8 = 1;

/// What is kept under a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A call, by its number: what signalling has made of it.
    Call(u64),
    /// A session, by its number: the peers it has learned and what it has counted.
    Session(u64),
    /// When there was a router the last time.
    Alive,
    /// Whose the sessions in the kernel module are.
    Owner,
}

impl Key {
    /// As it is written.
    #[must_use]
    pub fn octets(self) -> Vec<u8> {
        let (kind, number) = match self {
            Key::Call(id) => (b'c', Some(id)),
            Key::Session(id) => (b's', Some(id)),
            Key::Alive => (b'a', None),
            Key::Owner => (b'o', None),
        };
        let number = number.map(u64::to_be_bytes);
        std::iter::once(kind).chain(number.into_iter().flatten()).collect()
    }

    /// The key of these octets.
    #[must_use]
    pub fn of(octets: &[u8]) -> Option<Key> {
        let (kind, rest) = octets.split_first()?;
        let number = || rest.try_into().ok().map(u64::from_be_bytes);
        match kind {
            b'c' => number().map(Key::Call),
            b's' => number().map(Key::Session),
            b'a' if rest.is_empty() => Some(Key::Alive),
            b'o' if rest.is_empty() => Some(Key::Owner),
            _ => None,
        }
    }
}

/// Keeps what must outlive this process. Nothing in it waits for a disk.
pub trait Journal: Send + Sync {
    /// Keeps a value in place of an earlier one.
    fn put(&self, key: Key, value: Vec<u8>);

    /// Forgets it.
    fn remove(&self, key: Key);
}

/// Why octets are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    #[error("unknown version {0} (this one reads {VERSION})")]
    Version(u8),
    #[error("damaged: {0}")]
    Damaged(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptCall {
    pub(super) call_id: Box<[u8]>,
    caller: Box<[u8]>,
    callees: Vec<Box<[u8]>>,
    branch: Option<u32>,
    confirmed: bool,
    answered: bool,
    call: Call,
    /// In the words of a policy.
    flags: String,
    /// By the names of the interfaces.
    places: Option<[Box<str>; 2]>,
    begun_unix_ms: u64,
    age_ms: u64,
    at_unix_ms: u64,
    ended: Vec<KeptStream>,
}

/// How a session stood in user space.
pub(super) type Stood = [LegReport; 2];

#[derive(Debug, Serialize, Deserialize)]
struct KeptStream {
    kind: Box<str>,
    /// Its place in [`Carrier::ALL`].
    carrier: u8,
    #[serde(with = "KeptLeg")]
    caller: LegView,
    #[serde(with = "KeptLeg")]
    callee: LegView,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "LegView")]
struct KeptLeg {
    local: SocketAddr,
    peer: Option<SocketAddr>,
    locked: bool,
    packets: u64,
    octets: u64,
    dropped: u64,
    lost: Option<u64>,
    jitter_us: Option<u32>,
    mos_centi: Option<u16>,
}

impl KeptStream {
    fn of(view: &StreamView) -> KeptStream {
        let StreamView { kind, carrier, caller, callee } = view.clone();
        let carrier = Carrier::ALL.iter().position(|one| *one == carrier).unwrap_or(0) as u8;
        KeptStream { kind, carrier, caller, callee }
    }

    fn view(self) -> StreamView {
        let carrier = Carrier::ALL.get(usize::from(self.carrier)).copied().unwrap_or_default();
        StreamView { kind: self.kind, carrier, caller: self.caller, callee: self.callee }
    }
}

impl KeptCall {
    fn of(now: Now, call_id: &[u8], dialog: &Dialog, interfaces: &Interfaces) -> KeptCall {
        let names = dialog.places.map(|places| places.map(|place| interfaces.name(place).into()));
        KeptCall {
            call_id: call_id.into(),
            caller: dialog.parties.caller.clone(),
            callees: dialog.parties.callees.clone(),
            branch: dialog.branch,
            confirmed: dialog.parties.confirmed,
            answered: dialog.answered,
            call: dialog.call.clone(),
            flags: dialog.flags.to_string(),
            places: names,
            begun_unix_ms: dialog.begun_unix_ms,
            age_ms: age_ms(now, dialog),
            at_unix_ms: now.unix_ms,
            ended: dialog.ended.streams.iter().map(KeptStream::of).collect(),
        }
    }

    /// The call, and whether all its interfaces are still there.
    pub(super) fn dialog(
        self,
        id: u64,
        now: Now,
        interfaces: &Interfaces,
    ) -> Result<(Box<[u8]>, Dialog, bool), KeptError> {
        let flags = MediaFlags::parse(&self.flags);
        let flags = flags.map_err(|error| KeptError::Damaged(error.to_string()))?;
        let places = self.places.as_ref().map(|names| {
            let [a, b] = names.each_ref().map(|name| interfaces.named(Some(name)));
            Some([a?, b?])
        });
        let sessions = self.call.sessions();
        let kinds = sessions.into_iter().filter_map(|(kind, s)| Some((s.legs[0].local, kind?)));
        let mut dialog = Dialog {
            id,
            parties: Parties {
                caller: self.caller,
                callees: self.callees,
                confirmed: self.confirmed,
            },
            branch: self.branch,
            answered: self.answered,
            kinds: kinds.collect(),
            call: self.call,
            flags,
            places: places.flatten(),
            begun_ms: ms(now),
            aged_ms: self.age_ms.saturating_add(now.unix_ms.saturating_sub(self.at_unix_ms)),
            begun_unix_ms: self.begun_unix_ms,
            changed_ms: ms(now),
            ended: Default::default(),
        };
        dialog.ended.streams = self.ended.into_iter().map(KeptStream::view).collect();
        Ok((self.call_id, dialog, places != Some(None)))
    }
}

pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    // Nothing here has a form that cannot be written; if it had, its reader says so.
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

pub(crate) fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, KeptError> {
    let short = || KeptError::Damaged("it is empty".to_owned());
    let (version, rest) = octets.split_first().ok_or_else(short)?;
    if *version != VERSION {
        return Err(KeptError::Version(*version));
    }
    let damaged = |fault: &dyn std::fmt::Display| KeptError::Damaged(fault.to_string());
    let (value, left) = postcard::take_from_bytes(rest).map_err(|error| damaged(&error))?;
    if left.is_empty() { Ok(value) } else { Err(damaged(&"octets are left over")) }
}

impl Inner {
    /// Keeps a call as it is now, or that it is no more.
    pub(super) fn keep(&mut self, now: Now, id: u64) {
        let Some(journal) = &self.journal else { return };
        match self.calls.whole(id) {
            Some((call_id, dialog)) => {
                let kept = KeptCall::of(now, call_id, dialog, &self.interfaces);
                journal.put(Key::Call(id), encode(&kept));
                journal.put(Key::Alive, encode(&now.unix_ms));
            }
            None => journal.remove(Key::Call(id)),
        }
    }
}
