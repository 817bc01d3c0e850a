//! Log lines: to standard error, through a thread of their own, never more than an operator can read.
//!
//! A shard must not wait for whoever reads standard error, so lines go through a bounded channel to a thread that
//! writes them; lines beyond it are lost and counted. `LogLimiter` keeps one misbehaving client from filling the log.

mod limiter;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, LogSetting};

pub(crate) use limiter::LogLimiter;

/// Where log lines go. Dropping it waits until those written so far are out.
#[derive(Debug)]
#[must_use = "lines that are still on their way are lost without it"]
pub struct Log {
    sender: flume::Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered once every line before it is written.
    Flush(flume::Sender<()>),
}

impl Log {
    /// Starts logging for the whole process.
    ///
    /// # Errors
    /// The system gave no thread.
    pub fn start(setting: LogSetting) -> io::Result<Log> {
        let (sender, receiver) = flume::bounded(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = LineWriter {
            sender: sender.clone(),
            lost: Arc::clone(&lost),
        };
        thread::Builder::new()
            .name("ringmq-log".into())
            .spawn(move || write_lines(&receiver, &lost))?;

        let subscriber = tracing_subscriber::fmt()
            .with_max_level(setting.level)
            .with_writer(writer)
            .with_target(false)
            .with_ansi(false);
        match setting.format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
        Ok(Log { sender })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (written, wait) = flume::bounded(1);
        if self.sender.send_timeout(Message::Flush(written), FLUSH_TIMEOUT).is_ok() {
            // Late or never: whoever reads standard error does not, and the process ends all the same.
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn write_lines(receiver: &flume::Receiver<Message>, lost: &AtomicU64) {
    for message in receiver {
        let mut stderr = io::stderr().lock();
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(
                stderr,
                "ringmq: {lost} log lines lost: standard error was not read fast enough"
            );
        }
        match message {
            // There is nowhere to say that the log cannot be written.
            Message::Line(line) => drop(stderr.write_all(&line)),
            Message::Flush(written) => drop(written.send(())),
        }
    }
}

/// Gives each line to the thread that writes it. A line arrives in one `write`.
#[derive(Clone, Debug)]
struct LineWriter {
    sender: flume::Sender<Message>,
    lost: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        self.clone()
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way to standard error: some MiB, and a burst of connections that all fail at once.
const LINES_MAX: usize = 8 * 1024;
/// How long the end of the process waits for the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
