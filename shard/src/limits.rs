//! Every growth a client can cause, and where it ends.

use std::time::Duration;

use crate::topic::TopicLimits;

/// The limits of one shard's clients. The defaults are the documented ones of the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest Control Packet accepted, in bytes, fixed header included. Over it the connection closes on the header.
    pub packet_bytes_max: usize,
    /// Largest CONNECT accepted, in bytes: nothing may be large before the client is known.
    pub connect_bytes_max: usize,
    /// Most PUBLISH with QoS > 0 sent to one client and not yet acknowledged. Never 0.
    pub inflight_max: u16,
    /// Most QoS 2 messages of one publisher held between PUBLISH and PUBREL. Never 0.
    pub inbound_qos2_max: u16,
    /// Most messages waiting in one session, connected or not.
    pub queued_messages_max: usize,
    /// Most bytes (Topic Name and payload) waiting in one session; also bounds held inbound QoS 2 messages.
    pub queued_bytes_max: usize,
    /// Bytes in one connection's output over which QoS 0 is dropped and QoS 1/2 waits in the session.
    pub output_bytes_max: usize,
    /// Most bytes that queues, messages in flight, outputs and incomplete packets hold, in the whole broker; each shard has
    /// an equal share. `usize::MAX`: no limit of this kind, and then the process sets one by the host's memory.
    pub memory_bytes_max: usize,
    /// Topic levels, in names and filters.
    pub topic: TopicLimits,
    /// Most retained messages, in the whole broker; each shard holds its share of the topics.
    pub retained_max: usize,
    /// Most bytes (Topic Name and payload) of retained messages, in the whole broker; likewise.
    pub retained_bytes_max: usize,
    /// Most Topic Filters of one session.
    pub subscriptions_max: usize,
    /// Most sessions per shard, connected or not; over it a CONNECT that needs a new one is refused (0x03).
    pub sessions_max: usize,
    /// Most Client Identifiers that one verified user has connected at once, in the whole broker; over it a CONNECT is refused
    /// (0x03). 0: no limit, and nobody counts them.
    pub connections_per_user_max: usize,
    /// Longest Client Identifier accepted, in bytes.
    pub client_id_bytes_max: usize,
    /// From the accepted socket to a complete CONNECT.
    pub connect_timeout: Duration,
    /// Longest silence granted, whatever the client asks for. Zero: what the client asks for is granted.
    /// A client that asks for none (0) or for more is held to this one.
    pub keep_alive_max: Duration,
    /// With [`SlowSubscriber::Backpressure`]: longest time that publishers wait for one subscriber.
    pub backpressure_timeout: Duration,
    /// How long a session with Clean Session 0 outlives its connection. Zero: for ever.
    pub session_expiry: Duration,
    /// Most messages per second that one connection publishes; what comes faster waits. 0: no limit.
    pub publish_rate_max: u32,
    /// Most bytes (Topic Name and payload) per second that one connection publishes; likewise.
    pub publish_bytes_rate_max: u64,
    /// A client that is slowed for so long without a pause is closed. Zero: never.
    pub publish_rate_patience: Duration,
    /// What happens when a subscriber's queue is full.
    pub slow_subscriber: SlowSubscriber,
    /// How the member of a shared group is chosen.
    pub shared_strategy: SharedStrategy,
    /// What happens to a message that its client may not publish.
    pub denied_publish: DeniedPublish,
}

/// What happens to a message for a connected subscriber whose queue is full.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SlowSubscriber {
    /// The new message is dropped for this subscriber, and counted.
    #[default]
    DropNewest,
    /// The oldest message that is not in flight is dropped, and counted.
    DropOldest,
    /// The subscriber is disconnected; a session with Clean Session 0 goes on as an offline one.
    Disconnect,
    /// Matching publishers are not read until there is room again, for at most `backpressure_timeout`; after that
    /// the subscriber is disconnected.
    Backpressure,
}

/// What happens when a client publishes what the access control list denies it. Either way nobody gets the message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DeniedPublish {
    /// It is acknowledged as its QoS says, and dropped [MQTT-3.3.5-2].
    #[default]
    Drop,
    /// The connection closes.
    Close,
}

/// How a shared group (`$share/GROUP/FILTER`) chooses the member for a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SharedStrategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By the publisher's Client Identifier: keeps the order of each publisher while the members stay the same.
    Sticky,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            packet_bytes_max: 16 * 1024 * 1024,
            connect_bytes_max: 256 * 1024,
            inflight_max: 1_000,
            inbound_qos2_max: 1_000,
            queued_messages_max: 100_000,
            queued_bytes_max: 64 * 1024 * 1024,
            output_bytes_max: 4 * 1024 * 1024,
            memory_bytes_max: usize::MAX,
            topic: TopicLimits::default(),
            retained_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            subscriptions_max: 100_000,
            sessions_max: 1_000_000,
            connections_per_user_max: 0,
            client_id_bytes_max: 1_024,
            connect_timeout: Duration::from_secs(10),
            keep_alive_max: Duration::ZERO,
            backpressure_timeout: Duration::from_secs(10),
            session_expiry: Duration::ZERO,
            publish_rate_max: 0,
            publish_bytes_rate_max: 0,
            publish_rate_patience: Duration::ZERO,
            slow_subscriber: SlowSubscriber::default(),
            shared_strategy: SharedStrategy::default(),
            denied_publish: DeniedPublish::default(),
        }
    }
}
