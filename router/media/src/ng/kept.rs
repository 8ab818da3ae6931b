//! What a later process needs to go on with the calls of this one: which node has them, and who talks
//! to whom.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use viaduct_engine::Now;
use viaduct_engine::media::MediaFlags;

use super::calls::Call;
use super::nodes::NodeState;
use crate::call::Side;
use crate::dialog::Parties;
use crate::service::kept::{KeptError, decode, encode};

#[derive(Debug, Serialize, Deserialize)]
struct KeptCall {
    call_id: Box<[u8]>,
    caller: Box<[u8]>,
    callees: Vec<Box<[u8]>>,
    confirmed: bool,
    branches: bool,
    node: SocketAddr,
    offered_by: Option<Side>,
    is_open: bool,
    answered: bool,
    /// As a policy writes them.
    flags: String,
    begun_unix_ms: u64,
}

/// As octets, where a node has it.
pub(super) fn write(call_id: &[u8], call: &Call, nodes: &[NodeState]) -> Option<Vec<u8>> {
    let node = nodes.get(call.node?)?.config.address;
    Some(encode(&KeptCall {
        call_id: call_id.into(),
        caller: call.parties.caller.clone(),
        callees: call.parties.callees.clone(),
        confirmed: call.parties.confirmed,
        branches: call.branches,
        node,
        offered_by: call.offered_by,
        is_open: call.is_open,
        answered: call.answered,
        flags: call.flags.to_string(),
        begun_unix_ms: call.begun.unix_ms,
    }))
}

/// The call, with its Call-ID. Its node may be gone from the configuration.
pub(super) fn read(
    octets: &[u8],
    id: u64,
    now: Now,
    nodes: &[NodeState],
) -> Result<(Box<[u8]>, Call), KeptError> {
    let kept: KeptCall = decode(octets)?;
    let damaged = |text: String| KeptError::Damaged(text);
    let flags = MediaFlags::parse(&kept.flags).map_err(|error| damaged(error.to_string()))?;
    let node = nodes.iter().position(|node| node.config.address == kept.node);
    let node = node.ok_or_else(|| damaged(format!("there is no node {}", kept.node)))?;
    let parties = Parties { caller: kept.caller, callees: kept.callees, confirmed: kept.confirmed };
    let call = Call {
        parties,
        branches: kept.branches,
        node: Some(node),
        offered_by: kept.offered_by,
        is_open: kept.is_open,
        answered: kept.answered,
        begun: Now { mono_us: now.mono_us, unix_ms: kept.begun_unix_ms },
        aged_ms: now.unix_ms.saturating_sub(kept.begun_unix_ms),
        ..Call::new(id, now, flags)
    };
    Ok((kept.call_id, call))
}
