//! What an operator asks a shard, by way of its control channel; the shard answers between its events, never in the middle of
//! one.
//!
//! Each question is bounded work: what could be long is asked for in pages. An answer nobody waits for any more is lost,
//! which harms nobody.

use std::sync::Arc;

use ringmq_shard::message::SharedMessage;
use ringmq_shard::session::SubscriptionKey;
use ringmq_shard::shard::{
    ClientDetail, ClientPage, ClientQuery, ConnId, Kicked, Shard, TooManyTraces, Trace, TraceId,
};
use ringmq_shard::store::StoreError;
use ringmq_shard::time::Instant;
use ringmq_shard::topic::{TopicError, TopicLimits, TopicName};

use super::doorbell::Doorbell;
use super::report::ShardReport;
use super::sockets::Sockets;
use super::trace::{Feed, Traces};
use crate::transport::Peer;

/// A question to one shard.
#[derive(Debug)]
pub(crate) enum Question {
    /// What it counts, as of now.
    Numbers(Reply<ShardReport>),
    /// A page of its clients, with the addresses that they are connected from.
    Clients(ClientQuery, Reply<(ClientPage, Vec<Option<Peer>>)>),
    /// One client whose home it is, with subscriptions from this one on.
    Client(
        String,
        Option<SubscriptionKey>,
        Reply<Option<(ClientDetail, Option<Peer>)>>,
    ),
    /// End that client's connection.
    Kick(String, Reply<Kicked>),
    /// The retained message of a topic that it owns.
    Retained(Topic, Reply<Option<SharedMessage>>),
    /// Follow a client or a topic, and tell about it there.
    Trace(Trace, Feed, Reply<Result<(), TooManyTraces>>),
    /// End that. Nothing is told after the answer.
    EndTrace(TraceId, Reply<()>),
    /// Remove that message; whether there was one.
    ClearRetained(Topic, Reply<Result<bool, StoreError>>),
}

/// A Topic Name that owns its text.
#[derive(Clone, Debug)]
pub(crate) struct Topic(String);

impl Topic {
    /// # Errors
    /// It is none.
    pub(crate) fn new(name: String) -> Result<Topic, TopicError> {
        TopicName::new(&name, &TopicLimits::default())?;
        Ok(Topic(name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn name(&self) -> TopicName<'_> {
        TopicName::new(&self.0, &TopicLimits::default()).expect("new() has looked at it")
    }
}

impl Question {
    /// Answers, on the shard's thread.
    pub(super) fn answer(
        self,
        shard: &mut Shard,
        sockets: &Sockets,
        traces: &mut Traces,
        now: Instant,
        numbers: ShardReport,
    ) {
        let peer = |conn: Option<ConnId>| conn.and_then(|conn| sockets.peer(conn));
        match self {
            Question::Numbers(reply) => reply.send(numbers),
            Question::Clients(query, reply) => {
                let page = shard.clients(&query);
                let peers = page.clients.iter().map(|client| peer(client.conn)).collect();
                reply.send((page, peers));
            }
            Question::Client(client_id, from, reply) => {
                let client = shard.client(now, &client_id, from);
                reply.send(client.map(|client| {
                    let peer = peer(client.summary.conn);
                    (client, peer)
                }));
            }
            Question::Kick(client_id, reply) => reply.send(shard.kick(now, &client_id)),
            Question::Trace(trace, feed, reply) => reply.send(traces.begin(shard, trace, feed)),
            Question::EndTrace(id, reply) => {
                traces.end(shard, sockets, now, id);
                reply.send(());
            }
            Question::Retained(topic, reply) => reply.send(shard.retained_message(topic.name())),
            Question::ClearRetained(topic, reply) => reply.send(shard.clear_retained(topic.name())),
        }
    }
}

/// Where the answer goes: to be sent once.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    answer: flume::Sender<T>,
    /// Of whoever waits.
    bell: Arc<Doorbell>,
}

impl<T> Reply<T> {
    /// A place for one answer, and where it can be fetched from.
    pub(crate) fn new(bell: &Arc<Doorbell>) -> (Reply<T>, flume::Receiver<T>) {
        let (answer, answered) = flume::bounded(1);
        let bell = Arc::clone(bell);
        (Reply { answer, bell }, answered)
    }

    /// Never waits: there is room for the one answer.
    pub(crate) fn send(self, answer: T) {
        let _ = self.answer.try_send(answer);
        self.bell.ring();
    }
}
