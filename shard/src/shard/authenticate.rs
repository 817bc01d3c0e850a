//! Who a client is, before its CONNECT counts: the question leaves as an effect, the verdict comes back as an event.
//!
//! ```text
//! CONNECT ─► home shard ─► Effect::Authenticate ┄┄► Event::Authenticated ─► accepted: CONNECT is handled
//!                          (what the client sends meanwhile waits)      └► refused: CONNACK 3, 4 or 5, closed
//! ```
//! Where the connections of a user are limited, whoever is known is asked about once more in the same way, with Effect::Enter and
//! Event::Entered: how many there are in the whole broker, no shard knows.
//!
//! Until the verdict nothing of the session is touched, so a wrong password takes nobody over. Verdicts come in any order:
//! a connection whose client has come again meanwhile, and was let in, is closed as taken over rather than let in late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::connection::Phase;
use super::event::{ClientId, ConnId, Effect};
use super::timers::Timer;
use crate::access::Acl;
use crate::codec::Connect;
use crate::error::{AuthenticationError, CloseReason};
use crate::time::Instant;

/// A verified user name.
pub type UserName = Arc<str>;

/// What a verdict has found out about a client.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who it is.
    pub user_name: UserName,
    /// What it may do, instead of what the broker's list says; `None`: that list counts.
    pub acl: Option<Arc<Acl>>,
    /// The connection is closed so long after the verdict; `None`: it may stay.
    pub expires_in: Option<Duration>,
}

impl Eq for Verified {}

impl PartialEq for Verified {
    /// Lists are equal if they are one.
    fn eq(&self, other: &Verified) -> bool {
        let same_list = match (&self.acl, &other.acl) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_list && self.user_name == other.user_name && self.expires_in == other.expires_in
    }
}

impl From<UserName> for Verified {
    /// Nothing more than the name.
    fn from(user_name: UserName) -> Verified {
        Verified {
            user_name,
            acl: None,
            expires_in: None,
        }
    }
}

/// Who may come in on a connection: what its listener says, or what was found out since.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Admission {
    /// Everyone, unasked. The user name that a client gives is not believed.
    #[default]
    Open,
    /// A client that gives a user name must prove it.
    Verify {
        /// A client that gives none comes in as nobody.
        anonymous: bool,
    },
    /// It is known who it is.
    Known(Box<Verified>),
}

impl Admission {
    /// A client of whom nothing is known but its name.
    #[must_use]
    pub fn known(user_name: UserName) -> Admission {
        Admission::Known(Box::new(user_name.into()))
    }

    /// What is known.
    #[must_use]
    pub fn verified(&self) -> Option<&Verified> {
        match self {
            Admission::Known(verified) => Some(verified),
            Admission::Open | Admission::Verify { .. } => None,
        }
    }
}

/// What a client says about itself, for whoever verifies it.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// Empty if the broker is to give one.
    pub client_id: ClientId,
    /// The name to verify.
    pub user_name: UserName,
    /// Absent is never right.
    pub password: Option<Box<[u8]>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// CONNECTs that wait for their verdict.
#[derive(Debug, Default)]
pub(super) struct Authenticating {
    /// By ticket: in the order in which they came.
    waiting: BTreeMap<u64, (ConnId, ClientId)>,
    by_client: BTreeSet<(ClientId, u64)>,
}

impl Authenticating {
    fn begin(&mut self, ticket: u64, conn: ConnId, client_id: ClientId) {
        self.by_client.insert((ClientId::clone(&client_id), ticket));
        self.waiting.insert(ticket, (conn, client_id));
    }

    /// The connection of this ticket no longer waits; a ticket that does not wait changes nothing.
    pub(super) fn end(&mut self, ticket: u64) {
        if let Some((_, client_id)) = self.waiting.remove(&ticket) {
            self.by_client.remove(&(client_id, ticket));
        }
    }

    /// Those of this client that came before `ticket`.
    fn earlier(&self, client_id: &ClientId, ticket: u64) -> Vec<ConnId> {
        let (from, to) = ((ClientId::clone(client_id), 0), (ClientId::clone(client_id), ticket));
        let tickets = self.by_client.range(from..to);
        tickets.map(|(_, ticket)| self.waiting[ticket].0).collect()
    }

    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.waiting.len(), self.by_client.len());
        self.waiting.len()
    }
}

impl Shard {
    /// Whether this CONNECT may go on now; else its verdict is asked for.
    ///
    /// # Errors
    /// Nobody comes in here without a name.
    pub(super) fn admit(&mut self, conn: ConnId, connect: &Connect<'_>) -> Result<bool, CloseReason> {
        let anonymous = match &self.clients.connections[conn.index()].admission {
            Admission::Open => return Ok(true),
            Admission::Known(verified) => {
                let user_name = UserName::clone(&verified.user_name);
                return Ok(self.enter(conn, connect.client_id, user_name));
            }
            Admission::Verify { anonymous } => *anonymous,
        };
        let Some(user_name) = connect.user_name else {
            return if anonymous {
                Ok(true)
            } else {
                Err(AuthenticationError::AnonymousNotAllowed.into())
            };
        };
        let ticket = self.next_token();
        let credentials = Credentials {
            client_id: connect.client_id.into(),
            user_name: user_name.into(),
            password: connect.password.map(Into::into),
        };
        let client_id = ClientId::clone(&credentials.client_id);
        self.authenticating.begin(ticket, conn, client_id);
        let connection = &mut self.clients.connections[conn.index()];
        connection.phase = Phase::Authenticating { ticket };
        connection.ticket = ticket;
        self.effects.push_back(Effect::Authenticate {
            conn,
            ticket,
            credentials,
        });
        Ok(false)
    }

    /// Whether its user has room for this client, as far as that is known; else it is asked for.
    fn enter(&mut self, conn: ConnId, client_id: &str, user_name: UserName) -> bool {
        let limit = self.clients.limits.connections_per_user_max;
        let connection = &self.clients.connections[conn.index()];
        if limit == 0 || connection.has_room {
            return true;
        }
        // The one of its verdict, if there was one: it says when its CONNECT came.
        let ticket = match connection.ticket {
            u64::MAX => self.next_token(),
            ticket => ticket,
        };
        let client = ClientId::from(client_id);
        self.authenticating.begin(ticket, conn, ClientId::clone(&client));
        let connection = &mut self.clients.connections[conn.index()];
        connection.phase = Phase::Authenticating { ticket };
        connection.ticket = ticket;
        self.effects.push_back(Effect::Enter {
            conn,
            ticket,
            client,
            user_name,
            limit,
        });
        false
    }

    /// Whether this connection waits for the answer to the question with this ticket.
    #[must_use]
    pub fn awaits(&self, conn: ConnId, ticket: u64) -> bool {
        let connection = self.clients.connections.get(conn.index());
        connection.is_some_and(|connection| connection.phase == Phase::Authenticating { ticket })
    }

    /// Whether its user has room for this client.
    pub(super) fn on_entered(
        &mut self,
        now: Instant,
        conn: ConnId,
        ticket: u64,
        room: Result<(), AuthenticationError>,
    ) {
        if !self.awaits(conn, ticket) {
            return;
        }
        match room {
            Ok(()) => {
                self.authenticating.end(ticket);
                let connection = &mut self.clients.connections[conn.index()];
                connection.has_room = true;
                connection.phase = Phase::Opening;
                self.read_again(now, conn);
            }
            Err(error) => self.close(now, conn, error.into()),
        }
    }

    /// The verdict on a CONNECT. Of a connection that is gone, or was taken over, it says nothing about the one that has its
    /// number by now.
    pub(super) fn on_authenticated(
        &mut self,
        now: Instant,
        conn: ConnId,
        ticket: u64,
        verdict: Result<Verified, AuthenticationError>,
    ) {
        let Some(connection) = self.clients.connections.get_mut(conn.index()) else {
            return;
        };
        if connection.phase != (Phase::Authenticating { ticket }) {
            return;
        }
        match verdict {
            Ok(verified) => {
                self.authenticating.end(ticket);
                let generation = connection.generation;
                if let Some(expires_in) = verified.expires_in {
                    let timer = Timer::Expiry {
                        index: conn.0,
                        generation,
                    };
                    self.timers.set(now + expires_in, timer);
                }
                connection.admission = Admission::Known(Box::new(verified));
                connection.phase = Phase::Opening;
                // Its CONNECT, and what followed, is in the tail.
                self.read_again(now, conn);
            }
            Err(error) => self.close(now, conn, error.into()),
        }
    }

    /// The transport has found out who it is.
    pub(super) fn on_identified(&mut self, conn: ConnId, user_name: UserName) {
        if let Some(connection) = self.clients.connections.get_mut(conn.index())
            && connection.phase == Phase::Opening
        {
            connection.admission = Admission::known(user_name);
        }
    }

    /// What was verified of a client does not hold any longer.
    pub(super) fn on_expired(&mut self, now: Instant, conn: ConnId, generation: u32) {
        if self.clients.live_connection((conn, generation)).is_some() {
            self.close(now, conn, CloseReason::AuthorizationExpired);
        }
    }

    /// A CONNECT was accepted: older ones of this client that still wait are those of a connection that it has given up.
    pub(super) fn supersede(&mut self, now: Instant, client_id: &ClientId, conn: ConnId) {
        if self.authenticating.len() == 0 {
            return;
        }
        let ticket = self.clients.connections[conn.index()].ticket;
        for older in self.authenticating.earlier(client_id, ticket) {
            self.close(now, older, CloseReason::SessionTakeover);
        }
    }
}
