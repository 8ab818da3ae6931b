//! Names of what the engine holds: slots with generations, and the tokens made of them.

use crate::io::Token;

/// A slot of a slab. The generation tells a new tenant from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// A response of this server transaction could not be sent.
    Server(Id),
    /// The request of this client transaction could not be sent.
    Client(Id),
    /// This server transaction waits for its commit.
    Commit(Id),
    /// This server transaction waits for an answer.
    Ask(Id),
    /// This branch of a server transaction waits for a name.
    Resolve(Id, u8),
    /// A request forwarded without state waits for a name.
    Stray(Id),
    /// A response of this server transaction waits for its commit.
    Reply(Id),
    /// A ping waits for a name.
    Ping(Id),
    /// This server transaction waits for the media relay.
    Media(Id),
    /// This branch of a server transaction waits for the media relay.
    BranchMedia(Id, u8),
    /// A response of this server transaction waits for the media relay.
    ReplyMedia(Id),
    /// A request forwarded without state waits for the media relay.
    StrayMedia(Id),
}

/// Bits of a generation that fit a token.
const GENERATION: u32 = 0x000f_ffff;

impl Ticket {
    /// Four bits of kind, eight of branch, twenty of generation, thirty-two of slot.
    pub(crate) fn token(self) -> Token {
        let (kind, id, branch) = match self {
            Ticket::Server(id) => (1u64, id, 0u8),
            Ticket::Client(id) => (2, id, 0),
            Ticket::Commit(id) => (3, id, 0),
            Ticket::Resolve(id, branch) => (4, id, branch),
            Ticket::Stray(id) => (5, id, 0),
            Ticket::Reply(id) => (6, id, 0),
            Ticket::Ping(id) => (7, id, 0),
            Ticket::Ask(id) => (8, id, 0),
            Ticket::Media(id) => (9, id, 0),
            Ticket::BranchMedia(id, branch) => (10, id, branch),
            Ticket::ReplyMedia(id) => (11, id, 0),
            Ticket::StrayMedia(id) => (12, id, 0),
        };
        let generation = u64::from(id.generation & GENERATION);
        Token(kind << 60 | u64::from(branch) << 52 | generation << 32 | u64::from(id.slot))
    }

    /// The ticket of a token; the generation of its id has twenty bits, see [`Id::is`].
    pub(crate) fn of(token: Token) -> Option<Ticket> {
        let slot = token.0 as u32;
        let generation = (token.0 >> 32) as u32 & GENERATION;
        let id = Id { slot, generation };
        match token.0 >> 60 {
            1 => Some(Ticket::Server(id)),
            2 => Some(Ticket::Client(id)),
            3 => Some(Ticket::Commit(id)),
            4 => Some(Ticket::Resolve(id, (token.0 >> 52) as u8)),
            5 => Some(Ticket::Stray(id)),
            6 => Some(Ticket::Reply(id)),
            7 => Some(Ticket::Ping(id)),
            8 => Some(Ticket::Ask(id)),
            9 => Some(Ticket::Media(id)),
            10 => Some(Ticket::BranchMedia(id, (token.0 >> 52) as u8)),
            11 => Some(Ticket::ReplyMedia(id)),
            12 => Some(Ticket::StrayMedia(id)),
            _ => None,
        }
    }
}

impl Id {
    /// Does a tenant's generation match that of this id, which may come from a token?
    pub(crate) fn is(self, tenant: u32) -> bool {
        self.generation & GENERATION == tenant & GENERATION
    }
}

#[cfg(test)]
mod tests {
    use super::{Id, Ticket};
    use crate::io::Token;

    #[test]
    fn a_ticket_survives_its_token() {
        let id = Id { slot: u32::MAX, generation: 0x000a_bcde };
        for ticket in [
            Ticket::Server(id),
            Ticket::Client(id),
            Ticket::Commit(id),
            Ticket::Resolve(id, 255),
            Ticket::Stray(id),
            Ticket::Reply(id),
            Ticket::Ping(id),
            Ticket::Ask(id),
            Ticket::Media(id),
            Ticket::BranchMedia(id, 255),
            Ticket::ReplyMedia(id),
            Ticket::StrayMedia(id),
        ] {
            assert_eq!(Ticket::of(ticket.token()), Some(ticket));
        }
        assert_eq!(Ticket::of(Token(0)), None);
    }
}
