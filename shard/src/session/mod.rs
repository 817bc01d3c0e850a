//! What the broker keeps for one client: section 3.1.2.4.
//!
//! [`Session`] is the whole of it; read it first. [`Outbound`] holds the messages on their way to the client: the queue,
//! the in-flight window with its Packet Identifiers, and the sender's side of QoS 1 and 2. [`InboundWindow`] holds the QoS 2
//! messages that the client has handed over and not yet released. Neither knows a connection, a topic tree or a store.

mod inbound;
mod outbound;
mod state;

pub use inbound::{InboundWindow, Receipt};
pub use outbound::{Acknowledged, Outbound, Queued, Received, Sent, SentState};
pub use state::{Held, Holding, Identity, Session, SessionKey, SubscriptionKey, WillMessage};
