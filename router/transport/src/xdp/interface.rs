//! Interfaces as the kernel tells them: addresses, link state, what is attached.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, VlanProtocol,
};

use super::netlink::Netlink;
use super::offload;
use super::packet::Mac;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// The kernel's number of it; a returning interface gets a new one.
    pub index: u32,
    /// Hardware address; all zero where there is none.
    pub mac: Mac,
    /// Longest IP packet, bytes.
    pub mtu: usize,
    /// Up, with a carrier.
    pub is_up: bool,
    /// It leads nowhere but to this machine.
    pub is_loopback: bool,
    /// Receive queues it has at most.
    pub queues: u32,
    /// Number of the interface under it and the VLAN, where this is the interface of an 802.1Q VLAN
    /// and that under it is in the same network namespace.
    pub vlan_of: Option<(u32, u16)>,
    /// It is under the interface of a VLAN, and takes the tags off before our program sees them.
    pub takes_tags_off: bool,
    /// The attached XDP program; 0: none.
    pub program: u32,
    /// Its addresses.
    pub addrs: Vec<IpAddr>,
}

/// All interfaces of this network namespace.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut netlink = Netlink::open()?;
    let mut found: Vec<Interface> = Vec::new();
    netlink.dump(Message::GetLink(LinkMessage::default()), &mut |message| {
        if let Message::NewLink(link) = message {
            found.push(read_link(&link));
        }
    })?;
    netlink.dump(Message::GetAddress(AddressMessage::default()), &mut |message| {
        let Message::NewAddress(address) = message else { return };
        let interface = found.iter_mut().find(|i| i.index == address.header.index);
        if let (Some(interface), Some(addr)) = (interface, own_address(&address)) {
            interface.addrs.push(addr);
        }
    })?;
    let under: Vec<u32> = found.iter().filter_map(|i| i.vlan_of).map(|(index, _)| index).collect();
    for interface in found.iter_mut().filter(|i| under.contains(&i.index)) {
        // It may have gone meanwhile, which the kernel tells soon.
        interface.takes_tags_off = offload::takes_tags_off(&interface.name).unwrap_or(false);
    }
    Ok(found)
}

fn read_link(link: &LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut found = Interface {
        index: link.header.index,
        is_up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        is_loopback: flags.contains(LinkFlags::Loopback),
        queues: 1,
        ..Interface::default()
    };
    let (mut under, mut vlan, mut is_elsewhere) = (None, None, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(mac) => {
                found.mac = mac.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::Mtu(mtu) => found.mtu = usize::try_from(*mtu).unwrap_or(usize::MAX),
            LinkAttribute::NumRxQueues(queues) => found.queues = *queues,
            LinkAttribute::Link(index) => under = Some(*index),
            // Numbers of another network namespace mean other interfaces here.
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => vlan = infos.iter().find_map(vlan_id),
            LinkAttribute::Xdp(xdp) => {
                found.program = xdp.iter().find_map(program_id).unwrap_or(0);
            }
            _ => {}
        }
    }
    found.vlan_of = under.zip(vlan).filter(|_| !is_elsewhere);
    found
}

fn vlan_id(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vlan(vlan)) = info else { return None };
    // Frames of service VLANs (802.1ad) have another tag than we write.
    if vlan.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)) {
        return None;
    }
    vlan.iter().find_map(|v| if let InfoVlan::Id(id) = v { Some(*id) } else { None })
}

fn program_id(xdp: &LinkXdp) -> Option<u32> {
    if let LinkXdp::ProgId(id) = xdp { Some(*id) } else { None }
}

/// On point-to-point links `Address` is the peer's and `Local` ours.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_802_1q_vlan_of_this_namespace_is_one() {
        let vlan_of = |protocol, more: &[LinkAttribute]| {
            let vlan = vec![InfoVlan::Id(100), InfoVlan::Protocol(protocol)];
            let mut link = LinkMessage::default();
            let info = LinkAttribute::LinkInfo(vec![LinkInfo::Data(InfoData::Vlan(vlan))]);
            link.attributes = vec![LinkAttribute::Link(7), info];
            link.attributes.extend_from_slice(more);
            read_link(&link).vlan_of
        };
        assert_eq!(vlan_of(VlanProtocol::Ieee8021Q, &[]), Some((7, 100)));
        assert_eq!(vlan_of(VlanProtocol::Ieee8021Q, &[LinkAttribute::LinkNetNsId(0)]), None);
        assert_eq!(vlan_of(VlanProtocol::Ieee8021Ad, &[]), None);
    }
}
