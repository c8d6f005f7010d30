//! Certificates: the renewed one is shown to who comes next, and tickets stay good.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::harness::{Broker, Certificates, Client, Kind, connect_v5, until, within};
use super::{Site, join, ping};

/// A TLS handshake with the name localhost.
async fn shake(site: &Site, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(site.tls).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within("TLS", TlsConnector::from(Arc::clone(config)).connect(name, stream)).await.unwrap()
}

/// What a handshake shows: the certificate, whether it resumed, and the version. The tickets that
/// follow it are taken in.
async fn show(
    site: &Site,
    config: &Arc<ClientConfig>,
) -> (CertificateDer<'static>, HandshakeKind, ProtocolVersion) {
    use tokio::io::AsyncWriteExt;
    let mut stream = shake(site, config).await;
    let request = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 404 "));
    let connection = stream.get_ref().1;
    let certificate = connection.peer_certificates().unwrap()[0].clone();
    (certificate, connection.handshake_kind().unwrap(), connection.protocol_version().unwrap())
}

/// The TLS listener of a site, with these certificates.
fn text(site: &Site, certificates: &[&Certificates], broker: &Broker) -> String {
    let certificates: Vec<_> = certificates.iter().map(|files| files.certificate_toml()).collect();
    let listeners = format!(
        "[[listeners]]\nname = \"edge\"\naddresses = [\"{}\"]\ntls.certificates = [{}]\n",
        site.tls,
        certificates.join(", ")
    );
    site.text_with(&listeners, &[broker.mqtt()], "")
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_who_comes_next() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let (first, second) = (Certificates::of(&["localhost"]), Certificates::of(&["localhost"]));
    let gate = site.start(&text(&site, &[&first], &broker)).await;
    let wire = shake(&site, &first.client()).await;
    let client = Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.ok().unwrap().0;
    let (mut client, mut visit) = join(client, &broker, Kind::Mqtt, "one").await;
    assert_eq!(show(&site, &first.client()).await.0, first.certificate());
    // The same names, other files: as a renewal does it.
    for name in ["chain.pem", "key.pem"] {
        std::fs::copy(second.path(name), first.path(name)).unwrap();
    }
    gate.reload().await.unwrap();
    assert_eq!(show(&site, &second.client()).await.0, second.certificate());
    ping(&mut client, &mut visit).await;
    // A key that is not the certificate's is refused, and the pair from before works on.
    let third = Certificates::of(&["localhost"]);
    std::fs::copy(third.path("key.pem"), first.path("key.pem")).unwrap();
    let refusal = gate.reload().await.unwrap_err();
    assert!(refusal.reports()[0].contains("is not the key of the certificate"), "{refusal}");
    assert!(refusal.is_configuration());
    assert_eq!(show(&site, &second.client()).await.0, second.certificate());
    ping(&mut client, &mut visit).await;
    drop((client, visit));
    gate.idle().await;
}

#[tokio::test]
async fn tickets_stay_good_across_reloads_and_renewals() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (site, broker) = (Site::new(), Broker::listen().await);
        let (first, second) = (Certificates::of(&["localhost"]), Certificates::of(&["localhost"]));
        let gate = site.start(&text(&site, &[&first], &broker)).await;
        // Trusts both, and keeps its tickets.
        let mut roots = rustls::RootCertStore::empty();
        roots.add(first.ca()).unwrap();
        roots.add(second.ca()).unwrap();
        let client = ClientConfig::builder_with_provider(brokergate::tls::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Arc::new(client);
        assert_eq!(show(&site, &client).await.1, HandshakeKind::Full);
        site.change(&gate, &(text(&site, &[&first], &broker) + "[limits]\nconnections = 99")).await;
        let shown = show(&site, &client).await;
        assert_eq!((shown.1, shown.2), (HandshakeKind::Resumed, version.version));
        site.change(&gate, &text(&site, &[&second], &broker)).await;
        assert_eq!(show(&site, &client).await.1, HandshakeKind::Resumed);
        let fresh = show(&site, &second.client()).await;
        assert_eq!((fresh.0, fresh.1), (second.certificate(), HandshakeKind::Full));
    }
}

#[tokio::test]
async fn the_end_of_each_certificate_is_a_metric() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let (first, second) = (Certificates::of(&["localhost"]), Certificates::of(&["other.example.org"]));
    let gate = site.start(&text(&site, &[&first, &second], &broker)).await;
    let expiry = |files: &Certificates| {
        let chain = files.path("chain.pem");
        gate.metric(&format!(
            "brokergate_certificate_expiry_timestamp_seconds{{kind=\"listener\",name=\"edge\",certificate={chain:?}}}"
        ))
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    until("both", || expiry(&first) > now && expiry(&second) > now).await;
    site.change(&gate, &text(&site, &[&second], &broker)).await;
    assert!(expiry(&first).is_nan() && expiry(&second) > now);
    site.change(&gate, &text(&site, &[&first], &broker)).await;
    assert!(expiry(&first) > now && expiry(&second).is_nan());
}

#[tokio::test]
async fn the_sni_chooses_among_what_is_there_now() {
    let (site, broker) = (Site::new(), Broker::listen().await);
    let (other, local) = (Certificates::of(&["other.example.org"]), Certificates::of(&["localhost"]));
    let gate = site.start(&text(&site, &[&other], &broker)).await;
    site.change(&gate, &text(&site, &[&other, &local], &broker)).await;
    let wire = shake(&site, &local.client()).await;
    let mut client = Client::over(Box::new(wire), "ws://localhost/mqtt", &[]).await.ok().unwrap().0;
    client.say(&connect_v5("one", 60)).await;
    broker.visit_mqtt().await.welcome(&connect_v5("one", 60)).await;
}
