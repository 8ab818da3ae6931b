//! The numbers of `kmod/uapi/viaduct.h`. A test compares them with that file.

pub(super) const FAMILY: &str = "viaduct";
pub(super) const FAMILY_VERSION: u8 = 1;
pub(super) const GROUP: &str = "events";

/// Declares constants that count from 0, as C's enums do.
macro_rules! count {
    ($($(#[$note:meta])* $list:ident: $kind:ty { $($name:ident),* $(,)? })*) => {
        $(count!(@each $kind, 0; $($name),*);
        #[cfg(test)]
        pub(super) const $list: &[(&str, $kind)] = &[$((stringify!($name), $name)),*];)*
    };
    (@each $kind:ty, $at:expr; $name:ident $(, $rest:ident)*) => {
        #[allow(dead_code)] // a whole list, also what is not asked for yet
        pub(super) const $name: $kind = $at;
        count!(@each $kind, $at + 1; $($rest),*);
    };
    (@each $kind:ty, $at:expr;) => {};
}

count! {
    COMMANDS: u8 {
        CMD_UNSPEC, CMD_INFO, CMD_ATTACH, CMD_DETACH, CMD_ADD, CMD_SET, CMD_DEL, CMD_GET, CMD_EVENT,
        CMD_DEVICE_ADD, CMD_DEVICE_DEL, CMD_RULE_ADD, CMD_RULE_DEL, CMD_RULE_GET,
    }
    MESSAGE: u16 {
        A_UNSPEC, A_PAD, A_VERSION, A_OWNER, A_GRACE_S, A_SESSION_LIST, A_SESSION, A_SESSIONS,
        A_SESSIONS_MAX, A_GENERATION, A_EVENT, A_DEVICE, A_RULE, A_RULES, A_RULES_MAX,
        A_RULES_GENERATION,
    }
    SESSION: u16 { S_UNSPEC, S_PAD, S_ID, S_OWNER, S_IDLE_S, S_LEG_A, S_LEG_B }
    LEG: u16 {
        L_UNSPEC, L_PAD, L_LOCAL_ADDR, L_LOCAL_PORT, L_PEER_ADDR, L_PEER_PORT, L_FLAGS, L_WINDOW_MS,
        L_SETTLE_MS, L_MIN_RANK, L_FORWARD, L_UP, L_PAYLOAD_TYPES, L_MAX_SIZE, L_DSCP, L_PRIORITY,
        L_PPS, L_PPS_BURST, L_BPS, L_BPS_BURST, L_LEARNED_ADDR, L_LEARNED_PORT, L_LOCKED, L_RANK,
        L_SEEN_MS, L_SSRC, L_TCLASS_SEEN, L_COUNTERS,
    }
    COUNTERS: u16 {
        C_UNSPEC, C_PAD, C_PACKETS, C_OCTETS, C_RTP, C_RTCP, C_UP, C_UP_LIMITED, C_CLASS,
        C_MALFORMED, C_SIZE, C_PAYLOAD_TYPE, C_FOREIGN, C_CANDIDATE, C_PREFIX, C_LIMITED,
        C_NO_PEER, C_NO_ROUTE, C_HOPS, C_NO_MEMORY,
    }
    RULE: u16 {
        R_UNSPEC, R_PAD, R_ID, R_OWNER, R_CLASS, R_PROTOCOLS, R_ADDR, R_PORT_FIRST, R_PORT_LAST, R_CPUS,
        R_PRIORITY, R_MARK, R_QUEUE, R_COUNTERS,
    }
    RULE_COUNTERS: u16 {
        RC_UNSPEC, RC_PAD, RC_MATCHED, RC_MOVED, RC_FULL, RC_OFFLINE,
        RC_BEFORE_STACK,
    }
}

pub(super) const STEER_SIP: u8 = 1;
pub(super) const STEER_RTP: u8 = 2;
pub(super) const PROTO_UDP: u32 = 1 << 0;
pub(super) const PROTO_TCP: u32 = 1 << 1;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::session::Counter;

    const HEADER: &str = include_str!("../../../../kmod/uapi/viaduct.h");

    /// The names of an enum of the header, in order, without what only counts them.
    fn in_header(name: &str) -> Vec<&'static str> {
        let at = HEADER.find(&format!("enum {name} {{")).unwrap();
        let body = HEADER.get(at..).unwrap();
        let body = body.get(..body.find("};").unwrap()).unwrap();
        body.lines()
            .filter_map(|line| line.trim().strip_prefix("VIADUCT_"))
            .filter(|line| !line.contains("_MAX ="))
            .filter_map(|line| line.split([',', ' ']).next())
            .collect()
    }

    #[test]
    fn the_numbers_are_those_of_the_header() {
        let here = |list: &[(&'static str, u16)]| list.iter().map(|(n, _)| *n).collect::<Vec<_>>();
        let commands: Vec<_> = COMMANDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(commands, in_header("viaduct_cmd"));
        assert_eq!(here(MESSAGE), in_header("viaduct_attr"));
        assert_eq!(here(SESSION), in_header("viaduct_session_attr"));
        assert_eq!(here(LEG), in_header("viaduct_leg_attr"));
        assert_eq!(here(COUNTERS), in_header("viaduct_counter"));
        assert_eq!(here(RULE), in_header("viaduct_rule_attr"));
        assert_eq!(here(RULE_COUNTERS), in_header("viaduct_rule_counter"));
        for defined in [
            format!("VIADUCT_STEER_SIP {STEER_SIP}\n"),
            format!("VIADUCT_STEER_RTP {STEER_RTP}\n"),
            format!("VIADUCT_PROTO_UDP (1U << {})\n", PROTO_UDP.trailing_zeros()),
            format!("VIADUCT_PROTO_TCP (1U << {})\n", PROTO_TCP.trailing_zeros()),
        ] {
            assert!(HEADER.contains(&format!("#define {defined}")), "{defined}");
        }
        assert_eq!(COUNTERS.len(), usize::from(C_PACKETS) + Counter::ALL.len());
    }
}
