//! What is known of shards, clients and retained messages, as JSON; and what an operator does to them.
//!
//! ```text
//! GET    /api/shards            every shard's numbers
//! GET    /api/clients           a page of clients: prefix, contains, connected, limit, after
//! GET    /api/slowest           the clients for which most is held: limit
//! GET    /api/clients/ID        one client, and some of its subscriptions: subscriptions_after
//! DELETE /api/clients/ID        ends its connection
//! GET    /api/retained/TOPIC    the payload
//! DELETE /api/retained/TOPIC    removes it
//! POST   /api/reload            reads settings and files again, as SIGHUP; what came of it
//! POST   /api/trace             follows a client or a topic: see `trace`
//! ```
//! `ID` and `TOPIC` are percent-encoded; slashes of a topic may stand as they are. A search looks at shard after shard, page by
//! page, and ends after [`SEARCH_TIME`] with what it has and where to go on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use ringmq_shard::error::DropReason;
use ringmq_shard::hash;
use ringmq_shard::session::SubscriptionKey;
use ringmq_shard::shard::{ClientDetail, ClientQuery, ClientSummary, Kicked, ShardId};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::info;

use super::routes::{Answer, App, body, not_allowed, text};
use super::shards::{ShardState, Silent};
use crate::runtime::question::{Question, Topic};
use crate::transport::Peer;

impl App {
    /// `path` is what follows `/api/`.
    pub(super) async fn api(&self, method: &Method, path: &str, query: &str) -> Answer {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let deletes = *method == Method::DELETE;
        let answer = match path.split_once('/') {
            None if matches!(path, "reload" | "trace") && *method != Method::POST => return not_allowed("POST"),
            None if path == "reload" => self.reload().await,
            None if path == "trace" => self.trace(query).await,
            None if !reads => return not_allowed("GET, HEAD"),
            None => match path {
                "shards" => Ok(self.all_shards().await),
                "clients" => self.clients(query).await,
                "slowest" => self.slowest(query).await,
                _ => Err(Refusal::NotFound("there is nothing here")),
            },
            Some(("clients" | "retained", _)) if !reads && !deletes => return not_allowed("GET, HEAD, DELETE"),
            Some(("clients", id)) => match decoded(id) {
                Ok(id) if deletes => self.kick(id).await,
                Ok(id) => self.client(id, query).await,
                Err(refusal) => Err(refusal),
            },
            Some(("retained", topic)) => match decoded(topic).and_then(as_topic) {
                Ok(topic) if deletes => self.clear_retained(topic).await,
                Ok(topic) => self.retained(topic).await,
                Err(refusal) => Err(refusal),
            },
            Some(_) => Err(Refusal::NotFound("there is nothing here")),
        };
        answer.unwrap_or_else(Refusal::into_answer)
    }

    async fn all_shards(&self) -> Answer {
        let shards = self.shards.numbers().await;
        let shards: Vec<Value> = shards.iter().enumerate().map(shard).collect();
        answer(&json!({
            "version": crate::VERSION,
            "started_at": self.admin.facts().started_at,
            "connections_max": self.admin.facts().connections_max,
            "memory_bytes_max": self.admin.facts().memory_bytes_max,
            "sockets_accepted": self.reports.accepted.load(Ordering::Relaxed),
            "sockets_rejected": self.reports.rejected().iter().sum::<u64>(),
            "shards": shards,
        }))
    }

    async fn clients(&self, query: &str) -> Result<Answer, Refusal> {
        let (mut wanted, mut at) = (ClientQuery::default(), (0, 0));
        let mut limit = CLIENTS_DEFAULT;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "prefix" => wanted.prefix = value.into(),
                "contains" => wanted.contains = value.into(),
                "connected" => wanted.connected = Some(number_or(&value, "connected must be true or false")?),
                "limit" => limit = limit_of(&value)?,
                "after" => at = cursor(&value).ok_or(Refusal::Invalid("after must be next of an earlier page"))?,
                _ => {
                    return Err(Refusal::Invalid(
                        "clients takes prefix, contains, connected, limit and after",
                    ));
                }
            }
        }
        let until = Instant::now() + SEARCH_TIME;
        let (mut clients, mut text_bytes) = (Vec::new(), 0);
        while at.0 < self.shards.len() && clients.len() < limit && text_bytes < TEXT_BYTES_MAX && Instant::now() < until
        {
            wanted.from = at.1;
            wanted.clients_max = limit - clients.len();
            let wanted = wanted.clone();
            let (page, peers) = self
                .shards
                .ask(ShardId(at.0), |reply| Question::Clients(wanted, reply))
                .await?;
            for (client, peer) in page.clients.iter().zip(peers) {
                text_bytes += client.client_id.len();
                clients.push(Client::new(at.0, client, peer));
            }
            at = page.next.map_or((at.0 + 1, 0), |next| (at.0, next));
        }
        let next = (at.0 < self.shards.len()).then(|| format!("{}.{}", at.0, at.1));
        Ok(answer(&json!({ "clients": clients, "next": next })))
    }

    /// Looks at all sessions, so the answer is kept for a moment: many who watch cost no more than one.
    async fn slowest(&self, query: &str) -> Result<Answer, Refusal> {
        let mut limit = SLOWEST_MAX;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "limit" => limit = limit_of(&value)?.min(SLOWEST_MAX),
                _ => return Err(Refusal::Invalid("slowest takes limit")),
            }
        }
        let known = self
            .slowest
            .borrow()
            .clone()
            .filter(|(at, _)| at.elapsed() < SLOWEST_KEPT);
        let (clients, complete) = match known {
            Some((_, known)) => known,
            None => {
                let found = self.find_slowest().await?;
                *self.slowest.borrow_mut() = Some((Instant::now(), found.clone()));
                found
            }
        };
        let clients = &clients[..limit.min(clients.len())];
        Ok(answer(&json!({ "clients": clients, "complete": complete })))
    }

    /// The clients for which most is held, and whether all sessions were looked at.
    async fn find_slowest(&self) -> Result<Slowest, Refusal> {
        let until = Instant::now() + SEARCH_TIME;
        let mut found: Vec<Client> = Vec::new();
        let states = self.shards.numbers().await;
        let all_up = states.iter().all(|state| state.up);
        // Where nothing is held, nobody is slow; most of the time that is everywhere.
        let holding = (0..)
            .zip(&states)
            .filter(|(_, state)| state.up && state.numbers.stats.memory_bytes > 0);
        for shard in holding.map(|(shard, _)| shard) {
            let mut from = Some(0);
            while let Some(place) = from {
                if Instant::now() >= until {
                    return Ok((found, false));
                }
                let wanted = ClientQuery {
                    held_bytes_min: found.get(SLOWEST_MAX - 1).map_or(1, |least| least.held_bytes + 1),
                    from: place,
                    clients_max: CLIENTS_MAX,
                    ..ClientQuery::default()
                };
                let (page, peers) = self
                    .shards
                    .ask(ShardId(shard), |reply| Question::Clients(wanted, reply))
                    .await?;
                let clients = page.clients.iter().zip(peers);
                found.extend(clients.map(|(client, peer)| Client::new(shard, client, peer)));
                found.sort_by_key(|client| std::cmp::Reverse(client.held_bytes));
                found.truncate(SLOWEST_MAX);
                from = page.next;
            }
        }
        Ok((found, all_up))
    }

    async fn client(&self, id: String, query: &str) -> Result<Answer, Refusal> {
        let mut from = None;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = value.parse().ok().filter(|_| key == "subscriptions_after");
            let key = number.and_then(SubscriptionKey::from_number);
            from = Some(key.ok_or(Refusal::Invalid("subscriptions_after must be next of an earlier page"))?);
        }
        let home = self.home(&id);
        let found = self.shards.ask(home, |reply| Question::Client(id, from, reply)).await?;
        let (client, peer) = found.ok_or(NO_CLIENT)?;
        Ok(answer(&Detail::new(home.0, &client, peer)))
    }

    async fn kick(&self, id: String) -> Result<Answer, Refusal> {
        let client = id.clone();
        match self
            .shards
            .ask(self.home(&id), |reply| Question::Kick(id, reply))
            .await?
        {
            Kicked::Closed => {
                info!(client, "closed by an operator");
                Ok(body(StatusCode::NO_CONTENT, JSON, Bytes::new()))
            }
            Kicked::NotConnected => Err(Refusal::Conflict("the client is not connected")),
            Kicked::Unknown => Err(NO_CLIENT),
        }
    }

    /// What came of it, 409 where it was refused.
    async fn reload(&self) -> Result<Answer, Refusal> {
        let (reply, outcome) = self.shards.reply();
        let late = || Refusal::Unavailable("the broker has not answered: see its log".to_owned());
        self.admin.ask_to_reload(reply).map_err(|()| late())?;
        info!("a reload is asked for by an operator");
        match self.shards.wait(&outcome, RELOAD_TIME).await.ok_or_else(late)? {
            Ok(outcome) => Ok(answer(&outcome)),
            Err(why) => Ok(body(StatusCode::CONFLICT, JSON, json!({ "error": why }).to_string())),
        }
    }

    async fn retained(&self, topic: Topic) -> Result<Answer, Refusal> {
        let found = self
            .shards
            .ask(self.owner(&topic), |reply| Question::Retained(topic, reply))
            .await?;
        let message = found.ok_or(NO_RETAINED)?;
        let mut answer = body(StatusCode::OK, "application/octet-stream", message.payload_shared());
        let headers = answer.headers_mut();
        // A client wrote it: no browser is to make more of it than bytes.
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
        headers.insert("ringmq-qos", HeaderValue::from(message.qos as u16));
        Ok(answer)
    }

    async fn clear_retained(&self, topic: Topic) -> Result<Answer, Refusal> {
        let name = topic.as_str().to_owned();
        if name.starts_with('$') {
            return Err(Refusal::Forbidden("topics of the broker itself are not removed"));
        }
        match self
            .shards
            .ask(self.owner(&topic), |reply| Question::ClearRetained(topic, reply))
            .await?
        {
            Ok(true) => {
                info!(topic = name, "retained message removed by an operator");
                Ok(body(StatusCode::NO_CONTENT, JSON, Bytes::new()))
            }
            Ok(false) => Err(NO_RETAINED),
            Err(_) => Err(Refusal::Unavailable("the store refuses it".to_owned())),
        }
    }

    fn home(&self, client_id: &str) -> ShardId {
        hash::home(client_id, self.shards.len(), self.admin.facts().placement_seed)
    }

    fn owner(&self, topic: &Topic) -> ShardId {
        hash::retained_owner(topic.as_str(), self.shards.len(), self.admin.facts().placement_seed)
    }
}

/// The clients for which most is held, and whether all sessions were looked at.
pub(super) type Slowest = (Vec<Client>, bool);

/// One client in a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Client {
    client_id: String,
    shard: u16,
    connected: bool,
    /// Where it is connected from, as the log says it.
    peer: Option<String>,
    clean_session: bool,
    subscriptions: usize,
    queued: usize,
    inflight: usize,
    output_bytes: usize,
    held_bytes: usize,
    held_back: bool,
    over_rate: bool,
}

impl Client {
    fn new(shard: u16, client: &ClientSummary, peer: Option<Peer>) -> Client {
        Client {
            client_id: (*client.client_id).to_owned(),
            shard,
            connected: client.conn.is_some(),
            peer: peer.map(|peer| peer.to_string()),
            clean_session: client.clean,
            subscriptions: client.subscriptions,
            queued: client.queued,
            inflight: client.inflight,
            output_bytes: client.output_bytes,
            held_bytes: client.held_bytes,
            held_back: client.held_back,
            over_rate: client.over_rate,
        }
    }
}

/// One client by itself.
#[derive(Debug, Serialize)]
struct Detail {
    #[serde(flatten)]
    client: Client,
    user_name: Option<String>,
    keep_alive_seconds: u16,
    silent_seconds: u64,
    inbound_qos2: usize,
    will_topic: Option<String>,
    subscription_list: Vec<Value>,
    /// For `subscriptions_after`.
    next: Option<String>,
}

impl Detail {
    fn new(shard: u16, client: &ClientDetail, peer: Option<Peer>) -> Detail {
        let subscriptions = client.subscriptions.iter();
        Detail {
            client: Client::new(shard, &client.summary, peer),
            user_name: client.user_name.as_deref().map(str::to_owned),
            keep_alive_seconds: client.keep_alive,
            silent_seconds: client.silence.as_secs(),
            inbound_qos2: client.inbound,
            will_topic: client.will_topic.as_deref().map(str::to_owned),
            subscription_list: subscriptions
                .map(|it| json!({ "filter": it.filter, "qos": it.qos.map(|qos| qos as u8) }))
                .collect(),
            next: client.next.map(|key| key.to_number().to_string()),
        }
    }
}

fn shard((id, state): (usize, &ShardState)) -> Value {
    let (numbers, stats) = (&state.numbers, &state.numbers.stats);
    let dropped = DropReason::ALL.map(|reason| (reason.label().to_owned(), Value::from(stats.dropped_for(reason))));
    json!({
        "shard": id,
        "up": state.up,
        "connections": stats.connections,
        "clients": stats.connected,
        "sessions": stats.sessions,
        "subscriptions": stats.subscriptions,
        "retained": stats.retained,
        "retained_bytes": stats.retained_bytes,
        "queued": stats.queued,
        "inflight": stats.inflight,
        "memory_bytes": stats.memory_bytes,
        "inbox": numbers.inbox,
        "messages_received": stats.publish_received.iter().sum::<u64>(),
        "messages_sent": stats.publish_sent.iter().sum::<u64>(),
        "messages_forwarded": stats.messages_forwarded,
        "bytes_received": stats.bytes_received,
        "bytes_sent": stats.bytes_sent,
        "dropped": dropped.into_iter().collect::<serde_json::Map<_, _>>(),
        "publishers_slowed": stats.slowed,
        "publishers_rate_limited": stats.rate_limited,
        "turns": numbers.turns,
        "sleeps": numbers.sleeps,
        // Entry n: turns with work that took less than 2^n µs, and not less than half of that.
        "turn_times": numbers.turn_times.buckets().map(|(_, count)| count).collect::<Vec<_>>(),
    })
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    Invalid(&'static str),
    Forbidden(&'static str),
    NotFound(&'static str),
    Conflict(&'static str),
    Unavailable(String),
}

impl From<Silent> for Refusal {
    fn from(silent: Silent) -> Refusal {
        Refusal::Unavailable(silent.to_string())
    }
}

impl Refusal {
    fn into_answer(self) -> Answer {
        match self {
            Refusal::Invalid(why) => text(StatusCode::BAD_REQUEST, why),
            Refusal::Forbidden(why) => text(StatusCode::FORBIDDEN, why),
            Refusal::NotFound(what) => text(StatusCode::NOT_FOUND, what),
            Refusal::Conflict(why) => text(StatusCode::CONFLICT, why),
            Refusal::Unavailable(why) => text(StatusCode::SERVICE_UNAVAILABLE, &why),
        }
    }
}

fn answer(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).expect("numbers and texts, and keys are texts");
    body(StatusCode::OK, JSON, text)
}

fn decoded(part: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(part).decode_utf8();
    let decoded = decoded.map_err(|_| Refusal::Invalid("what follows the last / must be UTF-8"))?;
    Ok(decoded.into_owned())
}

fn as_topic(name: String) -> Result<Topic, Refusal> {
    Topic::new(name).map_err(|_| Refusal::Invalid("what follows the / must be a Topic Name"))
}

/// `SHARD.PLACE`.
fn cursor(text: &str) -> Option<(u16, u32)> {
    let (shard, place) = text.split_once('.')?;
    Some((shard.parse().ok()?, place.parse().ok()?))
}

fn limit_of(text: &str) -> Result<usize, Refusal> {
    let limit = number_or(text, LIMIT)?;
    if (1..=CLIENTS_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Refusal::Invalid(LIMIT))
    }
}

pub(super) fn number_or<T: std::str::FromStr>(text: &str, why: &'static str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Refusal::Invalid(why))
}

/// Files are read and compiled meanwhile; shorter than a request may take.
const RELOAD_TIME: Duration = Duration::from_secs(8);
const JSON: &str = "application/json";
const LIMIT: &str = "limit must be 1 to 1000";
const NO_CLIENT: Refusal = Refusal::NotFound("no client has this Client Identifier");
const NO_RETAINED: Refusal = Refusal::NotFound("this topic has no retained message");
/// In a page, unless asked for otherwise.
const CLIENTS_DEFAULT: usize = 100;
/// In a page.
const CLIENTS_MAX: usize = 1_000;
/// Identifiers in one answer; each may have 64 KiB.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// How long a search goes on before it answers with what it has.
const SEARCH_TIME: Duration = Duration::from_secs(2);
/// Clients in the list of the slowest.
const SLOWEST_MAX: usize = 50;
/// How long that list is good.
const SLOWEST_KEPT: Duration = Duration::from_secs(1);
