//! A policy that misbehaves when it is asked to: the user part of the Request-URI names the deed.
//! Every other request it serves as a small registrar, so that a test can see who is harmed.

use std::hint::black_box;

use viaduct_guest::prelude::*;

/// The policy.
struct Hostile;

#[viaduct::policy]
impl Policy for Hostile {
    fn on_request(request: &Request) -> Verdict {
        match request.request_user().as_str() {
            "loop" => spin(),
            "trap" => trap(),
            "memory" => eat_memory(),
            "wild" => read_wild(),
            "stack" => black_box(deeper(black_box(1))).into_reply(),
            "save-then-trap" => save_then_trap(),
            "status" => reply(7, ""),
            "reason" => reply(480, "Gone\r\nInjected: yes"),
            "header" => inject_header(),
            "target" => target("not a URI \r\n at all"),
            "many-targets" => many_targets(),
            "edit" => edit_what_is_the_routers(request),
            "table-flood" => flood_a_table(),
            "calls" => loop {
                log::info!("again");
            },
            "level" => write_raw(77, 1),
            "long-text" => write_raw(2, 100 << 20),
            _ => serve(request),
        }
    }
}

fn serve(request: &Request) -> Verdict {
    if request.method() == Method::Register {
        return usrloc::save("location", "path-lazy").into();
    }
    reply(200, "")
}

fn spin() -> Verdict {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn trap() -> Verdict {
    let nothing: &[u32] = black_box(&[]);
    reply(200 + nothing[black_box(3)] as u16, "")
}

fn eat_memory() -> Verdict {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(black_box(vec![1; 65_536]));
    }
}

fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { 0 } else { black_box(deeper(depth + 1)) + frame[0] }
}

trait IntoReply {
    fn into_reply(self) -> Verdict;
}

impl IntoReply for u64 {
    fn into_reply(self) -> Verdict {
        reply(200, &self.to_string())
    }
}

/// What the run has staged before it died must not take effect.
fn save_then_trap() -> Verdict {
    let _ = usrloc::save("location", "path-lazy");
    trap()
}

fn inject_header() -> Verdict {
    let _ = routing::add_reply_header("X-Harmless", "yes\r\nInjected: yes");
    let _ = routing::add_reply_header("Injected: yes\r\nX", "y");
    let _ = routing::add_reply_header("Via", "SIP/2.0/UDP injected.invalid");
    reply(480, "")
}

fn target(uri: &str) -> Verdict {
    let _ = routing::add_target(uri, 1_000);
    relay()
}

fn many_targets() -> Verdict {
    for number in 0..10_000 {
        let _ = routing::add_target(&format!("sip:x@127.0.0.1:{}", 1 + number), 1_000);
    }
    reply(480, "")
}

fn edit_what_is_the_routers(request: &Request) -> Verdict {
    for name in ["Via", "v", "Call-ID", "CSeq", "From", "To", "Content-Length", "Max-Forwards"] {
        let _ = request.add_header(name, "injected");
        let _ = request.remove_header(name);
    }
    let _ = routing::add_reply_header("Content-Length", "7");
    reply(480, "")
}

fn flood_a_table() -> Verdict {
    for number in 0..900 {
        let _ = table::set("flood", &number.to_string(), "x", 60);
    }
    reply(480, "")
}

/// Reads where it has no memory.
fn read_wild() -> Verdict {
    let wild = black_box(usize::MAX - 16) as *const u8;
    // SAFETY: for Rust there is none. In WebAssembly it is a trap, wherever the host's memory is; that
    // it is is what the test is about.
    let byte = unsafe { wild.read_volatile() };
    reply(200 + u16::from(byte), "")
}

/// `log.write` as no bindings would call it.
fn write_raw(level: i32, bytes: usize) -> Verdict {
    // SAFETY: the import has this signature in the canonical ABI.
    #[link(wasm_import_module = "viaduct:policy/log@1.0.0")]
    unsafe extern "C" {
        #[link_name = "write"]
        fn write(level: i32, text: *const u8, bytes: usize);
    }
    // SAFETY: the host checks level and range against the guest's own memory; that it does is what
    // the test is about.
    unsafe { write(black_box(level), b"x".as_ptr(), black_box(bytes)) };
    reply(480, "")
}
