//! Log lines: to standard error, through a thread of their own, never more than an operator can read.
//!
//! A shard must not wait for whoever reads standard error, so lines go through a bounded channel to a thread that
//! writes them; lines beyond it are lost and counted. `LogLimiter` keeps one misbehaving client from filling the log.

mod limiter;
mod modules;

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{LogFormat, LogSetting};

pub(crate) use limiter::LogLimiter;
pub(crate) use modules::ACCESS;

/// Where log lines go. Dropping it waits until those written so far are out.
#[derive(Debug)]
#[must_use = "lines that are still on their way are lost without it"]
pub struct Log {
    sender: flume::Sender<Message>,
    switch: LogSwitch,
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
    pub fn start(setting: &LogSetting) -> io::Result<Log> {
        let (sender, receiver) = flume::bounded(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = LineWriter {
            sender: sender.clone(),
            lost: Arc::clone(&lost),
        };
        thread::Builder::new()
            .name("ringmq-log".into())
            .spawn(move || write_lines(&receiver, &lost))?;

        let (filter, level) = reload::Layer::new(modules::targets(setting));
        let (lines, format) = reload::Layer::new(lines(setting.format, &writer));
        tracing_subscriber::registry().with(filter).with(lines).init();
        let switch = LogSwitch { writer, level, format };
        Ok(Log { sender, switch })
    }

    /// What changes the setting from here on.
    #[must_use]
    pub fn switch(&self) -> LogSwitch {
        self.switch.clone()
    }
}

/// Changes what is logged while the process runs. Its clones are one.
#[derive(Clone)]
pub struct LogSwitch {
    writer: LineWriter,
    level: reload::Handle<Targets, Registry>,
    format: reload::Handle<Lines, Filtered>,
}

impl fmt::Debug for LogSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSwitch").finish_non_exhaustive()
    }
}

impl LogSwitch {
    /// Lines from here on follow this setting. What is not logged costs one load of an integer per place, as before.
    pub fn set(&self, setting: &LogSetting) {
        // Either fails only if nothing is logged any more: then there is nobody to tell.
        let _ = self.format.reload(lines(setting.format, &self.writer));
        let _ = self.level.reload(modules::targets(setting));
    }
}

/// What is left once the lines that nobody wants are gone.
type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;
/// Makes lines.
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

fn lines(format: LogFormat, writer: &LineWriter) -> Lines {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer.clone())
        .with_target(false)
        .with_ansi(false);
    match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
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
