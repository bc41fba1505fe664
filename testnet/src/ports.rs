//! Which ports are free for the validators?
//!
//! Taken below the range that systems give to outgoing connections, so that a validator which is down does not lose its port to
//! somebody's connection before it is back.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Linux gives out 32768 and above, others 49152 and above; below 16384 live well-known services.
const FIRST: u16 = 16_384;
const COUNT: u16 = 32_768 - FIRST;

/// Where this process looks next, so that two networks in one process do not race for the same ports.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// No ports are free.
#[derive(Debug, thiserror::Error)]
#[error("found only {found} of {wanted} free ports in {FIRST}..32768 on 127.0.0.1")]
pub struct NoPorts {
    wanted: usize,
    found: usize,
}

/// Finds `wanted` loopback addresses that nobody listens on.
pub fn free(wanted: usize) -> Result<Vec<SocketAddr>, NoPorts> {
    // Processes start at different places; the rest is the test below.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0);
    let mut found = Vec::with_capacity(wanted);
    for _ in 0..COUNT {
        if found.len() == wanted {
            break;
        }
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(next)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            found.push(address);
        }
    }
    if found.len() < wanted {
        return Err(NoPorts { wanted, found: found.len() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, sync::Mutex};

    /// One test begins the search anew, which must not be in the middle of the other's.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn ports_are_distinct_and_can_be_listened_on() {
        let _turn = TURN.lock();
        let first = free(8).expect("ports are free");
        let second = free(8).expect("ports are free");
        let all: BTreeSet<_> = first.iter().chain(&second).collect();
        assert_eq!(all.len(), 16);
        for address in all {
            TcpListener::bind(address).expect("nobody listens there");
        }
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let _turn = TURN.lock();
        let taken = free(1).expect("a port is free")[0];
        let _listener = TcpListener::bind(taken).expect("nobody listens there");
        // Once around, so that the search comes by again.
        NEXT.store(0, Ordering::Relaxed);
        let found = free(64).expect("ports are free");
        assert!(!found.contains(&taken));
    }
}
