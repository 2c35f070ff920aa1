//! What the tests of the layers share.

use candle_core::{Device, Tensor};

/// Unit normals of this shape.
pub(super) fn random(shape: &[usize], seed: u64) -> Tensor {
    let values = crate::sampling::Generator::new(seed).randn(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// ‖a − b‖ / ‖b‖.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| {
        let sum = x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>();
        f64::from(sum.unwrap()).sqrt()
    };
    norm(&(a - b).unwrap()) / norm(b)
}

/// The largest difference of two tensors of one shape.
pub(super) fn worst(got: &Tensor, want: &Tensor) -> f32 {
    assert_eq!(got.dims(), want.dims());
    let error = (got - want).unwrap().abs().unwrap();
    error.max_all().unwrap().to_scalar::<f32>().unwrap()
}
