//! How many clients each verified user has connected, on all shards: the one thing about connections that no shard can know
//! alone. Asked once per CONNECT, and only where there is a limit; never on the way of a message.
//!
//! What counts is Client Identifiers, not sockets: a client that comes again takes over its own place, for the moment that both
//! of its connections are there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringmq_shard::shard::{ClientId, UserName};

/// The connected clients of every user.
#[derive(Debug, Default)]
pub(crate) struct Users {
    by_name: Mutex<HashMap<UserName, Clients>>,
}

/// Those of one user. Never empty in the table.
#[derive(Debug, Default)]
struct Clients {
    /// Connections, by Client Identifier; never 0.
    named: HashMap<ClientId, u32>,
    /// Connections whose Client Identifier is the broker's: each is a client of its own.
    unnamed: usize,
}

impl Users {
    /// Counts a connection in. `None`: the user has `limit` other clients already. An empty Client Identifier is that of no other
    /// connection.
    pub(crate) fn enter(self: &Arc<Users>, user: &UserName, client: &ClientId, limit: usize) -> Option<Place> {
        let mut by_name = self.lock();
        let clients = by_name.get(user);
        let is_there = clients.is_some_and(|clients| clients.named.contains_key(client));
        if !is_there && clients.map_or(0, Clients::len) >= limit {
            return None;
        }
        let clients = by_name.entry(UserName::clone(user)).or_default();
        if client.is_empty() {
            clients.unnamed += 1;
        } else {
            *clients.named.entry(ClientId::clone(client)).or_insert(0) += 1;
        }
        Some(Place {
            users: Arc::clone(self),
            user: UserName::clone(user),
            client: ClientId::clone(client),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserName, Clients>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    fn len(&self) -> usize {
        self.named.len() + self.unnamed
    }
}

/// A connection that counts, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    users: Arc<Users>,
    user: UserName,
    client: ClientId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_name = self.users.lock();
        let Some(clients) = by_name.get_mut(&self.user) else {
            return;
        };
        if self.client.is_empty() {
            clients.unnamed -= 1;
        } else if let Some(connections) = clients.named.get_mut(&self.client) {
            *connections -= 1;
            if *connections == 0 {
                clients.named.remove(&self.client);
            }
        }
        if clients.len() == 0 {
            by_name.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(users: &Arc<Users>, user: &str, client: &str, limit: usize) -> Option<Place> {
        users.enter(&user.into(), &client.into(), limit)
    }

    #[test]
    fn each_user_has_so_many_clients_and_leaves_nothing() {
        let users = Arc::default();
        let first = enter(&users, "ann", "a", 2).expect("room");
        let second = enter(&users, "ann", "b", 2).expect("room");
        assert!(enter(&users, "ann", "c", 2).is_none());
        let other = enter(&users, "bob", "c", 2).expect("room of his own");
        drop(first);
        let third = enter(&users, "ann", "c", 2).expect("room again");
        assert!(enter(&users, "ann", "a", 2).is_none());
        drop((second, third, other));
        assert!(users.lock().is_empty());
    }

    #[test]
    fn a_client_that_comes_again_takes_its_own_place() {
        let users = Arc::default();
        let old = enter(&users, "ann", "a", 1).expect("room");
        let new = enter(&users, "ann", "a", 1).expect("its own");
        assert!(enter(&users, "ann", "b", 1).is_none());
        drop(old);
        assert!(enter(&users, "ann", "b", 1).is_none(), "the newer connection is there");
        drop(new);
        assert!(enter(&users, "ann", "b", 1).is_some());
        assert!(users.lock().is_empty());
    }

    #[test]
    fn connections_without_a_client_identifier_are_clients_each() {
        let users = Arc::default();
        let first = enter(&users, "ann", "", 2).expect("room");
        let second = enter(&users, "ann", "", 2).expect("room");
        assert!(enter(&users, "ann", "", 2).is_none() && enter(&users, "ann", "a", 2).is_none());
        drop(first);
        let named = enter(&users, "ann", "a", 2).expect("room");
        drop((second, named));
        assert!(users.lock().is_empty());
    }

    #[test]
    fn a_lower_limit_ends_nothing_and_lets_nobody_else_in() {
        let users = Arc::default();
        let both = (enter(&users, "ann", "a", 2), enter(&users, "ann", "b", 2));
        assert!(both.0.is_some() && both.1.is_some());
        assert!(enter(&users, "ann", "c", 1).is_none());
        assert!(enter(&users, "ann", "a", 1).is_some(), "who is connected comes back");
    }
}
