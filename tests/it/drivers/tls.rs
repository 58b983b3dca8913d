//! Providers over TLS: who is believed, and that nothing is said to anybody else.

use std::sync::{Arc, Mutex};

use channel_orchestrator::{
    channels::http::{Endpoint, EndpointOptions, Exchange, HttpTimeouts, Request},
    domain::delivery::ErrorClass,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::smtp_sink::certificates;

/// A server of that certificate, and what it heard once TLS stood.
async fn serve(certificate: &str) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let path = |extension: &str| certificates().join(format!("{certificate}.{extension}"));
    let chain: Vec<_> = CertificateDer::pem_file_iter(path("pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(path("key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (acceptor, heard) = (TlsAcceptor::from(Arc::new(config)), Arc::<Mutex<Vec<u8>>>::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(mut link) = acceptor.accept(tcp).await else { return };
        let mut byte = [0];
        while !kept.lock().unwrap().ends_with(b"\r\n\r\nhello") && matches!(link.read(&mut byte).await, Ok(1))
        {
            kept.lock().unwrap().push(byte[0]);
        }
        let _ = link.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = link.shutdown().await;
    });
    (port, heard)
}

fn endpoint(port: u16, trusted: bool) -> Endpoint {
    let ca = certificates().join("ca.pem");
    let options = EndpointOptions {
        ca_file: trusted.then_some(ca.as_path()),
        timeouts: HttpTimeouts { connect_seconds: 5, answer_seconds: 5 },
        ..EndpointOptions::default()
    };
    Endpoint::new(&format!("https://127.0.0.1:{port}/v1/"), options).unwrap()
}

#[tokio::test]
async fn only_a_certificate_that_is_trusted_named_and_alive_is_spoken_to() {
    for (certificate, trusted, good) in
        [("good", true, true), ("good", false, false), ("wrong", true, false), ("expired", true, false)]
    {
        let (port, heard) = serve(certificate).await;
        match endpoint(port, trusted).connect().await {
            Ok(connection) => {
                assert!(good, "{certificate} was believed");
                let request = Request::post("/messages", "text/plain", "hello");
                let Exchange::Answered(answer) = connection.send(request).await else {
                    panic!("{certificate}: no answer")
                };
                assert_eq!((answer.status, &answer.body[..]), (201, b"ok".as_slice()));
                let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
                assert!(heard.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{heard}");
            }
            Err(refused) => {
                assert!(!good, "{certificate}: {}", refused.error.detail);
                assert_eq!(refused.error.class, ErrorClass::NotSent, "{certificate}");
                assert!(refused.error.detail.starts_with("TLS: "), "{}", refused.error.detail);
                assert!(heard.lock().unwrap().is_empty(), "{certificate}: something was said");
            }
        }
    }
}
