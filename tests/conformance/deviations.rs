//! Cases in which a server does otherwise, each with the reason. One that is no deviation any more
//! fails, and so does one that ends in another way than is known.

use viaduct_tests::support::net::Transport;

use crate::case::{BOTH, Case, TCP, UDP};

/// A case a server is known to fail.
#[derive(Debug)]
pub(crate) struct Deviation {
    /// What the case says.
    pub(crate) says: &'static str,
    pub(crate) over: &'static [Transport],
    /// A part of how the case ends.
    pub(crate) observed: &'static str,
    pub(crate) because: &'static str,
}

impl Deviation {
    pub(crate) fn is_of(&self, case: &Case, over: Transport) -> bool {
        self.says == case.says && self.over.contains(&over) && case.over.contains(&over)
    }
}

/// Viaduct has none.
pub(crate) const VIADUCT: &[Deviation] = &[];

const fn kamailio(
    says: &'static str,
    over: &'static [Transport],
    observed: &'static str,
    because: &'static str,
) -> Deviation {
    Deviation { says, over, observed, because }
}

const NO_OUTBOUND: &str = "RFC 5626 is in the module outbound, which is in a package of its own";
const NO_4320: &str = "RFC 4320 is not followed";
const NO_BREADTH: &str = "Max-Breadth is unknown to it";
const SCRIPT: &str = "Require is left to the script";

/// Of Kamailio 5.6.3 with the configuration beside this file.
pub(crate) const KAMAILIO: &[Deviation] = &[
    kamailio(
        "Record-Route is ignored and not sent back",
        BOTH,
        "Record-Route: <sip:proxy.example;lr>",
        "all its own responses repeat the Record-Route",
    ),
    kamailio(
        "`*` beside another contact is 400 and removes nothing",
        BOTH,
        "not 400",
        "contacts behind the star are not looked at",
    ),
    kamailio("an unknown option in Require is 420, and nothing is stored", BOTH, "not 420", SCRIPT),
    kamailio(
        "Require with an unknown option is 420, which names it in Unsupported",
        BOTH,
        "not 420",
        SCRIPT,
    ),
    kamailio(
        "contacts are compared as URIs: escapes, host in any case",
        BOTH,
        "bound are [",
        "contacts are compared as texts",
    ),
    kamailio(
        "a Request-URI of an unknown scheme is 416",
        BOTH,
        "SIP/2.0 400",
        "the module sanity cannot read the URI, and says so",
    ),
    kamailio(
        "a request that lacks Call-ID is 400",
        UDP,
        "no final response",
        "what lacks such a header field is dropped before the script",
    ),
    kamailio(
        "a request that lacks Call-ID is 400",
        TCP,
        "closed the connection",
        "what lacks such a header field is dropped before the script",
    ),
    kamailio(
        "100 repeats the Timestamp of its request",
        BOTH,
        "SIP/2.0 100",
        "its 100 has the fields of any response",
    ),
    kamailio(
        "the same branch from another sent-by is another transaction",
        BOTH,
        "no MESSAGE",
        "transactions are told apart by the branch alone, where it has the cookie",
    ),
    kamailio(
        "octets behind the body are thrown away",
        UDP,
        "no MESSAGE",
        "the module sanity refuses what differs from Content-Length either way",
    ),
    kamailio(
        "a response whose branch nobody has sent goes no further",
        BOTH,
        "SIP/2.0 404 Wrong",
        "it is forwarded without state, as RFC 3261 said before RFC 6026",
    ),
    kamailio(
        "an INVITE that comes again after the 2xx is absorbed",
        UDP,
        "the caller got",
        "the 2xx is sent again, as RFC 3261 said before RFC 6026",
    ),
    kamailio("a request nobody answers gets 100 in the end", UDP, "no 100", NO_4320),
    kamailio(
        "of provisional responses only 100 may go with other methods",
        BOTH,
        "SIP/2.0 183",
        NO_4320,
    ),
    kamailio("nothing but INVITE ever gets 408", UDP, "SIP/2.0 408", NO_4320),
    kamailio(
        "a request that goes in circles is 482",
        BOTH,
        "SIP/2.0 483",
        "loops end by Max-Forwards only",
    ),
    kamailio(
        "the Max-Breadth of branches is no more in sum than that of the request",
        UDP,
        "in sum 18",
        NO_BREADTH,
    ),
    kamailio(
        "with a Max-Breadth of 1 there is one branch at a time, or 440",
        UDP,
        "a second branch meanwhile",
        NO_BREADTH,
    ),
    kamailio("a token that was changed is 403", TCP, "no token", NO_OUTBOUND),
    kamailio(
        "requests of the dialog go by the flow the Record-Route names",
        TCP,
        "no ACK",
        NO_OUTBOUND,
    ),
    kamailio("a REGISTER by an edge without outbound is 439", BOTH, "not 439", NO_OUTBOUND),
    kamailio("the 200 to a flow requires outbound", BOTH, "SIP/2.0 200", NO_OUTBOUND),
    kamailio("two flows in one REGISTER are 400", BOTH, "not 400", NO_OUTBOUND),
    kamailio(
        "a refusal of an instance is not asked again by its other flow",
        BOTH,
        "no final response",
        NO_OUTBOUND,
    ),
    kamailio(
        "of the flows of an instance one is tried at a time, 430 leads to the next",
        BOTH,
        "the other flow got",
        NO_OUTBOUND,
    ),
];
