//! What an operator asks about clients and retained messages, and does to them.
//!
//! Reading changes nothing, so it may come between any two events. Each call is bounded work, whatever the shard holds: what could be
//! long comes in pages, and a page says where the next one begins. A session keeps its place while it lives, so one that
//! is there through all pages is in one of them; one that begins or ends meanwhile may be missed.

use std::ops::Bound;
use std::time::Duration;

use super::Shard;
use super::authenticate::UserName;
use super::event::{ClientId, ConnId};
use crate::codec::QoS;
use crate::error::CloseReason;
use crate::message::{Message, Origin, SharedMessage};
use crate::router::{FilterId, GroupId};
use crate::session::{Session, SubscriptionKey};
use crate::store::StoreError;
use crate::time::Instant;
use crate::topic::TopicName;

/// Which clients, and how many at once.
#[derive(Clone, Debug, Default)]
pub struct ClientQuery {
    /// How the Client Identifier begins.
    pub prefix: Box<str>,
    /// What stands anywhere in it.
    pub contains: Box<str>,
    /// Connected, or not; `None`: both.
    pub connected: Option<bool>,
    /// At least so many bytes are held for it.
    pub held_bytes_min: usize,
    /// Where to begin: 0, or [`ClientPage::next`].
    pub from: u32,
    /// Most clients in the page.
    pub clients_max: usize,
}

/// Some of the clients that were asked for.
#[derive(Clone, Debug, Default)]
pub struct ClientPage {
    /// In no order that means anything.
    pub clients: Vec<ClientSummary>,
    /// Where to go on; `None`: that was all. A page may be empty and yet not the last.
    pub next: Option<u32>,
}

/// One client with a session.
#[derive(Clone, Debug)]
pub struct ClientSummary {
    /// Whose.
    pub client_id: ClientId,
    /// Its connection, while there is one.
    pub conn: Option<ConnId>,
    /// Ends with its connection.
    pub clean: bool,
    /// Topic Filters.
    pub subscriptions: usize,
    /// Messages that wait in its queue, or for retained ones to go first.
    pub queued: usize,
    /// Messages sent and not acknowledged.
    pub inflight: usize,
    /// Bytes that wait for its socket.
    pub output_bytes: usize,
    /// What all of that holds in memory, at most.
    pub held_bytes: usize,
    /// It is not read, because subscribers of what it publishes do not keep up.
    pub held_back: bool,
    /// What it sends waits, because it publishes faster than it may.
    pub over_rate: bool,
}

/// All that is known of one client.
#[derive(Clone, Debug)]
pub struct ClientDetail {
    /// As in a list.
    pub summary: ClientSummary,
    /// Who it is, where that was verified.
    pub user_name: Option<UserName>,
    /// The Keep Alive in force, in seconds; 0: none.
    pub keep_alive: u16,
    /// Since its last packet; zero if it is not connected.
    pub silence: Duration,
    /// QoS 2 messages from it between PUBLISH and PUBREL.
    pub inbound: usize,
    /// Where its Will would go.
    pub will_topic: Option<Box<str>>,
    /// Some of its subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Where more of them begin; `None`: that was all.
    pub next: Option<SubscriptionKey>,
}

/// One subscription of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscription {
    /// As the client wrote it, with `$share/GROUP/` where it is shared.
    pub filter: Box<str>,
    /// As granted; `None` for a shared one, whose group knows.
    pub qos: Option<QoS>,
}

/// What became of a request to end a client's connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kicked {
    /// It is closed, and its Will published.
    Closed,
    /// There is a session, and nobody is connected to it.
    NotConnected,
    /// Nobody has this Client Identifier here.
    Unknown,
}

impl Shard {
    /// Clients that fit `query`. O(`LOOKED_AT_MAX`).
    #[must_use]
    pub fn clients(&self, query: &ClientQuery) -> ClientPage {
        let begin = query.from as usize;
        let end = self.clients.sessions.capacity();
        let mut page = ClientPage::default();
        let mut text_bytes = 0;
        for index in begin..end {
            let full = page.clients.len() >= query.clients_max.max(1) || text_bytes >= TEXT_BYTES_MAX;
            if full || index - begin >= LOOKED_AT_MAX {
                page.next = u32::try_from(index).ok();
                break;
            }
            let Some(session) = self.clients.sessions.get(index) else {
                continue;
            };
            let id = &*session.client_id;
            let fits = id.starts_with(&*query.prefix)
                && id.contains(&*query.contains)
                && query.connected.is_none_or(|wanted| wanted == session.conn.is_some());
            if fits {
                let summary = self.summary(session);
                if summary.held_bytes >= query.held_bytes_min {
                    text_bytes += id.len();
                    page.clients.push(summary);
                }
            }
        }
        page
    }

    /// One client, with subscriptions from this one on. O(`SUBSCRIPTIONS_MAX`).
    #[must_use]
    pub fn client(&self, now: Instant, client_id: &str, from: Option<SubscriptionKey>) -> Option<ClientDetail> {
        let index = *self.clients.by_client.get(client_id)?;
        let session = &self.clients.sessions[index as usize];
        let connection = session.conn.map(|conn| &self.clients.connections[conn.index()]);
        let begin = from.map_or(Bound::Unbounded, Bound::Included);
        let mut keys = session.subscriptions.range((begin, Bound::Unbounded));
        let (mut subscriptions, mut text_bytes, mut next) = (Vec::new(), 0, None);
        for &key in keys.by_ref() {
            if subscriptions.len() == SUBSCRIPTIONS_MAX || text_bytes >= TEXT_BYTES_MAX {
                next = Some(key);
                break;
            }
            let subscription = self.subscription(index, key);
            text_bytes += subscription.filter.len();
            subscriptions.push(subscription);
        }
        Some(ClientDetail {
            summary: self.summary(session),
            user_name: connection
                .and_then(|connection| connection.admission.verified())
                .map(|verified| UserName::clone(&verified.user_name)),
            keep_alive: connection.map_or(0, |connection| connection.keep_alive),
            silence: connection.map_or(Duration::ZERO, |connection| now.since(connection.last_received)),
            inbound: session.inbound.as_ref().map_or(0, |window| window.len()),
            will_topic: session.will.as_ref().map(|will| will.topic.clone()),
            subscriptions,
            next,
        })
    }

    /// Closes a client's connection, as an error of its own would: its Will is published, its session goes on unless it is clean.
    pub fn kick(&mut self, now: Instant, client_id: &str) -> Kicked {
        let Some(&index) = self.clients.by_client.get(client_id) else {
            return Kicked::Unknown;
        };
        let Some(conn) = self.clients.session(index).conn else {
            return Kicked::NotConnected;
        };
        self.close(now, conn, CloseReason::Kicked);
        self.conclude(now);
        Kicked::Closed
    }

    /// The retained message of a topic that this shard owns. O(log messages).
    #[must_use]
    pub fn retained_message(&self, topic: TopicName<'_>) -> Option<SharedMessage> {
        self.retained.get(topic).map(SharedMessage::clone)
    }

    /// Removes the retained message of a topic that this shard owns; whether there was one. Nobody is told: subscribers have seen the
    /// message, and later ones get none.
    ///
    /// # Errors
    /// The store refuses the record; the message stays.
    pub fn clear_retained(&mut self, topic: TopicName<'_>) -> Result<bool, StoreError> {
        if self.retained.get(topic).is_none() {
            return Ok(false);
        }
        let empty = Message::new(topic, b"", None, QoS::AtMostOnce, true, Origin::default());
        self.store_retained(SharedMessage::new(empty))?;
        Ok(true)
    }

    fn summary(&self, session: &Session) -> ClientSummary {
        let connection = session.conn.map(|conn| &self.clients.connections[conn.index()]);
        ClientSummary {
            client_id: ClientId::clone(&session.client_id),
            conn: session.conn,
            clean: session.clean,
            subscriptions: session.subscriptions.len(),
            queued: session.outbound.queued() + session.held.len(),
            inflight: session.outbound.unacknowledged(),
            output_bytes: connection.map_or(0, |connection| connection.output.len()),
            held_bytes: session.memory_bytes() + connection.map_or(0, |connection| connection.memory_bytes()),
            held_back: session.held_by > 0,
            over_rate: connection.is_some_and(|connection| connection.over_rate),
        }
    }

    fn subscription(&self, session: u32, key: SubscriptionKey) -> Subscription {
        match key {
            SubscriptionKey::Filter(filter) => Subscription {
                filter: self.registry.text(filter).into(),
                qos: self.registry.granted(filter, session),
            },
            SubscriptionKey::Group(group) => {
                let group = self.registry.group(group);
                let filter = self.registry.text(group.filter);
                Subscription {
                    filter: format!("$share/{}/{filter}", group.name).into(),
                    qos: None,
                }
            }
        }
    }
}

impl SubscriptionKey {
    /// As one number, to hand to whoever asks for the next page.
    #[must_use]
    pub const fn to_number(self) -> u64 {
        match self {
            SubscriptionKey::Filter(FilterId(id)) => id as u64,
            SubscriptionKey::Group(GroupId(id)) => 1 << 32 | id as u64,
        }
    }

    /// The key of such a number; it need not be one that exists.
    #[must_use]
    pub fn from_number(number: u64) -> Option<SubscriptionKey> {
        let id = u32::try_from(number & u64::from(u32::MAX)).ok()?;
        match number >> 32 {
            0 => Some(SubscriptionKey::Filter(FilterId(id))),
            1 => Some(SubscriptionKey::Group(GroupId(id))),
            _ => None,
        }
    }
}

/// Places in the table of sessions that one page looks at: some 50 µs.
const LOOKED_AT_MAX: usize = 1_024;
/// Subscriptions of one client at once.
const SUBSCRIPTIONS_MAX: usize = 200;
/// Identifiers or filters in one page; they may be 64 KiB each.
const TEXT_BYTES_MAX: usize = 256 * 1024;
