//! Plans: frozen lists of ids, made before anything is done, run once, kept in the data folder (semantics.md section 9).

/// All plans. Cheap to clone; all clones are one book.
#[derive(Clone)]
pub struct Plans {}
