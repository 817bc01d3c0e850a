//! What happened, in words, if anybody wants to read it.

use crate::codec::{Packet, decode};

/// The story of a run. Costs nothing while it is off.
#[derive(Debug, Default)]
pub(super) struct Trace {
    on: bool,
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(on: bool) -> Trace {
        Trace { on, lines: Vec::new() }
    }

    pub(super) fn note(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.on {
            let line = format!("{now:>8} {}", line());
            eprintln!("{line}");
            self.lines.push(line);
        }
    }

    pub(super) fn packet(&mut self, now: u64, socket: usize, shard: usize, arrow: &str, frame: &[u8]) {
        self.note(now, || {
            format!("socket {socket} {arrow} shard {shard}  {}", packet_text(frame))
        });
    }
}

fn packet_text(frame: &[u8]) -> String {
    let Ok(Some(decoded)) = decode(frame, usize::MAX) else {
        return format!("{frame:?}");
    };
    match &decoded.packet {
        Packet::Publish(publish) => {
            let payload = &publish.payload[..publish.payload.len().min(8)];
            let (dup, retain) = (
                if publish.dup { " DUP" } else { "" },
                if publish.retain { " RETAIN" } else { "" },
            );
            let id = publish.packet_id.map_or(String::new(), |id| format!(" id {id}"));
            let (qos, topic) = (publish.qos as u8, publish.topic);
            format!(
                "PUBLISH {topic} = {:?} QoS {qos}{id}{dup}{retain}",
                String::from_utf8_lossy(payload)
            )
        }
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> = subscribe
                .filters
                .iter()
                .map(|(filter, qos)| (filter, qos as u8))
                .collect();
            format!("SUBSCRIBE id {} {filters:?}", subscribe.packet_id)
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe.filters.iter().collect();
            format!("UNSUBSCRIBE id {} {filters:?}", unsubscribe.packet_id)
        }
        packet => format!("{packet:?}"),
    }
}
