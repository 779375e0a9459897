//! Refusing to be reachable from other machines without keys and TLS.

use std::net::SocketAddr;

/// What is missing for an address that other machines can reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{flag} {address}: other machines can reach that address, and there {}: give {}, or listen on 127.0.0.1; \
     `--insecure` serves all the same",
    match (keys, tls) {
        (true, true) => "are no API keys and no TLS",
        (true, false) => "are no API keys",
        _ => "is no TLS",
    },
    match (keys, tls) {
        (true, true) => "--keys, and --tls-cert with --tls-key",
        (true, false) => "--keys",
        _ => "--tls-cert with --tls-key",
    }
)]
pub struct Exposed {
    /// The flag that named the address.
    pub flag: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// Whether keys are missing.
    pub keys: bool,
    /// Whether TLS is missing.
    pub tls: bool,
}

/// Refuses an address that other machines can reach unless there are keys and TLS.
///
/// # Errors
/// [`Exposed`] says which of them is missing.
pub fn check(
    flag: &'static str,
    address: SocketAddr,
    keys: bool,
    tls: bool,
) -> Result<(), Exposed> {
    if address.ip().to_canonical().is_loopback() || (keys && tls) {
        return Ok(());
    }
    Err(Exposed {
        flag,
        address,
        keys: !keys,
        tls: !tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for here in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(check("--bind", address(here), false, false), Ok(()));
        }
        for (keys, tls, part) in [
            (
                false,
                false,
                "there are no API keys and no TLS: give --keys, and --tls-cert with --tls-key, or",
            ),
            (false, true, "there are no API keys: give --keys, or"),
            (
                true,
                false,
                "there is no TLS: give --tls-cert with --tls-key, or",
            ),
        ] {
            for there in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
                let error = check("--http", address(there), keys, tls).expect_err("reachable");
                let text = error.to_string();
                assert!(text.starts_with(&format!("--http {there}: ")), "{text}");
                assert!(text.contains(part), "{text}");
                assert!(text.ends_with("`--insecure` serves all the same"), "{text}");
                assert_eq!(check("--http", address(there), true, true), Ok(()));
            }
        }
    }
}
