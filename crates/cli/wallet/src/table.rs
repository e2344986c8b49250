//! Tables of plain text: columns as wide as their widest cell, three spaces between.

/// The lines of a table with upper-case headers; a cell may have several lines.
pub(crate) fn render(headers: &[&str], rows: &[Vec<String>]) -> String {
    let lines: Vec<Vec<Vec<&str>>> =
        rows.iter().map(|row| row.iter().map(|cell| cell.split('\n').collect()).collect()).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|row| row.get(column)).flatten();
        let widest = cells.map(|line| line.chars().count()).max().unwrap_or(0);
        widest.max(headers.get(column).map_or(0, |header| header.chars().count()))
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    let mut out = String::new();
    let mut push = |cells: &dyn Fn(usize) -> String| {
        for (column, width) in widths.iter().enumerate() {
            out.push_str(&format!("{:<width$}   ", cells(column)));
        }
        out.push('\n');
    };
    push(&|column| headers.get(column).map(|header| header.to_uppercase()).unwrap_or_default());
    for row in &lines {
        let height = row.iter().map(Vec::len).max().unwrap_or(1);
        for line in 0..height {
            push(&|column| row.get(column).and_then(|cell| cell.get(line)).copied().unwrap_or_default().to_owned());
        }
    }
    out
}
