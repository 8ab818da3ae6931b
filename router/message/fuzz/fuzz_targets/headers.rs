//! Any bytes as each typed header: what is read, written down again from its parts, reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::{CSeq, NameAddr, Params, Uri, Via};

fuzz_target!(|bytes: &[u8]| {
    for param in Params(bytes).all() {
        assert_eq!(Params(bytes).has(param.name), true);
    }
    if let Ok(cseq) = CSeq::parse(bytes) {
        let text = [cseq.number.to_string().as_bytes(), b" ", cseq.token].concat();
        assert_eq!(CSeq::parse(&text), Ok(cseq));
    }
    if let Ok(via) = Via::parse(bytes) {
        let port = via.port.map(|port| format!(":{port}")).unwrap_or_default();
        let text = [b"SIP/2.0/", via.transport, b" ", via.host_text, port.as_bytes()];
        let text = [&text.concat()[..], &written(via.params)].concat();
        let again = Via::parse(&text).expect("its own parts");
        assert_eq!((again.transport, again.host, again.port), (via.transport, via.host, via.port));
        assert_eq!((again.branch(), again.maddr()), (via.branch(), via.maddr()));
        assert!(via.rfc3261_branch().is_none_or(|branch| Some(branch) == via.branch()));
    }
    // An addr-spec is looked into when somebody asks for its URI; till then it may hold anything.
    let address = NameAddr::parse(bytes).ok().filter(|address| !address.uri.contains(&b'>'));
    if let Some(address) = address {
        let text = [b"<", address.uri, b">", &written(address.params)].concat();
        let again = NameAddr::parse(&text).expect("its own parts");
        assert_eq!((again.uri, again.tag()), (address.uri, address.tag()));
        assert!(again.bracketed && again.display.is_none());
        let _ = address.parse_uri();
    }
    if let Ok(uri) = Uri::parse(bytes) {
        assert_eq!(uri.port.is_some() && uri.host_text.is_empty(), false);
        for (name, _) in uri.params.iter() {
            assert!(uri.params.has(name));
        }
    }
});

/// Parameters with the semicolon in front.
fn written(params: Params<'_>) -> Vec<u8> {
    if params.0.is_empty() { Vec::new() } else { [b";", params.0].concat() }
}
