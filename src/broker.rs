//! Starts the shards, waits for a signal, and ends them.

mod reload;

use std::collections::hash_map::RandomState;
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

use crate::admin::Admin;
use crate::auth::{Authenticator, Secrets};
use crate::config::{Config, Given, TlsUserName};
use crate::listener::{Acceptor, AcceptorConfig, ListenSocket, Listening};
use crate::logging::LogSwitch;
use crate::preflight::{Host, PreflightError};
use crate::runtime::clock::Clock;
use crate::runtime::executor::{Control, Executor, ExecutorConfig};
use crate::runtime::mesh::Mesh;
use crate::runtime::question::Reply;
use crate::runtime::report::Reports;
use crate::service::{self, Watchdog};
use crate::startup;
use crate::transport::tls::TlsServer;
pub(crate) use reload::Outcome;

/// A running broker: threads that serve clients until a signal comes.
#[derive(Debug)]
pub struct Broker {
    /// In force.
    config: Config,
    /// The same as text.
    given: Given,
    log: LogSwitch,
    mesh: Arc<Mesh<PeerBatch, Control>>,
    events: flume::Receiver<ProcessEvent>,
    shards: Vec<JoinHandle<()>>,
    authenticator: Option<Arc<Authenticator>>,
    /// `None`: no operator asks.
    admin: Option<Arc<Admin>>,
    /// One entry per listener; `None`: it is plain.
    tls: Vec<Option<Arc<TlsServer>>>,
    /// `None`: no service manager asks whether the process lives.
    watchdog: Option<Watchdog>,
}

/// What the main thread waits for.
#[derive(Debug)]
pub(crate) enum ProcessEvent {
    /// An operator asks for what SIGHUP does, and wants to know what came of it.
    Reload(Reply<Result<Outcome, String>>),
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
    pub fn start(
        config: Config,
        secrets: &Secrets,
        given: Given,
        host: Host,
        log: LogSwitch,
    ) -> Result<Broker, PreflightError> {
        // Chosen once: the shards and the admin listener must agree where a client lives.
        let placement_seed = config.placement_seed.unwrap_or_else(random);
        let config = Config {
            placement_seed: Some(placement_seed),
            ..config
        };
        let announcement = startup::announcement(&config, &host);
        let (sender, events) = flume::unbounded();
        forward_signals(sender.clone())?;
        let clock = Clock::start();
        let mesh = Mesh::new(config.shards.len())?;
        let open = Arc::new(AtomicUsize::new(0));
        let reports = Arc::new(Reports::new(config.shards.len()));
        let authenticator = match secrets.verify() {
            true => Some(Authenticator::start(&config, secrets, &mesh, &reports)?),
            false => None,
        };
        let executor = ExecutorConfig {
            id: ShardId(0),
            write_timeout: config.write_timeout,
            shutdown_timeout: config.shutdown_timeout,
            spin: config.spin,
            sys_interval: config.sys_interval,
            clock,
            open: Arc::clone(&open),
            reports: Arc::clone(&reports),
            users: Arc::default(),
            authenticator: authenticator.clone(),
            connect_timeout: config.limits.connect_timeout,
        };
        let acceptor = AcceptorConfig {
            shards: config.shards.len(),
            open,
            connections_max: config.connections_max,
            reports: Arc::clone(&reports),
        };
        let tls = tls_servers(&config, secrets);
        let listeners = deal_out(host.listeners, &config, &tls);
        let shards = start_shards(&config, secrets, &executor, &acceptor, listeners, &mesh, &sender)?;
        wait_until_all_run(&events, shards.len())?;
        let admin = match host.admin {
            Some(listener) => Some(Admin::start(
                &config,
                placement_seed,
                secrets,
                listener,
                &mesh,
                &reports,
                sender,
            )?),
            None => None,
        };

        startup::say(&announcement);
        if !config.is_pinned() && config.shards.len() > 1 {
            warn!(
                shards = config.shards.len(),
                cores = config.cores.len(),
                "more shards than cores: none is pinned"
            );
        }
        let named = config.listeners.iter().any(|listener| {
            let tls = listener.tls.as_ref();
            tls.is_some_and(|tls| tls.user_name != TlsUserName::None)
        });
        let users = secrets.acl.as_ref().is_some_and(|acl| acl.users() > 0);
        if !secrets.verify() && users && !named {
            warn!("the access control list has entries for users, but without --password-file no client is one");
        }
        if let Some(service) = config.auth_http.as_ref().filter(|service| service.url.is_exposed()) {
            warn!(url = %service.url, "the service of --auth-http-url is told passwords in the clear: on the way there they can be read");
        }
        secrets.warn_of_expiry();
        let watchdog = Watchdog::start(&mesh)?;
        startup::ready();
        service::ready(&format!("serves clients on {} shards", shards.len()));
        Ok(Broker {
            config,
            given,
            log,
            mesh,
            events,
            shards,
            authenticator,
            admin,
            tls,
            watchdog,
        })
    }

    /// Serves until SIGTERM or SIGINT, then ends every connection and thread.
    #[must_use]
    pub fn run(mut self) -> ExitCode {
        loop {
            match self.next_event() {
                // What came of it is in the log.
                Some(ProcessEvent::Signal(SIGHUP)) => drop(self.reload()),
                Some(ProcessEvent::Reload(reply)) => {
                    let outcome = self.reload();
                    reply.send(outcome);
                }
                Some(ProcessEvent::Signal(signal)) => {
                    info!(signal, "stopping");
                    service::stopping();
                    break;
                }
                event => {
                    error!(?event, "a shard ended by itself");
                    return ExitCode::FAILURE;
                }
            }
        }
        if let Some(admin) = &self.admin {
            admin.stop();
        }
        for shard in 0..self.mesh.shards() {
            self.mesh.control(shard_id(shard), Control::Shutdown);
        }
        let until = Instant::now() + self.config.shutdown_timeout + SHUTDOWN_GRACE;
        let mut running = self.shards.len();
        while running > 0 {
            match self.events.recv_deadline(until) {
                Ok(ProcessEvent::ShardEnded { .. }) => running -= 1,
                Ok(ProcessEvent::Signal(_) | ProcessEvent::Reload(_) | ProcessEvent::ShardRuns) => {}
                Err(_) => {
                    error!(shards = running, "not stopped in time");
                    return ExitCode::FAILURE;
                }
            }
        }
        for thread in self.shards {
            if thread.join().is_err() {
                return ExitCode::FAILURE;
            }
        }
        info!("stopped");
        ExitCode::SUCCESS
    }

    /// Waits for the next event, and keeps the watchdog quiet meanwhile. `None`: there will be none.
    fn next_event(&mut self) -> Option<ProcessEvent> {
        loop {
            let Some(watchdog) = &mut self.watchdog else {
                return self.events.recv().ok();
            };
            match self.events.recv_deadline(watchdog.next()) {
                Ok(event) => return Some(event),
                Err(flume::RecvTimeoutError::Timeout) => watchdog.pulse(),
                Err(flume::RecvTimeoutError::Disconnected) => return None,
            }
        }
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
    secrets: &Secrets,
    executor: &ExecutorConfig,
    acceptor: &AcceptorConfig,
    listeners: Vec<Vec<Listening>>,
    mesh: &Arc<Mesh<PeerBatch, Control>>,
    events: &flume::Sender<ProcessEvent>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let placement_seed = config.placement_seed.unwrap_or_else(random);
    let start = |(index, (&core, listeners)): (usize, (&Option<usize>, Vec<Listening>))| {
        let id = shard_id(index);
        let builder = LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
            // Nothing goes through the executor's own rings: the shard has one, and sleeps in it.
            .ring_depth(EXECUTOR_RING_DEPTH)
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
            acl: secrets.acl.clone(),
        };
        let executor = ExecutorConfig { id, ..executor.clone() };
        let acceptor = Acceptor::new(listeners, acceptor.clone());
        let (mesh, events) = (Arc::clone(mesh), events.clone());
        thread::Builder::new()
            .name(format!("ringmq-shard-{id}"))
            .spawn(move || {
                let failure = match builder.make() {
                    Ok(ring) => run_shard(&ring, executor, shard, acceptor, &mesh, &events)
                        .err()
                        .map(|error| error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                // Nobody listens when the process is ending already.
                let _ = events.send(ProcessEvent::ShardEnded { shard: id, failure });
            })
    };
    config.shards.iter().zip(listeners).enumerate().map(start).collect()
}

fn run_shard(
    ring: &LocalExecutor,
    config: ExecutorConfig,
    shard: ShardConfig,
    acceptor: Acceptor,
    mesh: &Arc<Mesh<PeerBatch, Control>>,
    events: &flume::Sender<ProcessEvent>,
) -> io::Result<()> {
    #[cfg(feature = "planted-faults")]
    plant_fault();
    ring.run(async {
        let port = mesh.port(config.id);
        let executor = Executor::new(config, Shard::new(shard, Box::new(MemoryStore)), port, acceptor)?;
        // The main thread waits for it, or has given up on the start.
        let _ = events.send(ProcessEvent::ShardRuns);
        executor.run()
    })
}

/// Makes the fault act on this shard that `RINGMQ_FAULT` names.
#[cfg(feature = "planted-faults")]
fn plant_fault() {
    if let Ok(name) = std::env::var("RINGMQ_FAULT") {
        let fault = ringmq_shard::fault::Fault::named(&name);
        fault.expect("RINGMQ_FAULT is one of the planted faults").plant();
    }
}

fn wait_until_all_run(events: &flume::Receiver<ProcessEvent>, shards: usize) -> Result<(), PreflightError> {
    let mut running = 0;
    while running < shards {
        match events.recv() {
            Ok(ProcessEvent::ShardRuns) => running += 1,
            // What is being read is fresh. Nobody can ask yet.
            Ok(ProcessEvent::Signal(SIGHUP) | ProcessEvent::Reload(_)) => {}
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

/// What each listener offers in TLS, if it does.
fn tls_servers(config: &Config, secrets: &Secrets) -> Vec<Option<Arc<TlsServer>>> {
    let listeners = config.listeners.iter().zip(&secrets.tls);
    listeners
        .map(|(listener, files)| {
            let (settings, files) = (listener.tls.as_ref()?, files.as_ref()?);
            Some(Arc::new(TlsServer::new(settings, files)))
        })
        .collect()
}

/// The listening sockets that each shard accepts for.
fn deal_out(sockets: Vec<ListenSocket>, config: &Config, tls: &[Option<Arc<TlsServer>>]) -> Vec<Vec<Listening>> {
    let shards = config.shards.len();
    let mut dealt: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    let listeners = sockets.into_iter().zip(&config.listeners).zip(tls);
    for (((socket, rules), tls), shard) in listeners.zip((0..shards).cycle()) {
        dealt[shard].push(Listening {
            socket,
            rules: rules.clone(),
            tls: tls.clone(),
        });
    }
    dealt
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

/// Entries in each of the executor's rings, which see nothing but its own wake-ups.
const EXECUTOR_RING_DEPTH: usize = 16;
/// Beyond --shutdown-timeout, for threads to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
