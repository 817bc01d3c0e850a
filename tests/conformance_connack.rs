//! CONNACK, chapter 3.2: it comes first, and says truly whether a session was present.

mod common;

use common::*;

/// Session state could be sent before the CONNACK by a broker that hurries. [MQTT-3.2.0-1]
#[test]
fn connack_precedes_what_the_session_holds() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.resume("sub");
        subscriber.subscribe("t", 1);
        subscriber.disconnect();
        let mut publisher = broker.connect("pub");
        for n in 0..5_u8 {
            publisher.publish("t", [n], 1);
        }
        let (mut subscriber, session_present) = broker.resume("sub");
        assert!(session_present);
        for n in 0..5_u8 {
            subscriber.expect_message("t", [n], 1);
        }
    });
}

/// [MQTT-3.2.2-1] [MQTT-3.1.4-3]
#[test]
fn clean_session_has_no_session_present() {
    each_broker(|broker| {
        assert!(!broker.connect_as(&Connect::new("sub")).1);
        let (mut client, _) = broker.resume("sub");
        client.subscribe("t", 1);
        client.disconnect();
        assert!(!broker.connect_as(&Connect::new("sub")).1);
    });
}

/// [MQTT-3.2.2-2] [MQTT-3.1.4-3]
#[test]
fn stored_session_is_present() {
    each_broker(|broker| {
        broker.resume("sub").0.disconnect();
        let (client, session_present) = broker.resume("sub");
        assert!(session_present, "after DISCONNECT");
        client.vanish();
        let (_connected, session_present) = broker.resume("sub");
        assert!(session_present, "after a failure");
        let (_client, session_present) = broker.resume("sub");
        assert!(session_present, "at a takeover");
    });
}

/// [MQTT-3.2.2-3] [MQTT-3.1.4-3]
#[test]
fn no_session_is_present_where_none_was_stored() {
    each_broker(|broker| {
        assert!(!broker.resume("sub").1, "the first time");
        broker.connect("sub").disconnect();
        assert!(!broker.resume("sub").1, "after a clean session");
        let clean = broker.connect("pub");
        assert!(!broker.resume("pub").1, "at a takeover from a clean session");
        drop(clean);
    });
}
