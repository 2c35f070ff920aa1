//! The headings that options stand under in the help of every command, and examples for its end.

pub(super) const INPUT: &str = "Input";
pub(super) const METHOD: &str = "Method";
pub(super) const SAMPLING: &str = "Sampling";
pub(super) const OUTPUT: &str = "Output";
pub(super) const MACHINE: &str = "Machine";

pub(super) const FIND: &str = "\
Examples:
  cones find --subject dog photos/
  cones find --subject dog --method paper --class-images dogs/ --scores dog.safetensors photos/
  cones find --from-scores dog.safetensors --density 1% -o few.idx
  cones find --subject dog --model sd-legacy/stable-diffusion-v1-5 --dry-run photos/

Scores in Python: `from safetensors.numpy import load_file`, `scores = load_file(\"dog.safetensors\")`;
of a part, whose first axis is its blocks of steps: `sums = {site: s.sum(0) for site, s in scores.items()}`";

pub(super) const GENERATE: &str = "\
Examples:
  cones generate --concepts dog.idx --count 4 \"a photo in a park\"
  cones generate --concepts dog.idx,cat.idx --attend-excite --heatmap dog,cat \"a dog and a cat\"";

pub(super) const MERGE: &str = "\
Examples:
  cones merge dog.idx cat.idx -o pair.idx
  cones merge dog.idx cat.idx -o pair.idx --tune 200 --images dog=dog/ --images cat=cat/";

pub(super) const EXPORT: &str = "\
Examples:
  cones export dog.idx --as diffusers -o dog-unet
  cones export dog.idx --model sd15.safetensors --as checkpoint -o dog.safetensors";

pub(super) const INSPECT: &str = "\
Examples:
  cones inspect dog.idx
  cones inspect --json dog.idx cat.idx";

pub(super) const COMPLETIONS: &str = "\
Examples:
  cones completions bash > ~/.local/share/bash-completion/completions/cones
  cones completions zsh > ~/.zfunc/_cones
  cones completions fish > ~/.config/fish/completions/cones.fish";

pub(super) const MAN: &str = "\
Examples:
  cones man > cones.1
  cones man find | man -l -";

pub(super) const EVAL: &str = "\
Examples:
  cones eval dog.idx --images photos/ --report dog.html
  cones eval dog.idx cat.idx --images dog=dogs/ --images cat=cats/ --report pets.html --csv pets.csv
  cones eval dog.idx --images photos/ --scores dog.safetensors --sweep 0.1%,1%,10%";
