//! Which addresses does a name in an address stand for?
//!
//! Operators name their bootstrap peers; the transports know numbers only. Names are looked up at every call, so a peer may
//! move.

use std::net::IpAddr;

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The name that an address starts with.
pub(super) fn name(address: &Multiaddr) -> Option<String> {
    match address.iter().next()? {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.into_owned()),
        _ => None,
    }
}

/// The addresses with a number for the name; none if nobody has that name.
pub(super) async fn resolve(address: Multiaddr) -> Vec<Multiaddr> {
    let Some(name) = name(&address) else { return vec![address] };
    // The port is the address's own business.
    let found = match tokio::net::lookup_host((name.as_str(), 0)).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(name, %error, "a bootstrap peer's name cannot be looked up");
            return Vec::new();
        }
    };
    let kind = address.iter().next();
    let wanted = found.map(|socket| socket.ip()).filter(|ip| match kind {
        Some(Protocol::Dns4(_)) => ip.is_ipv4(),
        Some(Protocol::Dns6(_)) => ip.is_ipv6(),
        _ => true,
    });
    let mut addresses: Vec<_> = wanted.map(|ip| with_number(&address, ip)).take(MAX_ADDRESSES).collect();
    addresses.dedup();
    addresses
}

fn with_number(address: &Multiaddr, ip: IpAddr) -> Multiaddr {
    std::iter::once(Protocol::from(ip)).chain(address.iter().skip(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_looked_up_and_a_number_is_left_alone() {
        let number: Multiaddr = "/ip4/192.0.2.1/tcp/9645".parse().unwrap();
        assert_eq!(resolve(number.clone()).await, [number]);
        let name: Multiaddr = "/dns4/localhost/tcp/9645".parse().unwrap();
        assert_eq!(resolve(name).await, ["/ip4/127.0.0.1/tcp/9645".parse().unwrap()]);
        assert!(resolve("/dns4/nobody.invalid/tcp/1".parse().unwrap()).await.is_empty());
    }
}
