//! Whose address a request has. `X-Forwarded-For` is what anybody may write: only what a trusted proxy added to it counts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use uzel_engine::Networks;

/// The nearest address on the way that is no proxy of ours.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &Networks) -> IpAddr {
    let mut known = peer;
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let mut named = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',').map(str::trim));
    // Each proxy writes at the end whom it got the request from.
    while proxies.contains(known) {
        match named.next().and_then(read) {
            Some(before) => known = before,
            None => break,
        }
    }
    known
}

/// An address, with or without a port.
fn read(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    let bare = text.trim_matches(['[', ']']).parse::<IpAddr>();
    bare.or_else(|_| with_port()).ok().map(|address| address.to_canonical())
}

/// Who is counted as one: whoever has an address of IPv6 has the 64 bits behind it too.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let proxies: Vec<String> = proxies.iter().map(|&network| network.to_owned()).collect();
        client(peer.parse().unwrap(), &headers, &Networks::parse(&proxies).unwrap()).to_string()
    }

    #[test]
    fn what_a_stranger_writes_into_x_forwarded_for_does_not_count() {
        assert_eq!(of("203.0.113.9", &["198.51.100.1"], &[]), "203.0.113.9");
        assert_eq!(of("203.0.113.9", &["198.51.100.1"], &["10.0.0.0/8"]), "203.0.113.9");
        // The proxy adds whom it saw; what stood there before is the client's own word.
        assert_eq!(of("10.0.0.1", &["8.8.8.8, 203.0.113.9"], &["10.0.0.0/8"]), "203.0.113.9");
    }

    #[test]
    fn the_way_is_followed_through_trusted_proxies_only() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"];
        assert_eq!(of("10.0.0.1", &["1.2.3.4, 203.0.113.9", "10.0.0.2"], &trusted), "203.0.113.9");
        assert_eq!(of("2001:db8::1", &["[2001:db9::7]:443"], &trusted), "2001:db9::7");
        assert_eq!(of("10.0.0.1", &["203.0.113.9:5123"], &trusted), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &["203.0.113.9, garbage"], &trusted), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &[], &trusted), "10.0.0.1");
    }
}
