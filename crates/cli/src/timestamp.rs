//! Points in time as people and programs read them: RFC 3339, in UTC.

use std::time::{Duration, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

/// Writes the time since the Unix epoch, to the millisecond.
pub(crate) fn show(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads a time of RFC 3339, with any offset from UTC, as the time since the Unix epoch.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (moment, ahead) = match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
        Some((moment, offset)) if offset.starts_with(['+', '-']) => (moment, minutes(offset)?),
        _ => (text.strip_suffix(['Z', 'z'])?, 0),
    };
    let moment = moment.replacen(['t', ' '], "T", 1);
    let moment = humantime::parse_rfc3339(&format!("{moment}Z")).ok()?;
    let since_epoch = moment.duration_since(UNIX_EPOCH).ok()?;
    let offset = Duration::from_secs(60 * u64::from(ahead.unsigned_abs()));
    match ahead < 0 {
        true => since_epoch.checked_add(offset),
        false => since_epoch.checked_sub(offset),
    }
}

/// How many minutes `+02:00` is ahead of UTC.
fn minutes(offset: &str) -> Option<i32> {
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok());
    let (hours, minutes): (i32, i32) = (number(hours)??, number(minutes)??);
    let ahead = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
    Some(if offset.starts_with('-') { -ahead } else { ahead })
}

/// Year, month and day of a day since the Unix epoch, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last day of its year, and in eras of
/// 400 years, which all have as many days.
fn date(day: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    // From the first of March of the year 0 to the epoch.
    let day = day + 719_468;
    let (era, of_era) = (day / ERA, day % ERA);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, later) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::{DAY, Duration, date, parse, show};

    #[test]
    fn known_moments_are_written_in_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_478_399_001, "2026-11-23T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
        assert!(
            !show(Duration::MAX).is_empty() && !show(Duration::from_millis(u64::MAX)).is_empty()
        );
    }

    #[test]
    fn what_is_written_can_be_read_and_offsets_count() {
        for millis in [0, 951_782_399_999, 1_795_478_399_001, 4_107_542_400_000] {
            let moment = Duration::from_millis(millis);
            assert_eq!(parse(&show(moment)), Some(moment));
        }
        let noon = parse("2026-11-29T12:00:00Z");
        assert!(noon.is_some());
        for same in ["2026-11-29T14:00:00+02:00", "2026-11-29 06:30:00-05:30"] {
            assert_eq!(parse(same), noon, "{same}");
        }
        for strange in [
            "",
            "Z",
            "noon",
            "2026-11-29",
            "2026-11-29T12:00:00",
            "2026-13-29T12:00:00Z",
            "2026-11-29T12:00:00+2:00",
            "2026-11-29T12:00:00+25:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "ü-ü:ü",
        ] {
            assert_eq!(parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = date(0);
        for day in 1..400 * 366 {
            let this = date(day);
            let next = (before.0, before.1, before.2 + 1);
            let is_first = this.2 == 1 && (28..=31).contains(&before.2);
            assert!(this == next || is_first, "{before:?} and {this:?}");
            before = this;
        }
        assert_eq!(date(1_795_478_400 / DAY), (2026, 11, 24));
    }
}
