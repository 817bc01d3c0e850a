//! A mistake of the broker's own: a shard panics. Run with `--features planted-faults`, which plants one.

mod common;

use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;

use common::*;

/// Attack 54: what the shard knew may be half changed, so the process ends at once, with all of its shards. None goes on for a part
/// of the clients, nobody waits for an answer that never comes, and whoever watches the process knows.
#[test]
fn a_panic_ends_the_whole_process_at_once() {
    for (shards, panics) in [(1, 0), (3, 0), (3, 2)] {
        let mut broker = Broker::start_with_fault(shards, "PanicAtQos2");
        let mut bystanders: Vec<Client> = (0..shards)
            .map(|shard| broker.connect(&broker.id_on(shard, "bystander")))
            .collect();
        for bystander in &mut bystanders {
            bystander.publish("t", "x", 1);
        }
        let mut unlucky = broker.connect(&broker.id_on(panics, "unlucky"));
        unlucky.send(publish("t", "x").qos(2, 1).encode());
        let status = broker.process().wait();
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
        for mut client in bystanders.into_iter().chain([unlucky]) {
            assert!(
                client.recv_or_close().is_none(),
                "an answer from a broker that has ended"
            );
        }
        TcpStream::connect(broker.addr).expect_err("nobody accepts any more");
        let output = broker.process().output();
        let told = output.contains("a planted fault") && output.contains("publish.rs");
        assert!(told, "what went wrong is not told, and where: {output}");
    }
}
