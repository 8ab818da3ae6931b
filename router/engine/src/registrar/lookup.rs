//! `lookup()`: the targets of a request to an AoR (RFC 3261 16.5, RFC 3327 5.4).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use viaduct_message::uri::Host;
use viaduct_message::{Method, NameAddr, Uri};

use super::home::{Home, route_home};
use super::save::method_bit;
use super::{Binding, BindingFields, BindingSet, LookupFlags};
use crate::flow::{ConnId, Flow, Transport};
use crate::location::AorKey;
use crate::path::{first_value, parse_received};
use crate::settings::Settings;

/// One target: where a branch goes. Used for looked-up contacts and for those a policy names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Becomes the Request-URI.
    pub uri: Box<[u8]>,
    /// Route values to go in front of those in the request, joined by `, `; empty: none.
    pub route: Box<[u8]>,
    /// Next hop URI, instead of the first Route or the Request-URI; empty: none.
    pub destination: Box<[u8]>,
    /// Send over exactly this flow (a phone reached by the connection it registered with).
    pub flow: Option<Flow>,
    /// Socket to send from, where the binding says one that fits (R-P18).
    pub local: Option<SocketAddr>,
    /// Priority in thousandths; targets of equal q are tried together, higher first.
    pub q_milli: u16,
    /// Other ways to the same phone, best first: tried one after another where this one fails with
    /// 430 or 408 (RFC 5626 7).
    pub flows: Vec<Target>,
    /// What the policy stored with its binding; empty: nothing.
    pub attributes: Box<[u8]>,
    /// The binding it was made of, where a 430 can end that.
    pub bound: Option<Bound>,
}

/// A binding as it was when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its AoR.
    pub key: Arc<AorKey>,
    /// When it was last refreshed, milliseconds since 1970 UTC. A later REGISTER makes it another.
    pub modified_ms: u64,
}

/// What a lookup is for.
#[derive(Clone, Copy)]
pub struct LookupInput<'a> {
    /// Method of the request.
    pub method: Method,
    /// Flags of the call.
    pub flags: &'a LookupFlags,
    /// Milliseconds since 1970 UTC.
    pub unix_ms: u64,
    /// Only the phone with this `+sip.instance`: the request names it by a GRUU (RFC 5627 4).
    pub instance: Option<&'a [u8]>,
    /// Topmost Path values that name us by these settings are left out (`path_check_local`, R-P19).
    pub ours: Option<&'a Settings>,
    /// Table and AoR of the bindings, for [`Target::bound`].
    pub key: Option<(&'a Arc<str>, &'a [u8])>,
}

/// Why there is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupFault {
    /// No bindings.
    #[error("no bindings")]
    NotFound,
    /// Bindings, but none that allows the method.
    #[error("no binding allows the method")]
    Method,
    /// A GRUU that was never made here, or whose registration has ended: 404 (RFC 5627 4).
    #[error("no such GRUU")]
    Gruu,
}

/// Targets in order: q descending (unset is 1000), newest first among equals; or by latency.
/// Path becomes the Route set with the topmost value as next hop; without Path the received URI is
/// the next hop, over the very connection the REGISTER came by where it was a stream (R-P9). A phone
/// that registered at another router of the cluster is reached by way of that one.
///
/// A phone (`+sip.instance`) is one target however many flows it has registered, the best of them
/// (RFC 5626 7). Left out are contacts nothing can be sent to: URIs other than `sip` and `sips`, a
/// Path that does not parse, and phones behind NAT on a stream whose connection a restart has
/// taken.
pub fn lookup(set: &BindingSet, input: &LookupInput<'_>) -> Result<Vec<Target>, LookupFault> {
    let flags = input.flags;
    let mut refused = false;
    let mut key = None;
    let mut found: Vec<(&Binding, Target)> = Vec::with_capacity(set.bindings.len());
    // Latest in the set first: the sort below is stable and keeps that among equals.
    for binding in set.bindings.iter().rev().filter(|binding| binding.is_live(input.unix_ms)) {
        let fields = binding.fields();
        if input.instance.is_some_and(|wanted| wanted != fields.instance)
            || flags.ua.as_ref().is_some_and(|filter| !filter.matches(fields.user_agent))
            || is_slower(binding, flags.max_ping_latency_us)
        {
            continue;
        }
        if flags.method_filtering && !allows(&fields, input.method) {
            refused = true;
            continue;
        }
        if let Some(mut target) = target(&fields, input.ours, binding.home()) {
            target.bound = bound(&target, &fields, input.key, &mut key);
            found.push((binding, target));
        }
    }
    if found.is_empty() {
        return Err(if refused { LookupFault::Method } else { LookupFault::NotFound });
    }
    found.sort_by_key(|(binding, target)| {
        let latency_us = binding.ping_us().filter(|_| flags.sort_by_latency);
        let newest = std::cmp::Reverse((target.q_milli, binding.fields().modified_ms));
        (latency_us.unwrap_or(u32::MAX), newest)
    });
    let mut targets = one_a_phone(found);
    if flags.no_branches || input.instance.is_some() {
        targets.truncate(1);
    }
    Ok(targets)
}

/// The binding of a target that a flow leads to: one the phone has named, its connection, or one
/// that a proxy on the way has. `made`: the key, once it was needed.
fn bound(
    target: &Target,
    fields: &BindingFields<'_>,
    key: Option<(&Arc<str>, &[u8])>,
    made: &mut Option<Arc<AorKey>>,
) -> Option<Bound> {
    let by_flow = fields.reg_id != 0 || target.flow.is_some() || !target.route.is_empty();
    let (table, aor) = key.filter(|_| by_flow)?;
    let make = || Arc::new(AorKey { table: Arc::clone(table), aor: aor.into() });
    let key = Arc::clone(made.get_or_insert_with(make));
    Some(Bound { key, modified_ms: fields.modified_ms })
}

/// RFC 5626 7: never more than one target of a phone at a time. The others wait in its `flows`.
fn one_a_phone(found: Vec<(&Binding, Target)>) -> Vec<Target> {
    let mut targets: Vec<(&[u8], Target)> = Vec::with_capacity(found.len());
    for (binding, target) in found {
        let instance = binding.fields().instance;
        let same = |(other, _): &&mut (&[u8], Target)| !instance.is_empty() && *other == instance;
        match targets.iter_mut().find(same) {
            Some((_, first)) => first.flows.push(target),
            None => targets.push((instance, target)),
        }
    }
    targets.into_iter().map(|(_, target)| target).collect()
}

/// Did the last ping take longer than allowed? Nothing is known of who was not pinged.
fn is_slower(binding: &Binding, most_us: Option<u32>) -> bool {
    most_us.zip(binding.ping_us()).is_some_and(|(most_us, ping_us)| ping_us > most_us)
}

/// The way to one binding's contact; `None` where nothing can be sent to it.
pub fn target_of(binding: &Binding) -> Option<Target> {
    target(&binding.fields(), None, binding.home())
}

/// The same, as if the router the phone registered at had nothing that leads to it: by its Path, or
/// straight to its contact.
pub fn target_without_home(binding: &Binding) -> Option<Target> {
    target(&binding.fields(), None, None)
}

/// Methods unknown to us are not in the mask: the UA decides.
fn allows(fields: &BindingFields<'_>, method: Method) -> bool {
    let bit = method_bit(method);
    bit == 0 || fields.methods.is_none_or(|methods| methods & bit != 0)
}

fn target(
    fields: &BindingFields<'_>,
    ours: Option<&Settings>,
    home: Option<&Arc<Home>>,
) -> Option<Target> {
    if !is_sip(fields.contact) {
        return None;
    }
    let mut target = Target {
        uri: fields.contact.into(),
        q_milli: fields.q_milli.unwrap_or(1000),
        attributes: fields.attributes.into(),
        ..Target::default()
    };
    if let Some(route) = route_home(home, fields) {
        target.route = route;
        return Some(target);
    }
    let mut path = fields.path;
    while let Some((first, rest)) = first_value(path) {
        let first = NameAddr::parse(first).ok()?.parse_uri().ok()?;
        if ours.is_some_and(|settings| settings.is_ours(&first)) {
            path = rest; // R-P19
            continue;
        }
        target.route = path.into();
        // R-P18: the topmost Path value is the next hop, not the phone.
        target.local = fits(&first, fields).then_some(fields.local);
        return Some(target);
    }
    let source = parse_received(fields.received);
    if fields.transport.is_reliable() {
        let remote = source.map(|(_, remote)| remote);
        target.flow = remote.filter(|_| fields.conn != ConnId::NONE).map(|remote| Flow {
            transport: fields.transport,
            local: fields.local,
            remote,
            conn: fields.conn,
        });
        // R-P9: nobody can connect to a phone behind NAT.
        if fields.nat && target.flow.is_none() {
            return None;
        }
    }
    if fields.nat {
        target.destination = fields.received.into();
        let fits = source.is_some_and(|(transport, remote)| {
            transport == fields.transport && same_family(remote.ip(), fields.local)
        });
        target.local = fits.then_some(fields.local);
    } else {
        let contact = Uri::parse(fields.contact).ok()?;
        target.local = fits(&contact, fields).then_some(fields.local);
    }
    Some(target)
}

fn is_sip(uri: &[u8]) -> bool {
    let scheme = uri.split(|byte| *byte == b':').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips")
}

/// Can the socket of the REGISTER send there? Behind a name may be either family, so only a number
/// is known to fit.
fn fits(uri: &Uri<'_>, fields: &BindingFields<'_>) -> bool {
    let transport = match uri.transport() {
        Some(name) => Transport::from_name(name),
        None if uri.scheme == viaduct_message::Scheme::Sips => Some(Transport::Tls),
        None => Some(Transport::Udp),
    };
    let Host::Ip(ip) = uri.host else { return false };
    transport == Some(fields.transport) && same_family(ip, fields.local)
}

fn same_family(ip: IpAddr, local: SocketAddr) -> bool {
    ip.to_canonical().is_ipv4() == local.ip().to_canonical().is_ipv4()
}

#[cfg(test)]
mod tests;
