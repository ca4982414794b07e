//! Tables of keys: model and presses in, model and effects out.
