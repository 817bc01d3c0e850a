//! Following one client, or one topic, while the broker runs.
//!
//! ```text
//! received: told once it is decoded ─┐
//! dropped, closed: told where it is done ─┼──► Tracing::told ──► Shard::poll_traced
//! sent: told where it lies in the output ─┘
//! ```
//! What is sent is read again from the output, just before the socket gets it (`sent`): so it is what the client will see, in its
//! order, whatever made it. While nothing is followed all of this is one comparison per packet received and per write; and what is
//! told is limited in number per second, in text and in payload. A password is never told.

mod record;
mod sent;

use std::collections::{BTreeMap, VecDeque};

use slab::Slab;

use super::Shard;
use super::clients::Clients;
use super::connection::Connection;
use super::event::{ClientId, ConnId};
use crate::codec::{Connect, Decoded, Packet, decode_again};
use crate::error::{CloseReason, DropReason};
use crate::topic::{TopicError, TopicFilter, TopicLimits, TopicName};

pub(super) use record::shortened;
pub use record::{Listed, Traced, TracedEvent, TracedPacket};

/// What to follow, and how much to tell of it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Chosen by who asks; no two traces have the same.
    pub id: TraceId,
    /// What to follow.
    pub followed: Followed,
    /// Bytes told of each payload.
    pub payload_bytes_max: usize,
    /// Most records per second; what is beyond is counted. It may take a second longer until the count begins anew.
    pub records_max: u32,
}

/// Tells one trace from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceId(pub u64);

/// Whom or what a trace follows.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The client with this Client Identifier, connected or not: all of its packets.
    Client(ClientId),
    /// Messages of these topics, whoever publishes and gets them.
    Topic(FollowedTopic),
}

/// A valid Topic Filter that owns its text.
#[derive(Clone, Debug)]
pub struct FollowedTopic(Box<str>);

impl FollowedTopic {
    /// # Errors
    /// It is no Topic Filter.
    pub fn new(filter: &str) -> Result<FollowedTopic, TopicError> {
        TopicFilter::new(filter, &TopicLimits::default())?;
        Ok(FollowedTopic(filter.into()))
    }

    fn matches(&self, topic: TopicName<'_>) -> bool {
        TopicFilter::from_checked(&self.0).matches(topic)
    }
}

/// All traces of a shard, and what they have told.
///
/// Invariants: there are `traces` of [`TRACES_MAX`] at most; `topics` says whether one of them follows a topic; a tap is in step with the
/// output of its connection, which is open, and is followed: each connection with an output while `topics`, else those with a client.
#[derive(Debug, Default)]
pub(super) struct Tracing {
    traces: Vec<Active>,
    topics: bool,
    told: VecDeque<Traced>,
    /// Beside the table of connections, where it would cost those that nobody follows.
    taps: BTreeMap<ConnId, Tap>,
}

/// A trace that goes on.
#[derive(Debug)]
struct Active {
    trace: Trace,
    /// Told since the count began anew.
    told: u32,
    /// Not told since that was last asked for.
    untold: u64,
}

/// What is known of a connection that is followed.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// Its client, if that is followed.
    client: Option<ClientId>,
    /// So many bytes of its output have been told; `None`: it was not followed when they came, so what waits is to be told.
    told_bytes: Option<usize>,
}

impl Tracing {
    /// Whether there is anything to tell at all.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        !self.traces.is_empty()
    }

    /// Tells each trace that follows this client, or this topic. `make` is given how much of a payload to tell.
    fn tell(
        &mut self,
        conn: ConnId,
        client: &ClientId,
        topic: Option<TopicName<'_>>,
        mut make: impl FnMut(usize) -> TracedEvent,
    ) {
        for active in &mut self.traces {
            let follows = match &active.trace.followed {
                Followed::Client(followed) => followed == client,
                Followed::Topic(filter) => topic.is_some_and(|topic| filter.matches(topic)),
            };
            if !follows {
                continue;
            }
            if active.told >= active.trace.records_max {
                active.untold += 1;
                continue;
            }
            active.told += 1;
            self.told.push_back(Traced {
                trace: active.trace.id,
                conn,
                client: ClientId::clone(client),
                event: make(active.trace.payload_bytes_max),
            });
        }
    }

    /// The connection is gone, and its number free.
    #[cold]
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.taps.remove(&conn);
    }

    pub(super) fn check_invariants(&self, connections: &Slab<Connection>) {
        assert!(self.traces.len() <= TRACES_MAX);
        assert_eq!(self.topics, self.follows_topics());
        for (conn, tap) in &self.taps {
            assert!(tap.told_bytes.unwrap_or(0) <= connections[conn.index()].output.len());
            let is_followed = |client_id: &ClientId| self.follows_client(client_id);
            assert!(self.topics || tap.client.as_ref().is_some_and(is_followed));
        }
    }

    fn follows_client(&self, client_id: &str) -> bool {
        let is_it = |active: &Active| matches!(&active.trace.followed, Followed::Client(id) if **id == *client_id);
        self.traces.iter().any(is_it)
    }

    fn follows_topics(&self) -> bool {
        let is_topic = |active: &Active| matches!(active.trace.followed, Followed::Topic(_));
        self.traces.iter().any(is_topic)
    }
}

impl Shard {
    /// Begins to follow. A client that is not here may come; one whose home is another shard is not seen here. O([`TRACES_MAX`]).
    ///
    /// # Errors
    /// There are [`TRACES_MAX`] already; nothing has changed.
    pub fn trace(&mut self, trace: Trace) -> Result<(), TooManyTraces> {
        let tracing = &mut self.clients.tracing;
        if tracing.traces.len() >= TRACES_MAX {
            return Err(TooManyTraces);
        }
        match &trace.followed {
            Followed::Client(client_id) => {
                let session = self.clients.by_client.get(client_id);
                if let Some(conn) = session.and_then(|session| self.clients.sessions[*session as usize].conn) {
                    tracing.taps.entry(conn).or_default().client = Some(ClientId::clone(client_id));
                }
            }
            Followed::Topic(_) => tracing.topics = true,
        }
        tracing.traces.push(Active {
            trace,
            told: 0,
            untold: 0,
        });
        Ok(())
    }

    /// Ends a trace; how many records it has not told since that was last asked for. `None`: there is none.
    pub fn end_trace(&mut self, id: TraceId) -> Option<u64> {
        let tracing = &mut self.clients.tracing;
        let at = tracing.traces.iter().position(|active| active.trace.id == id)?;
        let ended = tracing.traces.remove(at);
        tracing.told.retain(|traced| traced.trace != id);
        tracing.topics = tracing.follows_topics();
        let mut taps = std::mem::take(&mut tracing.taps);
        for tap in taps.values_mut() {
            tap.client = tap.client.take().filter(|client_id| tracing.follows_client(client_id));
        }
        taps.retain(|_, tap| tracing.topics || tap.client.is_some());
        tracing.taps = taps;
        Some(ended.untold)
    }

    /// Whether anything is followed: then [`Shard::poll_traced`] is worth a call after each turn.
    #[inline]
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.clients.tracing.is_on()
    }

    /// Whether something was left out since [`Shard::begin_traced_second`]: worth a call of that once the second is over.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        self.clients.tracing.traces.iter().any(|active| active.untold > 0)
    }

    /// What was told next.
    pub fn poll_traced(&mut self) -> Option<Traced> {
        self.clients.tracing.told.pop_front()
    }

    /// The traces, and what each has not told since this was last asked. A second has passed: each may tell as much as at first.
    pub fn begin_traced_second(&mut self) -> impl Iterator<Item = (TraceId, u64)> + '_ {
        self.clients.tracing.traces.iter_mut().map(|active| {
            active.told = 0;
            (active.trace.id, std::mem::take(&mut active.untold))
        })
    }

    /// Tells a CONNECT, once, and remembers whose connection it is.
    #[cold]
    pub(super) fn tell_connect(&mut self, conn: ConnId, connect: &Connect<'_>) {
        let tracing = &mut self.clients.tracing;
        if connect.client_id.is_empty() || !tracing.follows_client(connect.client_id) {
            return;
        }
        let tap = tracing.taps.entry(conn).or_default();
        // A client that is verified first says CONNECT twice, for all that this shard can see.
        if tap.client.is_none() {
            let client_id: ClientId = connect.client_id.into();
            tap.client = Some(ClientId::clone(&client_id));
            tracing.tell(conn, &client_id, None, |_| {
                TracedEvent::Received(TracedPacket::connect(connect))
            });
        }
    }

    /// Tells a packet of a client that is connected.
    pub(super) fn tell_received(&mut self, conn: ConnId, bytes: &[u8]) {
        let Clients {
            tracing,
            sessions,
            connections,
            ..
        } = &mut self.clients;
        let Some(session) = connections[conn.index()].session() else {
            return;
        };
        let is_followed = tracing.taps.get(&conn).is_some_and(|tap| tap.client.is_some());
        if !is_followed && !tracing.topics {
            return;
        }
        let Ok(Some(Decoded { packet, .. })) = decode_again(bytes, usize::MAX) else {
            return;
        };
        let topic = match &packet {
            // Its Topic Name has not been looked at.
            Packet::Publish(publish) => TopicName::new(publish.topic, &TopicLimits::default()).ok(),
            _ => None,
        };
        let client = &sessions[session as usize].client_id;
        tracing.tell(conn, client, topic, |payload_bytes_max| {
            TracedEvent::Received(TracedPacket::new(&packet, payload_bytes_max))
        });
    }

    /// Tells that a connection ends.
    #[cold]
    pub(super) fn tell_closed(&mut self, conn: ConnId, reason: CloseReason) {
        let tracing = &mut self.clients.tracing;
        let tap = tracing.taps.get(&conn);
        if let Some(client) = tap.and_then(|tap| tap.client.clone()) {
            tracing.tell(conn, &client, None, |_| TracedEvent::Closed(reason));
        }
    }
}

impl Clients {
    /// Counts a message that a session does not get.
    #[cold]
    pub(super) fn drop_message(&mut self, index: u32, topic: TopicName<'_>, reason: DropReason) {
        self.stats.drop_message(reason);
        self.tell_dropped(index, topic, reason.label());
    }

    /// Tells that a message of this client, or for it, goes no further.
    #[inline]
    pub(super) fn tell_dropped(&mut self, index: u32, topic: TopicName<'_>, reason: &'static str) {
        if self.tracing.is_on() {
            self.tell_dropped_now(index, topic, reason);
        }
    }

    #[cold]
    fn tell_dropped_now(&mut self, index: u32, topic: TopicName<'_>, reason: &'static str) {
        let session = &self.sessions[index as usize];
        // An absent client has no connection to name.
        let conn = session.conn.unwrap_or(ConnId(u32::MAX));
        self.tracing
            .tell(conn, &session.client_id, Some(topic), |_| TracedEvent::Dropped {
                topic: shortened(topic.as_str()),
                reason,
            });
    }
}

/// A shard follows no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{TRACES_MAX} traces go on already")]
pub struct TooManyTraces;

/// Traces at once: a handful of operators, each with one or two.
pub const TRACES_MAX: usize = 8;
