//! A real phone program, baresip, registers and is called: through Viaduct, and, to know that the
//! test itself is right, through Kamailio.

use std::net::SocketAddr;

use anyhow::Result;
use viaduct_tests::or_skip;
use viaduct_tests::support::kamailio::{self, Keeps};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::phone::{self, Phone};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sipp::{self, Sipp};

const DOMAIN: &str = kamailio::DOMAIN;

/// The phone registers at `server`, is called, the call is changed and ended by the caller.
fn registers_and_is_called(server: SocketAddr, transport: Transport) -> Result<()> {
    let phone = Phone::start("bob", DOMAIN, transport, (own_address(), 5064).into(), server)?;
    phone.wait_until_registered()?;
    Sipp::new("caller-acts.uac", transport, (own_address(), 5062).into())
        .to(server)
        .service("bob")
        .key("caller", "alice")
        .key("domain", DOMAIN)
        .trace_messages()
        .run()?
        .all_good("caller", 1)?;
    phone.wait_until_in_call()?;
    phone.wait_until_hung_up()
}

fn through_viaduct(transport: Transport) -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(phone::installed(), "baresip-core is not installed");
    let server = router_address();
    let router = Router::start(&Setup::new(server, DOMAIN, policy::shipped("registrar")?))?;
    registers_and_is_called(server, transport)?;
    router.check_alive()
}

#[test]
fn a_phone_registers_and_is_called_over_udp() -> Result<()> {
    through_viaduct(Transport::Udp)
}

#[test]
fn a_phone_registers_and_is_called_over_tcp() -> Result<()> {
    through_viaduct(Transport::Tcp)
}

#[test]
fn the_same_through_kamailio() -> Result<()> {
    or_skip!(kamailio::installed(), "kamailio is not installed");
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(phone::installed(), "baresip-core is not installed");
    let server = SocketAddr::from((own_address(), 5060));
    let _kamailio = kamailio::start(server, &[], Keeps::InMemory)?;
    registers_and_is_called(server, Transport::Udp)?;
    registers_and_is_called(server, Transport::Tcp)
}
