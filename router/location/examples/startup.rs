//! How long a start with many stored bindings takes, after a clean end and after a crash:
//! `cargo run --release -p viaduct-location --example startup -- [bindings] [folder]`
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a measuring program: it prints, or it ends

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{AorKey, Change, ConnId, Transport};
use viaduct_location::{Backend, Config, LocationService, Mode};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let bindings: usize = arguments.next().map_or(100_000, |n| n.parse().unwrap());
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("viaduct-startup-{}.redb", std::process::id()));
    let crashed = path.with_extension("crashed.redb");
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;

    let service = open(&path, now_ms);
    let begun = Instant::now();
    let acknowledged = fill(&service, bindings, now_ms);
    let took = begun.elapsed();
    println!(
        "{acknowledged} REGISTERs acknowledged in {:.2} s ({:.0}/s), {} transactions, {} bytes \
         of memory a binding",
        took.as_secs_f64(),
        acknowledged as f64 / took.as_secs_f64(),
        service.counts().groups,
        service.counts().memory_bytes / bindings.max(1),
    );
    std::fs::copy(&path, &crashed).unwrap();
    drop(service);
    for (what, path) in [("clean end", &path), ("crash", &crashed)] {
        let begun = Instant::now();
        let service = open(path, now_ms);
        println!(
            "start with {} bindings after a {what}: {:.3} s (file: {} MiB)",
            service.counts().bindings,
            begun.elapsed().as_secs_f64(),
            std::fs::metadata(path).unwrap().len() >> 20,
        );
    }
    for path in [&path, &crashed] {
        std::fs::remove_file(path).unwrap();
    }
}

fn open(path: &Path, now_ms: u64) -> LocationService {
    let mode = Mode::WriteThrough(Backend::File(path.to_owned()));
    LocationService::open(&Config { mode, ..Config::default() }, now_ms).unwrap()
}

/// One commit a binding, as REGISTERs make them, at most 10,000 under way; returns when the last
/// is acknowledged.
fn fill(service: &LocationService, bindings: usize, now_ms: u64) -> usize {
    let (sender, acknowledged) = std::sync::mpsc::channel();
    let table: Arc<str> = "location".into();
    let mut done = 0;
    for n in 0..bindings {
        let aor = format!("subscriber{n:06}@sip.example.com").into_bytes().into();
        let key = AorKey { table: Arc::clone(&table), aor };
        let set = Arc::new(BindingSet { bindings: [binding(n, now_ms)].into() });
        let sender = sender.clone();
        let change = Change { key, based_on: 0, set, memory_only: false };
        service.commit(vec![change], move |outcome| sender.send(outcome).unwrap());
        if n - done >= 10_000 {
            acknowledged.recv().unwrap().unwrap();
            done += 1;
        }
    }
    drop(sender);
    for outcome in acknowledged {
        outcome.unwrap();
        done += 1;
    }
    done
}

fn binding(n: usize, now_ms: u64) -> Binding {
    let contact = format!("sip:subscriber{n:06}@10.0.0.4:5060");
    Binding::pack(&BindingFields {
        contact: contact.as_bytes(),
        contact_params: b"+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"",
        path: b"<sip:p1.example.com;lr;received=sip:198.51.100.7:40000;vs=01abcdefghijklmnop>",
        received: b"",
        call_id: b"843817637684230@998sdasdh09",
        user_agent: b"Phone/1.0",
        instance: b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
        attributes: b"",
        cseq: 1,
        q_milli: None,
        reg_id: 0,
        methods: None,
        expires_ms: now_ms + 3_600_000,
        modified_ms: now_ms,
        transport: Transport::Udp,
        local: std::net::SocketAddr::from(([192, 0, 2, 1], 5060)),
        conn: ConnId::NONE,
        nat: false,
    })
}
