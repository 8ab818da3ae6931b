//! What a binding costs in memory, measured at the allocator.
#![allow(unsafe_code)] // an allocator that counts is unsafe by its trait
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{AorKey, Change, Location as _};
use viaduct_location::{Config, LocationService};

/// Counts bytes in use, each allocation with the 8 bytes of bookkeeping and the rounding to 16 that
/// the usual allocators add, and allocations made.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn cost(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call goes to the system's allocator as it came; only counters are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(cost(layout), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(cost(layout), Ordering::Relaxed);
        // SAFETY: the caller gives back what `alloc` gave, with its layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const AORS: usize = 100_000;

fn aor(n: usize) -> String {
    format!("subscriber{n:06}@sip.example.com")
}

/// A binding with 300 bytes of text, as a phone behind an outbound proxy has it.
fn usual_binding(n: usize) -> Binding {
    let contact = format!("sip:subscriber{n:06}@10.0.0.4:5060;transport=udp");
    let path = "<sip:p1.sip.example.com;lr;received=sip:198.51.100.7:40000;vs=01abcdefghijklmnop>";
    let params = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"";
    let call_id = "843817637684230@998sdasdh09".to_owned();
    let used = contact.len() + path.len() + params.len() + call_id.len();
    let user_agent = "u".repeat(300 - used);
    Binding::pack(&BindingFields {
        contact: contact.as_bytes(),
        contact_params: params.as_bytes(),
        path: path.as_bytes(),
        received: b"",
        call_id: call_id.as_bytes(),
        user_agent: user_agent.as_bytes(),
        instance: b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
        ..binding("", NOW_MS + 3_600_000 + n as u64).fields()
    })
}

/// One test: the counters are the whole process's.
#[test]
fn a_binding_takes_at_most_700_bytes_and_a_look_up_allocates_nothing() {
    let service = LocationService::open(&Config::default(), NOW_MS).unwrap();
    let table: Arc<str> = "location".into();
    let before = BYTES.load(Ordering::Relaxed);
    for n in 0..AORS {
        let key = AorKey { table: Arc::clone(&table), aor: aor(n).into_bytes().into() };
        let set = Arc::new(BindingSet { bindings: [usual_binding(n)].into() });
        let change = Change { key, based_on: 0, set, memory_only: false };
        service.commit(vec![change], |outcome| assert_eq!(outcome, Ok(())));
    }
    let per_binding = (BYTES.load(Ordering::Relaxed) - before) / AORS;
    println!(
        "{per_binding} bytes a binding; counted by the table: {}",
        service.counts().memory_bytes / AORS
    );
    assert!(per_binding <= 700, "{per_binding} bytes");
    assert!(service.counts().memory_bytes / AORS <= per_binding);

    let wanted = aor(77_777);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let found = service.get("location", wanted.as_bytes());
    let absent = service.get("location", b"nobody@sip.example.com");
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before);
    assert!(found.is_some() && absent.is_none());
}
