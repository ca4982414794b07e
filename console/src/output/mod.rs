//! What `pipectl` prints: documents as text for people, JSON, CSV and Markdown. All untrusted text is made harmless here,
//! at the moment it is written, so no noun can forget it.

pub(crate) mod clean;
mod csv;
mod document;
pub(crate) mod human;
mod json;
mod markdown;
mod screen;
pub(crate) mod shell;
mod table;
mod text;

pub(crate) use document::Document;
pub(crate) use screen::{ColorWhen, Format, Screen};
pub(crate) use table::{Cell, Column, Table};
pub(crate) use text::{Block, Span, Text, Tone};
