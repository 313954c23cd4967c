//! Settings about who may connect, and how: TLS, networks of proxies, origins of web pages.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use url::Url;

use super::Config;

impl Config {
    /// The files of the certificate and of its private key; `None` without TLS.
    ///
    /// # Errors
    ///
    /// When only one of them is given.
    pub fn tls_files(&self) -> Result<Option<(&Path, &Path)>, String> {
        match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err("tls_cert_file is given without tls_key_file: TLS needs both".into()),
            (None, Some(_)) => Err("tls_key_file is given without tls_cert_file: TLS needs both".into()),
        }
    }

    /// Keys must not cross a network in plain text, unless the operator says that they do not.
    ///
    /// # Errors
    ///
    /// When others can reach the address, there is no TLS, and `allow_plain_http` is not set.
    pub fn check_plain_http(&self) -> Result<(), String> {
        if self.is_loopback()? || self.allow_plain_http || self.tls_files()?.is_some() {
            return Ok(());
        }
        Err(format!(
            "listen is {}, which others can reach, and without TLS api keys would cross the network in plain text: give \
             tls_cert_file and tls_key_file (--tls-cert, --tls-key), or set allow_plain_http = true (--allow-plain-http) \
             behind a proxy that speaks TLS",
            self.listen
        ))
    }
}

/// A list, or a single element without the brackets.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

/// The networks whose word on a client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Texts")]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether a proxy stands at this address, which has to be canonical: no IPv4 inside IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl TryFrom<Texts> for TrustedProxies {
    type Error = String;

    fn try_from(texts: Texts) -> Result<Self, String> {
        let networks = Vec::from(texts).into_iter().map(|text| {
            network(&text).ok_or_else(|| {
                format!("trusted_proxies must be networks such as 10.0.0.0/8 or fd00::/8, or addresses, got {text:?}")
            })
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

/// A network in CIDR notation, or the network of one address. IPv4 inside IPv6 becomes IPv4.
fn network(text: &str) -> Option<IpNet> {
    let network = IpNet::from_str(text).ok();
    let network = network.or_else(|| text.parse().ok().map(|address: IpAddr| IpNet::from(address)))?;
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let prefix = v6.prefix_len().checked_sub(96)?;
        return Some(IpNet::V4(Ipv4Net::new(v4, prefix).ok()?));
    }
    Some(network)
}

/// Which web pages may read the answers to searches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Texts")]
pub enum CorsOrigins {
    /// Pages of every origin.
    Any,
    /// Pages of these origins, as browsers write them: `https://shop.example`, without a path.
    Only(Vec<String>),
}

impl TryFrom<Texts> for CorsOrigins {
    type Error = String;

    fn try_from(texts: Texts) -> Result<Self, String> {
        let origins = Vec::from(texts);
        if origins == ["*"] {
            return Ok(Self::Any);
        }
        if let Some(bad) = origins.iter().find(|o| !is_origin(o)) {
            return Err(format!(
                "cors_origins must be \"*\" alone, or origins such as https://shop.example in small letters and without \
                 a path, got {bad:?}"
            ));
        }
        Ok(Self::Only(origins))
    }
}

/// Whether a browser could send this text as `Origin`. Anything else would match no page, silently.
fn is_origin(text: &str) -> bool {
    let origin = Url::parse(text).map(|url| url.origin());
    // A star is a host name to the parser; whoever writes one expects a pattern, which this is not.
    !text.contains('*') && origin.is_ok_and(|origin| origin.is_tuple() && origin.ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;

    fn load(toml: &str) -> Result<Config, String> {
        Config::from_figment(Figment::from(Toml::string(toml)))
    }

    fn many(texts: &[&str]) -> Texts {
        Texts::Many(texts.iter().map(|t| (*t).to_owned()).collect())
    }

    #[test]
    fn proxies_are_networks_or_addresses() {
        let proxies = TrustedProxies::try_from(many(&[
            "10.0.0.0/8",
            "192.0.2.7",
            "fd00::/8",
            "::ffff:198.51.100.0/120",
        ]));
        let proxies = proxies.expect("valid");
        for (address, trusted) in [
            ("10.200.1.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("198.51.100.200", true),
            ("198.51.101.1", false),
        ] {
            assert_eq!(
                proxies.contains(address.parse().expect("an address")),
                trusted,
                "{address}"
            );
        }
        for bad in ["", "proxy", "10.0.0.0/33", "10.0.0/8", "*", "::ffff:10.0.0.0/64"] {
            let error = TrustedProxies::try_from(many(&[bad])).expect_err(bad);
            assert!(error.contains("trusted_proxies"), "{error}");
        }
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().expect("an address")));
    }

    #[test]
    fn origins_are_what_browsers_send() {
        assert_eq!(CorsOrigins::try_from(Texts::One("*".into())), Ok(CorsOrigins::Any));
        assert_eq!(CorsOrigins::try_from(many(&["*"])), Ok(CorsOrigins::Any));
        assert_eq!(CorsOrigins::try_from(many(&[])), Ok(CorsOrigins::Only(Vec::new())));
        for good in [
            "https://shop.example",
            "http://localhost:3000",
            "http://127.0.0.1:8000",
            "http://[::1]:1",
        ] {
            assert_eq!(
                CorsOrigins::try_from(Texts::One(good.into())),
                Ok(CorsOrigins::Only(vec![good.into()]))
            );
        }
        for bad in [
            "",
            "null",
            "shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "https://Shop.example",
            "https://shop.example:443",
            "https://*.example",
            "file:///x",
            "https://user@shop.example",
        ] {
            assert!(CorsOrigins::try_from(many(&[bad])).is_err(), "{bad}");
        }
        assert!(CorsOrigins::try_from(many(&["*", "https://shop.example"])).is_err());
    }

    #[test]
    fn plain_http_is_for_loopback_unless_it_is_allowed() {
        for (toml, ok) in [
            ("listen = '127.0.0.1:1'", true),
            ("listen = '[::1]:1'", true),
            ("listen = '0.0.0.0:1'", false),
            ("listen = '[::]:1'", false),
            ("listen = '192.0.2.1:1'", false),
            ("listen = '0.0.0.0:1'\nallow_plain_http = true", true),
            ("listen = '0.0.0.0:1'\ntls_cert_file = 'c'\ntls_key_file = 'k'", true),
        ] {
            let checked = load(toml).expect("valid").check_plain_http();
            assert_eq!(checked.is_ok(), ok, "{toml}: {checked:?}");
            if let Err(sentence) = checked {
                assert!(sentence.contains("tls_cert_file") && sentence.contains("allow_plain_http"));
            }
        }
    }

    #[test]
    fn lists_of_one_need_no_brackets() {
        let config = load("cors_origins = 'https://a.example'\ntrusted_proxies = '10.0.0.0/8'");
        let config = config.expect("valid");
        assert_eq!(config.cors_origins, CorsOrigins::Only(vec!["https://a.example".into()]));
        assert!(config.trusted_proxies.contains([10, 1, 2, 3].into()));
        assert_eq!(Config::default().cors_origins, CorsOrigins::Any);
    }
}
