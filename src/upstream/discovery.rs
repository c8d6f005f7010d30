//! Discovery: from the answer to a name to the endpoints that it stands for. Pure, but for the asking.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Pool;
use super::resolve::Service;
use crate::config::{Discover, Endpoint, EndpointAddress, Transport, Weight};

/// A broker in the answer to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    address: EndpointAddress,
    /// `None` is that of the endpoint that was looked up.
    weight: Option<Weight>,
    backup: bool,
}

impl Pool {
    /// Look up what `endpoint`, one of the configuration's with `discover`, stands for.
    ///
    /// # Errors
    /// The resolver's; an answer without a broker is one too.
    pub async fn look_up(&self, endpoint: &Endpoint) -> io::Result<Vec<Found>> {
        let EndpointAddress::Name { host, port } = &endpoint.address else { return Ok(Vec::new()) };
        match endpoint.discover {
            Some(Discover::Addresses) => {
                self.resolver.in_time(self.resolver.addresses(host, *port)).await.map(of_addresses)
            }
            Some(Discover::Srv) => {
                self.resolver.in_time(self.resolver.services(host)).await.map(|found| of_services(&found))
            }
            None => Ok(Vec::new()),
        }
    }
}

/// Each address is a broker. In their own order: resolvers shuffle.
pub(super) fn of_addresses(mut addresses: Vec<SocketAddr>) -> Vec<Found> {
    addresses.sort_unstable();
    addresses.dedup();
    let found = |address| Found { address: EndpointAddress::Ip(address), weight: None, backup: false };
    addresses.into_iter().map(found).collect()
}

/// Each record is a broker. Those of the lowest priority serve, all others are backups (RFC 2782 has more
/// steps; two are what a pool has). A weight of 0 is the least, and large ones are scaled to fit.
fn of_services(services: &[Service]) -> Vec<Found> {
    let mut services: Vec<_> = services.iter().collect();
    services.sort_unstable_by_key(|service| (service.priority, &service.target, service.port));
    services.dedup_by_key(|service| (&service.target, service.port));
    let first = services.first().map_or(0, |service| service.priority);
    let heaviest = services.iter().map(|service| service.weight).max().unwrap_or(0);
    let scaled = |weight: u16| match heaviest {
        fits if fits <= Weight::MAX => weight,
        // Not above MAX, as the quotient is at most 1.
        _ => (u32::from(weight) * u32::from(Weight::MAX) / u32::from(heaviest)) as u16,
    };
    let found = |service: &Service| Found {
        address: EndpointAddress::Name { host: service.target.as_str().into(), port: service.port },
        weight: Weight::new(scaled(service.weight).max(1)),
        backup: service.priority != first,
    };
    services.into_iter().map(found).collect()
}

/// The endpoint for one broker that `looked_up` stands for.
pub(super) fn endpoint_of(looked_up: &Endpoint, found: &Found) -> Endpoint {
    let (place, target) = match &found.address {
        EndpointAddress::Ip(address) => (address.to_string(), None),
        EndpointAddress::Name { host, port } => (format!("{host}:{port}"), Some(host)),
        EndpointAddress::Unix(path) => (path.display().to_string(), None),
    };
    let asked = match &looked_up.address {
        EndpointAddress::Name { host, .. } => Some(host),
        EndpointAddress::Ip(_) | EndpointAddress::Unix(_) => None,
    };
    let mut transport = looked_up.transport.clone();
    // An address goes by the name it was found by; an SRV record's target is a name itself.
    if let (Transport::WebSocket { authority, .. }, Some(_)) = (&mut transport, target) {
        *authority = place.as_str().into();
    }
    let name_of_certificate = || target.or(asked).filter(|_| looked_up.tls).cloned();
    Endpoint {
        name: format!("{}@{place}", looked_up.name).into(),
        transport,
        address: found.address.clone(),
        server_name: looked_up.server_name.clone().or_else(name_of_certificate),
        weight: found.weight.unwrap_or(looked_up.weight),
        backup: looked_up.backup || found.backup,
        discover: None,
        ..looked_up.clone()
    }
}

/// What an answer changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Names of endpoints that are new.
    pub added: Vec<Arc<str>>,
    /// Endpoints that are gone, and have no heir; their sessions live on.
    pub removed: Vec<Arc<super::Endpoint>>,
    /// How many brokers of the answer are over `max_endpoints`.
    pub left_out: usize,
}

#[cfg(test)]
mod tests {
    use super::super::tests::mqtt;
    use super::*;

    fn service(priority: u16, weight: u16, target: &str) -> Service {
        Service { priority, weight, port: 1883, target: target.into() }
    }

    #[test]
    fn addresses_are_sorted_and_each_is_one() {
        let addresses = ["192.0.2.2:1883", "[2001:db8::1]:1883", "192.0.2.1:1883", "192.0.2.2:1883"];
        let found = of_addresses(addresses.iter().map(|address| address.parse().unwrap()).collect());
        let expected = ["192.0.2.1:1883", "192.0.2.2:1883", "[2001:db8::1]:1883"];
        assert_eq!(
            found.iter().map(|found| &found.address).collect::<Vec<_>>(),
            expected.map(|address| EndpointAddress::Ip(address.parse().unwrap())).iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_lowest_priority_serves_by_weight() {
        type Row<'a> = (&'a [Service], &'a [(&'a str, u16, bool)]);
        let table: [Row<'_>; 4] = [
            (&[service(10, 3, "b"), service(10, 1, "a")], &[("a", 1, false), ("b", 3, false)]),
            (&[service(20, 9, "a"), service(10, 0, "b")], &[("b", 1, false), ("a", 9, true)]),
            (&[service(0, 65535, "a"), service(0, 6554, "b")], &[("a", 1000, false), ("b", 100, false)]),
            (&[service(0, 5, "a"), service(7, 5, "a")], &[("a", 5, false)]),
        ];
        for (services, expected) in table {
            let found: Vec<_> = of_services(services)
                .into_iter()
                .map(|found| match found.address {
                    EndpointAddress::Name { host, port: 1883 } => {
                        (host, found.weight.unwrap().value(), found.backup)
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            let found: Vec<_> =
                found.iter().map(|(host, weight, backup)| (&**host, *weight, *backup)).collect();
            assert_eq!(found, expected, "{services:?}");
        }
    }

    #[test]
    fn an_endpoint_keeps_what_its_name_was_given() {
        let address = EndpointAddress::Name { host: "brokers.example.org".into(), port: 8084 };
        let transport = Transport::WebSocket {
            path: "/mqtt".into(),
            authority: "brokers.example.org:8084".into(),
            subprotocol: "mqtt".into(),
        };
        let looked_up = Endpoint {
            name: "emqx".into(),
            tls: true,
            transport,
            max_sessions: Some(7),
            discover: Some(Discover::Addresses),
            ..mqtt(address)
        };
        let by_address = endpoint_of(&looked_up, &of_addresses(vec!["192.0.2.1:8084".parse().unwrap()])[0]);
        assert_eq!(&*by_address.name, "emqx@192.0.2.1:8084");
        assert_eq!(by_address.server_name.as_deref(), Some("brokers.example.org"));
        assert_eq!((by_address.max_sessions, by_address.discover), (Some(7), None));
        assert_eq!(by_address.transport, looked_up.transport, "asked for by its name");

        let by_service = endpoint_of(&looked_up, &of_services(&[service(0, 3, "node.example.org")])[0]);
        assert_eq!(&*by_service.name, "emqx@node.example.org:1883");
        assert_eq!(by_service.server_name.as_deref(), Some("node.example.org"));
        assert_eq!(by_service.weight.value(), 3);
        assert!(
            matches!(&by_service.transport, Transport::WebSocket { authority, .. } if &**authority == "node.example.org:1883")
        );
    }
}
