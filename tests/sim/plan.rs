//! What happens when: made from a seed, and small enough to be taken apart when it fails.

use crate::dice::Dice;
use crate::policy::Role;

/// When the faults end, microseconds. Plans have nothing later.
pub(crate) const FAULTS_END_US: u64 = 180_000_000;

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Datagrams in a thousand that are lost.
    pub(crate) lost: u64,
    /// Datagrams in a thousand that come twice.
    pub(crate) doubled: u64,
    /// Most a datagram is late, microseconds: later ones overtake it.
    pub(crate) late_us: u64,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A phone sends REGISTER, and keeps itself registered from then on.
    Register { phone: usize },
    /// A phone takes its registration back.
    Unregister { phone: usize },
    /// A phone calls a user; `patience_us` later it sends CANCEL, where nobody has answered.
    Call { phone: usize, user: usize, patience_us: u64 },
    /// A router dies, and is there again so much later. What its store was writing may be on the
    /// disk or not.
    Crash { router: Role, down_us: u64, written: bool },
    /// The registrar's store refuses every write for a while.
    StoreDown { for_us: u64 },
    /// The routers do not reach each other for a while.
    Cut { for_us: u64 },
    /// Some of a router's policy runs trap for a while.
    Traps { router: Role, permille: u64, for_us: u64 },
    /// Another version of a router's policy is deployed.
    Swap { router: Role },
    /// A router's calendar clock jumps.
    Jump { router: Role, by_ms: i64 },
    /// The NAT in front of a phone forgets where it is.
    Rebind { phone: usize },
    /// A phone's streams break.
    Reset { phone: usize },
    /// What carries the registrar's media loses all sessions, and does not say so.
    RelayLoses,
    /// It takes no new ones for a while.
    RelayFull { for_us: u64 },
    /// An operator ends the media of a phone's last call.
    Kill { phone: usize },
}

/// A phone as the plan wants it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhonePlan {
    /// Whose it is.
    pub(crate) user: usize,
    /// Behind a NAT that lets in only who was written to.
    pub(crate) nat: bool,
    /// By way of the edge proxy, or directly to the registrar.
    pub(crate) by_edge: bool,
    /// Speaks TCP.
    pub(crate) stream: bool,
    /// Expiry it asks for, seconds.
    pub(crate) expires_s: u64,
}

/// Everything that is decided before the simulation begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) phones: Vec<PhonePlan>,
    pub(crate) users: usize,
    /// For so many calls the registrar's media relay has room; 0: there is none, and phones
    /// describe no media.
    pub(crate) media: u16,
    /// When, and what; sorted.
    pub(crate) acts: Vec<(u64, Act)>,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Plan {
        let mut dice = Dice::new(seed, 1);
        let calm = dice.permille(150);
        let weather = match calm {
            true => Weather { late_us: 20_000, ..Weather::default() },
            false => Weather {
                lost: dice.below(200),
                doubled: dice.below(100),
                late_us: dice.between(1_000, 700_000),
            },
        };
        let users = dice.between(1, 3) as usize;
        let media = match dice.below(10) {
            0..=2 => 0,
            3..=5 => dice.between(3, 6) as u16,
            _ => 50,
        };
        let phones: Vec<PhonePlan> = (0..dice.between(2, 5))
            .map(|n| PhonePlan {
                user: n as usize % users,
                nat: dice.permille(600),
                by_edge: dice.permille(600),
                stream: dice.permille(300),
                expires_s: dice.between(60, 120),
            })
            .collect();
        let mut acts: Vec<(u64, Act)> = (0..phones.len())
            .map(|phone| (dice.below(20_000_000), Act::Register { phone }))
            .collect();
        for _ in 0..dice.between(4, 24) {
            let at = dice.between(1_000_000, FAULTS_END_US - 1);
            acts.push((at, act(&mut dice, phones.len() as u64, users as u64, media > 0)));
        }
        acts.sort_by_key(|(at, _)| *at);
        Plan { seed, weather, phones, users, media, acts }
    }
}

fn act(dice: &mut Dice, phones: u64, users: u64, media: bool) -> Act {
    let phone = dice.below(phones) as usize;
    let router = if dice.permille(400) { Role::Edge } else { Role::Registrar };
    match dice.below(if media { 26 } else { 21 }) {
        0..=8 => Act::Call {
            phone,
            user: dice.below(users) as usize,
            patience_us: dice.between(1_000_000, 40_000_000),
        },
        9 => Act::Unregister { phone },
        10 => Act::Register { phone },
        11 | 12 => Act::Crash {
            router,
            down_us: dice.between(10_000, 20_000_000),
            written: dice.permille(500),
        },
        13 => Act::StoreDown { for_us: dice.between(10_000, 30_000_000) },
        14 => Act::Cut { for_us: dice.between(10_000, 30_000_000) },
        15 => Act::Traps {
            router,
            permille: dice.between(100, 1_000),
            for_us: dice.between(100_000, 20_000_000),
        },
        16 | 17 => Act::Swap { router },
        18 => {
            // Mostly what a time server mends; now and then what a person mends.
            let most_ms = if dice.permille(100) { 900_000 } else { 2_000 };
            Act::Jump { router, by_ms: dice.between(0, 2 * most_ms) as i64 - most_ms as i64 }
        }
        19 => Act::Rebind { phone },
        20 => Act::Reset { phone },
        21 => Act::RelayLoses,
        22 => Act::RelayFull { for_us: dice.between(100_000, 20_000_000) },
        23 => Act::Kill { phone },
        // More calls, as there is more to break.
        _ => Act::Call {
            phone,
            user: dice.below(users) as usize,
            patience_us: dice.between(1_000_000, 120_000_000),
        },
    }
}
