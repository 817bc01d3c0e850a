//! A store that is slow, fails, and forgets what was not yet durable.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::rc::Rc;

use crate::message::Message;
use crate::store::{Lsn, Record, Storage, StoreError};

/// One shard's store; clones are the same store, so that its owner can ask what the shard has written.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimStore {
    inner: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// All records, in order: number n is at n - 1. With the message's number in its session, if it is about one.
    records: Vec<(Entry, u64)>,
    /// Records up to here would survive a crash.
    durable: u64,
    fails: bool,
    /// What the durable records say; a session's go when its end is durable.
    known: BTreeSet<Entry>,
}

/// A record as far as it is asked for: its kind, whose it is, and what it is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Entry {
    pub(crate) client: String,
    pub(crate) kind: &'static str,
    pub(crate) about: String,
}

impl SimStore {
    /// Makes everything durable.
    #[cfg(test)]
    pub(crate) fn sync(&self) -> Lsn {
        let count = self.inner.borrow().records.len();
        self.sync_some(count)
    }

    /// Makes up to `count` more records durable.
    pub(crate) fn sync_some(&self, count: usize) -> Lsn {
        let inner = &mut *self.inner.borrow_mut();
        let from = usize::try_from(inner.durable).expect("an index");
        let to = (from + count).min(inner.records.len());
        for (entry, _) in &inner.records[from..to] {
            if entry.kind == "SessionEnded" {
                inner.known.retain(|known| known.client != entry.client);
            } else {
                inner.known.insert(entry.clone());
            }
        }
        inner.durable = to as u64;
        Lsn(inner.durable)
    }

    /// Forgets what is not durable; returns how many records that were.
    pub(crate) fn crash(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let forgotten = inner.records.len() as u64 - inner.durable;
        let kept = usize::try_from(inner.durable).expect("an index");
        inner.records.truncate(kept);
        forgotten
    }

    /// Whether records wait.
    pub(crate) fn is_behind(&self) -> bool {
        let inner = self.inner.borrow();
        inner.durable < inner.records.len() as u64
    }

    /// From here on every record is refused, or none.
    pub(crate) fn fail(&self, fails: bool) {
        self.inner.borrow_mut().fails = fails;
    }

    pub(crate) fn fails(&self) -> bool {
        self.inner.borrow().fails
    }

    /// Whether a crash would leave this record.
    pub(crate) fn has(&self, kind: &'static str, client: &str, about: &str) -> bool {
        let entry = Entry {
            client: client.to_owned(),
            kind,
            about: about.to_owned(),
        };
        self.inner.borrow().known.contains(&entry)
    }

    /// The durable records in order: what a restart would read.
    pub(crate) fn durable_records(&self) -> Vec<(Entry, u64)> {
        let inner = self.inner.borrow();
        let to = usize::try_from(inner.durable).expect("an index");
        inner.records[..to].to_vec()
    }

    /// The kinds of all records, in order.
    #[cfg(test)]
    pub(crate) fn records(&self) -> Vec<String> {
        let inner = self.inner.borrow();
        inner.records.iter().map(|(entry, _)| entry.kind.to_owned()).collect()
    }
}

impl Storage for SimStore {
    fn append(&mut self, record: Record<'_>) -> Result<Lsn, StoreError> {
        let mut inner = self.inner.borrow_mut();
        if inner.fails {
            return Err(StoreError::Full);
        }
        let message_id = message_id(&record);
        inner.records.push((entry(record), message_id));
        Ok(Lsn(inner.records.len() as u64))
    }

    fn durable(&self) -> Lsn {
        Lsn(self.inner.borrow().durable)
    }

    fn is_volatile(&self) -> bool {
        false
    }
}

fn entry(record: Record<'_>) -> Entry {
    let mut about = String::new();
    let (kind, client) = match record {
        Record::SessionStarted { client_id } => ("SessionStarted", client_id),
        Record::SessionEnded { client_id } => ("SessionEnded", client_id),
        Record::Subscribed {
            client_id,
            group,
            filter,
            ..
        } => {
            about = subscription(group, filter);
            ("Subscribed", client_id)
        }
        Record::Unsubscribed {
            client_id,
            group,
            filter,
        } => {
            about = subscription(group, filter);
            ("Unsubscribed", client_id)
        }
        Record::Queued { client_id, message, .. } => {
            about = text(message);
            ("Queued", client_id)
        }
        Record::Bound {
            client_id, packet_id, ..
        } => {
            about = packet_id.to_string();
            ("Bound", client_id)
        }
        Record::Received { client_id, packet_id } => {
            about = packet_id.to_string();
            ("Received", client_id)
        }
        Record::Done { client_id, .. } => ("Done", client_id),
        Record::Held {
            client_id,
            packet_id,
            message,
        } => {
            let _ = write!(about, "{packet_id} {}", text(message));
            ("Held", client_id)
        }
        Record::Released { client_id, packet_id } => {
            about = packet_id.to_string();
            ("Released", client_id)
        }
        Record::Retained { message } => {
            about = text(message);
            ("Retained", "")
        }
    };
    Entry {
        client: client.to_owned(),
        kind,
        about,
    }
}

/// Which message of its session a record is about.
fn message_id(record: &Record<'_>) -> u64 {
    match record {
        Record::Queued { message_id, .. } | Record::Bound { message_id, .. } | Record::Done { message_id, .. } => {
            *message_id
        }
        _ => 0,
    }
}

/// A subscription as the client wrote it.
fn subscription(group: Option<&str>, filter: &str) -> String {
    match group {
        Some(group) => format!("$share/{group}/{filter}"),
        None => filter.to_owned(),
    }
}

fn text(message: &Message) -> String {
    record_text(message.topic().as_str(), message.payload())
}

/// How a message is called in an [`Entry`].
pub(crate) fn record_text(topic: &str, payload: &[u8]) -> String {
    // The padding of large payloads says nothing.
    let end = payload.iter().position(|byte| *byte == b'.').unwrap_or(payload.len());
    format!("{topic}={}", String::from_utf8_lossy(&payload[..end]))
}
