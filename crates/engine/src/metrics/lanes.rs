//! What the store counts while it writes, on the page.

use std::sync::{Arc, atomic::Ordering};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter},
};
use uzel_store::{Lane, LaneStats, Spread, Stats};

#[derive(Debug)]
pub(super) struct Lanes(pub(super) Arc<Stats>);

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Label {
    lane: &'static str,
}

/// A spread as a histogram.
pub(super) fn encode<S: EncodeLabelSet>(spread: &Spread, encoder: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
    let buckets = spread.counts();
    let count = buckets.iter().map(|(_, count)| count).sum();
    encoder.encode_histogram::<S>(spread.sum(), count, &buckets, None)
}

impl Lanes {
    /// Those that the store has.
    fn lanes(&self) -> impl Iterator<Item = Lane> {
        Lane::ALL.into_iter().filter(|lane| self.0.of(*lane).seconds.counts().iter().any(|(_, count)| *count > 0))
    }

    fn spreads(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        of: impl Fn(&LaneStats) -> &Spread,
    ) -> Result<(), std::fmt::Error> {
        let mut page = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for lane in self.lanes() {
            let label = Label { lane: lane.name() };
            encode::<NoLabelSet>(of(self.0.of(lane)), &mut page.encode_family(&label)?)?;
        }
        Ok(())
    }
}

impl Collector for Lanes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let seconds = ("uzel_store_group_duration_seconds", "How long groups took to be committed");
        self.spreads(&mut encoder, seconds, |lane| &lane.seconds)?;
        let pieces = ("uzel_store_group_pieces", "How many pieces of work were committed together");
        self.spreads(&mut encoder, pieces, |lane| &lane.pieces)?;
        let help = "Groups that were not committed";
        let mut page = encoder.encode_descriptor("uzel_store_group_failures", help, None, MetricType::Counter)?;
        for lane in self.lanes() {
            let failures = self.0.of(lane).failures.load(Ordering::Relaxed);
            let label = Label { lane: lane.name() };
            ConstCounter::new(failures).encode(page.encode_family(&label)?)?;
        }
        Ok(())
    }
}
