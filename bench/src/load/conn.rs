//! One client: its socket, how far it has come up, and the half of the protocol that it plays.

use std::io;

use super::context::Context;
use super::plan::{Broker, Plan};
use super::publisher::{Publisher, Pumped};
use super::subscriber::{SubackError, Subscriber};
use crate::net::{Link, Received};
use crate::wire::frame::{self, Frame, FrameError};
use crate::wire::packet::{Connect, PINGREQ, acknowledge, kind};

/// Which entry of the plan a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Publisher(usize),
    Subscriber(usize),
    Idle(usize),
}

/// What a connection does once it is up.
#[derive(Debug)]
pub(crate) enum Role {
    Publisher(Box<Publisher>),
    Subscriber(Box<Subscriber>),
    Idle,
}

/// How far a connection has come up.
///
/// ```text
/// Waiting ──▶ Connecting ──▶ Greeting ──▶ Up ──▶ Closed
///    the ramp      TCP         CONNACK      ▲ from anywhere
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    Waiting,
    Connecting,
    Greeting,
    Up,
    Closed,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) part: Part,
    pub(crate) role: Role,
    pub(crate) stage: Stage,
    pub(crate) link: Option<Link>,
    /// It stands in one of the worker's lists already.
    pub(crate) queued: bool,
    /// PINGREQs without an answer.
    pings: u32,
    /// The drain waits for it: nothing in flight, and the last PINGREQ answered.
    pub(crate) settling: bool,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Suback(#[from] SubackError),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker refused the connection (CONNACK return code {0})")]
    Refused(u8),
    #[error("a packet of type {0} was not expected")]
    Unexpected(u8),
}

/// What became true while packets were taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// CONNACK came.
    pub(crate) connected: bool,
    /// The last SUBACK came.
    pub(crate) subscribed: bool,
    /// A full read: there is more in the socket.
    pub(crate) more: bool,
}

impl Conn {
    pub(crate) fn new(part: Part, plan: &Plan, fan: &[u32]) -> Conn {
        let role = match part {
            Part::Publisher(at) => Role::Publisher(Box::new(Publisher::new(&plan.publishers[at], &plan.load, fan))),
            Part::Subscriber(at) => Role::Subscriber(Box::new(Subscriber::new(
                &plan.subscribers[at],
                fan.len(),
                plan.pacer_of(at),
            ))),
            Part::Idle(_) => Role::Idle,
        };
        Conn {
            part,
            role,
            stage: Stage::Waiting,
            link: None,
            queued: false,
            pings: 0,
            settling: false,
        }
    }

    /// Its Client Identifier.
    pub(crate) fn client_id<'p>(&self, plan: &'p Plan) -> &'p str {
        match self.part {
            Part::Publisher(at) => &plan.publishers[at].client_id,
            Part::Subscriber(at) => &plan.subscribers[at].client_id,
            Part::Idle(at) => &plan.idle[at],
        }
    }

    /// TCP is up: introduces itself.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn greet(&mut self, client_id: &str, broker: &Broker) -> Result<(), ConnError> {
        let link = self.link.as_mut().expect("a connecting client has a socket");
        crate::net::connect_outcome(&*link)?;
        let connect = Connect {
            client_id,
            clean_session: broker.clean_session,
            keep_alive_s: broker.keep_alive_s,
            username: broker.username.as_deref(),
            password: broker.password.as_deref(),
        };
        connect.encode(link.out());
        link.flush()?;
        self.stage = Stage::Greeting;
        Ok(())
    }

    /// Begins to subscribe; `true` where there is nothing to subscribe to.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn subscribe(&mut self, qos: u8) -> Result<bool, ConnError> {
        let (Role::Subscriber(subscriber), Some(link)) = (&mut self.role, &mut self.link) else {
            return Ok(false);
        };
        subscriber.subscribe(link, qos);
        link.flush()?;
        Ok(subscriber.is_subscribed())
    }

    /// Asks the broker for a sign of life, behind everything sent so far.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn ping(&mut self) -> Result<(), ConnError> {
        if let (Stage::Up, Some(link)) = (self.stage, &mut self.link) {
            self.pings += 1;
            link.queue(&PINGREQ);
            link.flush()?;
        }
        Ok(())
    }

    /// The broker has answered everything that this connection sent.
    pub(crate) fn is_settled(&self, qos: u8) -> bool {
        let in_flight = if let Role::Publisher(publisher) = &self.role {
            publisher.in_flight(qos)
        } else {
            0
        };
        self.stage == Stage::Up && self.pings == 0 && in_flight == 0
    }

    /// Lets a publisher send a batch.
    ///
    /// # Errors
    /// The connection's.
    #[inline]
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>) -> Result<Pumped, ConnError> {
        match (&mut self.role, &mut self.link) {
            (Role::Publisher(publisher), Some(link)) => Ok(publisher.pump(link, cx)?),
            _ => Ok(Pumped::Wait),
        }
    }

    /// Reads once and takes every whole packet; answers leave in one write.
    ///
    /// # Errors
    /// [`ConnError`]: the connection ends.
    #[inline]
    pub(crate) fn read(&mut self, scratch: &mut [u8], cx: &mut Context<'_>) -> Result<Progress, ConnError> {
        let mut progress = Progress::default();
        let Some(link) = &mut self.link else {
            return Ok(progress);
        };
        let len = match link.receive(scratch)? {
            Received::Bytes { len, more } => {
                progress.more = more;
                len
            }
            Received::Nothing => return Ok(progress),
            Received::Closed => return Err(ConnError::Closed),
        };
        cx.now = crate::net::now();
        let mut rest = &scratch[..len];
        while let Some(frame) = frame::next(rest)? {
            rest = &rest[frame.bytes.len()..];
            self.take(&frame, &mut progress, cx)?;
        }
        cx.flush_progress();
        let link = self.link.as_mut().expect("taking packets closes nothing");
        link.keep(rest);
        if link.pending() > 0 {
            link.flush()?;
        }
        Ok(progress)
    }

    #[inline]
    fn take(&mut self, frame: &Frame<'_>, progress: &mut Progress, cx: &mut Context<'_>) -> Result<(), ConnError> {
        let link = self.link.as_mut().expect("packets come from a socket");
        match (frame.first >> 4, &mut self.role) {
            (kind::PUBLISH, Role::Subscriber(subscriber)) => subscriber.on_publish(frame, link, cx)?,
            (kind::PUBACK, Role::Publisher(publisher)) => publisher.on_puback(frame::packet_id(frame.body), cx),
            (kind::PUBREC, Role::Publisher(publisher)) => publisher.on_pubrec(frame::packet_id(frame.body), link),
            (kind::PUBCOMP, Role::Publisher(publisher)) => publisher.on_pubcomp(frame::packet_id(frame.body), cx),
            (kind::PUBREL, Role::Subscriber(_)) => {
                link.queue(&acknowledge(kind::PUBCOMP, frame::packet_id(frame.body)));
            }
            (kind::CONNACK, _) if self.stage == Stage::Greeting => match frame.body {
                [_, 0] => {
                    self.stage = Stage::Up;
                    progress.connected = true;
                }
                body => return Err(ConnError::Refused(body.get(1).copied().unwrap_or(u8::MAX))),
            },
            (kind::SUBACK, Role::Subscriber(subscriber)) => {
                subscriber.on_suback(frame.body)?;
                progress.subscribed = subscriber.is_subscribed();
                subscriber.subscribe(link, cx.load.subscribe_qos);
            }
            (kind::PINGRESP, _) => self.pings = self.pings.saturating_sub(1),
            (other, _) => return Err(ConnError::Unexpected(other)),
        }
        Ok(())
    }
}
