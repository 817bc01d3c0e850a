//! What a restart would find: the durable records, replayed, are the state that clients were promised.

use std::collections::{BTreeMap, BTreeSet};

use super::Oracle;
use crate::simulation::plan::StoreKind;

/// A session as its records tell it.
#[derive(Debug, Default)]
struct Recorded {
    subscriptions: BTreeSet<String>,
    /// Messages to the client: recorded, and done with.
    queued: usize,
    done: usize,
    /// Messages from the client, by what their records say.
    held: BTreeSet<String>,
}

impl Oracle {
    /// Everything is durable and nothing is under way: the records and the sessions agree.
    pub(super) fn check_records(&self) {
        if self.setup.store != StoreKind::Slow {
            // A store that refuses records may miss the end of a session, which then comes back and expires.
            return;
        }
        for (shard, store) in self.stores.iter().enumerate() {
            let Some(store) = store else { continue };
            let mut sessions: BTreeMap<String, Recorded> = BTreeMap::new();
            for record in store.durable_records() {
                if record.kind == "SessionEnded" {
                    sessions.remove(&record.client);
                    continue;
                }
                if record.kind == "Retained" {
                    continue;
                }
                let session = sessions.entry(record.client).or_default();
                match record.kind {
                    "Subscribed" => {
                        session.subscriptions.insert(record.about);
                    }
                    "Unsubscribed" => {
                        session.subscriptions.remove(&record.about);
                    }
                    "Queued" => session.queued += 1,
                    "Done" => session.done += 1,
                    "Held" => {
                        session.held.insert(record.about);
                    }
                    "Released" => {
                        let of = format!("{} ", record.about);
                        session.held.retain(|held| !held.starts_with(&of));
                    }
                    _ => {}
                }
            }
            self.check_recorded(shard, &sessions);
        }
    }

    fn check_recorded(&self, shard: usize, recorded: &BTreeMap<String, Recorded>) {
        let of_shard = self
            .current
            .values()
            .map(|session| &self.sessions[*session])
            .filter(|session| session.shard == shard && !session.clean);
        let mut count = 0;
        for session in of_shard {
            count += 1;
            let client = &session.client;
            let found = recorded.get(client);
            let found = found.unwrap_or_else(|| panic!("a restart would not find the session of {client}"));
            let live = session.subs.iter().filter(|sub| sub.is_live());
            let live: BTreeSet<String> = live.map(|sub| sub.text.clone()).collect();
            assert_eq!(found.subscriptions, live, "{client}: subscriptions after a restart");
            let held = session
                .held
                .iter()
                .map(|(id, message)| format!("{id} {}", self.messages[*message].record_text()));
            let held: BTreeSet<String> = held.collect();
            assert_eq!(
                found.held, held,
                "{client}: messages between PUBLISH and PUBREL after a restart"
            );
            if session.socket.is_some() {
                assert_eq!(
                    found.done, found.queued,
                    "{client} has everything; a restart would send some of it again"
                );
            }
        }
        assert_eq!(
            recorded.len(),
            count,
            "a restart would find sessions that have ended: {recorded:?}"
        );
    }
}
