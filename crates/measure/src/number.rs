//! Numbers for people.

/// A number in three significant digits, with the sign of its thousands.
///
/// ```
/// use posthaste_measure::short;
///
/// assert_eq!(short(8_123_456.0), "8.12 M");
/// assert_eq!(short(45_678.0), "45.7 k");
/// assert_eq!(short(250.0), "250");
/// assert_eq!(short(0.1234), "0.123");
/// assert_eq!(short(0.0), "0");
/// ```
#[must_use]
pub fn short(value: f64) -> String {
    let size = value.abs();
    // Rounding may carry a number into the next thousand.
    let (sign, unit) = [("G", 1e9), ("M", 1e6), ("k", 1e3)]
        .into_iter()
        .find(|(_, unit)| size >= unit * 0.9995)
        .unwrap_or(("", 1.0));
    let scaled = value / unit;
    let text = match scaled.abs() {
        0.0 => "0".to_owned(),
        it if it >= 99.95 => format!("{scaled:.0}"),
        it if it >= 9.995 => format!("{scaled:.1}"),
        it if it >= 0.9995 => format!("{scaled:.2}"),
        it if it >= 0.09995 => format!("{scaled:.3}"),
        it if it >= 0.009_995 => format!("{scaled:.4}"),
        _ => format!("{scaled:.2e}"),
    };
    if sign.is_empty() { text } else { format!("{text} {sign}") }
}

/// A rate, [`short`]: whole below a thousand, as a tenth of a message says nothing.
///
/// ```
/// use posthaste_measure::rate;
///
/// assert_eq!(rate(5_300_000.0), "5.30 M");
/// assert_eq!(rate(17.4), "17");
/// ```
#[must_use]
pub fn rate(per_second: f64) -> String {
    if (10.0..999.5).contains(&per_second) { format!("{per_second:.0}") } else { short(per_second) }
}

/// A whole number with its thousands apart.
///
/// ```
/// assert_eq!(posthaste_measure::count(1_234_567), "1,234,567");
/// ```
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the largest unit in which it is at least 1.
///
/// ```
/// use posthaste_measure::bytes;
///
/// assert_eq!(bytes(64.0), "64 B");
/// assert_eq!(bytes(65_536.0), "64 KiB");
/// assert_eq!(bytes(1_572_864.0), "1.5 MiB");
/// ```
#[must_use]
pub fn bytes(number: f64) -> String {
    let (unit, name) = [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .map(|(power, name)| (f64::from(1_u32 << power), name))
        .find(|(unit, _)| number >= *unit)
        .unwrap_or((1.0, "B"));
    // One place at most, and none that is 0.
    let value = (number / unit * 10.0).round() / 10.0;
    format!("{value} {name}")
}
