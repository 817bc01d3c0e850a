use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::message::{Message, Origin};
use crate::topic::TopicName;

fn queued(qos: QoS) -> Queued {
    let topic = TopicName::from_checked("t");
    let message = Arc::new(Message::new(topic, b"data", None, qos, false, Origin::default()));
    Queued {
        message,
        message_id: 0,
        group: None,
        qos,
        retain: false,
    }
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// [MQTT-4.3.2-1]
#[test]
fn a_qos_1_message_waits_for_puback() {
    let mut outbound = Outbound::default();
    let first = outbound.send(queued(QoS::AtLeastOnce));
    assert_eq!(outbound.unacknowledged(), 1);
    assert!(matches!(
        outbound.on_pubcomp(first),
        Acknowledged::Wrong(SentState::PubAck)
    ));
    assert_eq!(outbound.on_pubrec(first), Received::Wrong(SentState::PubAck));
    assert!(matches!(outbound.on_puback(first), Acknowledged::Done(0)));
    assert!(matches!(outbound.on_puback(first), Acknowledged::Unknown));
    outbound.check_invariants();
}

/// [MQTT-4.3.3-1]
#[test]
fn a_qos_2_message_is_forgotten_at_pubrec_and_done_at_pubcomp() {
    let mut outbound = Outbound::default();
    let first = outbound.send(queued(QoS::ExactlyOnce));
    assert!(matches!(
        outbound.on_puback(first),
        Acknowledged::Wrong(SentState::PubRec)
    ));
    assert!(matches!(
        outbound.on_pubcomp(first),
        Acknowledged::Wrong(SentState::PubRec)
    ));
    assert_eq!(outbound.on_pubrec(first), Received::First);
    assert!(outbound.unfinished().all(|(_, sent)| sent.message.is_none()));
    assert_eq!(outbound.on_pubrec(first), Received::Repeat);
    assert!(matches!(outbound.on_pubcomp(first), Acknowledged::Done(0)));
    assert_eq!(outbound.on_pubrec(first), Received::Unknown);
    outbound.check_invariants();
}

/// [MQTT-4.4.0-1]
#[test]
fn what_is_unfinished_keeps_its_order_and_identifiers() {
    let mut outbound = Outbound::default();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        outbound.send(queued(qos));
    }
    let _ = outbound.on_puback(id(3));
    let _ = outbound.on_pubrec(id(4));
    let left: Vec<_> = outbound
        .unfinished()
        .map(|(id, sent)| (id.value(), sent.state))
        .collect();
    assert_eq!(
        left,
        [(1, SentState::PubAck), (2, SentState::PubRec), (4, SentState::PubComp)]
    );
}

/// [MQTT-2.3.1-4]
#[test]
fn identifiers_wrap_from_65535_to_1_and_are_never_0() {
    let mut outbound = Outbound::default();
    for expected in (1..=u16::MAX).chain(1..=10) {
        let given = outbound.send(queued(QoS::AtLeastOnce));
        assert_eq!(given.value(), expected);
        assert!(matches!(outbound.on_puback(given), Acknowledged::Done(_)));
    }
}

/// [MQTT-2.3.1-4]
#[test]
fn an_identifier_in_flight_is_never_given_out_again() {
    let mut outbound = Outbound::default();
    let oldest = outbound.send(queued(QoS::AtLeastOnce));
    let second = outbound.send(queued(QoS::ExactlyOnce));
    for _ in 0..200_000 {
        let given = outbound.send(queued(QoS::AtLeastOnce));
        assert!(given != oldest && given != second);
        assert!(matches!(outbound.on_puback(given), Acknowledged::Done(_)));
    }
    let left: Vec<_> = outbound.unfinished().map(|(id, _)| id).collect();
    assert_eq!(left, [oldest, second]);
    outbound.check_invariants();
    assert_eq!(outbound.on_pubrec(second), Received::First);
    assert!(matches!(outbound.on_puback(oldest), Acknowledged::Done(_)));
    assert!(matches!(outbound.on_pubcomp(second), Acknowledged::Done(_)));
    assert_eq!(outbound.unacknowledged(), 0);
    outbound.check_invariants();
}

#[test]
fn all_but_one_identifier_can_be_in_flight() {
    let mut outbound = Outbound::default();
    let mut given = std::collections::BTreeSet::new();
    while outbound.has_room(u16::MAX) {
        assert!(given.insert(outbound.send(queued(QoS::AtLeastOnce))));
    }
    assert_eq!(given.len(), usize::from(u16::MAX) - 1);
    let _ = outbound.on_puback(id(40_000));
    assert!(outbound.has_room(u16::MAX));
    assert_eq!(outbound.send(queued(QoS::AtLeastOnce)), id(65_535));
    let _ = outbound.on_puback(id(50_000));
    assert_eq!(outbound.send(queued(QoS::AtLeastOnce)), id(40_000));
    outbound.check_invariants();
}

#[test]
fn qos_0_overtakes_only_what_waits_for_the_window() {
    let mut outbound = Outbound::default();
    outbound.push(queued(QoS::AtLeastOnce));
    assert!(outbound.qos0_may_overtake());
    outbound.push(Queued {
        retain: true,
        ..queued(QoS::AtLeastOnce)
    });
    assert!(!outbound.qos0_may_overtake());
    outbound.pop();
    assert!(!outbound.qos0_may_overtake());
    outbound.pop();
    outbound.push(queued(QoS::AtMostOnce));
    assert!(!outbound.qos0_may_overtake());
}

#[test]
fn what_came_through_a_group_is_taken_unless_the_client_may_have_it() {
    let group = GroupRef { index: 1, tag: 2 };
    let shared = |qos| Queued {
        group: Some(group),
        ..queued(qos)
    };
    let mut outbound = Outbound::default();
    outbound.send(shared(QoS::AtLeastOnce));
    outbound.send(shared(QoS::ExactlyOnce));
    let received = outbound.send(shared(QoS::ExactlyOnce));
    let _ = outbound.on_pubrec(received);
    outbound.send(queued(QoS::AtLeastOnce));
    outbound.push(shared(QoS::AtLeastOnce));
    outbound.push(queued(QoS::AtLeastOnce));

    let mut unsubscribed = Outbound {
        queue: outbound.queue.clone(),
        window: outbound.window.clone(),
        ..outbound
    };
    assert_eq!(unsubscribed.take_shared(|of| of == group, false, false).len(), 1);
    assert_eq!(unsubscribed.unacknowledged(), 4);
    assert_eq!(unsubscribed.take_shared(|of| of == group, true, false).len(), 1);
    assert_eq!(unsubscribed.take_shared(|of| of == group, true, true).len(), 1);
    assert_eq!((unsubscribed.queued(), unsubscribed.unacknowledged()), (1, 2));
    unsubscribed.check_invariants();
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(bool),
    Ack(usize),
    Resume,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        any::<bool>().prop_map(Step::Send),
        any::<usize>().prop_map(Step::Ack),
        Just(Step::Resume)
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    /// [MQTT-2.3.1-4] A session agrees with its model, across the wrap of identifiers.
    #[test]
    fn the_window_agrees_with_a_map(start in 1u16.., steps in steps()) {
        let mut outbound = Outbound { next_id: start, ..Outbound::default() };
        let mut model: BTreeMap<u64, (PacketId, SentState)> = BTreeMap::new();
        let mut sent = 0;
        for step in steps {
            match step {
                Step::Send(exactly_once) => {
                    if !outbound.has_room(50) {
                        continue;
                    }
                    let qos = if exactly_once { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                    let given = outbound.send(queued(qos));
                    prop_assert!(model.values().all(|(used, _)| *used != given));
                    let state = if exactly_once { SentState::PubRec } else { SentState::PubAck };
                    model.insert(sent, (given, state));
                    sent += 1;
                }
                Step::Ack(nth) if !model.is_empty() => {
                    let nth = *model.keys().nth(nth % model.len()).unwrap();
                    let (given, state) = model[&nth];
                    match state {
                        SentState::PubAck => {
                            prop_assert!(matches!(outbound.on_puback(given), Acknowledged::Done(_)));
                            model.remove(&nth);
                        }
                        SentState::PubRec => {
                            prop_assert_eq!(outbound.on_pubrec(given), Received::First);
                            model.insert(nth, (given, SentState::PubComp));
                        }
                        _ => {
                            prop_assert!(matches!(outbound.on_pubcomp(given), Acknowledged::Done(_)));
                            model.remove(&nth);
                        }
                    }
                }
                _ => {
                    let left: Vec<_> = outbound.unfinished().map(|(id, sent)| (id, sent.state)).collect();
                    prop_assert_eq!(left, model.values().copied().collect::<Vec<_>>());
                }
            }
            outbound.check_invariants();
        }
    }
}
