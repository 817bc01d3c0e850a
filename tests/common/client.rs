//! A client that does exactly what a test says: it acknowledges nothing, repeats nothing and hides nothing by itself.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use rustls::{ClientConnection, StreamOwned};

use super::websocket::WebSocketStream;
use super::wire::{self, Packet, Publish, take_packet};

/// How long anything that must happen may take. Only a broken broker, or a starved machine, ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing must happen where silence is the point; a broker that would break it does so within microseconds.
pub const QUIET: Duration = Duration::from_millis(150);

/// What the bytes travel over.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    WebSocket(Box<WebSocketStream>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Tcp(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
            Stream::WebSocket(stream) => stream.socket.get_ref().socket(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
            Stream::WebSocket(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
            Stream::WebSocket(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
            Stream::WebSocket(stream) => stream.flush(),
        }
    }
}

/// One network connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// Bytes of packets that are not yet whole.
    received: Vec<u8>,
    /// Whole packets that a test has not yet asked for.
    packets: VecDeque<Packet>,
    next_id: u16,
}

impl Client {
    /// A connection on which nothing was sent yet.
    pub fn dial(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("an option of every TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        Client::over(Stream::Tcp(stream))
    }

    /// As [`Client::dial`], from this address of the host.
    pub fn dial_from(source: Ipv4Addr, addr: SocketAddr) -> Client {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor");
        rustix::net::bind(&socket, &SocketAddr::from((source, 0))).expect("all of 127.0.0.0/8 is this host's");
        rustix::net::connect(&socket, &addr).expect("the broker listens there");
        let stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        Client::over(Stream::Tcp(stream))
    }

    /// A client on a TLS connection.
    pub fn over_tls(stream: StreamOwned<ClientConnection, TcpStream>) -> Client {
        Client::over(Stream::Tls(Box::new(stream)))
    }

    /// A client on a WebSocket connection.
    pub fn over_websocket(stream: WebSocketStream) -> Client {
        Client::over(Stream::WebSocket(Box::new(stream)))
    }

    fn over(stream: Stream) -> Client {
        Client {
            stream,
            received: Vec::new(),
            packets: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Sends CONNECT and waits for the CONNACK, which must accept; says whether a session was present.
    pub fn connect(&mut self, connect: &wire::Connect) -> bool {
        self.send(connect.encode());
        match self.recv() {
            Packet::Connack {
                session_present,
                code: 0,
            } => session_present,
            other => panic!("no accepting CONNACK but {other:?}"),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.stream.socket().local_addr().expect("a connected socket")
    }

    /// The next Packet Identifier: all of them in turn.
    pub fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id % u16::MAX + 1;
        self.next_id
    }

    /// # Panics
    /// If the broker has closed the connection.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the connection is open");
    }

    /// Sends to a broker that may close before it has read everything.
    pub fn send_whatever(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The next packet, or `None` when the broker closes first.
    pub fn recv_or_close(&mut self) -> Option<Packet> {
        self.recv_by(Instant::now() + PATIENCE)
            .expect("a packet or the close of the connection")
    }

    /// Within this time, a packet, or `Some(None)` for the close; otherwise `None`.
    pub fn recv_within(&mut self, time: Duration) -> Option<Option<Packet>> {
        self.recv_by(Instant::now() + time).ok()
    }

    /// The next packet.
    pub fn recv(&mut self) -> Packet {
        self.recv_or_close()
            .expect("a packet, but the broker closed the connection")
    }

    /// The next packet must be this one.
    pub fn expect(&mut self, packet: &Packet) {
        assert_eq!(&self.recv(), packet);
    }

    /// The broker closes, and sends nothing before that.
    pub fn expect_close(&mut self) {
        let packet = self.recv_or_close();
        assert_eq!(packet, None, "instead of the close");
        assert!(self.received.is_empty(), "part of a packet before the close");
    }

    /// The broker has nothing for this client: not before a PINGRESP, and not for a moment after it.
    pub fn expect_silence(&mut self) {
        self.ping();
        if let Ok(packet) = self.recv_by(Instant::now() + QUIET) {
            panic!("instead of silence: {packet:?}");
        }
    }

    /// PINGREQ; its PINGRESP is the next packet.
    pub fn ping(&mut self) {
        self.send(wire::PINGREQ);
        self.expect(&Packet::Pingresp);
    }

    /// Skips packets until everything that the broker had for this client has arrived.
    pub fn drain(&mut self) {
        self.send(wire::PINGREQ);
        while self.recv() != Packet::Pingresp {}
    }

    /// PINGREQ, and every message before its PINGRESP, acknowledged; nothing else may come.
    pub fn ping_among(&mut self, mut take: impl FnMut(&Publish)) {
        self.send(wire::PINGREQ);
        loop {
            match self.recv() {
                Packet::Pingresp => return,
                Packet::Publish(publish) => {
                    self.acknowledge(&publish);
                    take(&publish);
                }
                other => panic!("neither a message nor PINGRESP but {other:?}"),
            }
        }
    }

    /// Subscribes to one filter, which must be granted with this QoS.
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let id = self.fresh_id();
        self.send(wire::subscribe(id, &[(filter, qos)]));
        self.expect(&Packet::Suback { id, codes: vec![qos] });
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        let id = self.fresh_id();
        self.send(wire::unsubscribe(id, &[filter]));
        self.expect(&Packet::Unsuback(id));
    }

    /// Publishes, and sees the acknowledgements of this QoS through.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        self.hand_over(wire::publish(topic, payload), qos);
    }

    /// Like [`Client::publish`], with RETAIN.
    pub fn retain(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        self.hand_over(wire::publish(topic, payload).retain(), qos);
    }

    fn hand_over(&mut self, publish: Publish, qos: u8) {
        let id = if qos > 0 { self.fresh_id() } else { 0 };
        self.send(publish.qos(qos, id).encode());
        match qos {
            0 => {}
            1 => self.expect(&Packet::Puback(id)),
            _ => {
                self.expect(&Packet::Pubrec(id));
                self.send(wire::pubrel(id));
                self.expect(&Packet::Pubcomp(id));
            }
        }
    }

    /// The next packet must be a PUBLISH; it stays unacknowledged.
    pub fn recv_publish(&mut self) -> Publish {
        match self.recv() {
            Packet::Publish(publish) => publish,
            other => panic!("no PUBLISH but {other:?}"),
        }
    }

    /// The next packet must be this message, not retained and not a repeat; acknowledges it as its QoS says.
    pub fn expect_message(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        let got = self.recv_publish();
        let want = Publish {
            id: got.id,
            ..wire::publish(topic, payload).qos(qos, 1)
        };
        assert_eq!(got, want);
        self.acknowledge(&got);
    }

    /// Like [`Client::expect_message`], with RETAIN.
    pub fn expect_retained(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        let got = self.recv_publish();
        let want = Publish {
            id: got.id,
            ..wire::publish(topic, payload).qos(qos, 1).retain()
        };
        assert_eq!(got, want);
        self.acknowledge(&got);
    }

    /// Acknowledges a received message to the end. What comes before the PUBREL is kept for later.
    pub fn acknowledge(&mut self, publish: &Publish) {
        match publish.qos {
            0 => {}
            1 => self.send(wire::puback(publish.packet_id())),
            _ => {
                let id = publish.packet_id();
                self.send(wire::pubrec(id));
                let mut between = VecDeque::new();
                loop {
                    match self.recv() {
                        Packet::Pubrel(released) if released == id => break,
                        other => between.push_back(other),
                    }
                }
                between.append(&mut self.packets);
                self.packets = between;
                self.send(wire::pubcomp(id));
            }
        }
    }

    /// DISCONNECT, and waits until the broker has closed: then it has let go of the connection.
    pub fn disconnect(mut self) {
        self.send(wire::DISCONNECT);
        while self.recv_or_close().is_some() {}
    }

    /// Ends the connection without DISCONNECT, and waits until the broker has closed too.
    pub fn vanish(mut self) {
        self.stream
            .socket()
            .shutdown(Shutdown::Write)
            .expect("the connection is open");
        while self.recv_or_close().is_some() {}
    }

    /// The socket itself, for what a client with manners never does to it.
    pub fn into_stream(self) -> TcpStream {
        match self.stream {
            Stream::Tcp(socket) => socket,
            Stream::Tls(stream) => stream.sock,
            Stream::WebSocket(_) => panic!("a WebSocket is more than its socket"),
        }
    }

    /// What reading fails with, where no packet must come.
    ///
    /// # Panics
    /// If the broker sends anything, or closes in order.
    pub fn read_error(&mut self) -> io::Error {
        self.stream.socket().set_read_timeout(Some(PATIENCE)).expect("not zero");
        match self.stream.read(&mut [0; 64]) {
            Err(error) => error,
            Ok(len) => panic!("{len} bytes instead of an error"),
        }
    }

    /// Nothing but TLS's own word of the end, and then the end.
    pub fn expect_close_notify(&mut self) {
        self.stream.socket().set_read_timeout(Some(PATIENCE)).expect("not zero");
        assert_eq!(self.stream.read(&mut [0; 64]).expect("close_notify"), 0);
    }

    /// Says in TLS that nothing more comes, and leaves the connection open.
    pub fn close_notify(&mut self) {
        let Stream::Tls(stream) = &mut self.stream else {
            panic!("a plain connection")
        };
        stream.conn.send_close_notify();
        stream.flush().expect("the connection is open");
    }

    /// The WebSocket itself.
    pub fn websocket(&mut self) -> &mut WebSocketStream {
        match &mut self.stream {
            Stream::WebSocket(stream) => stream,
            Stream::Tcp(_) | Stream::Tls(_) => panic!("no WebSocket"),
        }
    }

    /// The state of its TLS.
    pub fn tls(&self) -> &ClientConnection {
        match &self.stream {
            Stream::Tcp(_) | Stream::WebSocket(_) => panic!("a connection of another kind"),
            Stream::Tls(stream) => &stream.conn,
        }
    }

    /// `Ok(None)` is a close, `Err` a time-out.
    fn recv_by(&mut self, deadline: Instant) -> Result<Option<Packet>, ErrorKind> {
        let mut chunk = [0; 65_536];
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Ok(Some(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut);
            }
            self.stream.socket().set_read_timeout(Some(left)).expect("not zero");
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(len) => {
                    self.received.extend(&chunk[..len]);
                    while let Some(packet) = take_packet(&mut self.received) {
                        self.packets.push_back(packet);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Ok(None),
                    // TLS without its own word of the end: a process that was killed, or the end of a handshake that failed.
                    ErrorKind::UnexpectedEof => return Ok(None),
                    other => panic!("reading from the broker: {other}"),
                },
            }
        }
    }
}
