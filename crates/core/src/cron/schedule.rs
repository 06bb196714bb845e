//! A cron expression in a time zone: [`Schedule`].
//!
//! Kubernetes' rules hold where clocks change: a local time that is skipped does not happen, one that comes twice
//! happens twice. So the search goes from one change of the clocks to the next, and in between local time is as regular
//! as UTC.

use croner::Cron;
use croner::parser::CronParser;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A schedule that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron expression.
    #[error("the schedule \"{schedule}\" cannot be understood: {cause}; use five fields such as \"0 9 * * 1-5\"")]
    Expression {
        /// As it was given.
        schedule: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The time zone.
    #[error("the time zone \"{name}\" is not known; use an IANA name such as Europe/Berlin")]
    TimeZone {
        /// As it was given.
        name: String,
    },
}

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads an expression of five fields or a nickname (`@daily`), in an IANA time zone (UTC when unset).
    pub fn parse(schedule: &str, time_zone: Option<&str>) -> Result<Self, ScheduleError> {
        let bad = |cause: String| ScheduleError::Expression { schedule: schedule.to_owned(), cause };
        let trimmed = schedule.trim();
        let fields = trimmed.split_whitespace().count();
        if !trimmed.starts_with('@') && fields != 5 {
            return Err(bad(format!("it has {fields} fields")));
        }
        let cron = CronParser::new().parse(trimmed).map_err(|error| bad(error.to_string()))?;
        let zone = match time_zone {
            None | Some("") => TimeZone::UTC,
            // "Local" would mean something else on every machine.
            Some(name) if name.eq_ignore_ascii_case("local") => {
                return Err(ScheduleError::TimeZone { name: name.to_owned() });
            }
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::TimeZone { name: name.to_owned() })?,
        };
        Ok(Self { cron, zone })
    }

    /// The first time after `after`; `None` when there is none within the next years (31 February).
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        let mut inclusive = false;
        // A zone changes its clocks a few times a year; whoever finds nothing in a thousand changes finds nothing.
        for _ in 0..1000 {
            let offset = self.zone.to_offset(from);
            let change = self.zone.following(from).next().map(|t| t.timestamp());
            let local = offset.to_datetime(from);
            let found = self.cron.find_next_occurrence::<DateTime>(&local, inclusive).ok()?;
            let at = offset.to_timestamp(found).ok()?;
            match change {
                Some(change) if at >= change => {
                    from = change;
                    inclusive = true;
                }
                _ => return Some(at),
            }
        }
        None
    }

    /// The next `count` times after `after`.
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(after), |at| self.next(*at)).take(count).collect()
    }

    /// The latest `limit` times in (`since`, `until`], oldest first, and whether there were more.
    ///
    /// Looks at a short time first and at longer ones only if that holds too few, so that a year asleep costs no more
    /// than an hour.
    pub fn latest(&self, since: Timestamp, until: Timestamp, limit: usize) -> (Vec<Timestamp>, bool) {
        let mut window = SignedDuration::from_mins(limit.try_into().unwrap_or(i64::MAX / 120) + 1);
        loop {
            let from = until.checked_sub(window).unwrap_or(since).max(since);
            let mut found = std::collections::VecDeque::with_capacity(limit + 1);
            let mut more = false;
            let mut at = self.next(from);
            while let Some(time) = at.filter(|time| *time <= until) {
                found.push_back(time);
                if found.len() > limit {
                    found.pop_front();
                    more = true;
                }
                at = self.next(time);
            }
            if from == since || found.len() >= limit {
                let more =
                    more || (from > since && self.next(since).is_some_and(|first| found.front() != Some(&first)));
                return (found.into(), more);
            }
            window = window.saturating_mul(8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(schedule: &str, zone: &str, after: &str, expect: &[&str]) {
        let found = Schedule::parse(schedule, Some(zone)).unwrap().upcoming(t(after), expect.len());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect, "{schedule} in {zone}");
    }

    #[test]
    fn plain() {
        check("0 9 * * *", "", "2026-11-21T09:00:00Z", &["2026-11-22T09:00:00Z", "2026-11-23T09:00:00Z"]);
        check("*/15 * * * *", "UTC", "2026-11-21T09:01:30Z", &["2026-11-21T09:15:00Z", "2026-11-21T09:30:00Z"]);
        check("@hourly", "", "2026-11-21T09:00:00Z", &["2026-11-21T10:00:00Z"]);
        check("0 0 29 2 *", "", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        check("0 12 * JAN MON-FRI", "", "2026-11-21T00:00:00Z", &["2027-01-01T12:00:00Z", "2027-01-04T12:00:00Z"]);
    }

    #[test]
    fn day_of_month_or_weekday() {
        // The 13th, or any Friday: either is enough when both are given.
        check(
            "0 0 13 * 5",
            "",
            "2026-11-01T00:00:00Z",
            &[
                "2026-11-06T00:00:00Z",
                "2026-11-13T00:00:00Z",
                "2026-11-20T00:00:00Z",
                "2026-11-27T00:00:00Z",
                "2026-12-04T00:00:00Z",
                "2026-12-11T00:00:00Z",
                "2026-12-13T00:00:00Z",
            ],
        );
        // A star in one: the other decides.
        check("0 0 13 * *", "", "2026-11-01T00:00:00Z", &["2026-11-13T00:00:00Z", "2026-12-13T00:00:00Z"]);
        check("0 0 * * 5", "", "2026-11-01T00:00:00Z", &["2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z"]);
    }

    #[test]
    fn clocks_go_forward() {
        // 02:30 does not exist in Berlin on 2026-03-29.
        check("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]);
        check("0 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]);
    }

    #[test]
    fn clocks_go_back() {
        // 02:30 comes twice in Berlin on 2026-10-25.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"],
        );
        check("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T02:00:00Z"]);
    }

    #[test]
    fn half_hour_zones_and_no_changes() {
        check("0 9 * * *", "Asia/Kolkata", "2026-11-21T00:00:00Z", &["2026-11-21T03:30:00Z"]);
        check("0 2 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", &["2026-04-04T15:30:00Z"]);
    }

    #[test]
    fn every_hour_of_a_year_comes_once() {
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"] {
            let schedule = Schedule::parse("0 * * * *", Some(zone)).unwrap();
            let times = schedule.upcoming(t("2026-01-01T00:00:00Z"), 24 * 365);
            assert!(times.windows(2).all(|w| w[0] < w[1]), "{zone}");
            assert!(times.windows(2).all(|w| w[1].as_second() - w[0].as_second() <= 5400), "{zone}");
        }
    }

    #[test]
    fn never() {
        assert_eq!(Schedule::parse("0 0 31 2 *", None).unwrap().next(t("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn wrong() {
        for schedule in ["", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "@often", "a b c d e", "*/0 * * * *"]
        {
            let error = Schedule::parse(schedule, None).unwrap_err();
            assert!(matches!(error, ScheduleError::Expression { .. }), "{schedule}: {error}");
        }
        for zone in ["Mars/Base", "local", "Local"] {
            assert!(matches!(Schedule::parse("@daily", Some(zone)), Err(ScheduleError::TimeZone { .. })), "{zone}");
        }
    }

    #[test]
    fn latest_finds_the_last_ones_and_says_if_there_were_more() {
        let schedule = Schedule::parse("0 9 * * *", None).unwrap();
        let latest = |since, until, limit| {
            let (times, more) = schedule.latest(t(since), t(until), limit);
            (times.iter().map(|x| x.to_string()).collect::<Vec<_>>(), more)
        };
        let year = ("2025-11-21T10:00:00Z", "2026-11-21T09:00:00Z");
        assert_eq!(latest(year.0, year.1, 1), (vec!["2026-11-21T09:00:00Z".to_owned()], true));
        assert_eq!(latest("2026-11-20T09:00:00Z", year.1, 5), (vec!["2026-11-21T09:00:00Z".to_owned()], false));
        assert_eq!(latest("2026-11-21T09:00:00Z", year.1, 5), (vec![], false));
    }

    #[test]
    fn a_year_of_minutes_is_cheap() {
        let schedule = Schedule::parse("* * * * *", None).unwrap();
        let (times, more) = schedule.latest(t("2025-11-21T00:00:00Z"), t("2026-11-21T00:00:00Z"), 100);
        assert_eq!((times.len(), more), (100, true));
    }

    /// Walks through every minute of a year by the clock on the wall, and finds what the search finds.
    #[test]
    fn a_whole_year_by_the_clock_on_the_wall() {
        let zones = [
            "Europe/Berlin",
            "America/New_York",
            "America/Sao_Paulo",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "Africa/Casablanca",
            "Pacific/Chatham",
            "UTC",
        ];
        // Expression, and whether a local time fits it.
        type Fits = fn(&DateTime) -> bool;
        let schedules: [(&str, Fits); 6] = [
            ("30 2 * * *", |at| (at.hour(), at.minute()) == (2, 30)),
            ("*/20 1-3 * * *", |at| (1..=3).contains(&at.hour()) && at.minute() % 20 == 0),
            ("0 * * * SUN", |at| at.minute() == 0 && at.weekday().to_sunday_zero_offset() == 0),
            ("15 0,23 1,31 * *", |at| at.minute() == 15 && [0, 23].contains(&at.hour()) && [1, 31].contains(&at.day())),
            ("0 12 13 * FRI", |at| {
                (at.hour(), at.minute()) == (12, 0) && (at.day() == 13 || at.weekday().to_sunday_zero_offset() == 5)
            }),
            ("45 3 * MAR,OCT *", |at| (at.hour(), at.minute()) == (3, 45) && [3, 10].contains(&at.month())),
        ];
        let (begin, end) = (t("2026-01-01T00:00:00Z"), t("2027-01-01T00:00:00Z"));
        for zone in zones {
            let tz = TimeZone::get(zone).unwrap();
            let mut expect = vec![Vec::new(); schedules.len()];
            for second in (begin.as_second() + 60..=end.as_second()).step_by(60) {
                let at = Timestamp::from_second(second).unwrap();
                let local = tz.to_datetime(at);
                for (found, (_, fits)) in expect.iter_mut().zip(&schedules) {
                    if fits(&local) {
                        found.push(at);
                    }
                }
            }
            for (expect, (expression, _)) in expect.into_iter().zip(&schedules) {
                let schedule = Schedule::parse(expression, Some(zone)).unwrap();
                let found: Vec<Timestamp> = std::iter::successors(schedule.next(begin), |at| schedule.next(*at))
                    .take_while(|at| *at <= end)
                    .collect();
                assert_eq!(found, expect, "{expression} in {zone}");
            }
        }
    }
}
