//! Addresses: `HOST:PORT` and `[IPV6]:PORT`, and what they resolve to.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use posthaste_core::runtime::{Runtime, blocking};
use posthaste_core::transport::Endpoint;

/// An address as it was written, split but not looked up.
pub(crate) struct Address {
    written: String,
    host: String,
    port: u16,
}

impl Address {
    /// Reads the address of a `tcp:` endpoint.
    pub(crate) fn parse(endpoint: &Endpoint) -> io::Result<Self> {
        let invalid = |why: &str| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{endpoint} is no TCP address: {why}; write tcp://HOST:PORT"),
            )
        };
        if endpoint.scheme() != "tcp" {
            return Err(invalid("its scheme is not tcp"));
        }
        let written = endpoint.address();
        let Some((host, port)) = written.rsplit_once(':') else {
            return Err(invalid("it has no port"));
        };
        // `parse` would also take `+7411`.
        let port = match port.parse() {
            Ok(number) if port.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err(invalid("its port is no number from 0 to 65535")),
        };
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed
                .strip_suffix(']')
                .ok_or_else(|| invalid("its bracket is not closed before the port"))?,
            None if host.contains(':') => {
                return Err(invalid("an IPv6 host stands in brackets, as in [::1]:7411"));
            }
            None => host,
        };
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        Ok(Self { written: written.to_owned(), host: host.to_owned(), port })
    }

    /// Every socket address of the host, in the order of preference of the system.
    pub(crate) async fn resolve(&self, runtime: &dyn Runtime) -> io::Result<Vec<SocketAddr>> {
        // A literal address needs no look-up, hence no blocking thread.
        if let Ok(literal) = self.written.parse() {
            return Ok(vec![literal]);
        }
        let (host, port) = (self.host.clone(), self.port);
        let found = blocking(runtime, move || {
            (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
        });
        found.await.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot look up {:?}: {error}", self.host))
        })
    }

    /// What to say when no address of the host worked: the last reason, and which address had it.
    pub(crate) fn failure(
        &self,
        attempt: &str,
        last: Option<(SocketAddr, io::Error)>,
    ) -> io::Error {
        let written = &self.written;
        let Some((at, error)) = last else {
            let text = format!("cannot {attempt} {written}: the name has no address");
            return io::Error::new(io::ErrorKind::NotFound, text);
        };
        let at = at.to_string();
        let at = if at == *written { at } else { format!("{written} ({at})") };
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => ": stop what listens there, or choose another port",
            io::ErrorKind::ConnectionRefused => ": nothing listens there",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot {attempt} {at}: {error}{advice}"))
    }
}
