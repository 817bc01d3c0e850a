//! Threads that verify clients, so that no shard does: a verification takes up to tens of milliseconds, and a shard's turn
//! microseconds.
//!
//! A shard asks with [`Authenticator::ask`], which never waits; the verdict comes back through the shard's control channel.
//! What waits is bounded: beyond it a client is told that the server is unavailable, and comes again. A client that no method
//! knows is handed on to the threads of the service, if there is one: they wait for others, these only work.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Instant;

use ringmq_shard::error::AuthenticationError;
use ringmq_shard::shard::{ConnId, Credentials, PeerBatch, ShardId, Verified};

use super::Secrets;
use super::http::{Client, ServicePool};
use super::method::{self, Method};
use crate::config::Config;
use crate::runtime::executor::Control;
use crate::runtime::mesh::Mesh;
use crate::runtime::report::Reports;

/// A question of a shard.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) shard: ShardId,
    pub(crate) conn: ConnId,
    pub(crate) ticket: u64,
    pub(crate) credentials: Credentials,
    /// Where the client is; `None`: on this host, and at no address.
    pub(crate) address: Option<IpAddr>,
    /// Nobody waits for the answer any more after this.
    pub(crate) until: Instant,
}

impl Job {
    pub(super) fn client(&self) -> Client<'_> {
        Client {
            credentials: &self.credentials,
            address: self.address,
        }
    }

    /// Answers the question.
    pub(super) fn tell(self, verdict: Result<Verified, AuthenticationError>, mesh: &Mesh<PeerBatch, Control>) {
        let Job {
            shard, conn, ticket, ..
        } = self;
        mesh.control(shard, Control::Verdict { conn, ticket, verdict });
    }
}

/// Verifies clients for all shards.
#[derive(Debug)]
pub(crate) struct Authenticator {
    jobs: flume::Sender<Job>,
    methods: RwLock<Methods>,
    /// Knows the clients that no method does. `None`: nobody knows them.
    service: Option<Arc<ServicePool>>,
}

/// In the order in which they are asked.
type Methods = Arc<[Arc<dyn Method>]>;

/// How many threads verify, and how many clients may wait for them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// At least 1.
    pub threads: u16,
    /// Beyond those that are verified at the moment.
    pub waiting_max: usize,
}

impl Authenticator {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gave none.
    pub(crate) fn start(
        config: &Config,
        secrets: &Secrets,
        mesh: &Arc<Mesh<PeerBatch, Control>>,
        reports: &Arc<Reports>,
    ) -> std::io::Result<Arc<Authenticator>> {
        let (jobs, waiting) = flume::bounded(config.auth_pool.waiting_max);
        let authenticator = Arc::new(Authenticator {
            jobs,
            methods: RwLock::new(secrets.methods().into()),
            service: ServicePool::start(config, secrets.service.clone(), mesh, reports)?,
        });
        for n in 0..config.auth_pool.threads {
            let (waiting, mesh) = (waiting.clone(), Arc::clone(mesh));
            // Weak would let the last one go while it answers; the process ends these threads.
            let authenticator = Arc::clone(&authenticator);
            thread::Builder::new()
                .name(format!("ringmq-auth-{n}"))
                .spawn(move || authenticator.work(&waiting, &mesh))?;
        }
        Ok(authenticator)
    }

    /// Asks; the answer comes as [`Control::Verdict`]. False: too many wait, and no answer will come.
    pub(crate) fn ask(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// From here on verdicts follow these.
    pub(crate) fn replace(&self, secrets: &Secrets) {
        *self.methods.write().unwrap_or_else(PoisonError::into_inner) = secrets.methods().into();
        if let (Some(pool), Some(service)) = (&self.service, &secrets.service) {
            pool.replace(Arc::clone(service));
        }
    }

    fn work(&self, waiting: &flume::Receiver<Job>, mesh: &Mesh<PeerBatch, Control>) {
        give_way();
        for job in waiting {
            // Its client was told that it took too long: the next one should not hear the same.
            if job.until <= Instant::now() {
                continue;
            }
            match (self.judge(&job.credentials), &self.service) {
                (Some(verdict), _) => job.tell(verdict, mesh),
                (None, Some(service)) => service.ask(job),
                (None, None) => job.tell(Err(AuthenticationError::BadCredentials), mesh),
            }
        }
    }

    fn judge(&self, credentials: &Credentials) -> Option<Result<Verified, AuthenticationError>> {
        let methods = Methods::clone(&self.methods.read().unwrap_or_else(PoisonError::into_inner));
        method::judge(&methods, credentials)
    }
}

/// Clients that are connected go before those that want to be. Where the system does not allow it, all are equal.
pub(super) fn give_way() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// A thread with this one gets about a tenth of a core that a shard wants too.
const NICE: i32 = 10;
