//! The broker as a process of its own.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use ringmq_shard::hash;

use super::client::{Client, PATIENCE};
use super::files::Folder;
use super::wire::Connect;

/// A running broker on a free port of the loopback interface; killed when dropped.
///
/// The client identifiers `sub` and `pub` live on its first and its last shard, so what one sends to the other crosses
/// shards wherever there is more than one.
#[derive(Debug)]
pub struct Broker {
    /// Of its first listener.
    pub addr: SocketAddr,
    /// Of all its listeners, in order.
    pub addrs: Vec<SocketAddr>,
    pub shards: u16,
    pub placement_seed: u64,
    process: Process,
}

impl Broker {
    /// Starts a broker with this number of shards and waits until it is ready; `flags` come after the usual ones.
    pub fn start(shards: u16, flags: &[&str]) -> Broker {
        Broker::start_on(shards, &["--listen", "127.0.0.1:0"], flags)
    }

    /// As [`Broker::start`], listening as `listen` says: flags, or `--config` and a file with `[[listener]]` tables.
    pub fn start_on(shards: u16, listen: &[&str], flags: &[&str]) -> Broker {
        Broker::start_by(ringmq(), shards, listen, flags)
    }

    /// As [`Broker::start`], with a mistake of its shards. The binary has it only with the feature `planted-faults`.
    pub fn start_with_fault(shards: u16, fault: &str) -> Broker {
        let mut command = ringmq();
        command.env("RINGMQ_FAULT", fault);
        Broker::start_by(command, shards, &["--listen", "127.0.0.1:0"], &[])
    }

    fn start_by(mut command: Command, shards: u16, listen: &[&str], flags: &[&str]) -> Broker {
        let placement_seed = (0..)
            .find(|seed| hash::home("sub", shards, *seed).0 == 0 && hash::home("pub", shards, *seed).0 == shards - 1)
            .expect("such a seed is among the first few");
        command.args(listen).args(["--shards", &shards.to_string()]);
        command.args(["--placement-seed", &placement_seed.to_string()]);
        if !flags.contains(&"--sys-interval") {
            command.args(["--sys-interval", "0"]);
        }
        let process = Process::spawn(command.args(flags));
        let addrs: Vec<SocketAddr> = process.await_output(|output| {
            let lines = || output.lines();
            let addrs = lines().filter_map(|line| line.strip_prefix("listening on "));
            let addr = |text: &str| text.split(',').next().and_then(|addr| addr.parse().ok());
            lines()
                .any(|line| line == "ready")
                .then(|| addrs.filter_map(addr).collect())
        });
        Broker {
            addr: addrs[0],
            addrs,
            shards,
            placement_seed,
            process,
        }
    }

    /// A connection on which nothing was sent yet.
    pub fn dial(&self) -> Client {
        Client::dial(self.addr)
    }

    /// A client with Clean Session 1, accepted.
    pub fn connect(&self, id: &str) -> Client {
        self.connect_as(&Connect::new(id)).0
    }

    /// A client with Clean Session 0, accepted, and Session Present.
    pub fn resume(&self, id: &str) -> (Client, bool) {
        self.connect_as(&Connect::resume(id))
    }

    /// A client with this CONNECT, accepted, and Session Present.
    pub fn connect_as(&self, connect: &Connect) -> (Client, bool) {
        let mut client = self.dial();
        let session_present = client.connect(connect);
        (client, session_present)
    }

    /// These bytes, first on a connection, get nothing but its close.
    pub fn assert_closes_new(&self, bytes: impl AsRef<[u8]>) {
        let mut client = self.dial();
        client.send_whatever(bytes);
        client.expect_close();
    }

    /// These bytes, from an accepted client, get nothing but the close of its connection.
    pub fn assert_closes(&self, bytes: impl AsRef<[u8]>) {
        let mut client = self.connect("offender");
        client.send_whatever(bytes);
        client.expect_close();
    }

    /// A Client Identifier with this beginning whose home is this shard.
    pub fn id_on(&self, shard: u16, prefix: &str) -> String {
        self.find(prefix, |id| hash::home(id, self.shards, self.placement_seed).0 == shard)
    }

    /// A Topic Name with this beginning whose retained message this shard owns.
    pub fn topic_on(&self, shard: u16, prefix: &str) -> String {
        self.find(prefix, |topic| {
            hash::retained_owner(topic, self.shards, self.placement_seed).0 == shard
        })
    }

    fn find(&self, prefix: &str, fits: impl Fn(&str) -> bool) -> String {
        (0..)
            .map(|n| format!("{prefix}{n}"))
            .find(|name| fits(name))
            .expect("every shard has its share of names")
    }

    /// Waits until a line of the log satisfies `is_it`, and gives that line.
    pub fn await_log(&self, is_it: impl Fn(&str) -> bool) -> String {
        self.process
            .await_output(|output| output.lines().find(|line| is_it(line)).map(str::to_owned))
    }

    /// Waits until `find` finds what it looks for in everything that the broker has printed.
    pub fn await_output<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        self.process.await_output(find)
    }

    /// The lines of the log so far that satisfy `is_it`.
    pub fn log_lines(&self, is_it: impl Fn(&str) -> bool) -> Vec<String> {
        let output = self.process.output();
        output.lines().filter(|line| is_it(line)).map(str::to_owned).collect()
    }

    /// The broker still accepts clients and moves messages.
    pub fn assert_well(&self) {
        let mut client = self.connect("still-well");
        client.subscribe("still/well", 0);
        client.publish("still/well", "yes", 0);
        client.expect_message("still/well", "yes", 0);
        client.disconnect();
    }

    /// Memory of the process that is resident, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Address space of the process, in bytes: also what was allocated and never touched.
    pub fn address_space_bytes(&self) -> u64 {
        self.status_bytes("VmSize:")
    }

    /// A size from `/proc/PID/status`: the pages of `statm`, in a unit that is the same on every machine.
    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.expect("a size in KiB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// Sends a signal by its name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The process, for tests of how it ends.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The command that starts the binary under test: `RINGMQ_TEST_BIN` where it is set, e.g. an installed package.
///
/// Without the `RINGMQ_` settings of whoever runs the tests, and with all it logs.
pub fn ringmq() -> Command {
    let mut command =
        Command::new(env::var_os("RINGMQ_TEST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_ringmq").into()));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RINGMQ_") {
            command.env_remove(name);
        }
    }
    // Where the tests themselves are a service, their manager is not the broker's.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
    command
}

/// `ringmq check` of a listener with these settings: whether they are good, and what was said.
pub fn check_listener(folder: &Folder, settings: &str) -> (bool, String) {
    let file = folder.write(
        "r.toml",
        format!("[[listener]]\nlisten = \"127.0.0.1:0\"\n{settings}\n"),
    );
    let output = ringmq()
        .args(["check", "--config", &file])
        .output()
        .expect("the binary under test");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    (output.status.success(), said)
}

/// A child process and what it has printed so far, standard output and error together.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    // A test that gives up does so with the lock in its hands, and then wants to show what was printed.
    /// What was printed, and how many of the two streams are still open.
    state: Mutex<(String, usize)>,
    changed: Condvar,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Output {
            state: Mutex::new((String::new(), 2)),
            changed: Condvar::new(),
        });
        Output::collect(&output, child.stdout.take().expect("piped"));
        Output::collect(&output, child.stderr.take().expect("piped"));
        Process { child, output }
    }

    /// Waits until `find` finds what it looks for in what the process has printed.
    ///
    /// # Panics
    /// If the process ends first, or it takes too long.
    pub fn await_output<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.output.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&state.0) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(state.1 > 0, "the process ended first");
            assert!(!left.is_zero(), "not printed in time");
            state = self
                .output
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Its process identifier.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        self.output
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill(1) is installed").success());
    }

    /// Waits until the process has ended and all of its output was read.
    pub fn wait(&mut self) -> ExitStatus {
        self.await_end();
        self.child.wait().expect("a child of ours")
    }

    fn await_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.output.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.1 > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the process does not end");
            state = self
                .output
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that was waited for says the same again; one that runs says nothing yet.
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the process printed ---\n{}--- and then: {ended:?}", self.output());
        }
    }
}

impl Output {
    fn collect(output: &Arc<Output>, stream: impl Read + Send + 'static) {
        let output = Arc::clone(output);
        thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                output
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
                    .push_str(&String::from_utf8_lossy(&line));
                output.changed.notify_all();
                line.clear();
            }
            output.state.lock().unwrap_or_else(PoisonError::into_inner).1 -= 1;
            output.changed.notify_all();
        });
    }
}
