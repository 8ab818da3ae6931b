//! Any datagram is sorted, scanned, checked, read and answered; the answer can be read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::framing::{Datagram, datagram};
use viaduct_message::response::{Reply, write};
use viaduct_message::{Head, HeaderName, Limits, Message, NameAddr, Via, check};

fuzz_target!(|bytes: &[u8]| {
    let Datagram::Message(bytes) = datagram(bytes) else { return };
    let mut head = Head::new();
    let _ = head.scan(bytes, &Limits::default());
    let message = Message::new(bytes, &head);
    let _ = (check::request(message), check::response(message));
    let _ = (message.expires_s(), message.contacts(), message.body(), message.method());
    for value in message.values(HeaderName::Via) {
        let _ = Via::parse(value.bytes).map(|via| via.rfc3261_branch().is_some());
    }
    for value in message.values(HeaderName::Contact) {
        let _ = NameAddr::parse(value.bytes).and_then(|contact| contact.parse_uri().map(|_| ()));
    }
    let mut answer = Vec::new();
    let reply = Reply { status: 400, to_tag: b"t", ..Reply::default() };
    write(message, ([192, 0, 2, 1], 5060).into(), true, &reply, &mut answer);
    let mut again = Head::new();
    let wide = Limits { message_bytes: u32::MAX, ..Limits::default() };
    assert_eq!(again.scan(&answer, &wide), Ok(()));
});
