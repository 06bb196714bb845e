//! Durations as kubectl prints them.

/// A duration in seconds as `kubectl get` prints ages: at most two units, the finer one only while it matters.
#[must_use]
pub fn human(seconds: i64) -> String {
    // Clocks may differ by a little: kubectl prints small negative ages as zero.
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    if seconds < 120 {
        return format!("{seconds}s");
    }
    let minutes = seconds / 60;
    if minutes < 10 {
        return two(minutes, "m", seconds % 60, "s");
    }
    if minutes < 180 {
        return format!("{minutes}m");
    }
    let hours = seconds / 3600;
    if hours < 8 {
        return two(hours, "h", minutes % 60, "m");
    }
    if hours < 48 {
        return format!("{hours}h");
    }
    let days = hours / 24;
    if hours < 192 {
        return two(days, "d", hours % 24, "h");
    }
    if days < 365 * 2 {
        return format!("{days}d");
    }
    if days < 365 * 8 {
        return two(days / 365, "y", days % 365, "d");
    }
    format!("{}y", days / 365)
}

fn two(first: i64, first_unit: &str, second: i64, second_unit: &str) -> String {
    if second == 0 { format!("{first}{first_unit}") } else { format!("{first}{first_unit}{second}{second_unit}") }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn prints_as_kubectl_does() {
        for (seconds, expect) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human(seconds), expect, "{seconds}");
        }
    }
}
