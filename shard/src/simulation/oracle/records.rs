//! What a restart would find: the durable records, replayed, are the state that clients were promised.

use std::collections::{BTreeMap, BTreeSet};

use super::Oracle;
use super::model::Session;
use crate::simulation::setup::StoreKind;
use crate::simulation::store::SimStore;

/// A session as its records tell it.
#[derive(Debug, Default)]
struct Recorded {
    subscriptions: BTreeSet<String>,
    /// Messages to the client that are not done with, by their number in the session.
    waiting: BTreeMap<u64, Waiting>,
    /// Messages from the client, by what their records say.
    held: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Waiting {
    message: String,
    /// Its Packet Identifier, if it has one for good.
    bound: String,
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
            self.check_recorded(shard, &replay(store));
        }
    }

    fn check_recorded(&self, shard: usize, recorded: &BTreeMap<String, Recorded>) {
        let mut count = 0;
        for session in self.persistent(shard) {
            count += 1;
            let client = &session.client;
            let found = recorded.get(client);
            let found = found.unwrap_or_else(|| panic!("a restart would not find the session of {client}"));
            let live = session.subs.iter().filter(|sub| sub.is_live());
            let live: BTreeSet<String> = live.map(|sub| sub.text.clone()).collect();
            assert_eq!(found.subscriptions, live, "{client}: subscriptions after a restart");
            let held: BTreeSet<String> = self.held_texts(&session.held).collect();
            assert_eq!(
                found.held, held,
                "{client}: messages between PUBLISH and PUBREL after a restart"
            );
            if session.socket.is_some() {
                assert!(
                    found.waiting.is_empty(),
                    "{client} has everything; a restart would send some of it again: {:?}",
                    found.waiting
                );
            }
        }
        assert_eq!(
            recorded.len(),
            count,
            "a restart would find sessions that have ended: {recorded:?}"
        );
    }

    /// In the middle of everything, what is not durable is forgotten: what was promised is still there.
    pub(in crate::simulation) fn check_crash(&self) {
        for (shard, store) in self.stores.iter().enumerate() {
            let Some(store) = store else { continue };
            let recorded = replay(store);
            for session in self.persistent(shard).filter(|session| session.promised) {
                let client = &session.client;
                let found = recorded.get(client);
                let found = found.unwrap_or_else(|| panic!("a crash loses the session of {client}"));
                self.check_kept(session, found);
            }
        }
    }

    fn check_kept(&self, session: &Session, found: &Recorded) {
        let client = &session.client;
        for sub in session.subs.iter().filter(|sub| sub.is_live()) {
            let kept = sub.acknowledged.is_none() || found.subscriptions.contains(&sub.text);
            assert!(kept, "a crash loses the subscription of {client} to {}", sub.text);
        }
        for held in self.held_texts(&session.received) {
            let kept = found.held.contains(&held);
            assert!(kept, "a crash loses {held} of {client}, which has its PUBREC");
        }
        self.check_promised(session, found);
        let sent = session
            .flights
            .iter()
            .filter(|(_, flight)| flight.qos == 2 && !flight.may_vanish);
        for (id, flight) in sent {
            let message = &self.messages[flight.message];
            let (id, text) = (id.to_string(), message.record_text());
            let is_it = |waiting: &Waiting| waiting.message == text && waiting.bound == id;
            assert!(
                found.waiting.values().any(is_it),
                "after a crash {client} would get {} again under another identifier than {id}",
                message.name
            );
        }
    }

    /// What was acknowledged to its publisher has been finished, or waits. Empty messages of a topic count together: which of
    /// them a client has finished nobody can tell.
    fn check_promised(&self, session: &Session, found: &Recorded) {
        let mut accounts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (number, message) in self.messages.iter().enumerate() {
            let account = accounts.entry(message.record_text()).or_default();
            account.0 += usize::from(message.acknowledged && self.is_promised(session, message));
            account.1 += session.shares.get(&number).map_or(0, |share| share.finished);
        }
        for (text, (promised, finished)) in accounts {
            let waiting = found.waiting.values().filter(|waiting| waiting.message == text).count();
            assert!(
                promised <= finished + waiting,
                "a crash loses {text} for {}: {promised} were acknowledged, {finished} finished, and {waiting} wait",
                session.client
            );
        }
    }

    fn persistent(&self, shard: usize) -> impl Iterator<Item = &Session> {
        let all = self.current.values().map(|session| &self.sessions[*session]);
        all.filter(move |session| session.shard == shard && !session.clean)
    }

    fn held_texts<'a>(&'a self, held: &'a BTreeMap<u16, usize>) -> impl Iterator<Item = String> + 'a {
        held.iter()
            .map(|(id, message)| format!("{id} {}", self.messages[*message].record_text()))
    }
}

/// What the durable records of a store make together.
fn replay(store: &SimStore) -> BTreeMap<String, Recorded> {
    let mut sessions: BTreeMap<String, Recorded> = BTreeMap::new();
    for (record, message_id) in store.durable_records() {
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
            "Queued" => {
                session.waiting.entry(message_id).or_default().message = record.about;
            }
            "Bound" => {
                if let Some(waiting) = session.waiting.get_mut(&message_id) {
                    waiting.bound = record.about;
                }
            }
            "Done" => {
                session.waiting.remove(&message_id);
            }
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
    sessions
}
