//! The page and the table of `cones eval`: their numbers are those of the JSON, and a browser shows them.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

mod browser;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::cli::{answer, find, find_scored, golden, json, quick_eval};

/// The colours of the arms in `style.css`, on white paper.
const COLOURS: [(&str, [u8; 3]); 4] = [
    ("shut", [0xd9, 0x60, 0x2b]),
    ("plain", [0x82, 0x50, 0xb4]),
    ("control", [0x3b, 0x6f, 0xd4]),
    ("photos", [0x2b, 0x8a, 0x4b]),
];
const DRAWN: [&str; 4] = ["clip_i", "clip_t", "class_margin", "scene_margin"];

/// What `eval` says of a miniature model in JSON, and the page that it writes.
fn run(dir: &Path, indices: &[&str], extra: &[&str]) -> (Value, String) {
    let base = quick_eval("models/sd1-f32", "clip/new");
    let few = ["--count", "4", "--loss-draws", "2"];
    let outputs = ["--report", "page.html", "--csv", "table.csv", "--json"];
    let args = [&base[..], indices, &few, &outputs, extra].concat();
    let report = json(&answer(dir, &args).0);
    (
        report,
        std::fs::read_to_string(dir.join("page.html")).unwrap(),
    )
}

/// What is between two texts, the first that there is.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

fn plot<'a>(page: &'a str, id: &str) -> &'a str {
    between(page, &format!("<svg id=\"{id}\""), "</svg>").unwrap_or_else(|| panic!("no {id}"))
}

/// The elements of this name and class, each up to the next one's start.
fn elements<'a>(text: &'a str, name: &str, class: &str) -> Vec<&'a str> {
    let start = format!("<{name} class=\"{class}\"");
    text.split(&start).skip(1).collect()
}

fn attribute(element: &str, name: &str) -> f64 {
    let text = between(element, &format!(" {name}=\""), "\"").unwrap();
    text.parse().unwrap()
}

/// From places in a plot to values, by the first and the last tick along `axis` whose text is a number.
fn scale(plot: &str, axis: &str, anchor: &str) -> impl Fn(f64) -> f64 {
    let ticks = elements(plot, "text", "tick")
        .into_iter()
        .filter(|tick| tick.contains(anchor));
    let ticks: Vec<(f64, f64)> = ticks
        .filter_map(|tick| {
            let value = between(tick, ">", "<")?.parse().ok()?;
            // A text beside an axis stands a little below its line.
            let below = if axis == "y" { 4.0 } else { 0.0 };
            Some((attribute(tick, axis) - below, value))
        })
        .collect();
    let ([first, ..], [.., last]) = (&ticks[..], &ticks[..]) else {
        panic!("no ticks: {plot}");
    };
    let (first, slope) = (*first, (last.1 - first.1) / (last.0 - first.0));
    move |place| first.1 + (place - first.0) * slope
}

/// That a mark says what the JSON does, as far as hundredths of a pixel can.
fn same(place: f64, scale: &impl Fn(f64) -> f64, value: &Value, what: &str) {
    let tolerance = (scale(0.011) - scale(0.0)).abs();
    let (found, value) = (scale(place), value.as_f64().unwrap());
    assert!(
        (found - value).abs() <= tolerance,
        "{what}: {found} {value}"
    );
}

#[test]
fn the_marks_of_a_page_are_the_numbers_of_the_json() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find(dir, "dog", "1", &["--density", "20%"]);
    let (report, page) = run(dir, &["dog.idx"], &["--controls", "2"]);
    for metric in DRAWN {
        let plot = plot(&page, &format!("plot-{metric}"));
        let value = scale(plot, "x", "middle");
        for (arm, _) in COLOURS {
            let expected = &report["conditions"][arm][metric];
            let Some(mark) = elements(plot, "g", arm).pop() else {
                assert!(expected.is_null(), "{metric}: no {arm}");
                continue;
            };
            let (dot, whisker) = (
                elements(mark, "circle", "dot"),
                elements(mark, "line", "whisker"),
            );
            same(attribute(dot[0], "cx"), &value, &expected["mean"], arm);
            for (end, place) in ["x1", "x2"].into_iter().enumerate() {
                same(
                    attribute(whisker[0], place),
                    &value,
                    &expected["interval"][end],
                    arm,
                );
            }
        }
    }
    // What the page needs is in it: three conditions, photos, and two maps of each of four pictures.
    let inside = page.matches("src=\"data:image/").count();
    assert_eq!(page.matches("src=").count(), inside);
    let photos = report["photos"].as_array().unwrap().len();
    assert_eq!(inside, photos + 4 * 4 + 4 * 3);
    for outside in [
        "<script", "http://", "https://", "url(", "@import", "<link", "<iframe",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Nothing tells where files are on this machine.
    for path in [dir.display().to_string(), golden("")] {
        assert!(!page.contains(path.trim_end_matches('/')), "{path}");
    }
    assert!(
        page.contains("--model sd1-f32 --images subject --encoder new"),
        "no command"
    );
    assert!(page.contains("cannot tell"));
    let strips = page.matches("<svg class=\"strip\"").count();
    assert!(strips > 4 && page.matches("<rect class=\"stripe\"").count() > strips);
}

#[test]
fn the_curves_of_a_sweep_are_the_numbers_of_the_json() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find_scored(dir, "2%");
    let sweep = ["--scores", "dog.scores", "--sweep", "1%,5%,20%"];
    let (report, page) = run(dir, &["dog.idx"], &sweep);
    for metric in DRAWN {
        let plot = plot(&page, &format!("plot-dose-{metric}"));
        let value = scale(plot, "y", "end");
        for arm in ["shut", "control"] {
            let marks = elements(plot, "g", arm)[0];
            let (dots, whiskers) = (
                elements(marks, "circle", "dot"),
                elements(marks, "line", "whisker"),
            );
            let doses = report["doses"].as_array().unwrap();
            // The marks of the arm behind it follow.
            let (dots, whiskers) = (&dots[..3], &whiskers[..3]);
            for (number, dose) in doses.iter().enumerate() {
                let expected = &dose["conditions"][arm][metric];
                same(
                    attribute(dots[number], "cy"),
                    &value,
                    &expected["mean"],
                    arm,
                );
                for (end, place) in ["y1", "y2"].into_iter().enumerate() {
                    same(
                        attribute(whiskers[number], place),
                        &value,
                        &expected["interval"][end],
                        arm,
                    );
                }
            }
        }
        let band = elements(plot, "rect", "band")[0];
        let expected = &report["conditions"]["plain"][metric]["interval"];
        same(attribute(band, "y"), &value, &expected[1], "plain");
        same(
            attribute(band, "y") + attribute(band, "height"),
            &value,
            &expected[0],
            "plain",
        );
    }
}

#[test]
fn the_table_has_the_numbers_of_the_json() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find(dir, "dog", "1", &["--density", "20%"]);
    std::fs::write(dir.join("p.txt"), "a {}, asleep\na {} at night\n").unwrap();
    let (report, _) = run(dir, &["dog.idx"], &["--prompts", "p.txt"]);
    let table = std::fs::read_to_string(dir.join("table.csv")).unwrap();
    let mut lines = table.lines();
    let header = "index,subject,density,arm,prompt,metric,mean,sd,low,high,n";
    assert_eq!(lines.next(), Some(header));
    let number = |text: &str| text.parse::<f64>().unwrap();
    let mut seen = BTreeMap::new();
    for line in lines {
        let (line, prompt) = match between(line, "\"", "\"") {
            Some(prompt) => (line.replace(&format!("\"{prompt}\""), ""), prompt),
            None => (line.to_owned(), line.split(',').nth(4).unwrap()),
        };
        let cells: Vec<&str> = line.split(',').collect();
        let (arm, metric) = (cells[3], cells[5]);
        assert_eq!(
            (cells.len(), cells[0], cells[1]),
            (11, "dog.idx", "sks dog"),
            "{line}"
        );
        let of = [&report["conditions"][arm], &report["differences"][arm]];
        let of = &of.into_iter().find(|of| !of.is_null()).unwrap()[metric];
        *seen.entry((arm.to_owned(), prompt.is_empty())).or_insert(0) += 1;
        if prompt.is_empty() {
            let all = [
                &of["mean"],
                &of["sd"],
                &of["interval"][0],
                &of["interval"][1],
                &of["n"],
            ];
            for (cell, value) in cells[6..].iter().zip(all) {
                assert!(
                    (number(cell) - value.as_f64().unwrap()).abs() < 1e-12,
                    "{line}"
                );
            }
        } else {
            // Pictures 0 and 2 are of the first prompt.
            let first = usize::from(prompt != "a sks dog, asleep");
            let value = |i: usize| of["values"][i].as_f64().unwrap();
            assert!(
                (number(cells[6]) - (value(first) + value(first + 2)) / 2.0).abs() < 1e-12,
                "{line}"
            );
            assert_eq!(cells[10], "2");
        }
    }
    for arm in [
        "plain",
        "shut",
        "control",
        "shut_minus_plain",
        "shut_minus_control",
    ] {
        // Nine measures; of five there are two prompts.
        assert_eq!(seen[&(arm.to_owned(), true)], 9, "{arm}");
        assert_eq!(seen[&(arm.to_owned(), false)], 10, "{arm}");
    }
}

#[test]
fn several_indices_are_in_one_report() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find(dir, "dog", "1", &["--density", "20%"]);
    find(dir, "cat", "2", &["--token", "zwx", "--density", "10%"]);
    let (both, page) = run(dir, &["dog.idx", "cat.idx"], &["--sheet", "both.png"]);
    let each = both["indices"].as_array().unwrap();
    for (number, (index, subject)) in [("dog.idx", "dog"), ("cat.idx", "cat")]
        .into_iter()
        .enumerate()
    {
        let (lone, _) = run(dir, &[index], &[]);
        for key in [
            "index",
            "subject",
            "conditions",
            "differences",
            "verdict",
            "photos",
            "density",
        ] {
            assert_eq!(each[number][key], lone[key], "{index} {key}");
        }
        assert_eq!(each[number]["subject"], subject);
    }
    let overlap = &both["overlaps"][0];
    assert_eq!(
        (&overlap["first"], &overlap["second"]),
        (&"dog.idx".into(), &"cat.idx".into())
    );
    let shared = overlap["shared"].as_u64().unwrap();
    assert!(shared > 0 && page.contains("<h2>Overlap</h2>"));
    let group = |count: u64| {
        if count > 999 {
            format!("{},{:03}", count / 1000, count % 1000)
        } else {
            count.to_string()
        }
    };
    assert_eq!(
        page.matches(&format!(">{}<br>", group(shared))).count(),
        2,
        "{shared}"
    );
    let clip_i = plot(&page, "plot-clip_i");
    assert_eq!(elements(clip_i, "text", "heading").len(), 2);
    assert_eq!(elements(clip_i, "g", "shut").len(), 2);
    // Photos, plain, concept and random of each, with labels before them.
    let sheet = image::open(dir.join("both.png")).unwrap();
    assert!(sheet.height() == 8 * 132 + 4 && sheet.width() > 4 * 132 + 4 + 100);
    let table = std::fs::read_to_string(dir.join("table.csv")).unwrap();
    assert!(table.contains("cat.idx,zwx cat,") && !table.contains("dog.idx"));
}

#[test]
fn layers_leave_the_other_neurons_open() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = find(dir, "dog", "1", &["--density", "20%"]);
    let (whole, _) = run(dir, &["dog.idx"], &[]);
    let (every, _) = run(dir, &["dog.idx"], &["--layers", "*"]);
    assert_eq!(whole["conditions"], every["conditions"]);
    let (part, page) = run(dir, &["dog.idx"], &["--layers", "up_blocks.*:v"]);
    assert!(part["shut"].as_u64().unwrap() < all["shut"].as_u64().unwrap());
    assert_eq!(part["layers"], "up_blocks.*:v");
    assert_ne!(whole["conditions"]["shut"], part["conditions"]["shut"]);
    assert_eq!(whole["conditions"]["plain"], part["conditions"]["plain"]);
    assert!(page.contains("up_blocks.*:v"));
}

#[test]
fn text_of_others_is_text() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    find(dir, "dog", "1", &[]);
    let name = "<b onload=x>&\u{1b}[2J\u{202e}.idx";
    std::fs::rename(dir.join("dog.idx"), dir.join(name)).unwrap();
    let prompts = "a {} </title><script>alert(\"1\")</script>\na {} & \u{1b}]0;x\n";
    std::fs::write(dir.join("p.txt"), prompts).unwrap();
    let (_, page) = run(dir, &[name], &["--prompts", "p.txt"]);
    assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)"));
    assert!(page.contains(r"&lt;b onload=x&gt;&amp;\u{1b}[2J\u{202e}.idx"));
    assert!(!page.contains("<script") && !page.contains("<b onload"));
    let unseen = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!page.contains(unseen));
    let table = std::fs::read_to_string(dir.join("table.csv")).unwrap();
    assert!(!table.contains(|c: char| unseen(c) && c != '\r'));
}
