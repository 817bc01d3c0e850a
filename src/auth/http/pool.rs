//! Threads that wait for the service, so that nobody else does: neither a shard nor the threads that verify passwords.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Instant;

use ringmq_shard::error::AuthenticationError;
use ringmq_shard::shard::{PeerBatch, Verified};
use tracing::warn;

use super::{Client, Service, ServiceError};
use crate::auth::authenticator::{Job, give_way};
use crate::config::Config;
use crate::logging::LogLimiter;
use crate::runtime::clock::Clock;
use crate::runtime::executor::Control;
use crate::runtime::mesh::Mesh;
use crate::runtime::report::{Reports, ServiceOutcome};

/// Asks the service about clients, so many at once as there are threads; the others wait.
pub(in crate::auth) struct ServicePool {
    jobs: flume::Sender<Job>,
    service: RwLock<Arc<Service>>,
    mesh: Arc<Mesh<PeerBatch, Control>>,
    /// Where verdicts are counted.
    reports: Arc<Reports>,
    clock: Clock,
    /// Of all threads together.
    log: Mutex<LogLimiter>,
}

impl ServicePool {
    /// Starts the threads; `None`: there is no service.
    ///
    /// # Errors
    /// The system gave no thread.
    pub(in crate::auth) fn start(
        config: &Config,
        service: Option<Arc<Service>>,
        mesh: &Arc<Mesh<PeerBatch, Control>>,
        reports: &Arc<Reports>,
    ) -> io::Result<Option<Arc<ServicePool>>> {
        let (Some(settings), Some(service)) = (&config.auth_http, service) else {
            return Ok(None);
        };
        let (jobs, waiting) = flume::bounded(config.auth_pool.waiting_max);
        let pool = Arc::new(ServicePool {
            jobs,
            service: RwLock::new(service),
            mesh: Arc::clone(mesh),
            reports: Arc::clone(reports),
            clock: Clock::start(),
            log: Mutex::new(LogLimiter::of_service()),
        });
        for n in 0..settings.threads {
            let (waiting, pool) = (waiting.clone(), Arc::clone(&pool));
            thread::Builder::new()
                .name(format!("ringmq-http-{n}"))
                .spawn(move || pool.work(&waiting))?;
        }
        Ok(Some(pool))
    }

    /// Has the client judged, by what is remembered at once, else in its turn. Never waits.
    pub(in crate::auth) fn ask(&self, job: Job) {
        if let Some(verified) = self.service().recall(&job.client()) {
            self.tell(job, Ok(verified), ServiceOutcome::Remembered);
        } else if let Err(refused) = self.jobs.try_send(job) {
            let verdict = Err(AuthenticationError::Unavailable);
            self.tell(refused.into_inner(), verdict, ServiceOutcome::Overloaded);
        }
    }

    /// From here on this one is asked. What the other said is forgotten.
    pub(in crate::auth) fn replace(&self, service: Arc<Service>) {
        *self.service.write().unwrap_or_else(PoisonError::into_inner) = service;
    }

    fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn work(&self, waiting: &flume::Receiver<Job>) {
        give_way();
        for job in waiting {
            // Its client was told that it took too long: the next one should not hear the same.
            if job.until <= Instant::now() {
                continue;
            }
            let (verdict, outcome) = match self.service().ask(&job.client()) {
                Ok(Ok(verified)) => (Ok(verified), ServiceOutcome::Allowed),
                Ok(Err(refusal)) => (Err(refusal), ServiceOutcome::Denied),
                Err(error) => {
                    self.say(&job.client(), &error);
                    (Err(AuthenticationError::Unavailable), ServiceOutcome::Failed)
                }
            };
            self.tell(job, verdict, outcome);
        }
    }

    fn tell(&self, job: Job, verdict: Result<Verified, AuthenticationError>, outcome: ServiceOutcome) {
        self.reports.judge(outcome);
        job.tell(verdict, &self.mesh);
    }

    fn say(&self, client: &Client<'_>, error: &ServiceError) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.allows(error.label(), self.clock.now().instant()) {
            let credentials = client.credentials;
            let (client, user) = (&*credentials.client_id, &*credentials.user_name);
            warn!(client, user, reason = error.label(), %error, "the service of --auth-http-url has not judged a client");
        }
    }
}

impl std::fmt::Debug for ServicePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServicePool")
            .field("waiting", &self.jobs.len())
            .finish_non_exhaustive()
    }
}
