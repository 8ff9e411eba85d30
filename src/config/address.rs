//! The address of a broker: a host and a port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of an address that names none.
pub(crate) const DEFAULT_PORT: u16 = 9092;

/// A host's name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostPort {
    /// The name or address, an IPv6 address without its brackets.
    pub host: String,
    /// Never 0 in an address that was parsed.
    pub port: u16,
}

impl HostPort {
    /// An address that is not parsed, such as one from a broker's answer.
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`, each also with `PLAINTEXT://` before it, as listeners are
    /// written. A missing port is 9092. The error is a sentence for a list of faults. It does not repeat an entry that
    /// may hold a password.
    pub(crate) fn parse(entry: &str) -> Result<Self, String> {
        let entry = entry.trim();
        let shown = if entry.contains('@') { "an address with '@' in it".into() } else { format!("{entry:?}") };
        let fault = |what: &str| Err(format!("{shown} {what}"));

        let mut rest = entry;
        if let Some((scheme, after)) = entry.split_once("://") {
            if !scheme.eq_ignore_ascii_case("plaintext") {
                return fault(
                    "has a scheme; an address is host:port, and of Kafka's protocols only PLAINTEXT is spoken",
                );
            }
            rest = after;
        }
        if rest.is_empty() {
            return fault("has no host");
        }

        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let Some((host, after)) = bracketed.split_once(']') else {
                    return fault("has a bracket that is not closed");
                };
                // The operating system checks the zone ("%eth0").
                let address = host.split_once('%').map_or(host, |(address, _)| address);
                if Ipv6Addr::from_str(address).is_err() {
                    return fault("has no IPv6 address in its brackets");
                }
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return fault("has something other than a port after its bracket"),
                }
            }
            None if rest.matches(':').count() > 1 => {
                return fault("has several colons; an IPv6 address goes in brackets: [::1]:9092");
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if host.is_empty() {
            return fault("has no host");
        }
        // 253 is the longest name that DNS can carry.
        if host.len() > 253 {
            return fault("has a host longer than 253 bytes");
        }
        if let Some(bad) = host.chars().find(|c| c.is_whitespace() || c.is_control() || "/\\@#?[],;'\"".contains(*c)) {
            return fault(&format!("has {bad:?} in its host"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            // Rust's parser would accept a sign, which a port cannot have.
            Some(digits) if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.is_empty() => {
                return fault("has a port that is not a number");
            }
            Some(digits) => match digits.parse() {
                Ok(0) | Err(_) => return fault("has a port that is not in 1 to 65535"),
                Ok(port) => port,
            },
        };
        Ok(Self { host: host.to_owned(), port })
    }

    /// Whether both name the same host and port; the case of host names does not matter.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_is_read_and_written_back() {
        for (text, host, port, written) in [
            ("kafka01", "kafka01", 9092, "kafka01:9092"),
            (" kafka01:19092 ", "kafka01", 19092, "kafka01:19092"),
            ("10.0.0.1", "10.0.0.1", 9092, "10.0.0.1:9092"),
            ("a_b.example.org.:1", "a_b.example.org.", 1, "a_b.example.org.:1"),
            ("[::1]", "::1", 9092, "[::1]:9092"),
            ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535, "[fe80::1%eth0]:65535"),
            ("PLAINTEXT://h:1", "h", 1, "h:1"),
            ("plaintext://[::1]:1", "::1", 1, "[::1]:1"),
        ] {
            let parsed = HostPort::parse(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port), "{text}");
            assert_eq!(parsed.to_string(), written);
            assert_eq!(HostPort::parse(written), Ok(parsed));
        }
    }

    #[test]
    fn malformed_entries_say_what_is_wrong() {
        let long = "x".repeat(254);
        for (text, part) in [
            ("", "no host"),
            ("   ", "no host"),
            (":9092", "no host"),
            ("PLAINTEXT://", "no host"),
            ("h:0", "1 to 65535"),
            ("h:65536", "1 to 65535"),
            ("h:99999999999999999999", "1 to 65535"),
            ("h:", "not a number"),
            ("h:+1", "not a number"),
            ("h:-1", "not a number"),
            ("h:9o92", "not a number"),
            ("h: 1", "not a number"),
            ("[::1:9092", "not closed"),
            ("[::1]9092", "after its bracket"),
            ("[]:9092", "no IPv6"),
            ("[localhost]:9092", "no IPv6"),
            ("::1", "goes in brackets"),
            ("a:1:2", "goes in brackets"),
            ("SSL://h:1", "only PLAINTEXT"),
            ("http://h", "only PLAINTEXT"),
            ("a b:1", "' ' in its host"),
            ("h/path", "'/' in its host"),
            (&long, "longer"),
        ] {
            let fault = HostPort::parse(text).unwrap_err();
            assert!(fault.contains(part), "{text:?}: {fault}");
        }
    }

    #[test]
    fn an_address_with_a_password_is_not_repeated() {
        let fault = HostPort::parse("user:secret@kafka:9092").unwrap_err();
        assert!(!fault.contains("secret"), "{fault}");
    }
}
