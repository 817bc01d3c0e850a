//! A limit for the connections of a user: who is asked about, when, and what an answer does.

use std::time::Duration;

use super::cluster::*;
use crate::limits::Limits;
use crate::shard::Admission;

const VERIFY: Admission = Admission::Verify { anonymous: true };

fn cluster(shards: u16) -> Cluster {
    let limits = Limits {
        connections_per_user_max: 2,
        ..Limits::default()
    };
    Cluster::with_limits(shards, &limits)
}

/// Whether a name was proved by a password or below MQTT; on the client's own shard, and once.
#[test]
fn whoever_is_known_is_asked_about_before_anything_of_its_session_is_touched() {
    for shards in [1, 3] {
        let mut cluster = cluster(shards);
        for home in 0..shards {
            let id = cluster.client_id_on(home, "device");
            let by_password = cluster.open_as(VERIFY);
            cluster.send(by_password, &connect_by(&id, false, "ann", Some("ann")));
            cluster.settle();
            assert!(cluster.entering().is_empty(), "nobody knows who it is");
            cluster.answer("ann");
            cluster.settle();
            assert_eq!(cluster.entering(), [format!("ann/{id}")]);
            assert_eq!(cluster.take(by_password), []);
            cluster.enter(true);
            cluster.settle();
            assert_eq!(cluster.take(by_password), [Seen::ConnAck(false, 0)]);

            let by_certificate = cluster.open_as(VERIFY);
            cluster.identify(by_certificate, "bob");
            cluster.send(by_certificate, &connect_by(&id, false, "ann", Some("ann")));
            cluster.send(by_certificate, &subscribe_bytes(1, &[("t", 0)]));
            cluster.settle();
            assert_eq!(cluster.entering(), [format!("bob/{id}")]);
            assert!(!cluster.is_closed(by_password), "nobody is taken over before");
            cluster.enter(true);
            cluster.settle();
            assert!(cluster.is_closed(by_password));
            assert_eq!(
                cluster.take(by_certificate),
                [Seen::ConnAck(true, 0), Seen::SubAck(1, vec![0])]
            );
        }
        assert!(cluster.asked().is_empty() && cluster.entering().is_empty());
        cluster.check_quiet();
    }
}

#[test]
fn who_has_no_room_is_refused_with_3_and_takes_nobody_over() {
    let mut cluster = cluster(2);
    let owner = cluster.connect("device", false);
    let refused = cluster.open_as(Admission::known("ann".into()));
    cluster.send(refused, &connect_bytes("device", true, 0));
    cluster.settle();
    cluster.enter(false);
    cluster.settle();
    assert_eq!(cluster.take(refused), [Seen::ConnAck(false, 3)]);
    assert!(cluster.is_closed(refused) && !cluster.is_closed(owner));
    let stats = cluster.stats();
    assert_eq!((stats.refused, stats.limited, stats.takeovers), (1, 1, 0));
    cluster.check_quiet();
}

/// Clients without a name, and all where there is no limit.
#[test]
fn whoever_does_not_count_is_not_asked_about() {
    let mut limited = cluster(1);
    limited.connect("open", true);
    let anonymous = limited.open_as(VERIFY);
    limited.send(anonymous, &connect_bytes("anonymous", true, 0));
    limited.settle();
    assert_eq!(limited.take(anonymous), [Seen::ConnAck(false, 0)]);
    let mut unlimited = Cluster::new(1);
    let known = unlimited.open_as(Admission::known("ann".into()));
    unlimited.send(known, &connect_bytes("known", true, 0));
    unlimited.settle();
    assert_eq!(unlimited.take(known), [Seen::ConnAck(false, 0)]);
    assert!(limited.entering().is_empty() && unlimited.entering().is_empty());
}

/// Its connection is gone, was taken over, or waited for too long.
#[test]
fn a_late_answer_lets_nobody_in() {
    let known = || Admission::known("ann".into());
    let mut cluster = cluster(1);
    let gone = cluster.open_as(known());
    cluster.send(gone, &connect_bytes("gone", false, 0));
    cluster.settle();
    cluster.cut(gone);
    let same_number = cluster.open_as(known());
    cluster.send(same_number, &connect_bytes("other", false, 0));
    cluster.settle();
    assert_eq!(cluster.entering(), ["ann/gone", "ann/other"]);
    cluster.enter(true);
    cluster.settle();
    assert_eq!(cluster.take(same_number), []);
    cluster.advance(Limits::default().connect_timeout + Duration::from_millis(200));
    assert_eq!(cluster.take(same_number), [Seen::ConnAck(false, 3)]);
    cluster.enter(true);
    cluster.settle();
    assert_eq!(cluster.stats().sessions, 0);

    let old = cluster.open_as(VERIFY);
    cluster.send(old, &connect_by("device", false, "ann", Some("ann")));
    let new = cluster.open_as(VERIFY);
    cluster.send(new, &connect_by("device", false, "bob", Some("bob")));
    cluster.settle();
    // The older CONNECT is verified last, and is the older one all the same.
    cluster.answer("bob");
    cluster.answer("ann");
    cluster.settle();
    assert_eq!(cluster.entering(), ["bob/device", "ann/device"]);
    cluster.enter(true);
    cluster.settle();
    assert!(cluster.is_closed(old) && !cluster.is_closed(new));
    cluster.enter(true);
    cluster.settle();
    assert_eq!(cluster.take(old), []);
    assert_eq!(cluster.take(new), [Seen::ConnAck(false, 0)]);
    cluster.check_quiet();
}
