//! Markdown tables and the numbers in them.

/// Lays out a table; the first row is the head.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text += &format!("| {} |\n", row.join(" | "));
        if number == 0 {
            text += &format!("|{}\n", "---|".repeat(row.len()));
        }
    }
    text
}

/// The middle of some measurements, the upper one of two; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A number in three digits or so.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `a` as a multiple of `b`.
pub fn times(a: f64, b: f64) -> String {
    format!("{}×", short(a / b))
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_head_and_numbers_few_digits() {
        let row = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        assert_eq!(
            markdown(&[row("a", "b"), row("1", "2")]),
            "| a | b |\n|---|---|\n| 1 | 2 |\n"
        );
        assert_eq!(
            (short(1234.5), short(12.34), short(1.234), short(f64::NAN)),
            ("1234".into(), "12.3".into(), "1.23".into(), "-".into())
        );
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
