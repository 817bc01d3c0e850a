//! What the oracle remembers. Lists that only grow: nothing here resembles the tables of the broker.

use std::collections::{BTreeMap, VecDeque};

/// A message as it was published, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// What a violation calls it.
    pub(super) name: String,
    /// Client Identifier.
    pub(super) publisher: String,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// When it was routed; again if its publisher sent it again.
    pub(super) routed: Vec<u64>,
    /// The publisher's shard may have refused it, in part or whole.
    pub(super) doubtful: bool,
    /// The store of another shard may have refused it.
    pub(super) unkept: bool,
    /// When it had arrived on every shard.
    pub(super) settled: Option<u64>,
    /// Its acknowledgement has left.
    pub(super) acknowledged: bool,
}

impl Message {
    pub(super) fn is_clear(&self) -> bool {
        self.payload.is_empty()
    }

    /// When it was routed first: orders the messages of one publisher.
    pub(super) fn order(&self) -> u64 {
        self.routed.first().copied().unwrap_or(u64::MAX)
    }

    /// When it was routed last.
    pub(super) fn last(&self) -> u64 {
        self.routed.last().copied().unwrap_or(0)
    }

    /// How a store's record calls it.
    pub(super) fn record_text(&self) -> String {
        crate::simulation::store::record_text(&self.topic, &self.payload)
    }
}

/// A subscription of one session, or a membership in a group.
#[derive(Clone, Debug)]
pub(super) struct Sub {
    /// As the client wrote it.
    pub(super) text: String,
    pub(super) group: Option<String>,
    pub(super) filter: String,
    /// Granted, and since when; a repeated SUBSCRIBE replaces.
    pub(super) grants: Vec<(u64, u8)>,
    pub(super) from: u64,
    pub(super) acknowledged: Option<u64>,
    pub(super) until: Option<u64>,
}

impl Sub {
    pub(super) fn is_live(&self) -> bool {
        self.until.is_none()
    }

    pub(super) fn lived_since(&self, from: u64) -> bool {
        self.until.is_none_or(|until| until >= from)
    }
}

/// One filter of one SUBSCRIBE: retained messages are owed for each.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) filter: String,
    pub(super) at: u64,
    pub(super) acknowledged: Option<u64>,
    pub(super) conn: usize,
    pub(super) packet_id: u16,
}

/// A message on its way to a client, by Packet Identifier.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) message: usize,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// The client's PUBREC was read.
    pub(super) received: bool,
    /// On which socket it was sent last.
    pub(super) sent_on: usize,
    /// Rises with each new flight.
    pub(super) order: u64,
    /// It may have gone to another member of a group.
    pub(super) may_vanish: bool,
}

/// What a session has had of one message, and what it is owed.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    /// New deliveries with RETAIN 0.
    pub(super) live: usize,
    /// And with RETAIN 1.
    pub(super) replayed: usize,
    /// Deliveries that it must get, with the least QoS and the socket it had when they were decided.
    pub(super) owed: Vec<(u8, Option<usize>)>,
    /// Of the live ones, those that were asked for when nothing was under way.
    pub(super) counted: usize,
    /// Deliveries that the client has acknowledged for good.
    pub(super) finished: usize,
    /// When something of it was delivered last.
    pub(super) at: u64,
}

/// A session, as the packets of its client and the answers tell it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) client: String,
    pub(super) shard: usize,
    pub(super) clean: bool,
    pub(super) socket: Option<usize>,
    pub(super) ended: Option<u64>,
    /// When its last connection ended, in milliseconds.
    pub(super) offline_since: u64,
    pub(super) subs: Vec<Sub>,
    pub(super) asked: Vec<Asked>,
    pub(super) flights: BTreeMap<u16, Flight>,
    /// QoS 2 messages from the client, between PUBLISH and PUBREL.
    pub(super) held: BTreeMap<u16, usize>,
    /// Those for which PUBREC has left.
    pub(super) received: BTreeMap<u16, usize>,
    /// Its CONNACK has left.
    pub(super) promised: bool,
    pub(super) shares: BTreeMap<usize, Share>,
    /// Newest live message by publisher, topic, its QoS and that of the delivery.
    pub(super) newest: BTreeMap<(String, String, u8, u8), u64>,
    /// Newest message that was published as retained, by publisher and topic; and newest of those with RETAIN 1.
    pub(super) seen: BTreeMap<(String, String), (u64, usize)>,
    pub(super) replayed: BTreeMap<(String, String), u64>,
    pub(super) last_flight: u64,
}

impl Session {
    pub(super) fn new(client: &str, shard: usize, clean: bool) -> Session {
        Session {
            client: client.to_owned(),
            shard,
            clean,
            socket: None,
            ended: None,
            offline_since: 0,
            subs: Vec::new(),
            asked: Vec::new(),
            flights: BTreeMap::new(),
            held: BTreeMap::new(),
            received: BTreeMap::new(),
            promised: false,
            shares: BTreeMap::new(),
            newest: BTreeMap::new(),
            seen: BTreeMap::new(),
            replayed: BTreeMap::new(),
            last_flight: 0,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.ended.is_none()
    }
}

/// What a client is owed on a connection, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    PubAck(u16, usize),
    /// With the message, if the packet was its first.
    PubRec(u16, Option<usize>),
    PubComp(u16, Option<usize>),
    UnsubAck(u16),
    PingResp,
}

/// A connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Conn {
    pub(super) shard: usize,
    pub(super) session: Option<usize>,
    /// The CONNECT that is being decided.
    pub(super) connect: Option<Connecting>,
    pub(super) will: Option<usize>,
    pub(super) connack_sent: bool,
    pub(super) session_present: bool,
    pub(super) over: bool,
    /// It is on its way to its home.
    pub(super) moved_away: bool,
    pub(super) replies: VecDeque<Reply>,
    /// SUBSCRIBE packets that are not answered.
    pub(super) subacks: BTreeMap<u16, SubAckOwed>,
    /// PUBREL packets owed for PUBREC.
    pub(super) pubrels: BTreeMap<u16, usize>,
    /// Unfinished messages that a resumed session owes again, in order.
    pub(super) resends: VecDeque<u16>,
    /// When it was opened, in milliseconds.
    pub(super) opened: u64,
    /// When it was accepted.
    pub(super) since: u64,
    /// When the last packet of the client was handed over, in milliseconds; and when anything that may count was.
    pub(super) heard: u64,
    pub(super) felt: u64,
    /// Milliseconds of silence granted; 0: any.
    pub(super) silence_max: u64,
}

/// What a SUBACK must say, and what it confirms.
#[derive(Clone, Debug)]
pub(super) struct SubAckOwed {
    pub(super) codes: Vec<u8>,
    pub(super) granted: Vec<String>,
    pub(super) at: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Connecting {
    pub(super) client: String,
    pub(super) clean: bool,
    pub(super) keep_alive: u64,
    pub(super) will: Option<usize>,
}

/// Whether a filter matches a topic: section 4.7, level by level.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([level, filter @ ..], [name, topic @ ..]) => level == name && levels(filter, topic),
            ([], []) => true,
            _ => false,
        }
    }
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    levels(&filter, &topic)
}
