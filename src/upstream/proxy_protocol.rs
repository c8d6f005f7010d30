//! The PROXY preamble toward brokers: who the client is, before the first byte of theirs.
//!
//! <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>. Version 2 carries what TLS told us.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{Error, ProxiedAddress, ProxyHeader, SslInfo, Tlv};

use crate::config::ProxyVersion;
use crate::net::{Arrival, TlsFacts};

/// Longer names are left out: a broker's buffer for the preamble is small (536 bytes by the
/// specification), and a name cut short would be another client's.
const MAX_NAME: usize = 256;

/// The preamble for one client, or for ourselves: then it is UNKNOWN (2.1) or LOCAL (2.2), which is there for
/// a proxy's own probes.
///
/// # Errors
/// None that our input can cause; the encoder's are passed on rather than hidden.
pub(super) fn preamble(version: ProxyVersion, arrival: Option<&Arrival>) -> Result<Vec<u8>, Error> {
    let mut header = match arrival {
        Some(arrival) => {
            let (client, local) = of_one_family(arrival.client, arrival.local);
            ProxyHeader::with_address(ProxiedAddress::stream(client, local))
        }
        None => ProxyHeader::with_local(),
    };
    let mut bytes = Vec::with_capacity(128);
    match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes)?,
        ProxyVersion::V2 => {
            if let Some(tls) = arrival.and_then(|arrival| arrival.tls.as_ref()) {
                append_tls(&mut header, tls);
            }
            header.encode_v2(&mut bytes)?;
        }
    }
    Ok(bytes)
}

/// Both IPv4 if they can be, else both IPv6: the protocol knows no mixture (2.1, 2.2).
fn of_one_family(client: SocketAddr, local: SocketAddr) -> (SocketAddr, SocketAddr) {
    let addresses = match (client.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V6(local)) => (client.to_ipv6_mapped().into(), local.into()),
        (IpAddr::V6(client), IpAddr::V4(local)) => (client.into(), local.to_ipv6_mapped().into()),
        same => same,
    };
    (SocketAddr::new(addresses.0, client.port()), SocketAddr::new(addresses.1, local.port()))
}

/// PP2_TYPE_AUTHORITY and PP2_TYPE_SSL (2.2.2, 2.2.5).
fn append_tls(header: &mut ProxyHeader<'_>, tls: &TlsFacts) {
    if let Some(name) = short(tls.server_name.as_deref()) {
        header.append_tlv(Tlv::Authority(name.into()));
    }
    let has_certificate = tls.client_common_name.is_some();
    // `verify` is 0 only for a certificate that was presented and verified.
    let verify = u32::from(!has_certificate);
    let mut ssl = SslInfo::new(true, has_certificate && !tls.resumed, has_certificate, verify);
    ssl.append_tlv(Tlv::SslVersion(tls.version.into()));
    ssl.append_tlv(Tlv::SslCipher(tls.cipher.into()));
    if let Some(name) = short(tls.client_common_name.as_deref()) {
        ssl.append_tlv(Tlv::SslCn(name.into()));
    }
    header.append_tlv(Tlv::Ssl(ssl));
}

fn short(name: Option<&str>) -> Option<&str> {
    name.filter(|name| name.len() <= MAX_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_header::ParseConfig;

    fn arrival(client: &str, local: &str, tls: Option<TlsFacts>) -> Arrival {
        let client = client.parse().unwrap();
        Arrival { peer: client, client, local: local.parse().unwrap(), tls }
    }

    fn tls() -> TlsFacts {
        TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            server_name: Some("mqtt.example.org".into()),
            client_common_name: Some("sensor-1".into()),
            resumed: false,
        }
    }

    #[test]
    fn version_1_is_one_line() {
        let table = [
            ("192.0.2.1:50000", "192.0.2.9:443", "PROXY TCP4 192.0.2.1 192.0.2.9 50000 443\r\n"),
            ("[2001:db8::1]:50000", "[2001:db8::9]:443", "PROXY TCP6 2001:db8::1 2001:db8::9 50000 443\r\n"),
            ("192.0.2.1:50000", "[::ffff:192.0.2.9]:443", "PROXY TCP4 192.0.2.1 192.0.2.9 50000 443\r\n"),
            ("192.0.2.1:5", "[2001:db8::9]:443", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::9 5 443\r\n"),
            ("[2001:db8::1]:5", "192.0.2.9:443", "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.9 5 443\r\n"),
        ];
        for (client, local, expected) in table {
            let bytes = preamble(ProxyVersion::V1, Some(&arrival(client, local, Some(tls())))).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn a_call_of_our_own_names_nobody() {
        assert_eq!(preamble(ProxyVersion::V1, None).unwrap(), b"PROXY UNKNOWN\r\n");
        let bytes = preamble(ProxyVersion::V2, None).unwrap();
        assert_eq!(bytes[12..], [0x20, 0, 0, 0], "version 2, LOCAL, no addresses");
    }

    #[test]
    fn version_2_reads_back_with_both_families() {
        for (client, local) in [
            ("192.0.2.1:50000", "192.0.2.9:443"),
            ("[2001:db8::1]:50000", "[2001:db8::9]:443"),
            ("[::ffff:192.0.2.1]:50000", "[2001:db8::9]:443"),
        ] {
            let arrival = arrival(client, local, None);
            let bytes = preamble(ProxyVersion::V2, Some(&arrival)).unwrap();
            let (header, length) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
            assert_eq!(length, bytes.len());
            let address = header.proxied_address().unwrap();
            assert_eq!((address.source, address.destination), (arrival.client, arrival.local));
            assert_eq!(header.tlvs().count(), 0);
        }
    }

    #[test]
    fn version_2_tells_what_tls_told() {
        let bytes =
            preamble(ProxyVersion::V2, Some(&arrival("192.0.2.1:1", "192.0.2.9:2", Some(tls())))).unwrap();
        let (header, _) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        assert_eq!(header.authority(), Some("mqtt.example.org"));
        let ssl = header.ssl().unwrap();
        assert!(ssl.client_ssl() && ssl.client_cert_conn() && ssl.client_cert_sess());
        assert_eq!(ssl.verify(), 0);
        assert_eq!(ssl.version(), Some("TLSv1.3"));
        assert_eq!(ssl.cipher(), Some("TLS13_AES_128_GCM_SHA256"));
        assert_eq!(ssl.cn(), Some("sensor-1"));
    }

    #[test]
    fn no_certificate_is_not_a_verified_one() {
        let facts = TlsFacts { client_common_name: None, server_name: None, ..tls() };
        let bytes =
            preamble(ProxyVersion::V2, Some(&arrival("192.0.2.1:1", "192.0.2.9:2", Some(facts)))).unwrap();
        let (header, _) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
        let ssl = header.ssl().unwrap();
        assert!(ssl.client_ssl() && !ssl.client_cert_conn() && !ssl.client_cert_sess());
        assert_eq!(ssl.verify(), 1);
        assert_eq!((ssl.cn(), header.authority()), (None, None));
    }

    #[test]
    fn a_name_of_any_length_does_no_harm() {
        let facts = TlsFacts { client_common_name: Some("x".repeat(70_000).into()), ..tls() };
        let bytes =
            preamble(ProxyVersion::V2, Some(&arrival("192.0.2.1:1", "192.0.2.9:2", Some(facts)))).unwrap();
        assert!(bytes.len() < 536, "{}", bytes.len());
    }
}
