//! Following a client or a topic: an answer that goes on, one JSON object per line (NDJSON), until its time is over, its client
//! goes, or the broker stops.
//!
//! ```text
//! POST /api/trace    client=ID or topic=FILTER; seconds, payload, rate
//! ```
//! POST, because it is work for the shards: no page of another origin can ask for it. A reader that does not keep up costs no shard
//! anything: what finds no room is counted, and told as a line `untold`.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Either;
use hyper::StatusCode;
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderValue};
use ringmq_shard::shard::{Followed, FollowedTopic, Listed, ShardId, Trace, TraceId, TracedEvent, TracedPacket};
use serde_json::{Map, Value, json};
use tracing::info;

use super::api::{Refusal, number_or};
use super::routes::{Answer, App};
use super::shards::{ANSWER_TIME, Shards};
use crate::runtime::question::Question;
use crate::runtime::trace::{Follower, TraceRecord};

/// Most seconds of one trace.
pub(crate) const SECONDS_MAX: u64 = 3_600;
/// Unless asked for otherwise: as long as one looks at a screen.
pub(crate) const SECONDS_DEFAULT: u64 = 600;
/// Most bytes told of each payload.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 4_096;
/// Most records per second and shard.
pub(crate) const RATE_MAX: u32 = 10_000;
/// Unless asked for otherwise: more than anybody reads.
pub(crate) const RATE_DEFAULT: u32 = 1_000;

/// Set in an answer that takes longer than others: until when it may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting(pub(super) Instant);

impl App {
    /// Begins to follow on all shards.
    pub(super) async fn trace(&self, query: &str) -> Result<Answer, Refusal> {
        let (mut followed, mut seconds) = (None, SECONDS_DEFAULT);
        let (mut payload_bytes_max, mut records_max) = (0, RATE_DEFAULT);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let what = match &*key {
                "seconds" => {
                    seconds = in_range(&value, 1..=SECONDS_MAX, "seconds must be 1 to 3600")?;
                    continue;
                }
                "payload" => {
                    payload_bytes_max = in_range(&value, 0..=PAYLOAD_BYTES_MAX, "payload must be 0 to 4096")?;
                    continue;
                }
                "rate" => {
                    records_max = in_range(&value, 1..=RATE_MAX, "rate must be 1 to 10000")?;
                    continue;
                }
                "client" if !value.is_empty() => Followed::Client((&*value).into()),
                "topic" => Followed::Topic(
                    FollowedTopic::new(&value).map_err(|_| Refusal::Invalid("topic must be a Topic Filter"))?,
                ),
                _ => return Err(Refusal::Invalid(TAKES)),
            };
            if followed.replace((what, value.into_owned())).is_some() {
                return Err(Refusal::Invalid(TAKES));
            }
        }
        let (followed, name) = followed.ok_or(Refusal::Invalid(TAKES))?;
        let of = if matches!(followed, Followed::Client(_)) {
            "client"
        } else {
            "topic"
        };
        let id = self.next_trace();
        let (feed, follower) = self.shards.feed();
        // Ends on all shards that were asked when it goes, wherever this has come to.
        let mut body = TraceBody {
            shards: Rc::clone(&self.shards),
            asked: 0,
            id,
            follower,
            until: Instant::now() + Duration::from_secs(seconds),
            counted: (0, 0),
            stage: Stage::Following,
        };
        for shard in (0..self.shards.len()).map(ShardId) {
            self.shards.answers(shard)?;
            body.asked += 1;
            let (followed, feed) = (followed.clone(), feed.clone());
            let trace = Trace {
                id,
                followed,
                payload_bytes_max,
                records_max,
            };
            let begun = self
                .shards
                .ask(shard, |reply| Question::Trace(trace, feed, reply))
                .await?;
            begun.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        }
        info!(%of, name, seconds, payload_bytes_max, "an operator follows a client or a topic");
        self.shards.alarms.set(body.until);
        let mut answer = Answer::new(Either::Right(body));
        answer
            .extensions_mut()
            .insert(Lasting(Instant::now() + Duration::from_secs(seconds) + GRACE));
        let content_type = HeaderValue::from_static("application/x-ndjson");
        answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
        debug_assert_eq!(answer.status(), StatusCode::OK);
        Ok(answer)
    }
}

fn in_range<T: PartialOrd + std::str::FromStr>(
    text: &str,
    range: std::ops::RangeInclusive<T>,
    why: &'static str,
) -> Result<T, Refusal> {
    let number = number_or(text, why)?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(Refusal::Invalid(why))
    }
}

/// The lines of one trace.
#[derive(Debug)]
pub(super) struct TraceBody {
    shards: Rc<Shards>,
    /// How many of them have been asked to follow.
    asked: u16,
    id: TraceId,
    follower: Follower,
    until: Instant,
    /// Records told and left out.
    counted: (u64, u64),
    stage: Stage,
}

/// How far a trace has come.
#[derive(Debug)]
enum Stage {
    Following,
    /// The shards have been told to end it: what comes before their answers is told too.
    Ending {
        answers: Vec<flume::Receiver<()>>,
        late: Instant,
    },
    Ended,
}

impl Body for TraceBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let now = Instant::now();
        let all_have_ended = match &self.stage {
            Stage::Following if now >= self.until => {
                let late = now + ANSWER_TIME;
                self.shards.alarms.set(late);
                let answers = self.shards.end_trace(self.id, self.asked);
                self.stage = Stage::Ending { answers, late };
                false
            }
            Stage::Following => false,
            Stage::Ending { answers, late } => {
                now >= *late
                    || answers
                        .iter()
                        .all(|answer| !answer.is_empty() || answer.is_disconnected())
            }
            Stage::Ended => return Poll::Ready(None),
        };
        let mut lines = self.lines();
        if lines.is_empty() {
            if !all_have_ended {
                return Poll::Pending;
            }
            self.stage = Stage::Ended;
            let (told, untold) = self.counted;
            push(&mut lines, &json!({ "event": "end", "told": told, "untold": untold }));
        }
        Poll::Ready(Some(Ok(Frame::data(lines.into()))))
    }
}

impl TraceBody {
    /// What there is to tell, as much as one frame takes.
    fn lines(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        while lines.len() < FRAME_BYTES
            && let Some(record) = self.follower.next()
        {
            self.counted.0 += 1;
            push(&mut lines, &line(&record));
        }
        let untold = self.follower.take_untold();
        if untold > 0 {
            self.counted.1 += untold;
            push(&mut lines, &json!({ "event": "untold", "count": untold }));
        }
        lines
    }
}

impl Drop for TraceBody {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Following) {
            drop(self.shards.end_trace(self.id, self.asked));
        }
    }
}

fn push(lines: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(&mut *lines, value).expect("a Vec takes everything, and keys are texts");
    lines.push(b'\n');
}

fn line(record: &TraceRecord) -> Value {
    let since_epoch = record.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| {
        line.insert(key.to_owned(), value);
    };
    put(
        "unix_ms",
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX).into(),
    );
    put("shard", record.shard.0.into());
    put("client", (*record.traced.client).into());
    match &record.traced.event {
        TracedEvent::Received(packet) | TracedEvent::Sent(packet) => {
            let sent = matches!(record.traced.event, TracedEvent::Sent(_));
            put("event", if sent { "sent" } else { "received" }.into());
            put("packet", packet.name().into());
            if let Some(peer) = record.peer {
                put("peer", peer.to_string().into());
            }
            put_packet(&mut put, packet);
        }
        TracedEvent::Dropped { topic, reason } => {
            put("event", "dropped".into());
            put("topic", (**topic).into());
            put("reason", (*reason).into());
        }
        TracedEvent::Closed(reason) => {
            put("event", "closed".into());
            put("reason", reason.label().into());
            put("detail", reason.to_string().into());
        }
    }
    Value::Object(line)
}

fn put_packet(put: &mut impl FnMut(&str, Value), packet: &TracedPacket) {
    match packet {
        TracedPacket::Connect {
            clean_session,
            keep_alive,
            user_name,
            will_topic,
        } => {
            put("clean_session", (*clean_session).into());
            put("keep_alive", (*keep_alive).into());
            put("user_name", user_name.as_deref().into());
            put("will_topic", will_topic.as_deref().into());
        }
        TracedPacket::ConnAck(connack) => {
            put("session_present", connack.session_present.into());
            put("return_code", (connack.code as u8).into());
        }
        TracedPacket::Publish {
            topic,
            qos,
            retain,
            dup,
            packet_id,
            payload_bytes,
            payload,
        } => {
            put("topic", (**topic).into());
            put("qos", (*qos as u8).into());
            put("retain", (*retain).into());
            put("dup", (*dup).into());
            if let Some(id) = packet_id {
                put("packet_id", id.value().into());
            }
            put("payload_bytes", (*payload_bytes).into());
            if !payload.is_empty() {
                let (key, text) = payload_text(payload, payload.len() < *payload_bytes);
                put(key, text.into());
            }
        }
        TracedPacket::Subscribe(id, filters) => {
            put("packet_id", id.value().into());
            let entry =
                |(filter, qos): &(Box<str>, ringmq_shard::codec::QoS)| json!({ "filter": filter, "qos": *qos as u8 });
            put_list(put, "filters", filters, entry);
        }
        TracedPacket::SubAck(id, codes) => {
            put("packet_id", id.value().into());
            put_list(put, "return_codes", codes, |code| (*code).into());
        }
        TracedPacket::Unsubscribe(id, filters) => {
            put("packet_id", id.value().into());
            put_list(put, "filters", filters, |filter| (**filter).into());
        }
        TracedPacket::Other(_, id) => {
            if let Some(id) = id {
                put("packet_id", id.value().into());
            }
        }
    }
}

/// The first entries of a list; and how many there are, if those are not all.
fn put_list<T>(put: &mut impl FnMut(&str, Value), key: &str, list: &Listed<T>, entry: impl Fn(&T) -> Value) {
    put(key, list.first.iter().map(entry).collect());
    if list.count > list.first.len() {
        put(&format!("{key}_count"), list.count.into());
    }
}

/// Text where it is text, up to a character that was cut; else hexadecimal digits.
fn payload_text(payload: &[u8], is_cut: bool) -> (&'static str, String) {
    match std::str::from_utf8(payload) {
        Ok(text) => ("payload", text.to_owned()),
        Err(error) if is_cut && error.error_len().is_none() => {
            let text = String::from_utf8_lossy(&payload[..error.valid_up_to()]);
            ("payload", text.into_owned())
        }
        Err(_) => {
            let digits = payload.iter().map(|byte| format!("{byte:02x}"));
            ("payload_hex", digits.collect())
        }
    }
}

/// For the last lines, after the time that was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// Some hundred lines.
const FRAME_BYTES: usize = 16 * 1024;
const TAKES: &str = "trace takes client or topic, one of them and once; and seconds, payload and rate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_where_it_is_text() {
        assert_eq!(payload_text("grün".as_bytes(), false), ("payload", "grün".into()));
        // Cut in the middle of a letter.
        assert_eq!(
            payload_text("grü".as_bytes().split_last().unwrap().1, true),
            ("payload", "gr".into())
        );
        assert_eq!(payload_text(b"\xff\x00", false), ("payload_hex", "ff00".into()));
        assert_eq!(payload_text(b"gr\xc3", false), ("payload_hex", "6772c3".into()));
    }
}
