//! Models that were distilled to draw in a few steps without guidance: turbo, latent consistency (LCM), Lightning,
//! Hyper.
//!
//! Their tensors have the names and shapes of the models that they come from, and so may their configuration: nothing
//! in the numbers tells them. A UNet that takes the guidance as an input (`time_cond_proj_dim`) is refused for that
//! where its configuration is read. Here are the words of their owners. [`of_spec`] and [`of_id`] are what a model says
//! that it is: such a model is refused. Titles, names of files and folders, and the scheduler are hints, which may be
//! of a model that was merged or trained further: a [`doubt`].

use super::header::Header;

/// Parts of names, and what they stand for.
const WORDS: [(&str, &str); 7] = [
    ("turbo", "a turbo model"),
    ("lcm", "a latent consistency model"),
    ("latent-consistency", "a latent consistency model"),
    ("lightning", "a Lightning model"),
    ("hyper-sd", "a Hyper model"),
    ("hyper_sd", "a Hyper model"),
    ("hypersd", "a Hyper model"),
];

/// The hub's ids of such models that are whole.
const IDS: [&str; 2] = ["stabilityai/sd-turbo", "stabilityai/sdxl-turbo"];

/// What to do about one.
pub(super) const HINT: &str = "pass the model that it was distilled from";
/// What they are made for.
const MADE: &str = "made to draw in one to eight steps without guidance";

/// What a name calls its model.
fn named(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let (_, what) = WORDS.iter().find(|(word, _)| name.contains(word))?;
    Some(what)
}

/// What a file is by the architecture that its notes name.
pub(super) fn of_spec(header: &Header) -> Option<String> {
    let what = named(header.notes.get("modelspec.architecture")?)?;
    Some(format!("{what}, {MADE}"))
}

/// What a model of the hub is by its id, whatever its revision.
pub(super) fn of_id(id: &str) -> Option<String> {
    let (id, _) = id.split_once('@').unwrap_or((id, ""));
    let known = IDS.iter().find(|known| known.eq_ignore_ascii_case(id))?;
    Some(format!("{}, {MADE}", named(known)?))
}

/// Why a model may be one: by its name, by its title, or by the scheduler that it comes with.
pub(super) fn doubt(name: &str, title: Option<&str>, scheduler: Option<&str>) -> Option<String> {
    let own = name.rsplit('/').next().unwrap_or(name);
    let hint = |kind: &str, text: &str, what: &str| {
        format!(
            "its {kind}, `{}`, is that of {what}, {MADE}; nothing in its tensors can tell",
            text.escape_debug()
        )
    };
    let by_name = named(own).map(|what| hint("name", own, what));
    let by_title = || title.and_then(|title| named(title).map(|what| hint("title", title, what)));
    let by_scheduler = || {
        let scheduler =
            scheduler.filter(|class| ["LCMScheduler", "TCDScheduler"].contains(class))?;
        Some(hint("scheduler", scheduler, "a latent consistency model"))
    };
    by_name.or_else(by_title).or_else(by_scheduler)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_others() {
        for (name, what) in [
            ("sd_xl_turbo_1.0_fp16", "a turbo model"),
            ("owner/DreamShaperXL-Lightning", "a Lightning model"),
            ("dreamshaper_8LCM", "a latent consistency model"),
            ("Hyper-SDXL-8steps", "a Hyper model"),
        ] {
            let doubt = doubt(name, None, None).unwrap_or_else(|| panic!("{name}"));
            assert!(
                doubt.contains("its name") && doubt.contains(what),
                "{doubt}"
            );
        }
        for name in [
            "v1-5-pruned",
            "hyperrealism",
            "turbo-owner/plain",
            "sd_xl_base_1.0",
        ] {
            assert_eq!(doubt(name, None, Some("PNDMScheduler")), None, "{name}");
        }
        let title = doubt("m", Some("SDXL Turbo"), None).unwrap();
        assert!(title.contains("its title, `SDXL Turbo`"), "{title}");
        let scheduler = doubt("m", None, Some("LCMScheduler")).unwrap();
        assert!(scheduler.contains("its scheduler"), "{scheduler}");
    }

    #[test]
    fn ids_are_known_at_every_revision() {
        assert!(of_id("stabilityai/SD-turbo@main").is_some_and(|what| what.contains("turbo")));
        assert!(
            of_id("stabilityai/stable-diffusion-2-1").is_none() && of_id("me/sd-turbo").is_none()
        );
    }
}
