//! Parts of pictures. Nothing here knows the model: data in, cells out. All text goes through [`Ink`].

mod ink;
mod panel;
mod payload;
mod table;
mod trend;

pub(crate) use ink::Ink;
pub(crate) use panel::panel;
pub(crate) use payload::payload_lines;
pub(crate) use table::{Cell, Column, Table, draw_table};
pub(crate) use trend::trend;
