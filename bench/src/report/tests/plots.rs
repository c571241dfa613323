//! What the plots show, and the tables beside them.

use super::*;

fn svg<'r>(report: &'r Report, name: &str) -> &'r str {
    let plot = report.plots.iter().find(|(plot, _)| plot == name);
    &plot.unwrap_or_else(|| panic!("no {name}")).1
}

/// Texts of a plot, in order.
fn texts(svg: &str) -> Vec<&str> {
    let elements = svg.split("<text").skip(1);
    elements
        .map(|element| {
            element
                .split_once('>')
                .unwrap()
                .1
                .split_once("</text>")
                .unwrap()
                .0
                .trim()
        })
        .collect()
}

/// Places of filled points of a colour, pixels.
fn points(svg: &str, colour: &str) -> Vec<(i32, i32)> {
    let attribute = |element: &str, name: &str| -> Option<String> {
        let (_, rest) = element.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let circles = svg.split("<circle").skip(1).filter_map(|element| {
        let element = format!(" {}", element.split_once("/>")?.0);
        let number = |name| attribute(&element, name)?.parse().ok();
        (attribute(&element, "fill")? == colour).then_some((number("cx")?, number("cy")?))
    });
    circles.collect()
}

#[test]
fn the_rate_is_plotted_over_connections_on_a_logarithmic_axis() {
    let report = of_packets([
        hit(10_000, 20.0),
        hit(1_000_000, 40.0),
        hit(100_000, 25.0),
        packet(Case::Hit, Method::Direct, Family::Ipv6, 10_000, 25.0),
        packet(Case::Hit, Method::Direct, Family::Ipv6, 1_000_000, 50.0),
    ]);
    let svg = svg(&report, "rate-hit.svg");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("fill=\"#FFFFFF\""), "light background");
    let texts = texts(svg);
    for text in [
        "Hit: rate by number of connections, 1 worker",
        "established connections (logarithmic)",
        "million packets a second",
        "10 k",
        "100 k",
        "1 M",
        "NAT IPv4",
        "direct IPv6",
    ] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    assert!(!texts.contains(&"tunnel IPv4"), "not measured");
    // Three measurements from left to right, and the legend's.
    let [ten, hundred, million, _legend] = points(svg, "#0072B2")[..] else {
        panic!("{svg}")
    };
    assert!(
        (hundred.0 - ten.0 - (million.0 - hundred.0)).abs() <= 1,
        "a decade is as long as another"
    );
    assert!(
        ten.1 < hundred.1 && hundred.1 < million.1,
        "fewer packets a second are further down"
    );
}

#[test]
fn workers_are_plotted_beside_the_ideal() {
    let on_two = PacketMeasurement {
        workers: 2,
        packets_per_second: 95e6,
        ..hit(10_000, 20.0)
    };
    let report = of_packets([hit(10_000, 20.0), on_two]);
    let svg = svg(&report, "rate-workers.svg");
    let texts = texts(svg);
    assert!(
        texts.contains(&"Rate by number of workers, NAT, 10 k connections"),
        "{texts:?}"
    );
    assert!(texts.contains(&"hit IPv4, ideal"), "{texts:?}");
    assert!(
        mark(&report, "2 workers, hit")
            .ends_with("| reached | 1.90 × (hit, NAT IPv4, 10 k connections) |")
    );
}

#[test]
fn operations_are_plotted_over_the_fill_level() {
    let operation = |operation, threads, fill_percent, ns_each| {
        Record::Table(TableMeasurement {
            operation,
            family: Family::Ipv4,
            entries: 1_000_000,
            threads,
            fill_percent,
            ns_each,
            per_second: 1e9 / ns_each,
            refused_share: (operation == Operation::Create).then_some(0.000_06),
            pages: Pages::Huge,
        })
    };
    let records = [(1, 10, 12.0), (1, 100, 18.0), (2, 10, 13.0), (2, 100, 21.0)];
    let mut records: Vec<Record> = records
        .into_iter()
        .map(|(threads, level, ns)| operation(Operation::Lookup, threads, level, ns))
        .collect();
    records.push(operation(Operation::Create, 1, 100, 130.0));
    let report = made(&results("pollux-bench table --json", records));
    contains(
        &report,
        "| operation |  | entries | threads | 10 % | 100 % |",
    );
    contains(&report, "| look up | IPv4 | 1 M | 2 | 13.0 | 21.0 |");
    contains(&report, "| create | IPv4 | 1 M | 1 |  | 130.0 |");
    contains(
        &report,
        "At most 0.0060 % of the creations found no room, at a level of 100 %.",
    );
    let svg = svg(&report, "table-ipv4.svg");
    let texts = texts(svg);
    for text in [
        "entries in use, percent",
        "nanoseconds each, of one thread",
        "look up, 1 thread",
        "look up, 2 threads",
    ] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    assert_eq!(
        points(svg, "#0072B2").len(),
        2 + 1,
        "one thread's points and the legend's"
    );
    assert!(
        report
            .plots
            .iter()
            .all(|(name, _)| name != "table-ipv6.svg")
    );
}

#[test]
fn load_has_tables_and_a_curve() {
    let mut disturbed = throughput();
    disturbed.setting.cpu_waited_share = 0.25;
    let mut records = vec![Record::Throughput(disturbed)];
    for (load_percent, p999_ns) in [(10, 9_000), (50, 81_000), (80, 300_000)] {
        records.push(Record::Latency(crate::measurement::LatencyMeasurement {
            load_percent,
            p999_ns,
            ..latency()
        }));
    }
    let mut of_testpmd = latency();
    of_testpmd.setting.program = Program::Testpmd;
    records.push(Record::Latency(of_testpmd));
    let report = made(&results("pollux-bench appliance --json", records));
    contains(
        &report,
        "| pollux-dataplane | memif | NAT IPv4 | 64 | 10 k | 5.25 | 75 % | 5.50 | 0.0000 % |",
    );
    contains(
        &report,
        "| pollux-dataplane | memif | NAT IPv4 | 64 | 10 k | 50 % | 2.62 | 4.5 | 15.0 | 81.0 | 1250.0 | 0.0000 % |",
    );
    assert!(report.markdown.contains("CPU for up to 25.0 % of the time"));
    let svg = svg(&report, "latency-memif-nat-ipv4-10k-60.svg");
    let texts = texts(svg);
    for text in [
        "microseconds (logarithmic)",
        "p50, pollux-dataplane",
        "p99.9, pollux-dataplane",
        "10",
        "50",
        "80",
        "100",
    ] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    assert!(
        !texts.contains(&"p50, testpmd, macswap"),
        "one point is no curve"
    );
    assert_eq!(
        points(svg, "#AA4499").len(),
        3 + 1,
        "three loads and the legend"
    );
}
