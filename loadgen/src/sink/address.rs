//! Addresses to listen at, as a person types them: one, or a row of them, with one or several ports.
//!
//! ```text
//! 127.0.0.2:2525    127.0.0.2-127.0.0.51:25,2525    [::1]:2525
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses that one text may stand for: each of them is an open file.
const ADDRESSES_MAX: usize = 65_536;

/// What to listen at: all addresses that a text stands for. Port 0 is any free one.
pub(crate) fn parse_listen(text: &str) -> Result<Vec<SocketAddr>, String> {
    let wrong = |why: &str| format!("{text:?} is nothing to listen at: {why}");
    let (hosts, ports) = text.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
    let ports: Vec<u16> = ports
        .split(',')
        .map(|port| port.parse().map_err(|_| wrong("a port is a number up to 65535")))
        .collect::<Result<_, _>>()?;
    let (first, last) = hosts.split_once('-').unwrap_or((hosts, hosts));
    let (first, last) = (parse_host(first), parse_host(last));
    let (first, last) = first.zip(last).ok_or_else(|| wrong("no address of IPv4 or [IPv6]"))?;
    let count = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            u128::from(last.to_bits()).checked_sub(u128::from(first.to_bits()))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => last.to_bits().checked_sub(first.to_bits()),
        _ => None,
    };
    let count = count.ok_or_else(|| wrong("the last address is before the first"))?;
    let count = usize::try_from(count).ok().and_then(|count| count.checked_add(1));
    let count = count
        .filter(|count| count.checked_mul(ports.len()).is_some_and(|all| all <= ADDRESSES_MAX));
    let count = count.ok_or_else(|| wrong("more than 65536 addresses and ports"))?;
    let hosts = (0..count).map(|step| match first {
        IpAddr::V4(first) => {
            let step = u32::try_from(step).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().saturating_add(step)))
        }
        IpAddr::V6(first) => {
            let step = u128::try_from(step).unwrap_or(u128::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().saturating_add(step)))
        }
    });
    Ok(hosts.flat_map(|host| ports.iter().map(move |port| SocketAddr::new(host, *port))).collect())
}

fn parse_host(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(text: &str, want: &Expect) {
        let shown = parse_listen(text)
            .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        want.assert_eq(&shown.unwrap_or_else(|why| why));
    }

    #[test]
    fn understands_rows_of_addresses_and_ports() {
        check("127.0.0.2:2525", &expect!["127.0.0.2:2525"]);
        check(
            "127.0.0.254-127.0.1.1:25,2525",
            &expect![
                "127.0.0.254:25 127.0.0.254:2525 127.0.0.255:25 127.0.0.255:2525 127.0.1.0:25 127.0.1.0:2525 127.0.1.1:25 127.0.1.1:2525"
            ],
        );
        check("[::1]:0", &expect!["[::1]:0"]);
    }

    #[test]
    fn says_what_is_wrong() {
        check("127.0.0.1", &expect![[r#""127.0.0.1" is nothing to listen at: no port"#]]);
        check(
            "localhost:25",
            &expect![[r#""localhost:25" is nothing to listen at: no address of IPv4 or [IPv6]"#]],
        );
        check(
            "127.0.0.9-127.0.0.1:25",
            &expect![[
                r#""127.0.0.9-127.0.0.1:25" is nothing to listen at: the last address is before the first"#
            ]],
        );
        check(
            "127.0.0.1-127.9.0.1:25",
            &expect![[
                r#""127.0.0.1-127.9.0.1:25" is nothing to listen at: more than 65536 addresses and ports"#
            ]],
        );
        check(
            "127.0.0.1:x",
            &expect![[r#""127.0.0.1:x" is nothing to listen at: a port is a number up to 65535"#]],
        );
    }
}
