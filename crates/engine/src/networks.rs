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

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || inner(address).is_some_and(|inner| inner.is_link_local()),
    }
}

/// The address of the fourth version to which one of the sixth leads: mapped, or through a translator or tunnel (RFC 6052,
/// RFC 3056).
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, third, .., last, least] = address.segments();
    match (first, second) {
        (0x64, 0xff9b) => Some(Ipv4Addr::from_bits(u32::from(last) << 16 | u32::from(least))),
        (0x2002, _) => Some(Ipv4Addr::from_bits(u32::from(second) << 16 | u32::from(third))),
        _ => address.to_ipv4_mapped(),
    }
}

fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_documentation()
                || first == 0
                || first >= 240
                || (first == 100 && (64..128).contains(&second)))
        }
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => public(IpAddr::V4(inner)),
            None => {
                !(address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unique_local()
                    || address.is_unicast_link_local())
            }
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
        for address in
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "::1", "::ffff:10.0.0.1", "fe80::1"]
                .into_iter()
                .chain(["64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:a00:1::", "2002:7f00:1::1", "fd00::1"])
        {
            assert!(!none.allows(address.parse().unwrap()), "{address}");
        }
        assert!(loopback.allows("127.0.0.1".parse().unwrap()));
        assert!(none.allows("8.8.8.8".parse().unwrap()) && none.allows("64:ff9b::808:808".parse().unwrap()));
        // Without TLS nothing is called that is not named.
        assert!(loopback.names("127.0.0.1".parse().unwrap()) && !loopback.names("8.8.8.8".parse().unwrap()));
        let all = Networks::parse(&["0.0.0.0/0".to_owned()]).unwrap();
        for metadata in ["169.254.169.254", "64:ff9b::a9fe:a9fe", "::ffff:169.254.169.254"] {
            assert!(!all.allows(metadata.parse().unwrap()) && !all.names(metadata.parse().unwrap()), "{metadata}");
        }
    }
}
