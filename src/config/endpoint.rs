//! Hosts and ports in settings.
//!
//! A host is a name, an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2): without them
//! it is ambiguous where the address ends and the port starts.

use std::net::Ipv6Addr;

/// Checks `host:port`, or a host alone unless a port is required.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(text: &str, port_required: bool) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{text:?} {what}"));
    if text.is_empty() {
        return Err("an item is empty".to_owned());
    }
    if text.contains(char::is_whitespace) {
        return wrong("contains white space");
    }
    let port = if let Some(address) = text.strip_prefix('[') {
        let Some((address, port)) = address.split_once(']') else {
            return wrong("lacks a closing bracket");
        };
        // The zone of a link-local address follows a percent sign.
        let address = address.split_once('%').map_or(address, |(address, _)| address);
        if address.parse::<Ipv6Addr>().is_err() {
            return wrong("has no IPv6 address in its brackets");
        }
        match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return wrong("has something other than a port after its brackets"),
            port => port,
        }
    } else {
        let (host, port) = match text.split_once(':') {
            None => (text, None),
            Some((_, rest)) if rest.contains(':') => {
                let address = text.rsplit_once(':').map_or(text, |(address, _)| address);
                return match [text, address].iter().any(|address| address.parse::<Ipv6Addr>().is_ok()) {
                    true => wrong("has an IPv6 address without brackets: write [address]:port"),
                    false => wrong("has more than one colon"),
                };
            }
            Some((host, port)) => (host, Some(port)),
        };
        let is_in_names = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() {
            return wrong("has no host");
        }
        if !host.chars().all(is_in_names) {
            return wrong(
                "has a host with other characters than letters, digits, hyphens, dots and underscores",
            );
        }
        port
    };
    match port {
        None if port_required => wrong("has no port"),
        None => Ok(()),
        // `parse` accepts a sign, too.
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            match port.parse::<u16>() {
                Ok(1..) => Ok(()),
                _ => wrong("has a port that is not from 1 to 65535"),
            }
        }
        Some(_) => wrong("has a port that is not a number"),
    }
}

/// Checks a comma-separated list of `host:port`. Spaces around an item are allowed.
///
/// # Errors
/// What is wrong with the first invalid item.
pub(super) fn check_list(text: &str) -> Result<(), String> {
    text.split(',').try_for_each(|item| check(item.trim_matches(' '), true))
}

/// The host with its port, or with the default port if it has none.
#[cfg(any(feature = "cassandra", test))]
pub(super) fn with_port(endpoint: &str, default: u16) -> String {
    let has_port = match endpoint.rsplit_once(']') {
        Some((_, behind)) => behind.starts_with(':'),
        None => endpoint.contains(':'),
    };
    if has_port { endpoint.to_owned() } else { format!("{endpoint}:{default}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_endpoints_are_accepted_and_invalid_ones_are_refused_with_the_reason() {
        let good = [
            "a:1",
            "127.0.0.1:9092",
            "[::1]:9092",
            "[fe80::1%eth0]:65535",
            "kafka-1.example.org:9092",
            "a_b:1",
        ];
        for good in good {
            assert_eq!(check(good, true), Ok(()), "{good}");
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        for good in ["a", "127.0.0.2", "[::1]", "[2001:db8::1]"] {
            assert_eq!(check(good, false), Ok(()), "{good}");
            assert!(check(good, true).unwrap_err().contains("has no port"), "{good}");
        }
        for (bad, expected) in [
            ("", "empty"),
            ("::1", "IPv6 address without brackets"),
            ("::1:9092", "IPv6 address without brackets"),
            ("2001:db8::1:9092", "IPv6 address without brackets"),
            ("2001:db8:0:0:0:0:0:1:9092", "IPv6 address without brackets"),
            ("a:1:2", "more than one colon"),
            ("[::1", "closing bracket"),
            ("[::1]9092", "after its brackets"),
            ("[]:1", "no IPv6 address"),
            ("[127.0.0.1]:1", "no IPv6 address"),
            ("[::g]:1", "no IPv6 address"),
            (":1", "no host"),
            ("a:", "not a number"),
            ("[::1]:", "not a number"),
            ("a:x", "not a number"),
            ("a:-1", "not a number"),
            ("a:+1", "not a number"),
            ("a:0", "from 1 to 65535"),
            ("a:65536", "from 1 to 65535"),
            ("a:99999999999", "from 1 to 65535"),
            ("a b:1", "white space"),
            ("a\n:1", "white space"),
            ("a:1;b:2", "more than one colon"),
            ("PLAINTEXT://a:1", "more than one colon"),
            ("a/b:1", "other characters"),
            ("\"a\":1", "other characters"),
        ] {
            let error = check(bad, false).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn a_list_is_separated_by_commas_and_has_no_empty_item() {
        for good in ["a:1", "a:1,b:2", "a:1, [::1]:2"] {
            assert_eq!(check_list(good), Ok(()), "{good}");
        }
        for bad in ["", "a:1,", ",a:1", "a:1,,b:1", "a:1 b:2", "a,b:1"] {
            assert!(check_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_without_a_port_gets_one() {
        for (endpoint, expected) in
            [("a", "a:9042"), ("a:1", "a:1"), ("[::1]", "[::1]:9042"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(with_port(endpoint, 9042), expected);
        }
    }
}
