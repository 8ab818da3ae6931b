//! What {{name}} decides, seen from outside. `viaduct policy test` runs this against a whole router
//! that listens on 192.0.2.1:5060 and serves example.com.

use viaduct_guest::testing::prelude::*;

#[viaduct::tests]
mod routes {
    use super::*;

    #[test]
    fn a_phone_registers_and_is_called() {
        let phone = Sip::register("alice@example.com").contact("sip:alice@192.0.2.4:5062");
        phone.from("192.0.2.4:5062").send().expect_status(200);

        let call = Sip::invite("alice@example.com").caller("bob@example.com").send();
        call.forwarded()
            .expect_request("INVITE sip:alice@192.0.2.4:5062")
            .expect_to("udp:192.0.2.4:5062");
    }

    #[test]
    fn somebody_without_a_phone_is_unavailable() {
        Sip::invite("bob@example.com").send().response().expect_status(480);
    }

    #[test]
    fn strangers_cannot_use_us_as_a_relay() {
        Sip::invite("sip:carol@203.0.113.5").send().response().expect_status(403);
        let routed = Sip::invite("alice@example.com").route("<sip:203.0.113.5;lr>").send();
        routed.response().expect_status(403);
    }
}
