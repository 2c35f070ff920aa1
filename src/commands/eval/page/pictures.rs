//! Pictures inside a page.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cones::eval::Attended;
use cones::{Picture, Size, escaped};
use maud::{Markup, html};

use super::super::measure::Outcome;

/// Smaller pictures are shown larger, each pixel as a square.
const SMALL: usize = 128;

/// A picture as an element that holds it.
fn image(picture: &Picture, what: &str) -> anyhow::Result<Markup> {
    let picture = picture.thumbnail()?;
    let Size { width, height } = picture.size();
    let side = width.max(height).max(1);
    let times = (SMALL / side).max(1);
    // Few pixels are few bytes as they are.
    let (kind, file) = match side <= SMALL {
        true => ("png", "x.png"),
        false => ("jpeg", "x.jpg"),
    };
    let bytes = STANDARD.encode(picture.to_file(Path::new(file), None)?);
    let (width, height) = (times * width, times * height);
    Ok(html! {
        img.sharp[times > 1] src=(format!("data:image/{kind};base64,{bytes}")) alt=(escaped(what))
            width=(width) height=(height);
    })
}

/// The photos, and what was drawn: a row for each condition, a column for each seed.
pub(super) fn sheet(
    outcome: &Outcome,
    rows: &[(String, Vec<Picture>)],
    seed: u64,
) -> anyhow::Result<Markup> {
    let drawn = rows.iter().filter(|(name, _)| name != "photos");
    let columns = drawn.clone().map(|(_, row)| row.len()).max().unwrap_or(0);
    let prompt = |k: usize| &outcome.prompts[k % outcome.prompts.len()].described;
    let photos = outcome
        .shown
        .iter()
        .map(|photo| image(photo, "photo of the subject"));
    let photos = photos.collect::<anyhow::Result<Vec<_>>>()?;
    let mut lines = Vec::new();
    for (name, row) in drawn {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(k, picture)| image(picture, &format!("{name}: {}", prompt(k))));
        lines.push((name, cells.collect::<anyhow::Result<Vec<_>>>()?));
    }
    Ok(html! {
        p.caption { "Photos of the subject, " (photos.len()) " of " (outcome.photos.len()) ":" }
        div.row { @for photo in &photos { (photo) } }
        p.caption { "Drawn, with the same seeds in each row:" }
        div.scroll {
            table.sheet {
                thead { tr {
                    th {}
                    @for k in 0..columns {
                        th scope="col" { (escaped(prompt(k))) br; span.dim { "seed " (seed.saturating_add(k as u64)) } }
                    }
                } }
                tbody {
                    @for (name, cells) in &lines {
                        tr {
                            th scope="row" { (name) }
                            @for cell in cells { td { (cell) } }
                        }
                    }
                }
            }
        }
    })
}

/// Pictures of the concept, each with the heat of the subject's words.
pub(super) fn attention(attended: &[Attended]) -> anyhow::Result<Markup> {
    let mut figures = Vec::new();
    for one in attended {
        let picture = image(&one.picture, &one.prompt)?;
        let maps = one.maps.iter().map(|map| {
            let what = format!("attention to {}", map.word);
            Ok((image(&map.over, &what)?, map))
        });
        figures.push((one, picture, maps.collect::<anyhow::Result<Vec<_>>>()?));
    }
    Ok(html! {
        div.attended {
            @for (one, picture, maps) in &figures {
                figure {
                    div.triple {
                        div { (picture) span.dim { "seed " (one.seed) } }
                        @for (over, map) in maps {
                            div {
                                (over)
                                span { (escaped(&map.word)) }
                                span.dim { (format!(" {:.3} to {:.3}", map.range.0, map.range.1)) }
                            }
                        }
                    }
                    figcaption { (escaped(&one.prompt)) }
                }
            }
        }
    })
}
