//! rumqttc, a client that nobody here wrote, driven step by step: it acknowledges, pings and repeats as it likes, and this
//! only waits for what it reports.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, ConnAck, Event, EventLoop, LastWill, MqttOptions, Packet, Publish, QoS, SubscribeReasonCode,
};
use tokio::sync::oneshot;

use super::broker::Broker;
use super::client::{PATIENCE, QUIET};

/// A connected rumqttc client. Dropping it ends the connection without DISCONNECT.
#[derive(Debug)]
pub struct Rumq {
    client: AsyncClient,
    /// What the client received; the end of the channel is the end of the connection.
    incoming: mpsc::Receiver<Packet>,
    /// Messages that came while something else was awaited.
    messages: VecDeque<Publish>,
    stop: Option<oneshot::Sender<()>>,
    event_loop: Option<JoinHandle<()>>,
}

/// What a message is about, without what differs from one delivery to the next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
}

/// A message that is not retained.
pub fn message(topic: &str, payload: impl AsRef<[u8]>, qos: QoS) -> Message {
    Message {
        topic: topic.to_owned(),
        payload: payload.as_ref().to_vec(),
        qos,
        retain: false,
    }
}

/// All of QoS 0, 1 and 2.
pub const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

impl Broker {
    /// A rumqttc client with Clean Session 1.
    pub fn rumq(&self, id: &str) -> Rumq {
        self.rumq_with(id, |_| {}).0
    }

    /// A rumqttc client with Clean Session 0, and Session Present.
    pub fn rumq_resume(&self, id: &str) -> (Rumq, bool) {
        self.rumq_with(id, |options| {
            options.set_clean_session(false);
        })
    }

    /// A rumqttc client with Clean Session 1 and a will.
    pub fn rumq_will(&self, id: &str, topic: &str, payload: &str, qos: QoS, retain: bool) -> Rumq {
        self.rumq_with(id, |options| {
            options.set_last_will(LastWill::new(topic, payload, qos, retain));
        })
        .0
    }

    /// A rumqttc client with these options, and Session Present.
    pub fn rumq_with(&self, id: &str, set: impl FnOnce(&mut MqttOptions)) -> (Rumq, bool) {
        let mut options = MqttOptions::new(id, self.addr.ip().to_string(), self.addr.port());
        options
            .set_keep_alive(Duration::from_secs(30))
            .set_max_packet_size(4 << 20, 4 << 20);
        set(&mut options);
        Rumq::connect(options)
    }
}

impl Rumq {
    fn connect(options: MqttOptions) -> (Rumq, bool) {
        let (client, event_loop) = AsyncClient::new(options, 4_096);
        let (report, incoming) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let event_loop = thread::spawn(move || run(event_loop, &report, stopped));
        let mut rumq = Rumq {
            client,
            incoming,
            messages: VecDeque::new(),
            stop: Some(stop),
            event_loop: Some(event_loop),
        };
        let ConnAck { session_present, code } = rumq.await_packet(|packet| {
            if let Packet::ConnAck(connack) = packet {
                Some(connack.clone())
            } else {
                None
            }
        });
        assert_eq!(code, rumqttc::ConnectReturnCode::Success);
        (rumq, session_present)
    }

    /// Subscribes and waits for the SUBACK, which must grant this QoS.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.try_subscribe(filter, qos).expect("room for a request");
        let codes = self.await_packet(|packet| match packet {
            Packet::SubAck(suback) => Some(suback.return_codes.clone()),
            _ => None,
        });
        assert_eq!(codes, [SubscribeReasonCode::Success(qos)]);
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        self.client.try_unsubscribe(filter).expect("room for a request");
        self.await_packet(|packet| matches!(packet, Packet::UnsubAck(_)).then_some(()));
    }

    /// Publishes, and waits for the last acknowledgement of this QoS.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
        self.hand_over(topic, payload.as_ref(), qos, false);
    }

    /// Publishes with RETAIN, and waits for the last acknowledgement of this QoS.
    pub fn retain(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
        self.hand_over(topic, payload.as_ref(), qos, true);
    }

    fn hand_over(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
        self.client
            .try_publish(topic, qos, retain, payload)
            .expect("room for a request");
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.await_packet(|packet| matches!(packet, Packet::PubAck(_)).then_some(())),
            QoS::ExactlyOnce => self.await_packet(|packet| matches!(packet, Packet::PubComp(_)).then_some(())),
        }
    }

    /// The next message.
    pub fn recv(&mut self) -> Message {
        self.recv_within(PATIENCE).expect("a message")
    }

    /// The next message must be this one.
    pub fn expect(&mut self, want: &Message) {
        let got = self.recv();
        // Printing a megabyte helps nobody.
        assert_eq!(got.payload.len(), want.payload.len(), "bytes in {}", got.topic);
        assert!(got.payload == want.payload, "the payload of {} is another", got.topic);
        assert_eq!((&got.topic, got.qos, got.retain), (&want.topic, want.qos, want.retain));
    }

    /// The next message, if one comes in this time.
    pub fn recv_within(&mut self, time: Duration) -> Option<Message> {
        let deadline = Instant::now() + time;
        while self.messages.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.incoming.recv_timeout(left) {
                Ok(Packet::Publish(publish)) => self.messages.push_back(publish),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return None,
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the connection has ended"),
            }
        }
        let Publish {
            topic,
            payload,
            qos,
            retain,
            ..
        } = self.messages.pop_front()?;
        Some(Message {
            topic,
            payload: payload.to_vec(),
            qos,
            retain,
        })
    }

    /// No message comes for a moment.
    pub fn expect_silence(&mut self) {
        if let Some(Message { topic, payload, .. }) = self.recv_within(QUIET) {
            panic!("instead of silence: {topic} with {} bytes", payload.len());
        }
    }

    /// Waits until the broker has ended the connection.
    pub fn await_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .incoming
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the connection does not end"),
            }
        }
    }

    /// DISCONNECT, and waits until the connection has ended.
    pub fn disconnect(mut self) {
        self.client.try_disconnect().expect("room for a request");
        self.await_end();
    }

    /// Waits for a packet that `wanted` takes; messages are kept for later.
    fn await_packet<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let packet = self.incoming.recv_timeout(left).expect("an answer from the broker");
            if let Some(found) = wanted(&packet) {
                return found;
            }
            if let Packet::Publish(publish) = packet {
                self.messages.push_back(publish);
            }
        }
    }
}

impl Drop for Rumq {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(event_loop) = self.event_loop.take() {
            let _ = event_loop.join();
        }
    }
}

/// Polls until the connection ends or the test lets go of it; never connects a second time.
fn run(mut event_loop: EventLoop, report: &mpsc::Sender<Packet>, mut stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                event = event_loop.poll() => match event {
                    Ok(Event::Incoming(packet)) => drop(report.send(packet)),
                    Ok(Event::Outgoing(_)) => {}
                    Err(_) => return,
                },
            }
        }
    });
}
