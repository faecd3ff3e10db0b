//! The pure desk.
