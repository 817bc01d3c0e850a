//! Connections, sessions and Wills: how they begin and end.

use std::collections::VecDeque;

use super::Oracle;
use super::model::{Conn, Connecting, Session};
use crate::codec::Connect;
use crate::error::{CloseReason, SessionError};
use crate::limits::SlowSubscriber;
use crate::simulation::setup::StoreKind;

impl Oracle {
    /// A socket is a connection of this shard from here on.
    pub(in crate::simulation) fn opened(&mut self, socket: usize, shard: usize) {
        if self.conns.len() <= socket {
            self.conns.resize(socket + 1, Conn::default());
        }
        self.conns[socket] = Conn {
            shard,
            opened: self.now,
            heard: self.now,
            felt: self.now,
            ..Conn::default()
        };
    }

    /// It is on its way to its home.
    pub(in crate::simulation) fn moves(&mut self, socket: usize) {
        self.conns[socket].moved_away = true;
    }

    /// Bytes of its client were handed over, with whole packets or without, or it is read again. A good part of a packet may count
    /// as one.
    pub(in crate::simulation) fn heard(&mut self, socket: usize, packets: bool, progress: bool) {
        let conn = &mut self.conns[socket];
        if packets {
            conn.heard = self.now;
        }
        if packets || progress {
            conn.felt = self.now;
        }
    }

    /// Whether its CONNECT has been decided.
    pub(in crate::simulation) fn is_connected(&self, socket: usize) -> bool {
        let conn = &self.conns[socket];
        conn.session.is_some() || conn.over
    }

    pub(super) fn connecting(&mut self, socket: usize, connect: &Connect<'_>) {
        let will = connect
            .will
            .as_ref()
            .map(|will| self.message(connect.client_id, will.topic, will.message, will.qos as u8, will.retain));
        self.conns[socket].connect = Some(Connecting {
            client: connect.client_id.to_owned(),
            clean: connect.clean_session,
            keep_alive: u64::from(connect.keep_alive),
            will,
        });
    }

    /// A CONNECT was accepted [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3].
    pub(in crate::simulation) fn connected(&mut self, socket: usize, client: &str, session_present: bool) {
        self.at += 1;
        let connect = self.conns[socket]
            .connect
            .take()
            .expect("nobody connects without CONNECT");
        assert_eq!(connect.client, client, "the session of another client");
        assert_eq!(self.home(client), self.conns[socket].shard, "{client} is not at home");
        let known = self.current.get(client).copied();
        if let Some(known) = known {
            let socket = self.sessions[known].socket;
            assert_eq!(socket, None, "{client} has two connections [MQTT-3.1.4-2]");
        }
        assert_eq!(
            session_present,
            known.is_some() && !connect.clean,
            "{client}: Session Present"
        );
        let session = match known {
            Some(known) if session_present => known,
            _ => {
                if let Some(known) = known {
                    self.end_session(known);
                }
                self.sessions
                    .push(Session::new(client, self.conns[socket].shard, connect.clean));
                self.current.insert(client.to_owned(), self.sessions.len() - 1);
                self.sessions.len() - 1
            }
        };
        let it = &mut self.sessions[session];
        it.socket = Some(socket);
        let mut again: Vec<(u64, u16)> = it.flights.iter().map(|(id, flight)| (flight.order, *id)).collect();
        again.sort_unstable();
        let conn = &mut self.conns[socket];
        conn.session = Some(session);
        conn.session_present = session_present;
        conn.resends = again.into_iter().map(|(_, id)| id).collect::<VecDeque<u16>>();
        conn.will = connect.will;
        conn.since = self.at;
        let granted = u64::try_from(self.setup.limits.keep_alive_max.as_millis()).expect("short") * 3 / 2;
        let asked = connect.keep_alive * 1_500;
        conn.silence_max = match (asked, granted) {
            (asked, 0) => asked,
            (0, granted) => granted,
            (asked, granted) => asked.min(granted),
        };
    }

    /// The broker ends a connection.
    pub(in crate::simulation) fn closed(&mut self, socket: usize, reason: &CloseReason) {
        self.at += 1;
        let conn = &self.conns[socket];
        let silence = self.now - conn.heard;
        let limits = &self.setup.limits;
        let connect_timeout = u64::try_from(limits.connect_timeout.as_millis()).expect("short");
        let allowed = match reason {
            CloseReason::Disconnect => true,
            CloseReason::Shutdown => self.stopping,
            CloseReason::SessionTakeover => self.conns.iter().any(|conn| conn.connect.is_some()),
            CloseReason::KeepAliveTimeout { .. } => conn.silence_max > 0 && silence >= conn.silence_max,
            CloseReason::ConnectTimeout => conn.session.is_none() && self.now - conn.opened >= connect_timeout,
            CloseReason::Store(_) => self.setup.store == StoreKind::Failing,
            CloseReason::Session(SessionError::InboundWindowFull { held_max }) => conn
                .session
                .is_some_and(|session| self.sessions[session].held.len() >= usize::from(*held_max)),
            CloseReason::Session(SessionError::MemoryFull { .. }) => self.is_short_of_memory(),
            CloseReason::Session(SessionError::RateExceeded { .. }) => {
                let opened_for = std::time::Duration::from_millis(self.now - conn.opened);
                self.limits_rate() && opened_for >= limits.publish_rate_patience
            }
            CloseReason::Session(SessionError::SlowSubscriber { .. }) => matches!(
                limits.slow_subscriber,
                SlowSubscriber::Disconnect | SlowSubscriber::Backpressure
            ),
            _ => false,
        };
        assert!(allowed, "socket {socket} is closed without cause: {reason}");
        let says_goodbye = matches!(reason, CloseReason::Disconnect | CloseReason::Shutdown);
        self.leave(socket, !says_goodbye);
    }

    fn limits_rate(&self) -> bool {
        self.setup.limits.publish_rate_max > 0 || self.setup.limits.publish_bytes_rate_max > 0
    }

    /// The socket broke.
    pub(in crate::simulation) fn lost(&mut self, socket: usize) {
        self.at += 1;
        self.leave(socket, true);
    }

    fn leave(&mut self, socket: usize, publishes_will: bool) {
        let conn = &mut self.conns[socket];
        if std::mem::replace(&mut conn.over, true) {
            return;
        }
        let (shard, will) = (conn.shard, conn.will.take());
        let Some(session) = conn.session else { return };
        let it = &mut self.sessions[session];
        it.socket = None;
        it.offline_since = self.now;
        let groups: Vec<String> = it
            .subs
            .iter()
            .filter(|sub| sub.group.is_some() && sub.is_live())
            .map(|sub| sub.text.clone())
            .collect();
        for flight in it.flights.values_mut().filter(|flight| flight.qos == 1) {
            let topic = &self.messages[flight.message].topic;
            let through_group =
                |sub: &super::model::Sub| sub.group.is_some() && super::model::matches(&sub.filter, topic);
            flight.may_vanish |= it.subs.iter().any(through_group);
        }
        for group in groups {
            self.departs(&group, false);
        }
        if self.sessions[session].clean {
            self.end_session(session);
        }
        if let Some(will) = will.filter(|_| publishes_will) {
            self.route(will, shard);
        }
    }

    pub(super) fn end_session(&mut self, session: usize) {
        let at = self.at;
        let it = &mut self.sessions[session];
        it.ended = Some(at);
        it.held.clear();
        it.received.clear();
        // What was received is the client's, though it does not say so for good any more.
        for flight in it.flights.values().filter(|flight| flight.received) {
            it.shares.entry(flight.message).or_default().finished += 1;
        }
        let mut groups = Vec::new();
        for sub in it.subs.iter_mut().filter(|sub| sub.until.is_none()) {
            sub.until = Some(at);
            if sub.group.is_some() {
                groups.push(sub.text.clone());
            }
        }
        self.current.remove(&self.sessions[session].client);
        for group in groups {
            self.departs(&group, true);
        }
    }

    /// A member of a group is away, or has left it; `ended`: with its session.
    pub(super) fn departs(&mut self, group: &str, ended: bool) {
        self.departures
            .entry(group.to_owned())
            .or_default()
            .push((self.at, ended));
        let stays = |session: &Session| {
            let member = |sub: &super::model::Sub| sub.text == group && sub.is_live() && sub.acknowledged.is_some();
            session.is_live() && session.subs.iter().any(member)
        };
        if !self.sessions.iter().any(stays) {
            // Nobody was certain to take over.
            self.group_owed.retain(|(owed, _)| owed != group);
        }
    }

    /// A shard has looked at its deadlines: what is over is over [MQTT-3.1.2-24].
    pub(in crate::simulation) fn ticked(&mut self, shard: usize) {
        self.at += 1;
        let limits = &self.setup.limits;
        let connect_timeout = u64::try_from(limits.connect_timeout.as_millis()).expect("short");
        // A client that is not read, for whatever reason, cannot be heard; its patience begins anew.
        let may_be_deaf =
            limits.slow_subscriber == SlowSubscriber::Backpressure || self.is_limited() || self.limits_rate();
        for (socket, conn) in self.conns.iter().enumerate() {
            if conn.shard != shard || conn.over {
                continue;
            }
            let over = match conn.session {
                None => self.now >= conn.opened + connect_timeout,
                Some(_) => conn.silence_max > 0 && self.now > conn.felt + conn.silence_max && !may_be_deaf,
            };
            assert!(
                !over || conn.moved_away,
                "socket {socket} should have been closed by now"
            );
        }
        let expiry = u64::try_from(limits.session_expiry.as_millis()).expect("short");
        let expired: Vec<usize> = self
            .current
            .values()
            .copied()
            .filter(|session| {
                let it = &self.sessions[*session];
                expiry > 0 && it.shard == shard && it.socket.is_none() && self.now >= it.offline_since + expiry
            })
            .collect();
        for session in expired {
            self.end_session(session);
        }
    }
}
