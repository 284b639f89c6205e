//! Tables and emphasis; plain when nobody looks.

use comfy_table::{Cell, Table};
use std::io::IsTerminal;

/// A table without frames, as wide as it needs to be.
pub(crate) fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.into_iter().map(Cell::new));
    table
}

/// The table's text, without the blanks that a preset without frames leaves.
pub(crate) fn text(table: &Table) -> String {
    table
        .lines()
        .map(|line| {
            line.trim_end()
                .strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Bold on a terminal.
pub(crate) fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
