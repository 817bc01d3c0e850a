//! Starts the shards and the listener, waits for a signal, and ends them.

use std::collections::hash_map::RandomState;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use ringmq_shard::shard::{PeerBatch, Shard, ShardConfig, ShardId};
use ringmq_shard::store::MemoryStore;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::auth::{Authenticator, Secrets};
use crate::config::{Config, available};
use crate::listener::{Listener, Stop};
use crate::preflight::{Host, PreflightError};
use crate::runtime::clock::Clock;
use crate::runtime::executor::{Control, Executor, ExecutorConfig};
use crate::runtime::mesh::Mesh;
use crate::runtime::report::Reports;
use crate::startup;

/// A running broker: threads that serve clients until a signal comes.
#[derive(Debug)]
pub struct Broker {
    config: Config,
    mesh: Arc<Mesh<PeerBatch, Control>>,
    events: flume::Receiver<ProcessEvent>,
    shards: Vec<JoinHandle<()>>,
    listener: JoinHandle<()>,
    stop: Arc<Stop>,
    authenticator: Option<Arc<Authenticator>>,
}

/// What the main thread waits for.
#[derive(Debug)]
enum ProcessEvent {
    /// A signal that asks the process to end, or SIGHUP.
    Signal(i32),
    /// The shard's executor is made, and it runs.
    ShardRuns,
    /// The shard's thread ends.
    ShardEnded {
        shard: ShardId,
        /// Why, if that was before or instead of serving.
        failure: Option<String>,
    },
}

impl Broker {
    /// Starts everything and says so on standard output; returns once clients are served.
    ///
    /// # Errors
    /// [`PreflightError`]: the host let the checks pass and yet refused a ring, a thread or a descriptor.
    pub fn start(config: Config, secrets: &Secrets, host: Host) -> Result<Broker, PreflightError> {
        let (sender, events) = flume::unbounded();
        forward_signals(sender.clone())?;
        let clock = Clock::start();
        let mesh = Mesh::new(config.shards.len());
        let open = Arc::new(AtomicUsize::new(0));
        let reports = Arc::new(Reports::new(config.shards.len()));
        let authenticator = match &secrets.passwords {
            Some(_) => Some(Authenticator::start(config.auth_pool, secrets, &mesh)?),
            None => None,
        };
        let executor = ExecutorConfig {
            id: ShardId(0),
            write_timeout: config.write_timeout,
            shutdown_timeout: config.shutdown_timeout,
            sys_interval: config.sys_interval,
            clock,
            open: Arc::clone(&open),
            reports: Arc::clone(&reports),
            authenticator: authenticator.clone(),
            connect_timeout: config.limits.connect_timeout,
        };
        let shards = start_shards(&config, &executor, &mesh, &sender)?;
        wait_until_all_run(&events, shards.len())?;

        startup::announce(&config, &host);
        if !config.is_pinned() && config.shards.len() > 1 {
            warn!(
                shards = config.shards.len(),
                cores = config.cores.len(),
                "more shards than cores: none is pinned"
            );
        }
        let listener = Listener {
            sockets: host.listeners,
            rules: config.listeners.clone(),
            mesh: Arc::clone(&mesh),
            open,
            connections_max: config.connections_max,
            reports,
            clock,
        };
        let stop = Stop::new()?;
        let listener = start_listener(&config, listener, Arc::clone(&stop))?;
        startup::ready();
        Ok(Broker {
            config,
            mesh,
            events,
            shards,
            listener,
            stop,
            authenticator,
        })
    }

    /// Serves until SIGTERM or SIGINT, then ends every connection and thread.
    #[must_use]
    pub fn run(self) -> ExitCode {
        loop {
            match self.events.recv() {
                Ok(ProcessEvent::Signal(SIGHUP)) => self.reload(),
                Ok(ProcessEvent::Signal(signal)) => {
                    info!(signal, "stopping");
                    break;
                }
                event => {
                    error!(?event, "a shard ended by itself");
                    return ExitCode::FAILURE;
                }
            }
        }
        self.stop.stop();
        for shard in 0..self.mesh.shards() {
            self.mesh.control(shard_id(shard), Control::Shutdown);
        }
        let until = Instant::now() + self.config.shutdown_timeout + SHUTDOWN_GRACE;
        let mut running = self.shards.len();
        while running > 0 {
            match self.events.recv_deadline(until) {
                Ok(ProcessEvent::ShardEnded { .. }) => running -= 1,
                Ok(ProcessEvent::Signal(_) | ProcessEvent::ShardRuns) => {}
                Err(_) => {
                    error!(shards = running, "not stopped in time");
                    return ExitCode::FAILURE;
                }
            }
        }
        for thread in self.shards.into_iter().chain([self.listener]) {
            if thread.join().is_err() {
                return ExitCode::FAILURE;
            }
        }
        info!("stopped");
        ExitCode::SUCCESS
    }
}

impl Broker {
    /// Reads the files that say who clients are again. All of them count from here on, or none.
    fn reload(&self) {
        let secrets = match Secrets::load(&self.config) {
            Ok(secrets) => secrets,
            Err(error) => return error!(%error, "not reloaded: what was read before stays in force"),
        };
        if let Some(authenticator) = &self.authenticator {
            authenticator.replace(&secrets);
        }
        let users = secrets.passwords.as_ref().map(|passwords| passwords.len());
        info!(users, "reloaded");
    }
}

/// A panic anywhere ends the whole process: what its shard knew may be half changed, and its clients would wait for
/// ever. Release builds abort by themselves.
pub fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}

fn start_shards(
    config: &Config,
    executor: &ExecutorConfig,
    mesh: &Arc<Mesh<PeerBatch, Control>>,
    events: &flume::Sender<ProcessEvent>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let placement_seed = config.placement_seed.unwrap_or_else(random);
    let start = |(index, &core): (usize, &Option<usize>)| {
        let id = shard_id(index);
        let builder = LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
            .spin_before_park(config.spin)
            .ring_depth(RING_DEPTH as usize)
            // Only reads and writes of files use it; 64 KiB is the least there is.
            .io_memory(0)
            // The runtime's thread for blocking calls, which nothing here uses, stays off the shards' cores.
            .blocking_thread_pool_placement(PoolPlacement::Unbound(1));
        let shard = ShardConfig {
            id,
            shards: shard_id(config.shards.len()).0,
            placement_seed,
            seed: random(),
            limits: config.limits.clone(),
        };
        let executor = ExecutorConfig { id, ..executor.clone() };
        let (mesh, events) = (Arc::clone(mesh), events.clone());
        thread::Builder::new()
            .name(format!("ringmq-shard-{id}"))
            .spawn(move || {
                let failure = match builder.make() {
                    Ok(ring) => run_shard(&ring, executor, shard, &mesh, &events)
                        .err()
                        .map(|error| error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                // Nobody listens when the process is ending already.
                let _ = events.send(ProcessEvent::ShardEnded { shard: id, failure });
            })
    };
    config.shards.iter().enumerate().map(start).collect()
}

fn run_shard(
    ring: &LocalExecutor,
    config: ExecutorConfig,
    shard: ShardConfig,
    mesh: &Arc<Mesh<PeerBatch, Control>>,
    events: &flume::Sender<ProcessEvent>,
) -> io::Result<()> {
    ring.run(async {
        let port = mesh.port(config.id);
        let mut executor = Executor::new(config, Shard::new(shard, Box::new(MemoryStore)), port)?;
        // The main thread waits for it, or has given up on the start.
        let _ = events.send(ProcessEvent::ShardRuns);
        poll_fn(|cx| executor.poll(cx)).await;
        Ok(())
    })
}

fn wait_until_all_run(events: &flume::Receiver<ProcessEvent>, shards: usize) -> Result<(), PreflightError> {
    let mut running = 0;
    while running < shards {
        match events.recv() {
            Ok(ProcessEvent::ShardRuns) => running += 1,
            // What is being read is fresh.
            Ok(ProcessEvent::Signal(SIGHUP)) => {}
            Ok(ProcessEvent::Signal(signal)) => std::process::exit(128 + signal),
            Ok(ProcessEvent::ShardEnded { shard, failure }) => {
                let cause = failure.unwrap_or_else(|| "its thread ended".to_owned());
                return Err(PreflightError::Shard { shard: shard.0, cause });
            }
            Err(flume::RecvError::Disconnected) => unreachable!("this thread keeps a sender"),
        }
    }
    Ok(())
}

/// The listener works in bursts when clients reconnect; where a core is left over, that is its place.
fn start_listener(config: &Config, listener: Listener, stop: Arc<Stop>) -> io::Result<JoinHandle<()>> {
    let free = available()
        .into_iter()
        .find(|core| config.is_pinned() && !config.shards.contains(&Some(*core)));
    thread::Builder::new().name("ringmq-listener".into()).spawn(move || {
        if let Some(id) = free {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        listener.run(&stop);
    })
}

/// SIGHUP reloads. Of the others the first stops the broker in order, the second one at once.
fn forward_signals(events: flume::Sender<ProcessEvent>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("ringmq-signals".into()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if (stopping && signal != SIGHUP) || events.send(ProcessEvent::Signal(signal)).is_err() {
                std::process::exit(128 + signal);
            }
            stopping |= signal != SIGHUP;
        }
    })?;
    Ok(())
}

fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).expect("the configuration allows fewer shards than that"))
}

/// From the system's randomness, by way of the keys that the standard library draws for its tables.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Entries in each of a shard's rings. Registrations beyond it take another pass; each entry costs the kernel some
/// hundred bytes.
pub(crate) const RING_DEPTH: u32 = 256;
/// Beyond --shutdown-timeout, for threads to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
