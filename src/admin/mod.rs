//! The admin listener: metrics, health, and what an operator asks and does, over HTTP.
//!
//! Read [`routes`] first: what there is to ask for. One thread of its own ([`server`]) serves a bounded number of connections, each
//! for one request and a bounded time; hyper reads and writes HTTP on a [`stream`]. [`shards`] asks the shards through their
//! control channels and waits for the answers, with a limit. [`metrics`] writes their numbers for Prometheus, [`api`] what is known of shards, clients and
//! retained messages as JSON; [`page`] shows it; [`trace`] follows a client. Nothing here lies on the
//! path of a message: a shard answers between its events, and only what it was asked.

mod api;
mod metrics;
mod page;
mod routes;
mod server;
mod shards;
mod stream;
pub(crate) mod trace;

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use ringmq_shard::shard::PeerBatch;

use crate::auth::{Secrets, Token};
use crate::broker::{Outcome, ProcessEvent};
use crate::config::Config;
use crate::runtime::doorbell::Doorbell;
use crate::runtime::executor::Control;
use crate::runtime::mesh::Mesh;
use crate::runtime::question::Reply;
use crate::runtime::report::Reports;
use metrics::Facts;
use routes::App;
use server::Server;
use shards::Shards;

/// What the rest of the process tells the admin thread.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Who may ask; `None`: whoever reaches the address.
    token: RwLock<Option<Arc<Token>>>,
    facts: RwLock<Facts>,
    /// The broker stops.
    stopping: AtomicBool,
    /// To the main thread, which reloads.
    events: flume::Sender<ProcessEvent>,
}

impl Admin {
    /// Starts the thread, which lives as long as the process.
    ///
    /// # Errors
    /// The system gave no thread or descriptor.
    pub(crate) fn start(
        config: &Config,
        placement_seed: u64,
        secrets: &Secrets,
        listener: TcpListener,
        mesh: &Arc<Mesh<PeerBatch, Control>>,
        reports: &Arc<Reports>,
        events: flume::Sender<ProcessEvent>,
    ) -> io::Result<Arc<Admin>> {
        let admin = Arc::new(Admin {
            token: RwLock::new(secrets.admin_token.clone()),
            facts: RwLock::new(Facts::of(config, placement_seed)),
            stopping: AtomicBool::new(false),
            events,
        });
        let bell = Arc::new(Doorbell::new()?);
        let cores = spare_cores(config);
        let (mesh, reports) = (Arc::clone(mesh), Arc::clone(reports));
        let shared = Arc::clone(&admin);
        thread::Builder::new().name("ringmq-admin".into()).spawn(move || {
            keep_off(&cores);
            let shards = Shards::new(mesh, Arc::clone(&bell));
            Server::new(listener, bell, App::new(shared, shards, reports)).run();
        })?;
        Ok(admin)
    }

    /// From here on this token counts, and these limits are told.
    pub(crate) fn replace(&self, secrets: &Secrets, config: &Config) {
        self.facts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .update(config);
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = secrets.admin_token.clone();
    }

    /// The broker stops: it is not ready any more.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn token(&self) -> Option<Arc<Token>> {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the main thread reload.
    ///
    /// # Errors
    /// It is gone: the process ends.
    fn ask_to_reload(&self, reply: Reply<Result<Outcome, String>>) -> Result<(), ()> {
        self.events.send(ProcessEvent::Reload(reply)).map_err(drop)
    }

    fn facts(&self) -> Facts {
        *self.facts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The cores that no shard is pinned to.
fn spare_cores(config: &Config) -> Vec<usize> {
    let mut cores = crate::config::available();
    cores.retain(|core| !config.shards.contains(&Some(*core)));
    cores
}

/// Runs the calling thread on these cores, or, if there is none, with less claim than the shards. Where the system does not allow
/// it, all are equal.
fn keep_off(cores: &[usize]) {
    if cores.is_empty() {
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        return;
    }
    let mut set = rustix::thread::CpuSet::new();
    for &core in cores.iter().filter(|core| **core < rustix::thread::CpuSet::MAX_CPU) {
        set.set(core);
    }
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// What operators may take: the listener, the bell, and their connections.
pub(crate) const DESCRIPTORS: u64 = 2 + server::CONNECTIONS_MAX as u64;
/// A thread with this one gets about a tenth of a core that a shard wants too.
const NICE: i32 = 10;
