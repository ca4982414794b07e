//! Parts of pictures. Nothing here knows the model: data in, cells out. All text goes through [`Ink`].

mod chart;
mod flow;
mod gauge;
mod heatmap;
mod histogram;
mod ink;
mod panel;
mod payload;
mod table;
mod trend;

pub(crate) use chart::chart;
pub(crate) use flow::{Flow, Node};
pub(crate) use gauge::{Gauge, gauge};
pub(crate) use heatmap::{Heatmap, bound, draw_heatmap, fullest};
pub(crate) use histogram::{bar, draw_histogram, percent};
pub(crate) use ink::Ink;
pub(crate) use panel::panel;
pub(crate) use payload::payload_lines;
pub(crate) use table::{Cell, Column, Table, draw_table};
pub(crate) use trend::{trend, trend_line};
