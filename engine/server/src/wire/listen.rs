//! Opening the port, with an error a person can act on.

use std::io;

use tokio::net::TcpListener;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is no address, or its host name has none.
    #[error(
        "{address:?} is not an address to listen on ({source}): give HOST:PORT, such as 127.0.0.1:50051"
    )]
    Address {
        /// The address as given.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Another socket holds the port.
    #[error(
        "cannot listen on {address}: the port is in use; stop the server that holds it, or choose another port \
         (port 0 takes a free one)"
    )]
    InUse {
        /// The address as given.
        address: String,
    },
    /// This user may not open the port.
    #[error(
        "cannot listen on {address}: permission denied; ports below 1024 need privileges, choose a higher one"
    )]
    Denied {
        /// The address as given.
        address: String,
    },
    /// The host is not one of this machine's addresses.
    #[error(
        "cannot listen on {address}: that is not an address of this machine; use 127.0.0.1 for this machine alone, \
         or 0.0.0.0 for every interface"
    )]
    NotHere {
        /// The address as given.
        address: String,
    },
    /// Anything else the system said.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address as given.
        address: String,
        /// The system's own error.
        source: io::Error,
    },
}

impl ListenError {
    /// Sorts a failed bind by its cause.
    fn from_bind(address: &str, source: io::Error) -> Self {
        let address = address.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Denied { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            _ => Self::Io { address, source },
        }
    }
}

/// Opens `address`, given as HOST:PORT. Port 0 takes a free port, which the listener then knows.
///
/// # Errors
/// [`ListenError`] says what was wrong with the address and what to do.
pub async fn bind(address: &str) -> Result<TcpListener, ListenError> {
    let unresolved = |source| ListenError::Address {
        address: address.to_owned(),
        source,
    };
    let candidates: Vec<_> = tokio::net::lookup_host(address)
        .await
        .map_err(unresolved)?
        .collect();
    TcpListener::bind(candidates.as_slice())
        .await
        .map_err(|error| ListenError::from_bind(address, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_zero_takes_a_free_port() {
        let listener = bind("127.0.0.1:0").await.expect("a free port");
        assert_ne!(listener.local_addr().expect("an address").port(), 0);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let held = bind("127.0.0.1:0").await.expect("a free port");
        let address = held.local_addr().expect("an address").to_string();
        let error = bind(&address).await.expect_err("the port is held");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address}: the port is in use; stop the server that holds it, or choose another \
                 port (port 0 takes a free one)"
            )
        );
    }

    #[tokio::test]
    async fn a_text_that_is_no_address_is_quoted() {
        let error = bind("nonsense").await.expect_err("no port in it");
        assert!(matches!(error, ListenError::Address { .. }));
        assert!(
            error
                .to_string()
                .starts_with("\"nonsense\" is not an address to listen on ("),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let error = bind("192.0.2.1:0")
            .await
            .expect_err("a documentation address");
        assert!(matches!(error, ListenError::NotHere { .. }), "{error:?}");
    }

    #[test]
    fn every_other_cause_keeps_its_address() {
        let denied = ListenError::from_bind("0.0.0.0:80", io::ErrorKind::PermissionDenied.into());
        assert!(
            denied
                .to_string()
                .contains("0.0.0.0:80: permission denied; ports below 1024"),
            "{denied}"
        );
        let other = ListenError::from_bind("0.0.0.0:80", io::ErrorKind::OutOfMemory.into());
        assert_eq!(
            other.to_string(),
            "cannot listen on 0.0.0.0:80: out of memory"
        );
    }
}
