//! The rarer keys of `[registrar]` (sip-behaviour 2.3): AoR forms, spread of expiries, outbound,
//! GRUU, Service-Route.

use viaduct_engine::registrar::{OutboundMode, Registrar};
use viaduct_message::{NameAddr, Uri};

use super::keys::YEAR_S;
use super::listen::is_host_name;
use super::reader::{Section, quoted};

/// Values of Service-Route a REGISTER may be told.
const MOST_SERVICE_ROUTES: usize = 8;

/// Reads them; all others have their defaults.
pub(super) fn read(s: &mut Section<'_, '_>) -> Registrar {
    const OUTBOUND: [(&str, OutboundMode); 3] = [
        ("off", OutboundMode::Off),
        ("supported", OutboundMode::Supported),
        ("required", OutboundMode::Required),
    ];
    let half = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let default_q = s.number("default_q_milli", 0..=1000, 1000);
    let percent = s.number("expires_shorten_percent", 0..=90, 0);
    Registrar {
        default_q_milli: (default_q < 1000).then(|| half(default_q)),
        expires_deviation_s: word(s.number("expires_deviation_s", 0..=YEAR_S, 0)),
        expires_shorten_percent: u8::try_from(percent).unwrap_or(0),
        max_user_bytes: half(s.number("max_user_bytes", 1..=1024, 256)),
        max_domain_bytes: half(s.number("max_domain_bytes", 1..=1024, 255)),
        realm_prefix: realm_prefix(s),
        match_texts: s.choice(
            "contact_matching",
            &[("uri", false), ("text", true)],
            ("uri", false),
        ),
        path_check_local: s.flag("path_check_local", false),
        path_in_420: s.flag("path_in_420", false),
        outbound: s.choice("outbound", &OUTBOUND, ("supported", OutboundMode::Supported)),
        flow_timer_s: word(s.number("flow_timer_s", 0..=86_400, 0)),
        gruu: s.flag("gruu", true),
        service_route: service_route(s),
        error_header: s.flag("error_header", true),
        show_received: s.flag("show_received", false),
        ..Registrar::default()
    }
}

fn realm_prefix(s: &mut Section<'_, '_>) -> Box<str> {
    const ALLOWED: &str = "the beginning of a host name, such as \"sip.\"; \"\" for none";
    let fits = |text: &str| text.is_empty() || is_host_name(&format!("{text}x"));
    let text = s.text_if("realm_prefix", "\"\"", ALLOWED, fits);
    text.map(|text| text.value.to_ascii_lowercase().into()).unwrap_or_default()
}

/// URIs as one header value; each needs `lr` (RFC 3608 5).
fn service_route(s: &mut Section<'_, '_>) -> Box<str> {
    const ALLOWED: &str = "SIP URIs with lr, such as \"sip:edge.example.com;lr\"";
    let texts = s.texts("service_route", MOST_SERVICE_ROUTES, "[]", ALLOWED).unwrap_or_default();
    let mut values: Vec<String> = Vec::new();
    for text in &texts {
        let value = format!("<{}>", text.value);
        let uri = Uri::parse(text.value.as_bytes());
        let whole = NameAddr::parse(value.as_bytes()).is_ok();
        if whole && uri.is_ok_and(|uri| uri.is_sip() && uri.is_loose()) {
            values.push(value);
        } else {
            s.sheet().fault(text.at, &text.key, format!("has {}", quoted(&text.value)), ALLOWED);
        }
    }
    values.join(", ").into()
}
