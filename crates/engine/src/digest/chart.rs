//! The picture of a digest: an SVG made of numbers and words alone, and a PNG of it.

use std::{
    fmt::Write,
    sync::{Arc, LazyLock},
};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};
use uzel_model::words::Language;

use super::{
    figures::{Bar, Digest, Span},
    words,
};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 500.0;
/// Phones have fine screens.
const SCALE: f32 = 1.5;
const MARGIN: f64 = 36.0;
/// Where the chart stands.
const (TOP, BOTTOM): (f64, f64) = (238.0, 430.0);
