//! Topic Names and Topic Filters (section 4.7): validation, and the trie that matches one against many of the other.
//!
//! Read [`name`](TopicName) and [`filter`](TopicFilter) first: both exist only if they are valid, so nothing farther in
//! checks again. [`TopicTrie`] maps filters to values and finds those that a name matches; what the values mean is the
//! router's business. This module has never heard of a session or a packet.

mod error;
mod filter;
#[doc(hidden)]
pub mod fuzz;
mod name;
mod overlap;
mod trie;

pub use error::TopicError;
pub use filter::{Subscription, TopicFilter};
pub use name::{TopicLimits, TopicName};
pub(crate) use overlap::{covers, intersection};
pub use trie::{MatchScratch, TopicTrie};
