//! One session, connected or not.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexSet;

use super::{InboundWindow, Outbound};
use crate::access::{Acl, Rights};
use crate::codec::QoS;
use crate::message::{MESSAGE_MEMORY, SharedMessage};
use crate::router::{FilterId, GroupId};
use crate::shard::{ClientId, ConnId, ShardId, UserName, Verified};
use crate::store::Lsn;
use crate::time::Instant;

/// Names a session of one shard across time: the slot is reused, the pair is not.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey {
    /// Place in the shard's table.
    pub index: u32,
    /// Rises with each session of the shard.
    pub generation: u32,
}

/// What a session subscribes to: a Topic Filter, or one through a shared group.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SubscriptionKey {
    /// A plain subscription.
    Filter(FilterId),
    /// Membership in a shared group.
    Group(GroupId),
}

/// The Will of a connection (section 3.1.2.5), published when it ends without DISCONNECT.
#[derive(Clone, Debug)]
pub struct WillMessage {
    /// A valid Topic Name.
    pub topic: Box<str>,
    /// The payload.
    pub payload: Box<[u8]>,
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is published as Retained.
    pub retain: bool,
}

/// A message that waits until a subscription of this session has its retained messages.
#[derive(Clone, Debug)]
pub struct Held {
    /// The message.
    pub message: SharedMessage,
    /// The record number, as in [`Queued`](super::Queued).
    pub message_id: u64,
    /// At which level it will be delivered.
    pub qos: QoS,
}

/// Who the client of a session is, as far as it may do more or less for it.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// As it was verified; `None`: nobody in particular.
    pub user_name: Option<UserName>,
    /// What the access control list has for the client's names.
    pub rights: Rights,
    /// Which list says so; 0: none that was ever in force.
    pub list: u32,
    /// The client's own list, which counts instead of the broker's; then `rights` are what this one has.
    pub own: Option<Arc<Acl>>,
}

impl Identity {
    /// Of a client that comes with CONNECT.
    pub(crate) fn new(client_id: &str, verified: Option<&Verified>) -> Identity {
        let Some(Verified { user_name, acl, .. }) = verified else {
            return Identity::default();
        };
        Identity {
            rights: acl
                .as_ref()
                .map(|acl| acl.own_rights(client_id, Some(user_name)))
                .unwrap_or_default(),
            list: 0,
            user_name: Some(UserName::clone(user_name)),
            own: acl.clone(),
        }
    }
}

/// What the broker keeps for one client (section 3.1.2.4), and for its connection while there is one.
///
/// Invariants: `held` is empty unless `pending_subscribes > 0`, and `held_bytes` sums it.
#[derive(Debug)]
pub struct Session {
    /// Whose. Set once.
    pub client_id: ClientId,
    /// As whom its last client came. Set by each CONNECT.
    pub identity: Identity,
    /// Told apart from earlier sessions in the same slot. Set once.
    pub generation: u32,
    /// Ends with its connection, writes no records. Set by each CONNECT.
    pub clean: bool,
    /// The connection, while there is one. Set by CONNECT, cleared when the connection ends.
    pub conn: Option<ConnId>,
    /// Published when the connection ends abnormally [MQTT-3.1.2-8]; removed by DISCONNECT [MQTT-3.14.4-3].
    pub will: Option<Box<WillMessage>>,
    /// What it subscribes to.
    pub subscriptions: BTreeSet<SubscriptionKey>,
    /// Messages to the client.
    pub outbound: Outbound,
    /// QoS 2 messages from the client; allocated with the first.
    pub inbound: Option<Box<InboundWindow>>,
    /// The last record of those.
    pub inbound_lsn: Lsn,
    /// Subscribes that wait for routes or retained messages.
    pub pending_subscribes: u16,
    /// Live messages that wait behind those.
    pub held: Vec<Held>,
    /// Bytes of those.
    pub held_bytes: usize,
    /// What was last counted for this session: [`memory_bytes`](Session::memory_bytes).
    pub charged: usize,
    /// The last number given to a record of this session.
    pub last_message_id: u64,
    /// When the last connection ended; decides the expiry.
    pub offline_since: Instant,
    /// A timer for the expiry is set; it looks again at the end of a later absence.
    pub expiry_timer: bool,
    /// How many slow subscribers hold this client's publishing back. It is not read while this is above 0.
    pub held_by: u32,
    /// The publishers that this slow subscriber holds back, with the time it was given; `None` while it keeps up.
    pub holding: Option<Box<Holding>>,
}

/// Publishers held back for one slow subscriber.
#[derive(Debug)]
pub struct Holding {
    /// Whom, and on which shard.
    pub publishers: IndexSet<(ShardId, SessionKey), ahash::RandomState>,
    /// When patience ends.
    pub until: Instant,
}

impl Session {
    /// A session that has just begun.
    #[must_use]
    pub fn new(client_id: ClientId, generation: u32, clean: bool) -> Session {
        Session {
            client_id,
            identity: Identity::default(),
            generation,
            clean,
            conn: None,
            will: None,
            subscriptions: BTreeSet::new(),
            outbound: Outbound::default(),
            inbound: None,
            inbound_lsn: Lsn::default(),
            pending_subscribes: 0,
            held: Vec::new(),
            held_bytes: 0,
            charged: 0,
            last_message_id: 0,
            offline_since: Instant::default(),
            expiry_timer: false,
            held_by: 0,
            holding: None,
        }
    }

    /// What its messages hold in memory, at most.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.outbound.memory_bytes()
            + self.held_bytes
            + self.held.len() * MESSAGE_MEMORY
            + self.inbound.as_ref().map_or(0, |window| window.memory_bytes())
    }

    /// Holds these messages back, in place of others.
    pub fn hold(&mut self, held: Vec<Held>) {
        self.held_bytes = held.iter().map(|held| held.message.size()).sum();
        self.held = held;
    }

    /// The number of the next record.
    pub fn next_message_id(&mut self) -> u64 {
        self.last_message_id += 1;
        self.last_message_id
    }
}
