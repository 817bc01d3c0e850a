//! Certificate, passwords, access control list, log and a limit are replaced together, again and again, while messages flow: none is lost,
//! nobody is disconnected, newcomers meet the new state, and a bad file of any kind leaves all of the old one in force.

mod common;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use common::*;
use ring::pbkdf2;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// What is in force from one reload to the next.
struct State {
    round: usize,
    certificate: tls::Pair,
}

impl State {
    fn password(&self) -> String {
        format!("password-{}", self.round)
    }

    /// Which part of `round/+` ann may read.
    fn topic(&self) -> String {
        format!("round/{}", self.round)
    }

    fn subscriptions_max(&self) -> usize {
        3 + self.round % 2
    }

    /// Whether connections are logged.
    fn is_chatty(&self) -> bool {
        self.round.is_multiple_of(2)
    }
}

/// A broker with a plain listener and one of TLS, whose files can be replaced.
struct Scene {
    folder: Folder,
    authority: tls::Authority,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            folder: Folder::new(),
            authority: tls::Authority::new("the server's authority"),
        }
    }

    /// A client that has never been here: one that resumes a session is shown no certificate.
    fn dial(&self, broker: &Broker) -> Client {
        tls::dial(broker.addrs[1], &Arc::new(tls::client_config(&self.authority, None)))
    }

    fn state(&self, round: usize) -> State {
        State {
            round,
            certificate: self.authority.server(&["localhost"]),
        }
    }

    /// Writes all files of a state; gives the settings'.
    fn write(&self, state: &State) -> String {
        let folder = &self.folder;
        let certificate = tls::settings(folder, "server", &state.certificate);
        let users = [entry("load", "load"), entry("ann", &state.password())].concat();
        let passwords = folder.write("passwords", users);
        let acl = folder.write(
            "acl",
            format!(
                "topic readwrite #\nuser load\ntopic readwrite #\nuser ann\ntopic read {}\n",
                state.topic()
            ),
        );
        let log = if state.is_chatty() {
            "text/info,connection=debug"
        } else {
            "text/info"
        };
        folder.write(
            "r.toml",
            format!(
                "password_file = \"{passwords}\"\nacl_file = \"{acl}\"\nmax_subscriptions = {}\nlog = \"{log}\"\n\
                 admin_listen = \"127.0.0.1:0\"\nallow_anonymous = true\n\n\
                 [[listener]]\nlisten = \"127.0.0.1:0\"\n\n[[listener]]\nlisten = \"127.0.0.1:0\"\n{certificate}",
                state.subscriptions_max(),
            ),
        )
    }

    /// Writes all files of a state, and one of them so that it cannot be used; gives what is said of it.
    fn write_bad(&self, state: &State, kind: usize) -> &'static str {
        self.write(state);
        let other = self.authority.server(&["localhost"]);
        let (name, text, says) = match kind % BAD_KINDS {
            0 => ("server.pem", "no certificate".to_owned(), "server.pem: "),
            1 => ("server.key", other.key, "server.key: "),
            2 => ("passwords", entry("load", "load") + "ann\n", "passwords:2: "),
            3 => ("acl", "topic readwrite #\nread round/#\n".to_owned(), "acl:2: "),
            _ => (
                "r.toml",
                "max_subscriptions = 0\nlog = \"text/loud\"\n".to_owned(),
                "r.toml:2: ",
            ),
        };
        self.folder.write(name, text);
        says
    }
}

const BAD_KINDS: usize = 5;

/// A line of the password file.
fn entry(user: &str, password: &str) -> String {
    let (salt, mut hash) = ([7; 12], [0; 64]);
    let iterations = NonZeroU32::new(ITERATIONS).expect("not 0");
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA512,
        iterations,
        &salt,
        password.as_bytes(),
        &mut hash,
    );
    let (salt, hash) = (Base64::encode_string(&salt), Base64::encode_string(&hash));
    format!("{user}:$7${ITERATIONS}${salt}${hash}\n")
}

/// As few as old releases of Mosquitto wrote: verifying is not what this is about.
const ITERATIONS: u32 = 101;

/// A publisher and a subscriber with QoS 1, whose messages are numbered.
struct Pair {
    /// Gives how many were acknowledged.
    publisher: JoinHandle<u64>,
    /// Gives how many arrived.
    subscriber: JoinHandle<u64>,
}

impl Pair {
    fn start(topic: String, mut publisher: Client, mut subscriber: Client, stop: &Arc<AtomicBool>) -> Pair {
        subscriber.subscribe(&topic, 1);
        let (arrived, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let publisher = thread::spawn({
            let (topic, arrived, end, stop) = (topic.clone(), arrived.clone(), end.clone(), stop.clone());
            move || {
                let mut next = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    // No queue of the broker may be the one that loses something.
                    if next - arrived.load(Ordering::SeqCst) > BACKLOG_MAX {
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    let ids: Vec<u16> = (0..BATCH).map(|_| publisher.fresh_id()).collect();
                    let numbered = ids.iter().zip(next..);
                    let packets = numbered.map(|(id, n)| publish(&topic, n.to_be_bytes()).qos(1, *id).encode());
                    publisher.send(packets.collect::<Vec<_>>().concat());
                    for id in ids {
                        publisher.expect(&Packet::Puback(id));
                        next += 1;
                    }
                }
                publisher.ping();
                end.store(next, Ordering::SeqCst);
                next
            }
        });
        let subscriber = thread::spawn(move || {
            let mut next = 0_u64;
            while next < end.load(Ordering::SeqCst) {
                match subscriber.recv_within(Duration::from_millis(50)) {
                    None => {}
                    Some(Some(Packet::Publish(message))) => {
                        let (n, dup) = (message.payload.as_slice(), message.dup);
                        assert_eq!((n, dup), (&next.to_be_bytes()[..], false), "{topic}");
                        subscriber.acknowledge(&message);
                        next += 1;
                        arrived.store(next, Ordering::SeqCst);
                    }
                    Some(other) => panic!("{topic}: neither a message nor silence but {other:?}"),
                }
            }
            subscriber.expect_silence();
            next
        });
        Pair { publisher, subscriber }
    }

    /// Every message that was acknowledged has arrived, once and in its place.
    fn finish(self) {
        let acknowledged = self.publisher.join().expect("no acknowledgement is missing");
        let arrived = self.subscriber.join().expect("no message is missing");
        assert_eq!(arrived, acknowledged);
        assert!(acknowledged > 0);
    }
}

const BATCH: usize = 20;
/// Of messages that were acknowledged and have not arrived.
const BACKLOG_MAX: u64 = 1_000;

/// Whoever comes meets this state, whole.
fn check(scene: &Scene, broker: &Broker, state: &State, others: &State) {
    let id = broker.id_on(
        u16::try_from(state.round).expect("small") % broker.shards,
        &format!("probe-{}-", state.round),
    );
    let mut probe = scene.dial(broker);
    let shown = probe.tls().peer_certificates().expect("a server shows one")[0].clone();
    let own = CertificateDer::from_pem_slice(state.certificate.certificate.as_bytes()).expect("a certificate");
    assert!(shown == own, "round {}: another certificate", state.round);
    probe.connect(&Connect::new(&id).user("ann", &state.password()));
    let mut wrong = broker.dial();
    wrong.send(Connect::new("wrong").user("ann", &others.password()).encode());
    let code = 4;
    wrong.expect(&Packet::Connack {
        session_present: false,
        code,
    });
    // One filter is allowed, one is not, and the rest is bounded by the limit.
    let mut filters = vec![(state.topic(), 1), (others.topic(), 0x80)];
    filters.extend(["round/+", "round/#", "+/+", "+/#", "#"].map(|wide| (wide.to_owned(), 1)));
    let granted = state.subscriptions_max() - 1;
    for (at, (_, code)) in filters[2..].iter_mut().enumerate() {
        *code = if at < granted { 1 } else { 0x80 };
    }
    let asked: Vec<(&str, u8)> = filters.iter().map(|(filter, _)| (&**filter, 1)).collect();
    probe.send(wire::subscribe(1, &asked));
    let codes = filters.iter().map(|(_, code)| *code).collect();
    probe.expect(&Packet::Suback { id: 1, codes });
    probe.disconnect();
}

#[test]
fn nothing_is_lost_and_nobody_leaves_while_everything_is_replaced() {
    for shards in [1, 3] {
        let scene = Scene::new();
        let mut state = scene.state(0);
        let config = scene.write(&state);
        let broker = Broker::start_on(shards, &["--config", &config], &[]);
        let admin = broker.admin().to_string();
        let reload = || {
            let mut process = Process::spawn(ringmq().args(["reload", "--config", &config, "--admin-listen", &admin]));
            (process.wait().success(), process.output())
        };
        let come = |is_tls: bool, connect: &Connect| {
            let mut client = if is_tls { scene.dial(&broker) } else { broker.dial() };
            client.connect(connect);
            client
        };
        let stop = Arc::new(AtomicBool::new(false));
        let pairs: Vec<Pair> = [(false, false), (false, true), (true, false), (true, true)]
            .into_iter()
            .zip(0..)
            .map(|((from, to), n)| {
                let id = |what, shard: u16| broker.id_on(shard % shards, &format!("{what}-{n}-"));
                let publisher = come(from, &Connect::new(&id("pub", n)).user("load", "load"));
                let subscriber = come(to, &Connect::new(&id("sub", n + 1)).user("load", "load"));
                Pair::start(format!("load/{n}"), publisher, subscriber, &stop)
            })
            .collect();
        let mut publisher = come(true, &Connect::new("publisher").user("load", "load"));
        let mut stays = come(true, &Connect::new("stays").user("ann", &state.password()));
        stays.subscribe("round/+", 1);
        check(&scene, &broker, &state, &scene.state(99));

        for round in 1..=2 * BAD_KINDS {
            let next = scene.state(round);
            // One bad file among good ones of the next state: not one of those counts.
            let says = scene.write_bad(&next, round);
            let by_command = round % 4 < 2;
            if by_command {
                let (done, said) = reload();
                assert!(!done && said.contains(says), "{said}");
            } else {
                let refused = |output: &str| {
                    let lines = output.lines().filter(|line| line.contains("not reloaded"));
                    lines.filter(|line| line.contains(says)).count()
                };
                let before = refused(&broker.log_lines(|_| true).join("\n"));
                broker.signal("HUP");
                broker.await_output(|output| (refused(output) > before).then_some(()));
            }
            check(&scene, &broker, &state, &next);

            scene.write(&next);
            if by_command {
                tls::reload(&broker);
            } else {
                let (done, said) = reload();
                let both = said.contains("changed: log\n") && said.contains("changed: max_subscriptions\n");
                assert!(done && both && !said.contains("restart"), "{said}");
            }
            check(&scene, &broker, &next, &state);
            // Who was there before is judged by the new list, too.
            publisher.publish(&state.topic(), "of old", 1);
            publisher.publish(&next.topic(), "of the new", 1);
            stays.expect_message(&next.topic(), "of the new", 1);
            state = next;
        }
        stop.store(true, Ordering::SeqCst);
        pairs.into_iter().for_each(Pair::finish);
        stays.expect_silence();
        publisher.ping();
        // Lines are written in their order, so what was to come before this one has.
        broker.connect("the-last");
        broker.await_log(|line| line.contains("client=\"the-last\""));
        for round in 0..=2 * BAD_KINDS {
            let connected =
                |line: &str| line.contains(&format!("client=\"probe-{round}-")) && line.contains("connected");
            let is_logged = !broker.log_lines(connected).is_empty();
            assert_eq!(is_logged, round.is_multiple_of(2), "round {round}");
        }
        broker.assert_well();
    }
}
