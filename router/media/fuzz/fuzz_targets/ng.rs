//! Any bytes from a media node: what is read is written and read again as the same, and no datagram
//! does a client any harm or ends a command twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_media::ng::bencode::Value;
use viaduct_media::ng::client::{Client, ClientConfig, Command, Output, Route};
use viaduct_media::ng::nodes::NodeConfig;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Value::read(bytes) {
        let again = value.octets();
        assert_eq!(again.len(), bytes.len());
        assert_eq!(Value::read(&again).unwrap(), value);
    }

    let address = ([192, 0, 2, 1], 2223).into();
    let config = ClientConfig {
        nodes: vec![NodeConfig { address, weight: 1 }],
        timeout_ms: 100,
        retries: 1,
        down_ms: 1_000,
    };
    let mut cookie = 0;
    let mut client = Client::new(
        config,
        Box::new(move || {
            cookie += 1;
            cookie
        }),
    );
    let command = Command {
        ticket: 1,
        route: Route::Any,
        call_id: b"c"[..].into(),
        text: b"d7:command4:pinge".to_vec(),
        undo: b"d7:command6:deletee".to_vec(),
    };
    client.submit(0, command);
    client.datagram(0, address, bytes);
    // The cookie of the command before what was made up.
    client.datagram(0, address, &[b"0000000000000001 ", bytes].concat());
    for now_ms in [100, 200, 300, 2_000] {
        client.tick(now_ms);
        client.datagram(now_ms, address, &[b"0000000000000001 ", bytes].concat());
    }
    let mut done = 0;
    while let Some(output) = client.poll() {
        done += u32::from(matches!(output, Output::Done { .. }));
    }
    assert_eq!(done, 1);
});
