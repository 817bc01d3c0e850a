//! `ringmq sub`: the receiver's side of QoS 1 and 2 (section 4.3), method B: a message is printed when it comes, and its identifier kept
//! until PUBREL, so that it is printed once.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Stdout, Write};
use std::time::{Duration, Instant};

use ringmq_shard::codec::{Packet, PacketId, Publish, QoS, SUBACK_FAILURE, SubAck, encode_subscribe};
use ringmq_shard::topic::{TopicFilter, TopicLimits};

use super::args::SubArgs;
use super::connection::Connection;
use super::error::ClientError;

/// Prints messages until there are enough, or a signal comes.
///
/// # Errors
/// [`ClientError::TimedOut`] if the time of `-W` was over first.
pub(super) fn subscribe(args: &SubArgs) -> Result<(), ClientError> {
    let until = args
        .wait
        .map(|seconds| Instant::now() + Duration::from_secs(u64::from(seconds)));
    let filters = filters(args)?;
    let mut connection = Connection::open(&args.connection)?;
    let id = PacketId::new(1).expect("not zero");
    connection.send_by("SUBSCRIBE", |out| encode_subscribe(out, id, &filters));
    let mut receiver = Receiver {
        args,
        held: BTreeSet::new(),
        left: args.count,
        output: BufWriter::new(io::stdout()),
        done: false,
    };
    let mut timed_out = false;
    while !receiver.done {
        while !receiver.done
            && let Some(frame) = connection.next_frame()?
        {
            let packet = connection.packet(&frame)?;
            receiver.on_packet(&packet, &mut connection)?;
        }
        // Before the acknowledgements leave, which is when the connection waits.
        receiver.flush()?;
        if receiver.done || connection.is_interrupted() {
            break;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            timed_out = true;
            break;
        }
        connection.wait(until, None)?;
    }
    finish(receiver, connection)?;
    if timed_out { Err(ClientError::TimedOut) } else { Ok(()) }
}

fn filters(args: &SubArgs) -> Result<Vec<(&str, QoS)>, ClientError> {
    let checked = args.topic.iter().map(|filter| {
        TopicFilter::new(filter, &TopicLimits::default()).map_err(|error| ClientError::Topic {
            topic: filter.clone(),
            error,
        })?;
        Ok((filter.as_str(), args.connection.qos))
    });
    checked.collect()
}

/// Brings QoS 2 messages that were printed to their end, so that a session that stays does not send them again; takes no new ones.
fn finish(mut receiver: Receiver<'_>, mut connection: Connection) -> Result<(), ClientError> {
    let until = Instant::now() + FINISH_TIME;
    loop {
        while let Some(frame) = connection.next_frame()? {
            if let Packet::PubRel(id) = connection.packet(&frame)? {
                receiver.on_pubrel(id, &mut connection);
            }
        }
        if (receiver.held.is_empty() && connection.unsent() == 0) || Instant::now() >= until {
            return connection.close();
        }
        connection.wait(Some(until), None)?;
    }
}

struct Receiver<'a> {
    args: &'a SubArgs,
    /// QoS 2 messages that were printed and not released. No larger than the broker's window.
    held: BTreeSet<PacketId>,
    /// Messages to print until the end; `None`: there is none.
    left: Option<u64>,
    output: BufWriter<Stdout>,
    /// Nothing more is to be printed.
    done: bool,
}

impl Receiver<'_> {
    fn on_packet(&mut self, packet: &Packet<'_>, connection: &mut Connection) -> Result<(), ClientError> {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish, connection),
            Packet::PubRel(id) => {
                self.on_pubrel(*id, connection);
                Ok(())
            }
            Packet::SubAck(suback) => self.on_suback(suback),
            Packet::PingResp => Ok(()),
            other => Err(ClientError::Unexpected(other.name())),
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>, connection: &mut Connection) -> Result<(), ClientError> {
        let is_new = match publish.packet_id {
            Some(id) if publish.qos == QoS::ExactlyOnce => {
                connection.send(&Packet::PubRec(id));
                self.held.insert(id)
            }
            Some(id) => {
                connection.send(&Packet::PubAck(id));
                true
            }
            None => true,
        };
        if !is_new || (publish.retain && self.args.no_retained) {
            return Ok(());
        }
        self.print(publish)?;
        if let Some(left) = &mut self.left {
            *left -= 1;
            self.done |= *left == 0;
        }
        Ok(())
    }

    /// Also for one that is not held: the PUBCOMP was lost then [MQTT-4.3.3-2].
    fn on_pubrel(&mut self, id: PacketId, connection: &mut Connection) {
        self.held.remove(&id);
        connection.send(&Packet::PubComp(id));
    }

    fn on_suback(&mut self, suback: &SubAck<'_>) -> Result<(), ClientError> {
        let refused = |code: &u8| *code == SUBACK_FAILURE;
        if suback.return_codes.iter().all(refused) {
            return Err(ClientError::NotSubscribed);
        }
        for (filter, _) in self
            .args
            .topic
            .iter()
            .zip(suback.return_codes)
            .filter(|it| refused(it.1))
        {
            eprintln!("ringmq: the broker refused the subscription to {filter}");
        }
        self.done |= self.args.end_when_subscribed;
        Ok(())
    }

    fn print(&mut self, publish: &Publish<'_>) -> Result<(), ClientError> {
        let topic = if self.args.verbose { publish.topic } else { "" };
        let space = if self.args.verbose { " " } else { "" };
        let end = if self.args.no_line_end { "" } else { "\n" };
        let parts = [topic.as_bytes(), space.as_bytes(), publish.payload, end.as_bytes()];
        let written = parts.iter().try_for_each(|part| self.output.write_all(part));
        written.map_err(ClientError::Output)
    }

    fn flush(&mut self) -> Result<(), ClientError> {
        self.output.flush().map_err(ClientError::Output)
    }
}

/// For the broker to release what it sent.
const FINISH_TIME: Duration = Duration::from_secs(5);
