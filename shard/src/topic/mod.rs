//! Topic Names and Topic Filters (section 4.7): validation, and matching one against the other.
//!
//! Read [`name`](TopicName) and [`filter`](TopicFilter) first: both exist only if they are valid, so nothing farther in
//! checks again. This module has never heard of a session or a packet.

mod error;
mod filter;
mod name;

pub use error::TopicError;
pub use filter::{Subscription, TopicFilter};
pub use name::{TopicLimits, TopicName};
