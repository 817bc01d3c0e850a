//! What clients do when it is their turn.

use super::client::Link;
use super::network::{Place, Socket};
use super::plan::Action;
use super::world::World;

impl World {
    /// One of: reading, acknowledging, a step of its script.
    pub(super) fn client_turn(&mut self, client: usize) {
        if self.dice.chance(50) {
            self.client_reads(client);
        }
        let it = &mut self.clients[client];
        if !it.holds_back {
            let count = if self.dice.chance(70) { usize::MAX } else { 1 };
            it.acknowledge(count);
        }
        self.keep_alive(client);
        if self.clients[client].sleeps_until <= self.now {
            self.clients[client].silent = false;
            self.follow_script(client);
        }
        self.client_writes(client);
    }

    fn follow_script(&mut self, client: usize) {
        while let Some(Action::Nothing) = self.next_action(client) {
            self.scripts[client].pop_front();
        }
        let Some(action) = self.next_action(client).cloned() else {
            return;
        };
        let connects = matches!(action, Action::Connect { .. } | Action::Wait { .. } | Action::Loiter);
        let it = &self.clients[client];
        match it.link {
            Link::Down if !connects => {
                let clean = it.plan.clean;
                self.connect(client, clean, 0, None, 1);
                return;
            }
            Link::Connecting if !connects && !it.plan.eager && !matches!(action, Action::Cut) => return,
            _ => {}
        }
        self.scripts[client].pop_front();
        self.perform(client, action);
    }

    fn perform(&mut self, client: usize, action: Action) {
        self.trace.note(self.now, || {
            format!("{} does: {action:?}", self.clients[client].plan.id)
        });
        let it = &mut self.clients[client];
        match action {
            Action::Connect {
                clean,
                keep_alive,
                will,
                sockets,
            } => self.connect(client, clean, keep_alive, will, sockets),
            Action::Disconnect => {
                it.acknowledge(usize::MAX);
                it.disconnect();
                self.client_writes(client);
                self.clients[client].disconnected();
            }
            Action::Cut => {
                self.counts.cuts += 1;
                self.cut(client);
            }
            Action::Publish(message) => it.publish(message, &self.plan.messages[message]),
            Action::Resend => {
                self.counts.resends += u64::from(it.is_unfinished());
                it.resend(&self.plan.messages, false);
            }
            Action::Subscribe(filters) => it.subscribe(&filters),
            Action::Unsubscribe(filters) => it.unsubscribe(&filters),
            Action::Stall(stalls) => {
                it.stalled = stalls;
                self.counts.stalls += u64::from(stalls);
            }
            Action::HoldAcknowledgements(holds) => {
                it.holds_back = holds;
                self.counts.held_acknowledgements += u64::from(holds);
            }
            Action::LoseAcknowledgements(count) => {
                it.loses = count;
                self.counts.lost_acknowledgements += count as u64;
            }
            Action::Nothing => {}
            Action::Ping => it.ping(),
            Action::Wait { milliseconds, silent } => {
                it.sleeps_until = self.now + milliseconds;
                it.silent = silent;
            }
            Action::Loiter => {
                let socket = self.open(None);
                // The beginning of a CONNECT, perhaps.
                let begun = self.dice.below(8);
                self.sockets[socket]
                    .to_broker
                    .extend(&[0x10, 20, 0, 4, b'M', b'Q', b'T'][..begun]);
            }
        }
    }

    /// A fresh socket, given to some shard by the listener.
    fn open(&mut self, client: Option<usize>) -> usize {
        let at = self.dice.below(self.nodes.len());
        self.sockets.push(Socket::new(client, Place::Gone));
        let socket = self.sockets.len() - 1;
        self.place(at, socket);
        socket
    }

    /// CONNECT on one or several new sockets; the client goes on with the last. An older one stays open.
    pub(super) fn connect(&mut self, client: usize, clean: bool, keep_alive: u16, will: Option<usize>, sockets: usize) {
        if self.clients[client].socket.is_some() {
            self.client_writes(client);
            self.counts.takeovers += 1;
        }
        let will = will.map(|message| &self.plan.messages[message]);
        let bytes = self.clients[client].connect(clean, keep_alive, will);
        let will_sent = will.is_some();
        for _ in 0..sockets {
            let socket = self.open(Some(client));
            self.sockets[socket].to_broker.extend(&bytes);
            self.clients[client].socket = Some(socket);
            self.trace.note(self.now, || {
                let id = &self.clients[client].plan.id;
                format!("{id} connects on socket {socket}: clean {clean}, keep alive {keep_alive}, will {will_sent}")
            });
        }
        self.clients[client].last_sent = self.now;
    }

    /// The client's socket breaks.
    pub(super) fn cut(&mut self, client: usize) {
        self.client_writes(client);
        if let Some(socket) = self.clients[client].socket {
            let waiting = self.sockets[socket].to_broker.len();
            let kept = self.dice.between(0, waiting);
            self.sockets[socket].cut(kept);
            self.trace.note(self.now, || {
                format!("socket {socket} breaks, {} bytes are lost", waiting - kept)
            });
        }
        self.clients[client].disconnected();
    }

    /// PINGREQ in time, unless it stays silent on purpose.
    fn keep_alive(&mut self, client: usize) {
        let it = &mut self.clients[client];
        let due = it.last_sent + u64::from(it.keep_alive) * 600;
        if it.link == Link::Up && it.keep_alive > 0 && !it.silent && due <= self.now {
            it.ping();
        }
    }

    /// Takes some of what the broker sent.
    pub(super) fn client_reads(&mut self, client: usize) {
        let Some(socket) = self.clients[client].socket else {
            return;
        };
        if self.clients[client].stalled {
            return;
        }
        let waiting = self.sockets[socket].to_client.len();
        let count = if self.settling {
            waiting
        } else {
            self.dice.between(0, waiting)
        };
        let bytes: Vec<u8> = self.sockets[socket].to_client.drain(..count).collect();
        self.clients[client].receive(&bytes, &self.plan.messages);
        if count == waiting && self.sockets[socket].place == Place::Gone {
            self.clients[client].disconnected();
        }
    }

    /// Hands what the client has to say to its socket.
    pub(super) fn client_writes(&mut self, client: usize) {
        let it = &mut self.clients[client];
        let Some(socket) = it.socket else { return };
        if !it.out.is_empty() {
            self.sockets[socket].to_broker.extend(it.out.drain(..));
            it.last_sent = self.now;
        }
    }
}
