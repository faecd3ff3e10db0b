//! Networks: which addresses may be called, and which proxies are believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A list of networks (`127.0.0.0/8`).
#[derive(Debug, Clone, Default)]
pub struct Networks(Vec<(IpAddr, u8)>);

impl Networks {
    pub fn parse(list: &[String]) -> Result<Self, String> {
        let networks = list.iter().map(|text| {
            let wrong = || format!("`{text}` is no network: write `127.0.0.0/8`");
            let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let bits: u8 = bits.parse().map_err(|_| wrong())?;
            if bits > if address.is_ipv4() { 32 } else { 128 } { Err(wrong()) } else { Ok((address, bits)) }
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it may be called.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        public(address) || (!link_local(address) && self.contains(address))
    }

    /// Whether the operator names it: then it may be called without TLS, too.
    pub(crate) fn names(&self, address: IpAddr) -> bool {
        !link_local(address) && self.contains(address)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them holds this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(network, bits)| inside(address, *network, *bits))
    }
}

fn inside(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// Addresses of one link, and those under which clouds hand out credentials of their machines: never called, whatever is allowed.
fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_link_local() || [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)].contains(&address)
        }
        IpAddr::V6(address) => {
            const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            address.is_unicast_link_local()
                || address == METADATA
                || embedded(address).is_some_and(|inner| link_local(IpAddr::V4(inner)))
        }
    }
}

/// The address of the old kind that one of the new kind leads to: mapped, compatible, behind NAT64, or through 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = Ipv4Addr::from_bits(address.to_bits() as u32);
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(low),
        [0x2002, ..] => Some(Ipv4Addr::from_bits((address.to_bits() >> 80) as u32)),
        _ => None,
    }
}

/// Whether it is somewhere in the open internet (RFC 6890 and what came after it).
fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_documentation()
                || first == 0
                || first >= 240
                || (first == 100 && (64..128).contains(&second))
                || (first == 198 && (18..20).contains(&second))
                || (first, second, third) == (192, 0, 0)
                || (first, second, third) == (192, 88, 99))
        }
        IpAddr::V6(address) => match (embedded(address), address.segments()) {
            (Some(inner), _) => public(IpAddr::V4(inner)),
            // Protocols' own (Teredo among them) and examples in documents.
            (None, [0x2001, second, ..]) => second >= 0x200 && second != 0xdb8,
            (None, [0x3fff, second, ..]) => second >= 0x1000,
            (None, [first, ..]) => (0x2000..0x4000).contains(&first),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_called_only_where_the_operator_allows_them() {
        let none = Networks::default();
        let loopback = Networks::parse(&["127.0.0.0/8".to_owned()]).unwrap();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "2002:c0a8:1::1",
            "3fff::1",
            "4000::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!none.allows(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a02:6b8::1",
        ] {
            assert!(none.allows(address.parse().unwrap()), "{address}");
        }
        assert!(loopback.allows("127.0.0.1".parse().unwrap()));
        // Without TLS nothing is called that is not named.
        assert!(loopback.names("127.0.0.1".parse().unwrap()) && !loopback.names("8.8.8.8".parse().unwrap()));
        let all = Networks::parse(&["0.0.0.0/0".to_owned(), "::/0".to_owned()]).unwrap();
        assert!(all.allows("10.0.0.1".parse().unwrap()) && all.allows("fd00::1".parse().unwrap()));
        for never in [
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!all.allows(never.parse().unwrap()) && !all.names(never.parse().unwrap()), "{never}");
        }
    }
}
