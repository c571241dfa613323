//! Writes families of metrics: each one's description, then its samples.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

/// The labels of what is alone in its family.
const NO_LABELS: [(&str, &str); 0] = [];

/// Where families go. A family without samples is not mentioned. Counters are named without `_total`, and what has a unit
/// without that: both are appended.
pub struct Families<'a>(DescriptorEncoder<'a>);

/// A name, and what it means; the unit that is appended to the name.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    name: &'static str,
    help: &'static str,
    unit: Option<&'static Unit>,
}

/// A family, and where its values are in what it is of.
pub type Field<T> = (Description, fn(&T) -> u64);

/// A family without unit.
pub fn plain(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        help,
        unit: None,
    }
}

/// A family in bytes.
pub fn bytes(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        help,
        unit: Some(&Unit::Bytes),
    }
}

/// A family in seconds.
pub fn seconds(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        help,
        unit: Some(&Unit::Seconds),
    }
}

impl<'a> Families<'a> {
    /// Families for this encoder.
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Counters, with their labels.
    pub fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        description: Description,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(
            description,
            MetricType::Counter,
            samples,
            |mut sample, value| sample.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>),
        )
    }

    /// Gauges, with their labels.
    pub fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        description: Description,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(
            description,
            MetricType::Gauge,
            samples,
            |mut sample, value| sample.encode_gauge(&value),
        )
    }

    fn family<L: EncodeLabelSet, V>(
        &mut self,
        description: Description,
        kind: MetricType,
        samples: impl IntoIterator<Item = (L, V)>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let Description { name, help, unit } = description;
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in samples {
            encode(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }

    /// A counter that is alone in its family.
    pub fn counter(&mut self, description: Description, value: u64) -> fmt::Result {
        self.counters(description, [(NO_LABELS, value)])
    }

    /// A gauge that is alone in its family.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) -> fmt::Result {
        self.gauges(plain(name, help), [(NO_LABELS, value)])
    }

    /// What does not change.
    pub fn info(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &impl EncodeLabelSet,
    ) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Info)?
            .encode_info(labels)
    }
}
