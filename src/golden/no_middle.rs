//! Models without a middle block, against diffusers.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::index::{LayerSelection, Site, SiteSelection};
use crate::model::Conditioning;
use crate::{AttentionOptions, Pipeline, SampleOptions, Size};
use candle_core::{Device, Tensor};

use super::{copy, golden_dir, load};

/// The model without a middle block, in the shape of segmind/tiny-sd: its UNet in place of that of sd1-f16.
fn without_middle(dir: &Path) -> Pipeline {
    let folder = dir.join("tiny");
    copy(&golden_dir().join("models/sd1-f16"), &folder);
    std::fs::remove_dir_all(folder.join("unet")).unwrap();
    copy(&golden_dir().join("no-middle/unet"), &folder.join("unet"));
    load(&folder).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// ‖got − want‖ over ‖want‖.
fn distance(got: &Tensor, want: &Tensor) -> f32 {
    let (got, want) = (values(got), values(want));
    let norm = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>().sqrt();
    let size = norm(&mut want.iter().copied());
    norm(&mut got.iter().zip(&want).map(|(a, b)| a - b)) / size
}

#[test]
fn no_middle_block_is_as_in_diffusers() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = without_middle(dir.path());
    let file = golden_dir().join("no-middle.safetensors");
    let golden: HashMap<String, Tensor> =
        candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let context = Conditioning::from(golden["context"].clone());
    let (x, timesteps) = (&golden["x"], [87.0, 640.0]);

    let unet = model.unet();
    let (y, saved) = unet.forward_saving(x, &timesteps, &context).unwrap();
    assert!(
        distance(&y, &golden["output"]) < 1e-5,
        "{}",
        distance(&y, &golden["output"])
    );
    let grad = ((&y - &golden["target"]).unwrap() * (2.0 / y.elem_count() as f64)).unwrap();
    let found = unet.backward(saved, &grad, SiteSelection::All).unwrap();
    let expected: BTreeMap<Site, &Tensor> = golden
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("grad.")?.parse().ok()?, tensor)))
        .collect();
    assert_eq!(
        expected.len(),
        36,
        "three levels, 1 + 2 transformers each, of four sites"
    );
    assert!(found.keys().eq(expected.keys()));
    for (site, gradient) in &found {
        let off = distance(gradient, expected[site]);
        assert!(off < 1e-3, "{site}: {off:.2e}");
    }

    // Layers that are computed again change nothing; less memory is then planned for.
    let whole = unet.backward_footprint(2, Size::square(16));
    let (unet, _) = model.unet_mut();
    unet.plan_memory(2, Size::square(16), 0);
    assert!(unet.backward_footprint(2, Size::square(16)).total() < whole.total());
    let (_, saved) = unet.forward_saving(x, &timesteps, &context).unwrap();
    let again = unet.backward(saved, &grad, SiteSelection::All).unwrap();
    for (site, gradient) in &found {
        assert_eq!(values(gradient), values(&again[site]), "{site}");
    }

    // `--layers` finds nothing in a block that is not there.
    let sites: Vec<Site> = found.into_keys().collect();
    let none: LayerSelection = "mid_block.*".parse().unwrap();
    assert!(sites.iter().all(|site| !none.contains(site)));

    let options = SampleOptions {
        sampler: "ddim".parse().unwrap(),
        steps: 10,
        guidance: 7.5,
        size: Some(Size::square(32)),
        ..SampleOptions::default()
    };
    let prompt = "a photo of a red dog in the snow";
    let picture = model.draw(prompt, &options, &[5], |_| Ok(())).unwrap();
    let want: Vec<u8> = golden["picture"].flatten_all().unwrap().to_vec1().unwrap();
    let worst = picture[0]
        .rgb()
        .iter()
        .zip(&want)
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(worst.is_some_and(|worst| worst <= 2), "{worst:?}");

    // Heat maps and attend-and-excite take the coarsest of the other blocks.
    let attention = AttentionOptions {
        excite: vec!["dog".to_owned()],
        heat: vec!["dog".to_owned()],
        ..AttentionOptions::default()
    };
    let drawings = model
        .draw_attending(prompt, &options, &attention, &[5], |_| Ok(()))
        .unwrap();
    assert_ne!(drawings[0].picture.rgb(), picture[0].rgb());
    assert_eq!(drawings[0].heat.len(), 1);
}
