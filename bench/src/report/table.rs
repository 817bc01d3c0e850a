//! A run as text.

use std::fmt::Write;

use super::format::{bytes, duration_us, grouped, short, significant};
use super::model::{Flow, Latency, Report};

/// The whole table, ending in the verdict.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    heading(report, out)?;
    if report.ingress.messages > 0 || report.setup.publishers > 0 {
        flow(
            out,
            if report.basis == "cycle" { "cycles" } else { "ingress" },
            &report.ingress,
        )?;
    }
    if report.egress.messages > 0 || report.setup.subscribers > 0 {
        flow(out, "egress", &report.egress)?;
    }
    if let Some(latency) = &report.latency {
        let is_closed_loop = report.setup.rate.is_none() && report.setup.publishers > 0;
        times(out, "latency", latency, is_closed_loop)?;
    }
    if let Some(lag) = &report.send_lag {
        writeln!(
            out,
            "  sent late    p50 {}  p99 {}  max {}",
            duration_us(lag.p50_us),
            duration_us(lag.p99_us),
            duration_us(lag.max_us)
        )?;
    }
    costs(report, out)?;
    checks(report, out)
}

fn heading(report: &Report, out: &mut String) -> std::fmt::Result {
    let setup = &report.setup;
    write!(out, "{} · {}", report.label, report.case)?;
    if setup.publishers + setup.subscribers > 0 {
        write!(
            out,
            " · {} publishers, {} subscribers",
            grouped(setup.publishers as u64),
            grouped(setup.subscribers as u64)
        )?;
        write!(out, " · QoS {}", setup.qos)?;
        if setup.size_bytes > 0 {
            write!(out, " · {} B", setup.size_bytes)?;
        }
        match setup.rate {
            Some(rate) => write!(out, " · open loop, {}/s", short(rate))?,
            None if setup.window > 0 && setup.publishers > 0 => write!(out, " · {} in flight each", setup.window)?,
            None => {}
        }
    }
    writeln!(out, " · {} s", significant(report.seconds))?;
    if report.connections > 0 {
        let rate = report.connections as f64 / report.connect_seconds.max(1e-9);
        writeln!(
            out,
            "  connected    {} in {} s, {}/s",
            grouped(report.connections),
            significant(report.connect_seconds),
            short(rate)
        )?;
    }
    Ok(())
}

fn flow(out: &mut String, name: &str, flow: &Flow) -> std::fmt::Result {
    write!(
        out,
        "  {name:<12} {:>14}  {:>12}/s",
        grouped(flow.messages),
        grouped(flow.per_second as u64)
    )?;
    if flow.mib_per_second > 0.0 {
        write!(out, "  {:>8} MiB/s", significant(flow.mib_per_second))?;
    }
    writeln!(out)
}

fn times(out: &mut String, name: &str, latency: &Latency, is_closed_loop: bool) -> std::fmt::Result {
    write!(
        out,
        "  {name:<12} p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
        duration_us(latency.p50_us),
        duration_us(latency.p90_us),
        duration_us(latency.p99_us),
        duration_us(latency.p99_9_us),
        duration_us(latency.p99_99_us),
        duration_us(latency.max_us)
    )?;
    if is_closed_loop {
        write!(out, "  (one in {}, closed loop: queueing included)", latency.one_in)?;
    }
    writeln!(out)
}

fn costs(report: &Report, out: &mut String) -> std::fmt::Result {
    if let Some(broker) = &report.broker {
        write!(out, "  broker       ")?;
        if broker.us_per_message > 0.0 {
            write!(
                out,
                "{} µs CPU per {} (user {}, system {}), ",
                significant(broker.us_per_message),
                report.basis,
                significant(broker.us_user_per_message),
                significant(broker.us_system_per_message)
            )?;
        }
        write!(out, "{:.0} % of a core", broker.cores_busy * 100.0)?;
        if broker.peak_bytes > 0 {
            write!(out, ", peak memory {}", bytes(broker.peak_bytes as f64))?;
        }
        writeln!(out)?;
    }
    if let Some(memory) = &report.memory {
        writeln!(
            out,
            "  memory       {} per {} ({} of them)",
            bytes(memory.bytes_each),
            memory.item,
            grouped(memory.count)
        )?;
    }
    if report.own.us_per_message > 0.0 {
        write!(
            out,
            "  this tool    {} µs CPU per {}",
            significant(report.own.us_per_message),
            report.basis
        )?;
        if report.own.share_of_broker > 0.0 {
            write!(out, ", {:.0} % of the broker's", report.own.share_of_broker * 100.0)?;
        }
        writeln!(out, ", busiest thread {:.0} %", report.own.busiest_thread * 100.0)?;
    }
    Ok(())
}

fn checks(report: &Report, out: &mut String) -> std::fmt::Result {
    let verdict = &report.verdict;
    if verdict.expected > 0 || verdict.delivered > 0 {
        write!(
            out,
            "  checked      {} expected, {} lost, {} duplicated, {} reordered, {} corrupt",
            grouped(verdict.expected),
            grouped(verdict.lost),
            grouped(verdict.duplicated),
            grouped(verdict.reordered),
            grouped(verdict.corrupt)
        )?;
        if verdict.foreign > 0 {
            write!(out, ", {} of other programs", grouped(verdict.foreign))?;
        }
        writeln!(out)?;
    }
    if let Some((least, most)) = verdict.group_share {
        writeln!(
            out,
            "  group        members received {} to {} each",
            grouped(least),
            grouped(most)
        )?;
    }
    for warning in &report.warnings {
        writeln!(out, "  warning      {warning}")?;
    }
    for fault in &report.faults {
        writeln!(out, "  WRONG        {fault}")?;
    }
    writeln!(out, "  {}", if report.is_good() { "ok" } else { "FAILED" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_end_in_failed() {
        let mut report = Report {
            label: "x".into(),
            case: "pairs-qos1".into(),
            ..Report::default()
        };
        assert!(render(&report).ends_with("  ok\n"));
        report.faults.push("3 lost".into());
        let text = render(&report);
        assert!(
            text.contains("WRONG        3 lost") && text.ends_with("  FAILED\n"),
            "{text}"
        );
    }
}
