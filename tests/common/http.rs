//! HTTP to the admin listener, byte by byte: one request per connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::broker::Broker;
use super::client::PATIENCE;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Broker {
    /// Where operators ask. The broker must have been started with `--admin-listen`.
    pub fn admin(&self) -> SocketAddr {
        self.await_output(|output| {
            let line = output.lines().find_map(|line| line.strip_prefix("admin on http://"))?;
            Some(line.trim().parse().expect("ADDR:PORT"))
        })
    }

    /// GET without a token.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// A request with these headers beside `Host`.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let admin = self.admin();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        exchange(admin, request.as_bytes()).expect("an answer")
    }

    /// Asks until the answer is as `is_right` says.
    pub fn await_answer(&self, path: &str, is_right: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path);
            if is_right(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} is still {answer:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Reads the metrics until they are as `is_right` says.
    pub fn await_metrics(&self, is_right: impl Fn(&Metrics) -> bool) -> Metrics {
        let answer = self.await_answer("/metrics", |answer| is_right(&Metrics::parse(answer.text())));
        Metrics::parse(answer.text())
    }

    /// The metrics as a parser that nobody here wrote reads them.
    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics::parse(answer.text())
    }
}

/// Sends these bytes and reads to the end; `None` if the connection ends without a whole answer.
pub fn exchange(admin: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).expect("the admin listener accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    // Cut off while it is sent: the answer may be there all the same.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("text");
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    let promised = headers.get("content-length").and_then(|length| length.parse().ok());
    (promised.is_none() || request.starts_with(b"HEAD ") || promised == Some(body.len())).then_some(Answer {
        status,
        headers,
        body,
    })
}

/// All samples of one scrape.
#[derive(Debug)]
pub struct Metrics(pub prometheus_parse::Scrape);

impl Metrics {
    pub fn parse(text: &str) -> Metrics {
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        Metrics(prometheus_parse::Scrape::parse(lines).expect("Prometheus can read it"))
    }

    /// The sum of a family's samples that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let mut found = false;
        let mut sum = 0.0;
        for sample in &self.0.samples {
            let fits = labels
                .iter()
                .all(|(label, value)| sample.labels.get(label) == Some(*value));
            if sample.metric == name && fits {
                found = true;
                sum += match &sample.value {
                    prometheus_parse::Value::Counter(value)
                    | prometheus_parse::Value::Gauge(value)
                    | prometheus_parse::Value::Untyped(value) => *value,
                    other => panic!("{name} is no number: {other:?}"),
                };
            }
        }
        assert!(found, "no {name} with {labels:?}");
        sum as u64
    }
}
