//! The desk over a store.
