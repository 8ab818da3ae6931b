//! The servers under test. What each must do, and a case may rely on:
//!
//! * registrar and proxy of one domain, open to everybody, also for users at its own address;
//! * a request for a user goes to all contacts at once; what is for the server itself, and not
//!   OPTIONS or REGISTER, is 405;
//! * INVITEs are record-routed; Path is taken, and told where the phone supports it;
//! * an expiry below two seconds is answered 423;
//! * responses go where the Via says, also where that is another port than the request's;
//! * requests above 1,300 octets go by TCP where no transport is named;
//! * one worker: what comes first by one socket is done first.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use viaduct_tests::support::kamailio::{self, Kamailio};
use viaduct_tests::support::net::own_address;
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{Router, Setup};

/// The domain of every server.
pub(crate) const DOMAIN: &str = "conformance.example";

const SECTIONS: &str = "[limits]\nudp_request_bytes = 1300\n";
const REGISTRAR_KEYS: &str = "min_expires_s = 2\nreject_short_expires = true";

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    program: Program,
}

#[derive(Debug)]
enum Program {
    Viaduct(Router),
    Kamailio(Kamailio),
}

impl Server {
    /// The router with the shipped registrar.
    pub(crate) fn viaduct() -> Result<Self> {
        let address = router_address();
        let mut setup = Setup::new(address, DOMAIN, policy::shipped("registrar")?);
        setup.domains.push(address.ip().to_string());
        (setup.workers, setup.location) = (1, "memory");
        (setup.sections, setup.registrar_keys) = (SECTIONS, REGISTRAR_KEYS);
        setup.top_keys = "force_rport = false";
        Ok(Self { address, program: Program::Viaduct(Router::start(&setup)?) })
    }

    /// Kamailio with the configuration beside this file.
    pub(crate) fn kamailio() -> Result<Self> {
        let address = SocketAddr::from((own_address(), 5060));
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/kamailio.cfg");
        let program = Program::Kamailio(kamailio::start_with(&config, address)?);
        Ok(Self { address, program })
    }

    /// Where it listens, over UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The domain it serves.
    pub(crate) fn domain(&self) -> &'static str {
        DOMAIN
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        match &self.program {
            Program::Viaduct(router) => router.log(),
            Program::Kamailio(kamailio) => kamailio.log(),
        }
    }
}
