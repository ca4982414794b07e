//! Markdown for tickets and chats: the text for people, with tables as tables and nothing of the data able to become a
//! link, an image or HTML.

use super::clean;
use super::table::Table;
use super::text::{Block, Text};

/// The text as Markdown.
pub(super) fn text(text: &Text) -> String {
    let mut out = String::new();
    for block in &text.0 {
        match block {
            Block::Gap => {}
            Block::Line(spans) | Block::Whole(spans) => {
                let fields: Vec<String> = spans.iter().map(|span| escape(span.1.trim())).collect();
                out.push_str("- ");
                out.push_str(&fields.join(" "));
                out.push('\n');
            }
            Block::Table(table) => self::table(table, &mut out),
        }
    }
    out
}

fn table(table: &Table, out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
    let mut row = |cells: Vec<String>| {
        out.push_str("| ");
        out.push_str(&cells.join(" | "));
        out.push_str(" |\n");
    };
    row(table
        .columns
        .iter()
        .map(|column| column.name.to_lowercase())
        .collect());
    row(table
        .columns
        .iter()
        .map(|column| {
            if column.right {
                "---:".to_owned()
            } else {
                "---".to_owned()
            }
        })
        .collect());
    for cells in &table.rows {
        row(cells.iter().map(|cell| escape(&cell.text)).collect());
    }
    out.push('\n');
}

fn escape(text: &str) -> String {
    let clean = clean::line(text);
    let mut out = String::with_capacity(clean.len());
    for c in clean.chars() {
        if matches!(
            c,
            '\\' | '|' | '<' | '>' | '[' | ']' | '`' | '*' | '_' | '!' | '&' | '#' | '~'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_break_out_of_its_cell() {
        assert_eq!(
            escape("a|b <img> [x](y) `z`"),
            "a\\|b \\<img\\> \\[x\\](y) \\`z\\`"
        );
    }
}
