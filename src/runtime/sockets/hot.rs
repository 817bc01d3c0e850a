//! Which connections the next turns read, and in which order.

use std::collections::VecDeque;

use ringmq_shard::shard::ConnId;

use super::super::connection::Connection;

/// Queues of connections to read. Each is read in turn, so that nobody waits for more than one round; a turn
/// that runs out of time goes on with the next in the queue.
///
/// A connection that was sent much and has not answered is in *front*: a subscriber with a full window can take nothing
/// before its acknowledgements are read, and with a thousand publishers between two of its turns its queue would
/// only grow. *Handshakes* have a queue of their own, since one costs as much as hundreds of messages: whoever is
/// connected does not wait behind those who want to be.
#[derive(Debug, Default)]
pub(crate) struct HotList {
    front: VecDeque<Entry>,
    back: VecDeque<Entry>,
    handshakes: VecDeque<Entry>,
    /// Of the entry that was made last.
    ticket: u32,
}

/// A connection has at most one entry that is valid: the one with its ticket. The others are left where they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) conn: ConnId,
    pub(crate) ticket: u32,
}

/// One of the queues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    Front,
    Back,
    Handshakes,
}

impl HotList {
    /// Puts the connection at the end of the queue that it belongs to; an entry that it has already is void.
    pub(crate) fn push(&mut self, conn: ConnId, connection: &mut Connection) {
        self.ticket = self.ticket.wrapping_add(1);
        connection.ticket = self.ticket;
        let lane = if connection.owes_an_answer() {
            Lane::Front
        } else if connection.socket.is_handshaking() {
            Lane::Handshakes
        } else {
            Lane::Back
        };
        let ticket = self.ticket;
        self.lane(lane).push_back(Entry { conn, ticket });
    }

    pub(crate) fn pop(&mut self, lane: Lane) -> Option<Entry> {
        self.lane(lane).pop_front()
    }

    pub(crate) fn len(&mut self, lane: Lane) -> usize {
        self.lane(lane).len()
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Entry> {
        match lane {
            Lane::Front => &mut self.front,
            Lane::Back => &mut self.back,
            Lane::Handshakes => &mut self.handshakes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::transport::{Peer, Transport};

    fn connection(listener: &TcpListener, generation: u32) -> Connection {
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = socket.peer_addr().unwrap();
        Connection::new(Transport::Tcp(socket), Peer::Tcp(peer), generation)
    }

    #[test]
    fn who_owes_an_answer_is_in_front_and_has_one_valid_entry() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut publisher, mut subscriber) = (connection(&listener, 1), connection(&listener, 2));
        let mut hot = HotList::default();
        hot.push(ConnId(1), &mut publisher);
        hot.push(ConnId(2), &mut subscriber);
        subscriber.unanswered_bytes = u32::MAX;
        hot.push(ConnId(2), &mut subscriber);

        let front = hot.pop(Lane::Front).unwrap();
        assert_eq!((front.conn, front.ticket), (ConnId(2), subscriber.ticket));
        assert!(hot.pop(Lane::Front).is_none());
        assert_eq!(hot.len(Lane::Back), 2);
        let (first, second) = (hot.pop(Lane::Back).unwrap(), hot.pop(Lane::Back).unwrap());
        assert_eq!((first.conn, first.ticket), (ConnId(1), publisher.ticket));
        assert_ne!(second.ticket, subscriber.ticket, "the entry from before is void");
    }
}
