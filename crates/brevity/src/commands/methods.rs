//! `brevity methods`.

use crate::cli::{Global, MethodsArgs};
use crate::output;
use anyhow::{Result, bail};
use brevity_measure::MethodCard;
use brevity_measure::table::{Cell, Column, Table};
use serde_json::json;

/// Runs the command.
pub fn run(args: MethodsArgs, global: &Global) -> Result<()> {
    let rooms = [brevity_weights::registry::cards(), brevity_cache::registry::cards()];
    let all: Vec<&MethodCard> = rooms.concat();
    let wanted = |card: &&MethodCard| args.room.as_deref().is_none_or(|room| card.room == room);
    let cards: Vec<&MethodCard> = all.iter().copied().filter(wanted).collect();
    if cards.is_empty() {
        bail!("no method lives in that room; the rooms are: weights, cache");
    }
    if global.json {
        return output::json(&json!({"methods": cards}));
    }
    let columns = ["method", "room", "year", "arXiv", "paper"].map(Column::new);
    let mut table = Table::new(columns);
    for card in &cards {
        table.row([
            Cell::text(card.name),
            Cell::text(card.room),
            Cell::text(card.year.to_string()),
            Cell::text(card.arxiv.unwrap_or("-")),
            Cell::text(card.title),
        ]);
    }
    output::tables(&[table])?;
    for card in cards {
        output::line(&format!("{}: {}", card.name, card.mechanism))?;
    }
    Ok(())
}
