//! SIGHUP and `ringmq reload`: settings and the files that they name are read and judged as at the start, and what can change while
//! the broker runs takes the place of what was; or nothing does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::{Broker, shard_id};
use crate::config::{Config, Reloaded};
use crate::runtime::executor::{Control, ShardSettings};
use crate::service;

/// What came of a reload that was not refused.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// Settings that have another value now. The content of files is new in any case.
    pub(crate) changed: Vec<String>,
    /// Settings that need a restart: their old values stay in force.
    pub(crate) restart: Vec<String>,
}

impl Broker {
    /// Reads everything again. It counts from here on, all of it, or nothing does.
    ///
    /// # Errors
    /// Why it does not, in a line.
    pub(super) fn reload(&mut self) -> Result<Outcome, String> {
        service::reloading();
        let reloaded = match self.config.reload(&self.given) {
            Ok(reloaded) => reloaded,
            Err(error) => {
                error!(%error, "not reloaded: what was read before stays in force");
                service::ready("a reload was refused: see the log");
                return Err(error.to_string());
            }
        };
        let outcome = self.take_over(reloaded);
        service::ready("reloaded");
        Ok(outcome)
    }

    fn take_over(&mut self, reloaded: Reloaded) -> Outcome {
        let Reloaded {
            config,
            secrets,
            given,
            changed,
            restart,
        } = reloaded;
        self.log.set(&config.log);
        if let Some(authenticator) = &self.authenticator {
            authenticator.replace(&secrets);
        }
        if let Some(admin) = &self.admin {
            admin.replace(&secrets, &config);
        }
        for (server, files) in self.tls.iter().zip(&secrets.tls) {
            if let (Some(server), Some(files)) = (server, files) {
                server.replace(files);
            }
        }
        self.tell_shards(&config, secrets.acl.clone());
        self.config = config;
        self.given = given;

        secrets.warn_of_expiry();
        for setting in &restart {
            warn!(%setting, "needs a restart to change: what was read at the start stays in force");
        }
        let users = secrets.passwords.as_ref().map(|passwords| passwords.len());
        let acl_users = secrets.acl.as_ref().map(|acl| acl.users());
        info!(users, acl_users, changed = changed.join(", "), "reloaded");
        Outcome { changed, restart }
    }

    /// Gives every shard its part, and waits until it is in force, so that whoever is told "reloaded" can rely on it.
    fn tell_shards(&self, config: &Config, acl: Option<Arc<ringmq_shard::access::Acl>>) {
        let (applied, waiting) = flume::bounded(0);
        let settings = ShardSettings {
            limits: config.limits.clone(),
            acl,
            connections_max: config.connections_max,
            write_timeout: config.write_timeout,
            shutdown_timeout: config.shutdown_timeout,
            spin: config.spin,
            sys_interval: config.sys_interval,
            applied,
        };
        for shard in 0..self.mesh.shards() {
            self.mesh
                .control(shard_id(shard), Control::Reload(Box::new(settings.clone())));
        }
        drop(settings);
        let until = Instant::now() + APPLY_TIME;
        if waiting.recv_deadline(until) == Err(flume::RecvTimeoutError::Timeout) {
            warn!("a shard has not answered: it takes the settings over when it does");
        }
    }
}

/// A shard takes its settings over within a turn; one that stands still does so when it goes on.
const APPLY_TIME: Duration = Duration::from_secs(1);
