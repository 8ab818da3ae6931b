//! What the tests of the location service share.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod database;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{AorKey, Change, CommitFault, ConnId, Location as _, Transport};
use viaduct_location::{LocationService, Pipeline, Record, Store, StoreError, Write, Written};

/// A moment the tests call now, milliseconds since 1970.
pub const NOW_MS: u64 = 1_900_000_000_000;

pub type Outcome = Result<(), CommitFault>;

pub fn binding(contact: &str, expires_ms: u64) -> Binding {
    Binding::pack(&BindingFields {
        contact: contact.as_bytes(),
        contact_params: b"+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"",
        path: b"<sip:p1.example.com;lr>",
        received: b"sip:198.51.100.7:40000",
        call_id: b"843817637684230@998sdasdh09",
        user_agent: b"Phone/1.0",
        instance: b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
        attributes: b"",
        cseq: 1826,
        q_milli: Some(700),
        reg_id: 0,
        methods: None,
        expires_ms,
        modified_ms: NOW_MS,
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        conn: ConnId::NONE,
        nat: true,
    })
}

pub fn set(contacts: &[(&str, u64)]) -> Arc<BindingSet> {
    let bindings = contacts.iter().map(|(contact, expires_ms)| binding(contact, *expires_ms));
    Arc::new(BindingSet { bindings: bindings.collect() })
}

/// One contact that lives an hour.
pub fn hour(contact: &str) -> Arc<BindingSet> {
    set(&[(contact, NOW_MS + 3_600_000)])
}

pub fn key(aor: &str) -> AorKey {
    AorKey { table: "location".into(), aor: aor.as_bytes().into() }
}

/// A change based on what is newest now.
pub fn change(service: &LocationService, aor: &str, set: Arc<BindingSet>) -> Change {
    let based_on = service.latest("location", aor.as_bytes()).version;
    Change { key: key(aor), based_on, set, memory_only: false }
}

/// Commits; the outcome comes by the receiver.
pub fn commit(service: &LocationService, changes: Vec<Change>) -> Receiver<Outcome> {
    let (sender, receiver) = channel();
    service.commit(changes, move |outcome| sender.send(outcome).unwrap());
    receiver
}

/// Commits and waits for the outcome.
pub fn commit_now(service: &LocationService, changes: Vec<Change>) -> Outcome {
    commit(service, changes).recv().unwrap()
}

pub fn put(service: &LocationService, aor: &str, set: Arc<BindingSet>) -> Outcome {
    commit_now(service, vec![change(service, aor, set)])
}

/// Contacts of the committed set; empty where there is none.
pub fn contacts(service: &LocationService, aor: &str) -> Vec<String> {
    names(service.get("location", aor.as_bytes()))
}

/// Contacts of the newest set.
pub fn latest_contacts(service: &LocationService, aor: &str) -> Vec<String> {
    names(service.latest("location", aor.as_bytes()).set)
}

fn names(set: Option<Arc<BindingSet>>) -> Vec<String> {
    let set = set.unwrap_or_default();
    set.bindings.iter().map(|b| String::from_utf8_lossy(b.contact()).into_owned()).collect()
}

/// A store that tells when it is asked to write and waits to be told what to answer.
pub struct GatedStore {
    entered: Sender<Vec<Write>>,
    decisions: Receiver<bool>,
    ending: Sender<()>,
    answers: Receiver<Answer>,
    is_pipeline: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    Stored,
    Failed,
    Panic,
}

/// The test's side of a [`GatedStore`].
pub struct Gate {
    pub entered: Receiver<Vec<Write>>,
    /// What a pipeline answers when it is asked whether the first group is decided.
    pub decisions: Sender<bool>,
    /// The end of a pipeline's first group is waited for.
    pub ending: Receiver<()>,
    pub answers: Sender<Answer>,
}

impl Gate {
    /// Waits until the store is asked, and answers; what it was asked to write.
    pub fn pass(&self, answer: Answer) -> Vec<Write> {
        let writes = self.entered.recv().unwrap();
        self.answers.send(answer).unwrap();
        writes
    }

    /// Decides on the first group of a pipeline, and waits until its end is waited for.
    pub fn decide(&self, going_well: bool) {
        self.decisions.send(going_well).unwrap();
        self.ending.recv().unwrap();
    }
}

pub fn gated() -> (GatedStore, Gate) {
    let (entered, receive_entered) = channel();
    let (decisions, receive_decisions) = channel();
    let (ending, receive_ending) = channel();
    let (answers, receive_answers) = channel();
    let store = GatedStore {
        entered,
        decisions: receive_decisions,
        ending,
        answers: receive_answers,
        is_pipeline: false,
    };
    (store, Gate { entered: receive_entered, decisions, ending: receive_ending, answers })
}

/// The same, as a [`Pipeline`].
pub fn gated_pipeline() -> (GatedStore, Gate) {
    let (store, gate) = gated();
    (GatedStore { is_pipeline: true, ..store }, gate)
}

// Without a test on the other side (it is over), everything is stored.
impl GatedStore {
    fn answer(&self) -> Result<Written, StoreError> {
        match self.answers.recv().unwrap_or(Answer::Stored) {
            Answer::Stored => Ok(Written::default()),
            Answer::Failed => Err(StoreError::Other {
                path: PathBuf::from("gate"),
                detail: "told to fail".into(),
            }),
            Answer::Panic => panic!("told to panic"),
        }
    }
}

impl Store for GatedStore {
    fn load(&mut self, _each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        Ok(())
    }

    fn write(&mut self, group: &[Write]) -> Result<Written, StoreError> {
        let _ = self.entered.send(group.to_vec());
        self.answer()
    }

    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        self.is_pipeline.then_some(self)
    }
}

impl Pipeline for GatedStore {
    fn begin(&mut self, group: Vec<Write>) {
        let _ = self.entered.send(group);
    }

    fn decided(&mut self) -> bool {
        self.decisions.recv().unwrap_or(true)
    }

    fn end(&mut self) -> Result<Written, StoreError> {
        let _ = self.ending.send(());
        self.answer()
    }
}

/// A folder of its own that goes with the value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("viaduct-location-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
