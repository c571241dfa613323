//! The address of a real server as people write it: with a port, or without one when it is the service's.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use pollux_api::identity::{DestinationId, Endpoint, NameError, ServiceId};

/// `203.0.113.11`, `203.0.113.11:8080`, `2001:db8:2::11`, `[2001:db8:2::11]`, `[2001:db8:2::11]:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerAddress {
    address: IpAddr,
    /// None: the service's port.
    port: Option<u16>,
}

impl ServerAddress {
    /// The server's endpoint in a service.
    ///
    /// # Errors
    /// Those of [`Endpoint::new`].
    pub fn endpoint_for(self, service: ServiceId) -> Result<DestinationId, NameError> {
        let port = self.port.unwrap_or(service.port());
        Endpoint::new(self.address, port)
    }
}

impl FromStr for ServerAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let bracketed = inner.and_then(|inner| inner.parse().ok().map(IpAddr::V6));
        let (address, port) = match bracketed.or(text.parse().ok()) {
            Some(address) => (address, None),
            None => {
                let socket: SocketAddr = text
                    .parse()
                    .map_err(|_| NameError::Address(text.to_owned()))?;
                (socket.ip(), Some(socket.port()))
            }
        };
        // What no server can have is refused here, where it is known how it was written; any port will do for that.
        Endpoint::new(address, port.unwrap_or(1)).map_err(|error| match error {
            NameError::NotUnicast(_) => NameError::NotUnicast(text.to_owned()),
            other => other,
        })?;
        Ok(Self { address, port })
    }
}

#[cfg(test)]
mod tests {
    use pollux_api::Protocol;

    use super::*;

    fn endpoint(text: &str) -> Result<String, NameError> {
        let service = ServiceId::address(Protocol::Tcp, "198.51.100.1:80".parse().unwrap());
        let address: ServerAddress = text.parse()?;
        address.endpoint_for(service).map(|id| id.to_string())
    }

    #[test]
    fn without_a_port_it_is_the_services() {
        for (text, expected) in [
            ("203.0.113.11", "203.0.113.11:80"),
            ("203.0.113.11:8080", "203.0.113.11:8080"),
            ("2001:db8:2::11", "[2001:db8:2::11]:80"),
            ("[2001:db8:2::11]", "[2001:db8:2::11]:80"),
            ("[2001:db8:2::11]:8080", "[2001:db8:2::11]:8080"),
        ] {
            assert_eq!(endpoint(text).unwrap(), expected);
        }
    }

    #[test]
    fn bad_ones_say_why() {
        for (text, message) in [
            ("203.0.113.999", "write ADDRESS:PORT"),
            ("[203.0.113.11]", "write ADDRESS:PORT"),
            ("203.0.113.11:", "write ADDRESS:PORT"),
            ("203.0.113.11:65536", "write ADDRESS:PORT"),
            ("224.0.0.1", "unicast"),
        ] {
            let error = endpoint(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
