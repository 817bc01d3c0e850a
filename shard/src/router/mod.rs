//! Who gets a message: this shard's replica of all routes, and the retained messages it owns.
//!
//! [`Registry`] has every Topic Filter of the broker: with each the local subscribers and the set of shards that have
//! subscribers of their own. [`group`](Group) is the shared subscription (`$share/GROUP/FILTER`) within it. [`RetainStore`]
//! has the retained messages of the topics whose owner this shard is. None of them knows a connection or a queue: they
//! answer with session numbers and shard numbers.

mod group;
mod registry;
mod retain;

pub use group::{Group, GroupRef, Member, Pick, RemoteMembers};
pub use registry::{FilterId, GroupId, Registry, Subscriber};
pub use retain::{RetainStore, SetOutcome};
