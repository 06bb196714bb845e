//! Columns as kubectl prints them: left-aligned, three spaces apart.

/// Formats rows under headers. Cells are cut at the first line break, as kubectl does.
#[must_use]
pub fn print_table(headers: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = headers.iter().map(|h| h.chars().count()).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| super::plain_text(cell.lines().next().unwrap_or_default())).collect())
        .collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let mut out = String::new();
        for (i, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < cells.len() {
                let width = widths.get(i).copied().unwrap_or_default();
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 3));
            }
        }
        out
    };
    std::iter::once(line(headers)).chain(rows.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let headers = ["NAME", "AGE"].map(String::from);
        let rows = [vec!["a-long-name".to_owned(), "3s".to_owned()], vec!["b\nx".to_owned(), "1d".to_owned()]];
        assert_eq!(print_table(&headers, &rows), ["NAME          AGE", "a-long-name   3s", "b             1d"]);
    }
}
