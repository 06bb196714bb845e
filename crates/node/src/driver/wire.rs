//! What probes speak over a connection besides plain HTTP: TLS, and gRPC's health protocol.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Longest answer to a health check.
const LONGEST: usize = 4 * 1024;

/// Speaks TLS. Whom the certificate belongs to does not matter: a probe asks whether somebody answers, as the kubelet does.
pub(super) async fn tls(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    connector()?.connect(name, stream).await.map_err(|error| format!("tls: {error}"))
}

fn connector() -> Result<TlsConnector, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?;
        let anybody = Arc::new(Anybody(provider));
        Ok(Arc::new(config.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()))
    };
    CONFIG.get_or_init(make).clone().map(TlsConnector::from)
}

/// Takes every certificate; signatures must fit it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Asks for the health of `service` (`grpc.health.v1.Health/Check`).
pub(super) async fn grpc(stream: TcpStream, address: &str, service: &str) -> Result<(), String> {
    let failed = |error: h2::Error| format!("error: health rpc probe failed: {error}");
    let (mut client, connection) = h2::client::handshake(stream).await.map_err(failed)?;
    let driving = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(())
        .map_err(|error| error.to_string())?;
    let (response, mut body) = client.send_request(request, false).map_err(failed)?;
    body.send_data(question(service)?, true).map_err(failed)?;
    let (head, mut stream) = response.await.map_err(failed)?.into_parts();
    let mut answer = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(failed)?;
        let _ = stream.flow_control().release_capacity(data.len());
        if answer.len() + data.len() > LONGEST {
            return Err("error: health rpc probe failed: the answer is too long".to_owned());
        }
        answer.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await.map_err(failed)?.unwrap_or_default();
    driving.abort();
    let status =
        |name: &str| trailers.get(name).or_else(|| head.headers.get(name)).and_then(|value| value.to_str().ok());
    match status("grpc-status") {
        Some("0") => {}
        Some("12") => {
            let text = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)";
            return Err(format!("{text}: {}", status("grpc-message").unwrap_or_default()));
        }
        Some(code) => {
            let message = status("grpc-message").unwrap_or_default();
            return Err(format!("error: health rpc probe failed: code = {code} desc = {message}"));
        }
        None => return Err(format!("error: health rpc probe failed: no gRPC status (HTTP {})", head.status.as_u16())),
    }
    match serving(&answer) {
        Some(1) => Ok(()),
        other => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
            let name = other.and_then(|number| name.get(usize::from(number))).unwrap_or(&"UNKNOWN");
            Err(format!("service unhealthy (responded with {name:?})"))
        }
    }
}

/// A message with one string field, uncompressed.
fn question(service: &str) -> Result<Bytes, String> {
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 128);
    let length = length.ok_or_else(|| "the service's name is too long".to_owned())?;
    let message = if length == 0 { Vec::new() } else { [&[0x0a, length], service.as_bytes()].concat() };
    let size = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    Ok([&[0][..], &size, &message].concat().into())
}

/// The first field of an answer; absent means zero.
fn serving(answer: &[u8]) -> Option<u8> {
    let (head, message) = answer.split_at_checked(5)?;
    match (head.first(), message) {
        (Some(0), []) => Some(0),
        (Some(0), [0x08, status, ..]) => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one health check: status of the answer, and gRPC's code.
    async fn server(answer: &'static [u8], code: &'static str) -> (String, tokio::task::JoinHandle<Bytes>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let answering = tokio::spawn(async move {
                let asked = request.into_body().data().await.unwrap().unwrap();
                let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data(answer.into(), false).unwrap();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", code.parse().unwrap());
                body.send_trailers(trailers).unwrap();
                asked
            });
            while connection.accept().await.is_some() {}
            answering.await.unwrap()
        });
        (address, serving)
    }

    #[tokio::test]
    async fn health() {
        let check = async |service: &str, answer: &'static [u8], code: &'static str, expect: Result<(), &str>| {
            let (address, serving) = server(answer, code).await;
            let stream = TcpStream::connect(&address).await.unwrap();
            let result = grpc(stream, &address, service).await;
            assert_eq!(result, expect.map_err(str::to_owned));
            serving.await.unwrap()
        };
        assert_eq!(check("", b"\0\0\0\0\x02\x08\x01", "0", Ok(())).await, b"\0\0\0\0\0"[..]);
        assert_eq!(check("db", b"\0\0\0\0\x02\x08\x01", "0", Ok(())).await, b"\0\0\0\0\x04\x0a\x02db"[..]);
        check("", b"\0\0\0\0\x02\x08\x02", "0", Err("service unhealthy (responded with \"NOT_SERVING\")")).await;
        check("", b"\0\0\0\0\0", "0", Err("service unhealthy (responded with \"UNKNOWN\")")).await;
        let unimplemented = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ";
        check("", b"", "12", Err(unimplemented)).await;
        check("", b"", "5", Err("error: health rpc probe failed: code = 5 desc = ")).await;
    }

    #[tokio::test]
    async fn nobody_asks_who_the_server_is() {
        let key = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
        let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], key.signing_key.serialize_der().try_into().unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut stream = tls(TcpStream::connect(address).await.unwrap(), "127.0.0.1").await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"hello");
        serving.await.unwrap();
    }
}
