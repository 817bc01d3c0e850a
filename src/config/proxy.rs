//! The PROXY protocol of one listener, as the operator wants it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use super::ConfigError;
use super::address::ListenAddress;
use super::args::ListenerArgs;

/// The rules of a listener whose connections come through proxies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyConfig {
    /// Where the proxies are. Empty only for Unix domain sockets, whose file's permissions say who connects.
    pub trusted: Vec<Network>,
}

impl ProxyConfig {
    /// `None`: the listener expects no proxies.
    pub(super) fn from_args(args: &ListenerArgs, listen: &[ListenAddress]) -> Result<Option<ProxyConfig>, ConfigError> {
        let needs = |flag, other| Err(ConfigError::NeedsOther { flag, other });
        let reached_by_addresses = listen.iter().any(|address| matches!(address, ListenAddress::Tcp(_)));
        match (args.proxy_protocol, &args.proxy_trusted) {
            (false, trusted) if trusted.is_empty() => Ok(None),
            (false, _) => needs("--proxy-trusted", "--proxy-protocol"),
            // Anybody could say to be anybody.
            (true, trusted) if trusted.is_empty() && reached_by_addresses => {
                needs("--proxy-protocol", "--proxy-trusted")
            }
            (true, trusted) => Ok(Some(ProxyConfig {
                trusted: trusted.clone(),
            })),
        }
    }

    /// Whether a proxy may be there. O(networks).
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.0.contains(&address))
    }
}

/// Addresses with the same beginning: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(IpNet);

/// Text that is no network.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum NetworkError {
    /// Neither of both forms.
    #[error("write an address, or a network such as 10.0.0.0/8")]
    NotANetwork,
    /// An address within a network: which of both is meant?
    #[error("the network with that address is {network}, the address alone {address}")]
    HostBits {
        /// What has the prefix.
        network: IpNet,
        /// What stands before it.
        address: IpAddr,
    },
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Network(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| NetworkError::NotANetwork)?;
        if network != network.trunc() {
            return Err(NetworkError::HostBits {
                network: network.trunc(),
                address: network.addr(),
            });
        }
        Ok(Network(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_print_as_they_are_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "192.0.2.1/32"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), expected);
        }
        for (text, expected) in [
            ("10.0.0.1/8", "is 10.0.0.0/8, the address alone 10.0.0.1"),
            ("10.0.0.0/33", "write an address"),
            ("10.0.0.0:1883", "write an address"),
            ("localhost", "write an address"),
            ("", "write an address"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn those_in_a_trusted_network_are_trusted_and_nobody_else() {
        let trusted = ["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"];
        let config = ProxyConfig {
            trusted: trusted.iter().map(|text| text.parse().unwrap()).collect(),
        };
        for (address, expected) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", false),
        ] {
            assert_eq!(config.trusts(address.parse().unwrap()), expected, "{address}");
        }
    }
}
