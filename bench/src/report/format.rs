//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits, without an exponent.
pub(crate) fn significant(value: f64) -> String {
    let digits = if value.abs() < 1e-9 {
        0
    } else {
        value.abs().log10().floor() as i32
    };
    let decimals = (2 - digits).clamp(0, 4) as usize;
    if decimals == 0 {
        grouped_f64(value)
    } else {
        format!("{value:.decimals$}")
    }
}

fn grouped_f64(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", grouped(value.abs().round() as u64))
}

/// Microseconds in the unit that suits them.
pub(crate) fn duration_us(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{} µs", significant(us)),
        us if us < 1e6 => format!("{} ms", significant(us / 1e3)),
        us => format!("{} s", significant(us / 1e6)),
    }
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(count: f64) -> String {
    match count.abs() {
        size if size < 1024.0 => format!("{} B", significant(count)),
        size if size < 1024.0 * 1024.0 => format!("{} KiB", significant(count / 1024.0)),
        _ => format!("{} MiB", significant(count / 1024.0 / 1024.0)),
    }
}

/// A rate or count, shortened: `950`, `12.3k`, `4.56M`.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size < 1e3 => trimmed(value),
        size if size < 1e6 => format!("{}k", trimmed(value / 1e3)),
        size if size < 1e9 => format!("{}M", trimmed(value / 1e6)),
        _ => format!("{}G", trimmed(value / 1e9)),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1), "1");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(significant(0.0456), "0.0456");
        assert_eq!(significant(1.2345), "1.23");
        assert_eq!(significant(12.345), "12.3");
        assert_eq!(significant(123_456.0), "123,456");
        assert_eq!(duration_us(1500.0), "1.50 ms");
        assert_eq!(bytes(2048.0), "2.00 KiB");
        assert_eq!(short(12_300.0), "12.3k");
        assert_eq!(short(250_000.0), "250k");
        assert_eq!(short(0.5), "0.5");
    }
}
