//! What a floor keeps per connection.

use super::routes::Audience;
use crate::net::Link;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) link: Link,
    /// It waits in the server's list of connections to write to.
    pub(crate) dirty: bool,
    /// It has published, so its reads wait while somebody's output is over the mark.
    pub(crate) publishes: bool,
    /// Its own output is over the mark.
    pub(crate) congested: bool,
    /// It stands in the routes.
    pub(crate) subscribed: bool,
    /// Packet Identifier of the last message that went to it.
    last_id: u16,
    /// The answer to its last topic.
    pub(crate) cache: Cache,
    /// Turn counter of its shared groups.
    pub(crate) turn: usize,
}

/// A topic's audience, as of a version of the routes.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) topic: Vec<u8>,
    pub(crate) version: Option<u64>,
    pub(crate) audience: Audience,
}

impl Client {
    pub(crate) fn new(link: Link) -> Client {
        Client {
            link,
            dirty: false,
            publishes: false,
            congested: false,
            subscribed: false,
            last_id: 0,
            cache: Cache::default(),
            turn: 0,
        }
    }

    /// The next Packet Identifier, from 1 to 65 535 and round.
    pub(crate) fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }
}

/// Takes a SUBSCRIBE's body apart into identifier and filters with their QoS; `None` where it is not one.
pub(crate) fn subscribe(body: &[u8]) -> Option<(u16, Vec<(&str, u8)>)> {
    let (id, mut rest) = body.split_first_chunk::<2>()?;
    let mut filters = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let (filter, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let (&qos, tail) = tail.split_first()?;
        filters.push((std::str::from_utf8(filter).ok()?, qos & 0b11));
        rest = tail;
    }
    Some((u16::from_be_bytes(*id), filters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribe_comes_apart() {
        assert_eq!(
            subscribe(b"\x00\x07\x00\x01a\x01\x00\x01b\x02"),
            Some((7, vec![("a", 1), ("b", 2)]))
        );
        assert_eq!(subscribe(b"\x00\x07\x00\x09a"), None);
    }
}
