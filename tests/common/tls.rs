//! Certificates that live as long as a test, and clients that speak TLS with rustls' own client.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::broker::Broker;
use super::client::{Client, PATIENCE};
use super::control::Control;
use super::files::Folder;
use super::wire::Connect;

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Issues certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("randomness");
        let mut params = params(&[(DnType::CommonName, name.into())]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("sound parameters").pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// For a server of these names; addresses count as names.
    pub fn server(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// For a client with this Common Name.
    pub fn client(&self, name: &str) -> Pair {
        self.client_with(&[(DnType::CommonName, name.into())], vec![])
    }

    /// For a client with this subject, each entry a part of its own, and these Subject Alternative Names.
    pub fn client_with(&self, subject: &[(DnType, DnValue)], names: Vec<SanType>) -> Pair {
        let mut params = params(subject);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    /// A client's certificate that was valid once.
    pub fn expired_client(&self, name: &str) -> Pair {
        let mut params = params(&[(DnType::CommonName, name.into())]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("sound parameters");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn params(subject: &[(DnType, DnValue)]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params
}

/// A client of a server whose certificate is from `authority`, with a certificate of its own or without; all versions.
pub fn client_config(authority: &Authority, own: Option<&Pair>) -> ClientConfig {
    client_config_of(authority, own, rustls::ALL_VERSIONS)
}

/// As [`client_config`], of these versions of TLS.
pub fn client_config_of(
    authority: &Authority,
    own: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(der(&authority.pem)).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions of this provider")
        .with_root_certificates(roots);
    match own {
        None => config.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
            config
                .with_client_auth_cert(vec![der(&pair.certificate)], key)
                .expect("key and certificate fit")
        }
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// The beginning of a TLS connection: nothing was sent yet.
pub fn stream(addr: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    stream_over(Client::dial(addr), name, config)
}

/// The same on a connection that is open.
pub fn stream_over(client: Client, name: &str, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = client.into_stream();
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let tls = ClientConnection::new(Arc::clone(config), name).expect("a sound configuration");
    StreamOwned::new(tls, socket)
}

/// Sees the handshake through.
///
/// # Errors
/// What the broker or this client has against it.
pub fn try_dial(addr: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Client> {
    handshake(stream(addr, name, config))
}

/// Sees the handshake through, on a stream that has just begun.
///
/// # Errors
/// As [`try_dial`].
pub fn handshake(mut stream: StreamOwned<ClientConnection, TcpStream>) -> io::Result<Client> {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Client::over_tls(stream))
}

/// A connection on which no MQTT was sent yet.
pub fn dial(addr: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    try_dial(addr, "localhost", config).expect("a handshake")
}

/// The broker refuses to speak MQTT with such a client: in the handshake, or, in TLS 1.3 and for what is wrong with its
/// certificate, right behind it.
pub fn assert_refused(addr: SocketAddr, config: &Arc<ClientConfig>) -> io::Error {
    let mut client = match try_dial(addr, "localhost", config) {
        Ok(client) => client,
        Err(error) => return error,
    };
    client.send_whatever(Connect::new("refused").encode());
    client.read_error()
}

/// Starts a broker with a plain listener and one of TLS, which has these settings beside its certificate; gives the latter's
/// address.
pub fn start(shards: u16, folder: &super::Folder, settings: &str, flags: &[&str]) -> (Broker, SocketAddr) {
    let file = folder.write(
        &format!("{shards}.toml"),
        format!(
            "[[listener]]\nlisten = \"127.0.0.1:0\"\nallow_anonymous = true\n\n[[listener]]\nlisten = \"127.0.0.1:0\"\n{settings}\n"
        ),
    );
    let broker = Broker::start_on(shards, &["--config", &file], flags);
    let addr = broker.addrs[1];
    (broker, addr)
}

/// Writes a pair as `NAME.pem` and `NAME.key`, and gives the settings that name them.
pub fn settings(folder: &super::Folder, name: &str, pair: &Pair) -> String {
    let certificate = folder.write(&format!("{name}.pem"), &pair.certificate);
    let key = folder.write(&format!("{name}.key"), &pair.key);
    format!("tls_certificate = \"{certificate}\"\ntls_key = \"{key}\"\n")
}

/// The files and the server's authority of one test.
#[derive(Debug)]
pub struct Setup {
    pub folder: Folder,
    pub authority: Authority,
    /// Settings of the listener that name the server's certificate.
    pub settings: String,
}

impl Setup {
    pub fn new() -> Setup {
        let (folder, authority) = (Folder::new(), Authority::new("the server's authority"));
        let settings = settings(&folder, "server", &authority.server(&["localhost", "127.0.0.1"]));
        Setup {
            folder,
            authority,
            settings,
        }
    }

    /// A listener that takes certificates of `clients`.
    pub fn asking(clients: &Authority, which: &str, user_name: &str) -> Setup {
        let mut setup = Setup::new();
        let ca = setup.folder.write("clients.pem", &clients.pem);
        setup.settings += &format!(
            "tls_client_ca = \"{ca}\"\ntls_client_certificates = \"{which}\"\ntls_user_name = \"{user_name}\"\n"
        );
        setup
    }

    pub fn client(&self, own: Option<&Pair>) -> Arc<ClientConfig> {
        Arc::new(client_config(&self.authority, own))
    }

    pub fn start(&self, shards: u16, flags: &[&str]) -> (Broker, SocketAddr) {
        start(shards, &self.folder, &self.settings, flags)
    }

    /// Runs the scenario with 1 and 3 shards.
    pub fn each(&self, flags: &[&str], scenario: impl Fn(&Broker, SocketAddr)) {
        for shards in [1, 3] {
            let (broker, addr) = self.start(shards, flags);
            scenario(&broker, addr);
            broker.assert_well();
        }
    }

    /// As [`each`](Self::each), beside a control client that must notice nothing.
    pub fn attack(&self, flags: &[&str], scenario: impl Fn(&Broker, SocketAddr)) {
        self.each(flags, |broker, addr| {
            let control = Control::start(broker);
            scenario(broker, addr);
            control.finish();
        });
    }
}

/// A client that is connected.
pub fn connected(addr: SocketAddr, config: &Arc<ClientConfig>, id: &str) -> Client {
    let mut client = dial(addr, config);
    client.connect(&Connect::new(id));
    client
}

/// Has the files read again, and waits until they are.
pub fn reload(broker: &Broker) {
    let before = broker.log_lines(|line| line.contains(" reloaded")).len();
    broker.signal("HUP");
    broker.await_output(|output| {
        let lines = output.lines().filter(|line| line.contains(" reloaded")).count();
        (lines > before).then_some(())
    });
}
