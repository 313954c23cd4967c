//! From which address a request comes, as far as that can be known.
//!
//! Anyone can write anything into `X-Forwarded-For`. A proxy appends the address that it talks to, so
//! only what trusted proxies appended counts: read from the right, up to the first address that is no
//! trusted proxy.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

use crate::config::TrustedProxies;

/// The client's address, in the extensions of every request that came through the server. IPv4
/// addresses are IPv4, also where the socket is an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row that are followed. More of them is a forgery or a loop.
const HOPS_MAX: usize = 32;

impl ClientIp {
    /// * `peer` — the other end of the connection
    /// * `headers` — of the request; read only if the peer is trusted
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let mut client = peer.to_canonical();
        if !trusted.contains(client) {
            return Self(client);
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = values.flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
        for hop in hops.take(HOPS_MAX) {
            // What stands left of something unreadable was vouched for by nobody who can be known.
            let Some(address) = address(hop) else { break };
            client = address;
            if !trusted.contains(client) {
                break;
            }
        }
        Self(client)
    }
}

/// An address, with or without a port, with or without brackets.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    let address = address.or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;
    use crate::config::Config;

    fn trusting(networks: &str) -> TrustedProxies {
        let toml = format!("trusted_proxies = {networks}");
        let config: Config = Figment::from(Toml::string(&toml)).extract().expect("valid");
        config.trusted_proxies
    }

    fn client(peer: &str, forwarded: &[&[u8]], trusted: &TrustedProxies) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value).expect("a header value"));
        }
        let peer = peer.parse().expect("an address");
        ClientIp::of(peer, &headers, trusted).0.to_string()
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_clients() {
        let trusted = trusting("['10.0.0.0/8', 'fd00::/8']");
        let cases: &[(&str, &[&[u8]], &str)] = &[
            // Without a proxy: whatever the header says.
            ("203.0.113.9", &[], "203.0.113.9"),
            ("203.0.113.9", &[b"198.51.100.1"], "203.0.113.9"),
            ("2001:db8::9", &[b"10.0.0.1"], "2001:db8::9"),
            ("::ffff:203.0.113.9", &[b"198.51.100.1"], "203.0.113.9"),
            // Behind one.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[b"198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &[b"198.51.100.1"], "198.51.100.1"),
            ("fd00::1", &[b"2001:db8::7"], "2001:db8::7"),
            // Behind several, in one header and in two.
            ("10.0.0.1", &[b"198.51.100.1, 10.0.0.3,10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &[b"198.51.100.1", b"10.0.0.3, 10.0.0.2"], "198.51.100.1"),
            // The client wrote the left part itself.
            ("10.0.0.1", &[b"127.0.0.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &[b"10.0.0.7, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &[b"127.0.0.1", b"198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            // Notations.
            ("10.0.0.1", &[b"198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &[b"[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &[b"[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &[b"::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &[b" \t198.51.100.1 "], "198.51.100.1"),
            // A client inside, through proxies only.
            ("10.0.0.1", &[b"10.0.0.4, 10.0.0.3"], "10.0.0.4"),
            // Garbage: the last address that somebody trusted wrote.
            ("10.0.0.1", &[b""], "10.0.0.1"),
            ("10.0.0.1", &[b"unknown"], "10.0.0.1"),
            ("10.0.0.1", &[b"unix:"], "10.0.0.1"),
            ("10.0.0.1", &[b"unix:/run/proxy.sock"], "10.0.0.1"),
            ("10.0.0.1", &[b"_hidden"], "10.0.0.1"),
            ("10.0.0.1", &[b"\xff\xfe"], "10.0.0.1"),
            ("10.0.0.1", &[b"198.51.100.1, unix:"], "10.0.0.1"),
            ("10.0.0.1", &[b"198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[b"198.51.100.1,"], "10.0.0.1"),
            ("10.0.0.1", &[b"198.51.100.1.5"], "10.0.0.1"),
            ("10.0.0.1", &[b"fe80::1%eth0"], "10.0.0.1"),
            ("10.0.0.1", &[b"999.1.1.1"], "10.0.0.1"),
        ];
        for (peer, forwarded, expected) in cases {
            assert_eq!(client(peer, forwarded, &trusted), *expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        let forwarded: [&[u8]; 1] = [b"198.51.100.1"];
        for peer in ["127.0.0.1", "::1", "10.0.0.1"] {
            assert_eq!(client(peer, &forwarded, &TrustedProxies::default()), peer);
        }
    }

    #[test]
    fn endless_chains_are_not_followed() {
        let trusted = trusting("'10.0.0.0/8'");
        let chain = format!("198.51.100.1{}", ", 10.0.0.2".repeat(1000));
        assert_eq!(client("10.0.0.1", &[chain.as_bytes()], &trusted), "10.0.0.2");
    }
}
